package shard

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/shard/model"
)

// eventQueue bounds what NATS has delivered and the loop has not handled; a dispatch that finds it full is refused.
const eventQueue = 1024

// event is a message for the loop: exactly one field is set.
type event struct {
	dispatch *protocol.Dispatch
	reply    *nats.Msg
	cancel   *protocol.Cancel
	replay   *protocol.Replay
	alive    string
}

// leader is rank 0's side of NATS. One goroutine, serve's, owns everything but the subscriptions' callbacks, which only
// decode and hand events over.
type leader struct {
	config   Config
	engine   *engine
	log      zerolog.Logger
	card     []byte
	control  *nats.Conn // requests
	frames   *nats.Conn // tokens, which must not queue behind long prompts
	events   chan event
	announce protocol.Announcement
	routers  map[string]*routerState
}

// routerState is what a group keeps of a router that it computes for.
type routerState struct {
	heard  time.Time
	number uint64 // of the next frame
	frame  protocol.Frame
	sent   [protocol.ReplayFrames][]byte // encoded frames by number modulo their count
}

func newLeader(config Config, e *engine, card []byte, digest string, capacity int, log zerolog.Logger) (*leader, error) {
	l := &leader{config: config, engine: e, log: log, card: card, events: make(chan event, eventQueue), routers: make(map[string]*routerState),
		announce: protocol.Announcement{Version: protocol.Version, GroupRef: config.Group, Node: config.Node, State: protocol.StateReady, ModelID: config.ModelID,
			CardDigest: digest, CardBytes: len(card), Shards: config.Shards, Limits: protocol.Limits{MaxSequenceTokens: config.MaxSequenceTokens,
				CapacityTokens: capacity, BlockTokens: model.BlockTokens, MaxRequests: config.MaxRequests}}}
	var err error
	if l.control, err = l.connect("control"); err != nil {
		return nil, err
	}
	if l.frames, err = l.connect("frames"); err != nil {
		l.control.Close()
		return nil, err
	}
	for subject, handle := range map[string]nats.MsgHandler{config.Group.Card(): l.onCard, config.Group.Dispatch(): l.onDispatch, config.Group.Cancel(): l.onCancel,
		config.Group.Replay(): l.onReplay, protocol.SubjectRouterAlive: l.onAlive} {
		if _, err := l.control.Subscribe(subject, handle); err != nil {
			l.close()
			return nil, fmt.Errorf("subscribe to %s: %w", subject, err)
		}
	}
	return l, l.control.FlushTimeout(10 * time.Second)
}

func (l *leader) connect(purpose string) (*nats.Conn, error) {
	name := fmt.Sprintf("%s %s", l.config.Group, purpose)
	conn, err := nats.Connect(strings.Join(l.config.NATSURLs, ","), nats.Name(name), nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond),
		nats.PingInterval(2*time.Second), nats.MaxPingsOutstanding(2), nats.RetryOnFailedConnect(true), nats.ReconnectBufSize(protocol.MaxPayloadBytes),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			l.log.Warn().Err(err).Str("connection", purpose).Msg("NATS")
		}),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				l.log.Warn().Err(err).Str("connection", purpose).Msg("NATS is away")
			}
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to NATS: %w", err)
	}
	return conn, nil
}

func (l *leader) close() {
	l.control.Close()
	if l.frames != nil {
		l.frames.FlushTimeout(time.Second)
		l.frames.Close()
	}
}

func (l *leader) onCard(msg *nats.Msg) {
	var request protocol.CardRequest
	if json.Unmarshal(msg.Data, &request) != nil || request.Offset < 0 || request.Offset > len(l.card) {
		return // the asker times out; a well-behaved one never gets here
	}
	msg.Respond(l.card[request.Offset:min(request.Offset+protocol.CardChunkBytes, len(l.card))])
}

func (l *leader) onDispatch(msg *nats.Msg) {
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
	case !protocol.ValidToken(dispatch.Router):
		refuse(protocol.CodeInvalid, "router name %q", dispatch.Router)
	case len(dispatch.Requests) > protocol.MaxDispatchRequests:
		refuse(protocol.CodeInvalid, "%d requests, at most %d", len(dispatch.Requests), protocol.MaxDispatchRequests)
	default:
		select {
		case l.events <- event{dispatch: &dispatch, reply: msg}:
		default:
			refuse(protocol.CodeFull, "too many messages wait")
		}
	}
}

func (l *leader) onCancel(msg *nats.Msg) {
	var cancel protocol.Cancel
	if json.Unmarshal(msg.Data, &cancel) == nil {
		l.events <- event{cancel: &cancel} // blocks the control connection while the queue is full: cancels must not be lost
	}
}

func (l *leader) onReplay(msg *nats.Msg) {
	var replay protocol.Replay
	if json.Unmarshal(msg.Data, &replay) == nil {
		l.events <- event{replay: &replay}
	}
}

func (l *leader) onAlive(msg *nats.Msg) {
	var alive protocol.RouterAlive
	if json.Unmarshal(msg.Data, &alive) == nil {
		select {
		case l.events <- event{alive: alive.Router}:
		default: // the next one will do
		}
	}
}

func respond(msg *nats.Msg, reply protocol.DispatchReply) {
	if data, err := json.Marshal(reply); err == nil {
		msg.Respond(data)
	}
}

