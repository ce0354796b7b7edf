package shard

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/repeat"
)

// eventQueue bounds what NATS has delivered and the loop has not handled; a dispatch that finds it full is refused.
const eventQueue = 1024

// event is a message for the loop: exactly one field is set.
type event struct {
	dispatch *protocol.Dispatch
	cancel   *protocol.Cancel
	replay   *protocol.Replay
	alive    string
}

// leader is rank 0's side of NATS. One goroutine, serve's, owns the engine and the routers. The subscriptions' callbacks
// check what arrives, answer at once, however long the current step takes, and hand events over; a goroutine of its own
// announces the group.
type leader struct {
	config  Config
	engine  *engine
	log     zerolog.Logger
	card    []byte
	control *nats.Conn // requests
	frames  *nats.Conn // tokens, which must not queue behind long prompts
	events  chan event
	routers map[string]*routerState
	steps   *stepLog
	ended   time.Time // of the last step; zero when nothing was left to compute

	said      repeat.Filter
	base      protocol.Announcement // without state and load
	held      atomic.Int64          // requests accepted and not ended
	draining  atomic.Bool
	load      atomic.Pointer[protocol.Load]
	announced chan struct{} // closed when the announcing goroutine has ended
	refused   chan error    // what ended a connection for good; holds one
	stop      chan struct{}
}

func newLeader(config Config, e *engine, card []byte, digest string, blocks int, log zerolog.Logger) (*leader, error) {
	l := &leader{config: config, engine: e, log: log, card: card, events: make(chan event, eventQueue), routers: make(map[string]*routerState),
		announced: make(chan struct{}), refused: make(chan error, 1), stop: make(chan struct{}),
		base: protocol.Announcement{Version: protocol.Version, GroupRef: config.Group, Node: config.Node, ModelID: config.ModelID,
			CardDigest: digest, CardBytes: len(card), Shards: config.Shards, Limits: protocol.Limits{MaxSequenceTokens: config.MaxSequenceTokens,
				CapacityTokens: blocks * e.blockTokens, BlockTokens: e.blockTokens, MaxRequests: config.MaxRequests, MaxSequences: config.MaxSequences}}}
	var err error
	if l.steps, err = openStepLog(config.StepLog, log); err != nil && !config.Restarted {
		return nil, err
	} else if err != nil {
		log.Warn().Err(err).Msg("steps are not logged any more")
	}
	if l.control, err = l.connect("control"); err != nil {
		return nil, err
	}
	if l.frames, err = l.connect("frames"); err != nil {
		l.control.Close()
		return nil, err
	}
	fail := func(err error) (*leader, error) {
		l.control.Close()
		l.frames.Close()
		return nil, err
	}
	for subject, handle := range map[string]nats.MsgHandler{
		config.Group.Card(protocol.AnyRouter): l.onCard, config.Group.Dispatch(protocol.AnyRouter): l.onDispatch,
		config.Group.Cancel(protocol.AnyRouter): l.onCancel, config.Group.Replay(protocol.AnyRouter): l.onReplay,
		protocol.AliveSubjects: l.onAlive,
	} {
		if _, err := l.control.Subscribe(subject, handle); err != nil {
			return fail(fmt.Errorf("subscribe to %s: %w", subject, err))
		}
	}
	l.turned()
	go l.announce()
	if err := l.control.FlushTimeout(10 * time.Second); err != nil {
		l.close()
		select {
		case err = <-l.refused:
		default:
			err = fmt.Errorf("reach NATS: %w", err)
		}
		return nil, err
	}
	return l, nil
}

func (l *leader) connect(purpose string) (*nats.Conn, error) {
	options := []nats.Option{nats.Name(fmt.Sprintf("%s %s", l.config.Group, purpose)), nats.MaxReconnects(-1), nats.ReconnectWait(100 * time.Millisecond),
		nats.PingInterval(2 * time.Second), nats.MaxPingsOutstanding(2), nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(protocol.MaxPayloadBytes),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			l.complain("NATS", err)
		}),
		nats.ClosedHandler(func(conn *nats.Conn) { // by close, or since the server refuses it again and again
			if err := conn.LastError(); errors.Is(err, nats.ErrAuthorization) {
				select {
				case l.refused <- fmt.Errorf("%s: %w", l.config.NATSIdentity.RefusedByNATS(l.config.Node), err):
				default:
				}
			}
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				l.log.Warn().Err(err).Str("connection", purpose).Msg("NATS is away")
			}
		})}
	if identity := l.config.NATSIdentity; identity.NKey != "" {
		options = append(options, nats.Nkey(identity.NKey, identity.Sign))
	}
	conn, err := nats.Connect(strings.Join(l.config.NATSURLs, ","), options...)
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, nil
}

