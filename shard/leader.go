package shard

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/bus"
	"lockstep/protocol/repeat"
	"lockstep/shard/masks"
	"lockstep/shard/model"
	"lockstep/shard/outbox"
)

// eventQueue bounds what NATS has delivered and the loop has not handled; a dispatch that finds it full is refused.
const eventQueue = 1024

// event is a message for the loop: exactly one field is set.
type event struct {
	dispatch *protocol.Dispatch
	cancel   *protocol.Cancel
	replay   *protocol.Replay
	alive    string
	guided   *guided
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
	outbox  *outbox.Outbox
	guides  *masks.Store
	// compiling are the requests that wait for their guides.
	compiling map[origin]protocol.Request
	steps     *stepLog
	ended     time.Time // of the last step; zero when nothing was left to compute

	said      repeat.Filter
	shape     model.Config          // for checks beside the engine's owner
	base      protocol.Announcement // without state and load; never changed
	held      atomic.Int64          // requests accepted and not ended
	draining  atomic.Bool
	load      atomic.Pointer[groupLoad]
	announced chan struct{} // closed when the announcing goroutine has ended
	refused   chan error    // what ended a connection for good; holds one
	stop      chan struct{}
}

// groupLoad is what an announcement tells of a moment.
type groupLoad struct {
	protocol.Load
	speculation protocol.Speculation
}

// facts are what a start has found out about the group.
type facts struct {
	card   []byte // as JSON
	digest string // its
	device protocol.Device
	blocks int    // of the KV cache
	reason string // what bounds it
	guides *masks.Store
}

func newLeader(config Config, e *engine, f facts, log zerolog.Logger) (*leader, error) {
	l := &leader{config: config, engine: e, log: log, card: f.card, events: make(chan event, eventQueue), outbox: outbox.New(config.Group),
		guides: f.guides, compiling: map[origin]protocol.Request{},
		shape: e.shape, announced: make(chan struct{}), refused: make(chan error, 1), stop: make(chan struct{}),
		base: protocol.Announcement{Version: protocol.Version, GroupRef: config.Group, Node: config.Node, ModelID: config.ModelID,
			CardDigest: f.digest, CardBytes: len(f.card), Shards: config.Shards, Device: f.device,
			Limits: protocol.Limits{MaxSequenceTokens: config.MaxSequenceTokens,
				CapacityTokens: f.blocks * e.blockTokens, CapacityReason: f.reason, BlockTokens: e.blockTokens,
				MaxRequests: config.MaxRequests, MaxSequences: config.MaxSequences, PrefillTokens: config.PrefillTokens}}}
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
	return bus.Connect(bus.Config{Name: fmt.Sprintf("%s %s", l.config.Group, purpose), URLs: l.config.NATSURLs,
		Identity: l.config.NATSIdentity, Node: l.config.Node, BufferBytes: protocol.MaxPayloadBytes, Refused: l.refused,
		Complain: l.complain})
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

// serve runs the step loop until ctx has ended and no request is left.
func (l *leader) serve(ctx context.Context) error {
	ticker := time.NewTicker(protocol.AnnounceInterval)
	defer ticker.Stop()
	for done := ctx.Done(); ; {
		l.turned()
		if err := l.engine.settle(); err != nil {
			return err
		}
		idle := len(l.engine.sequences) == 0
		if idle && l.draining.Load() && len(l.events)+len(l.compiling) == 0 {
			return nil
		}
		if idle {
			select {
			case e := <-l.events:
				l.handle(e)
			case <-ticker.C:
				l.expire()
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
				l.expire()
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
	if err != nil || outputs == nil {
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
	l.load.Store(&groupLoad{l.engine.load(), l.engine.speculation})
}

func (l *leader) drain() {
	l.draining.Store(true)
	l.sendAnnouncement()
	l.log.Info().Int("requests", len(l.engine.sequences)).Msg("draining")
}

func (l *leader) handle(e event) {
	now := time.Now()
	switch {
	case e.dispatch != nil:
		if dropped := l.outbox.Dispatched(e.dispatch.Router, now); dropped != "" {
			l.complain("a router has too many sessions, and this is dropped: "+dropped, nil)
			l.drop(dropped)
		}
		for _, request := range e.dispatch.Requests {
			l.begin(e.dispatch.Router, request)
		}
	case e.cancel != nil:
		l.outbox.Cancelled(e.cancel.Router, e.cancel.Number)
		for _, id := range e.cancel.IDs {
			l.remove(origin{e.cancel.Router, id})
		}
	case e.replay != nil:
		l.outbox.Replay(e.replay, now, func(data []byte) { l.sendFrame(e.replay.Router, data) })
	case e.guided != nil:
		l.compiled(e.guided)
	default:
		l.outbox.Alive(e.alive, now)
	}
}

// expire drops the requests of routers that went silent. Signs of life that came during a long step count first.
func (l *leader) expire() {
	for range len(l.events) {
		l.handle(<-l.events)
	}
	for _, name := range l.outbox.Expire(time.Now()) {
		l.log.Info().Str("router", name).Int("requests", l.drop(name)).Msg("a router went silent")
	}
}

// drop forgets a router's requests and returns how many were here.
func (l *leader) drop(name string) (requests int) {
	for o := range l.engine.byOrigin {
		if o.router == name {
			l.remove(o)
			requests++
		}
	}
	for o := range l.compiling {
		if o.router == name {
			l.remove(o)
			requests++
		}
	}
	delete(l.engine.accounts, name)
	return requests
}

func (l *leader) remove(o origin) {
	_, waits := l.compiling[o]
	if delete(l.compiling, o); waits || l.engine.remove(o) {
		l.held.Add(-1)
	}
}

// send puts a step's outputs into one frame for each router.
func (l *leader) send(outputs []output) {
	for i := range outputs {
		out := &outputs[i]
		if out.finish != protocol.FinishNone {
			l.held.Add(-1)
		}
		if out.failure != nil {
			l.log.Warn().Err(out.failure).Uint64("request", out.sequence.origin.id).Msg("a guide could not go on")
		}
		if frame := l.outbox.Frame(out.sequence.router); frame != nil {
			out.addTo(frame)
		}
	}
	l.flush()
}

// flush sends what the outbox holds.
func (l *leader) flush() {
	account := func(name string) protocol.Account { return *l.engine.accounts[name] } // who has outputs has an account
	l.outbox.Flush(l.engine.steps, l.engine.load(), account, l.sendFrame)
}

func (l *leader) sendFrame(router string, data []byte) {
	if err := l.frames.Publish(protocol.FrameSubject(router, l.config.Group.Group), data); err != nil {
		l.complain("a frame was not sent", err) // the router notices the gap
	}
}