// serve runs the step loop until ctx has ended and no request is left.
func (l *leader) serve(ctx context.Context) error {
	ticker := time.NewTicker(protocol.AnnounceInterval / 2)
	defer ticker.Stop()
	l.sendAnnouncement()
	for done := ctx.Done(); ; {
		idle := len(l.engine.sequences) == 0
		if idle && done == nil {
			return nil
		}
		if idle {
			select {
			case e := <-l.events:
				l.handle(e)
			case <-ticker.C:
				l.tick()
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
				l.tick()
			case <-done:
				done = nil
				l.drain()
			default:
				more = false
			}
		}
		outputs, err := l.engine.step()
		if err != nil {
			return err
		}
		l.send(outputs)
	}
}

func (l *leader) drain() {
	l.announce.State = protocol.StateDraining
	l.sendAnnouncement()
	l.log.Info().Int("requests", len(l.engine.sequences)).Msg("draining")
}

func (l *leader) handle(e event) {
	switch {
	case e.dispatch != nil:
		respond(e.reply, l.accept(e.dispatch))
	case e.cancel != nil:
		for _, id := range e.cancel.IDs {
			l.engine.remove(origin{e.cancel.Router, id})
		}
	case e.replay != nil:
		l.replay(e.replay)
	default:
		if r := l.routers[e.alive]; r != nil {
			r.heard = time.Now()
		}
	}
}

func (l *leader) accept(dispatch *protocol.Dispatch) protocol.DispatchReply {
	router := l.routers[dispatch.Router]
	if router == nil {
		router = &routerState{}
		l.routers[dispatch.Router] = router
	}
	router.heard = time.Now()
	var reply protocol.DispatchReply
	for i := range dispatch.Requests {
		request := &dispatch.Requests[i]
		if err := l.refuses(dispatch.Router, request); err != nil {
			reply.Refused = append(reply.Refused, protocol.Refusal{ID: request.ID, Error: *err})
			continue
		}
		l.engine.add(dispatch.Router, *request)
	}
	return reply
}

func (l *leader) refuses(router string, request *protocol.Request) *protocol.Error {
	limits := l.announce.Limits
	if err := request.Validate(l.engine.model.Config().Vocabulary); err != nil {
		return &protocol.Error{Code: protocol.CodeInvalid, Message: err.Error()}
	}
	known := len(request.Prompt) + len(request.Generated)
	switch {
	case l.announce.State == protocol.StateDraining:
		return &protocol.Error{Code: protocol.CodeDraining, Message: "the group is draining"}
	case l.engine.byOrigin[origin{router, request.ID}] != nil:
		return &protocol.Error{Code: protocol.CodeInvalid, Message: "a request of this id is running"}
	case len(l.engine.sequences) >= limits.MaxRequests:
		return &protocol.Error{Code: protocol.CodeFull, Message: fmt.Sprintf("%d requests are here", len(l.engine.sequences))}
	case known >= limits.MaxSequenceTokens:
		return &protocol.Error{Code: protocol.CodeTooLong, Message: fmt.Sprintf("%d tokens leave no room to generate in sequences of %d", known, limits.MaxSequenceTokens)}
	}
	return nil
}

// tick announces the group and drops the requests of routers that went silent.
func (l *leader) tick() {
	l.sendAnnouncement()
	for name, router := range l.routers {
		if time.Since(router.heard) < protocol.RouterLease {
			continue
		}
		dropped := 0
		for o := range l.engine.byOrigin {
			if o.router == name {
				l.engine.remove(o)
				dropped++
			}
		}
		delete(l.routers, name)
		l.log.Info().Str("router", name).Int("requests", dropped).Msg("a router went silent")
	}
}

func (l *leader) sendAnnouncement() {
	l.announce.Load = l.engine.load()
	data, err := json.Marshal(l.announce)
	if err == nil {
		err = l.control.Publish(protocol.SubjectAnnounce, data)
	}
	if err != nil {
		l.log.Warn().Err(err).Msg("announce")
	}
}

// send puts a step's outputs into one frame for each router.
func (l *leader) send(outputs []output) {
	for i := range outputs {
		out := &outputs[i]
		router := l.routers[out.sequence.router]
		if router == nil {
			continue
		}
		if len(out.prompt) > 0 {
			router.frame.Prompt = append(router.frame.Prompt, protocol.PromptPart{Request: out.sequence.origin.id, Start: uint32(out.start), Logprob: out.prompt})
		}
		if out.yields {
			position := len(out.sequence.tokens) - len(out.sequence.request.Prompt) - 1
			router.frame.Add(out.sequence.origin.id, position, out.token, out.logprob, out.finish)
		}
	}
	for name, router := range l.routers {
		if len(router.frame.Request) == 0 && len(router.frame.Prompt) == 0 {
			continue
		}
		f := &router.frame
		f.Group, f.Number, f.Step, f.Load = l.config.Group, router.number, l.engine.steps, l.engine.load()
		slot := &router.sent[router.number%protocol.ReplayFrames]
		*slot = f.AppendTo((*slot)[:0])
		router.number++
		f.Reset()
		if err := l.frames.Publish(protocol.FrameSubject(name), *slot); err != nil {
			l.log.Warn().Err(err).Str("router", name).Msg("send a frame") // the router notices the gap
		}
	}
}

func (l *leader) replay(request *protocol.Replay) {
	router := l.routers[request.Router]
	if router == nil {
		return
	}
	oldest := uint64(0)
	if router.number > protocol.ReplayFrames {
		oldest = router.number - protocol.ReplayFrames
	}
	for number := max(request.From, oldest); number < router.number; number++ {
		if err := l.frames.Publish(protocol.FrameSubject(request.Router), router.sent[number%protocol.ReplayFrames]); err != nil {
			l.log.Warn().Err(err).Str("router", request.Router).Msg("replay a frame")
			return
		}
	}
}