// complain tells of trouble, once and then ever more rarely.
func (l *leader) complain(what string, err error) {
	if held, say := l.said.Due(fmt.Sprint(what, err), time.Now()); say {
		l.log.Warn().Err(err).Int("held_back", held).Msg(what)
	}
}

func (l *leader) close() {
	close(l.stop)
	<-l.announced
	l.control.Close()
	l.frames.FlushTimeout(time.Second)
	l.frames.Close()
	l.steps.close()
}

func (l *leader) onCard(msg *nats.Msg) {
	var request protocol.CardRequest
	if !l.answerable(msg) || json.Unmarshal(msg.Data, &request) != nil || request.Offset < 0 || request.Offset > len(l.card) {
		return // the asker times out; a well-behaved one never gets here
	}
	msg.Respond(l.card[request.Offset:min(request.Offset+protocol.CardChunkBytes, len(l.card))])
}

// answerable reports whether a message asks for an answer where its sender, and he only, gets ours.
func (l *leader) answerable(msg *nats.Msg) bool {
	_, ok := protocol.ReplyNumber(msg.Reply, sender(msg), l.config.Group.Group)
	return ok
}

func (l *leader) onDispatch(msg *nats.Msg) {
	if !l.answerable(msg) {
		return
	}
	var dispatch protocol.Dispatch
	refuse := func(code protocol.Code, format string, args ...any) {
		respond(msg, protocol.DispatchReply{Error: &protocol.Error{Code: code, Message: fmt.Sprintf(format, args...)}})
	}
	if err := json.Unmarshal(msg.Data, &dispatch); err != nil {
		refuse(protocol.CodeInvalid, "dispatch: %v", err)
		return
	}
	switch {
	case dispatch.Version != protocol.Version:
		refuse(protocol.CodeVersion, "version %d, want %d", dispatch.Version, protocol.Version)
	case !protocol.ValidRouter(dispatch.Router) || dispatch.Router != sender(msg):
		refuse(protocol.CodeInvalid, "router %q on the subject of %q", dispatch.Router, sender(msg))
	case len(dispatch.Requests) > protocol.MaxDispatchRequests:
		refuse(protocol.CodeInvalid, "%d requests, at most %d", len(dispatch.Requests), protocol.MaxDispatchRequests)
	default:
		reply := l.accept(&dispatch)
		select {
		case l.events <- event{dispatch: &dispatch}:
			respond(msg, reply)
		default:
			l.held.Add(-int64(len(dispatch.Requests)))
			refuse(protocol.CodeFull, "too many messages wait")
		}
	}
}

// accept checks the requests of a dispatch and leaves in it those that the group takes.
func (l *leader) accept(dispatch *protocol.Dispatch) protocol.DispatchReply {
	var reply protocol.DispatchReply
	taken := dispatch.Requests[:0]
	for i := range dispatch.Requests {
		if err := l.refuses(&dispatch.Requests[i]); err != nil {
			reply.Refused = append(reply.Refused, protocol.Refusal{ID: dispatch.Requests[i].ID, Error: *err})
			continue
		}
		taken = append(taken, dispatch.Requests[i])
	}
	dispatch.Requests = taken
	return reply
}

// refuses says why a request is not taken; nil counts it as held.
func (l *leader) refuses(request *protocol.Request) *protocol.Error {
	limits := l.base.Limits
	if err := l.engine.check(request); err != nil {
		return &protocol.Error{Code: protocol.CodeInvalid, Message: err.Error()}
	}
	known := len(request.Prompt) + len(request.Generated)
	switch {
	case l.draining.Load():
		return &protocol.Error{Code: protocol.CodeDraining, Message: "the group is draining"}
	case known >= limits.MaxSequenceTokens:
		return &protocol.Error{Code: protocol.CodeTooLong, Message: fmt.Sprintf("%d tokens leave no room to generate in sequences of %d", known, limits.MaxSequenceTokens)}
	case l.held.Add(1) > int64(limits.MaxRequests):
		l.held.Add(-1)
		return &protocol.Error{Code: protocol.CodeFull, Message: fmt.Sprintf("%d requests are here", limits.MaxRequests)}
	}
	return nil
}

// sender is the router that a message came from.
func sender(msg *nats.Msg) string { return protocol.Sender(msg.Subject, protocol.RouterTokens) }

func (l *leader) onCancel(msg *nats.Msg) {
	var cancel protocol.Cancel
	if json.Unmarshal(msg.Data, &cancel) == nil && cancel.Router == sender(msg) {
		l.hand(event{cancel: &cancel}) // cancels must not be lost
	}
}

func (l *leader) onReplay(msg *nats.Msg) {
	var replay protocol.Replay
	if json.Unmarshal(msg.Data, &replay) == nil && replay.Router == sender(msg) {
		l.hand(event{replay: &replay})
	}
}

// hand gives the loop an event, and blocks the control connection while the queue is full.
func (l *leader) hand(e event) {
	select {
	case l.events <- e:
	case <-l.stop:
	}
}

func (l *leader) onAlive(msg *nats.Msg) {
	select {
	case l.events <- event{alive: sender(msg)}:
	default: // the next one will do
	}
}

func respond(msg *nats.Msg, reply protocol.DispatchReply) {
	if data, err := json.Marshal(reply); err == nil {
		msg.Respond(data)
	}
}

// serve runs the step loop until ctx has ended and no request is left.
func (l *leader) serve(ctx context.Context) error {
	ticker := time.NewTicker(protocol.AnnounceInterval)
	defer ticker.Stop()
	for done := ctx.Done(); ; {
		l.turned()
		idle := len(l.engine.sequences) == 0
		if idle && done == nil && len(l.events) == 0 {
			return nil
		}
		if idle {
			select {
			case e := <-l.events:
				l.handle(e)
			case <-ticker.C:
				l.expireRouters()
			case err := <-l.refused:
				return err
			case <-done:
				done = nil
				l.drain()
			}
			continue
		}
		for more := true; more; {
			select {
			case e := <-l.events:
				l.handle(e)
			case <-ticker.C:
				l.expireRouters()
			case err := <-l.refused:
				return err
			case <-done:
				done = nil
				l.drain()
			default:
				more = false
			}
		}
		if err := l.step(); err != nil {
			return err
		}
	}
}

// step computes a step and sends what it produced. When nothing is left to do it checks the account of the KV blocks.
func (l *leader) step() error {
	start := time.Now()
	outputs, err := l.engine.step()
	if err != nil {
		return err
	}
	end := time.Now()
	l.send(outputs)
	record := l.engine.record
	record.Seconds = end.Sub(start).Seconds()
	if !l.ended.IsZero() {
		record.GapSeconds = start.Sub(l.ended).Seconds()
	}
	l.steps.write(record)
	if l.ended = end; len(l.engine.sequences) > 0 {
		return nil
	}
	l.ended = time.Time{}
	if err := l.engine.schedule.Check(); err != nil {
		return fmt.Errorf("the account of KV blocks is wrong: %w", err)
	}
	l.steps.flush()
	return nil
}

// turned notes what the load is.
func (l *leader) turned() {
	load := l.engine.load()
	l.load.Store(&load)
}

func (l *leader) drain() {
	l.draining.Store(true)
	l.sendAnnouncement()
	l.log.Info().Int("requests", len(l.engine.sequences)).Msg("draining")
}

func (l *leader) handle(e event) {
	switch {
	case e.dispatch != nil:
		router := l.routers[e.dispatch.Router]
		if router == nil {
			l.makeRoomFor(e.dispatch.Router)
		}
		if router == nil {
			router = &routerState{}
			l.routers[e.dispatch.Router] = router
		}
		router.heard = time.Now()
		for _, request := range e.dispatch.Requests {
			if !l.engine.add(e.dispatch.Router, request) {
				l.held.Add(-1) // it is here already: its tokens go on
			}
		}
	case e.cancel != nil:
		if router := l.routers[e.cancel.Router]; router != nil {
			router.cancels = max(router.cancels, e.cancel.Number)
		}
		for _, id := range e.cancel.IDs {
			l.remove(origin{e.cancel.Router, id})
		}
	case e.replay != nil:
		l.replay(e.replay)
	default:
		if r := l.routers[e.alive]; r != nil {
			r.heard = time.Now()
		}
	}
}

func (l *leader) remove(o origin) {
	if l.engine.remove(o) {
		l.held.Add(-1)
	}
}

// announce tells routers about the group until close.
func (l *leader) announce() {
	defer close(l.announced)
	ticker := time.NewTicker(protocol.AnnounceInterval)
	defer ticker.Stop()
	for {
		l.sendAnnouncement()
		select {
		case <-ticker.C:
		case <-l.stop:
			return
		}
	}
}

func (l *leader) sendAnnouncement() {
	message := l.base
	switch {
	case l.draining.Load():
		message.State = protocol.StateDraining
	case l.engine.pace.stalled():
		message.State = protocol.StateStalled
	default:
		message.State = protocol.StateReady
	}
	message.Load = *l.load.Load()
	data, err := json.Marshal(message)
	if err == nil {
		err = l.control.Publish(protocol.AnnounceSubject(l.config.Group.Group), data)
	}
	if err != nil {
		l.log.Warn().Err(err).Msg("announce")
	}
}
