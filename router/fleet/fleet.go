// Package fleet is the groups over NATS as the router sees them. What is decided about them and their requests, package core
// decides; here is what surrounds it: subscriptions, JSON, questions and their answers, the clock and the log.
//
// One goroutine, Run, owns the core; everything else reaches it through channels.
package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/repeat"
	"lockstep/router/fleet/core"
	"lockstep/router/request"
)

const (
	// tickInterval lies between two ticks of the core.
	tickInterval = 50 * time.Millisecond
	// dispatchTimeout is how long a group may take to acknowledge a dispatch; then it goes back to the queue.
	dispatchTimeout = 10 * time.Second
	// inboundMessages bounds what NATS may hold for the owner; when full, NATS drops, which shows as a gap and is mended.
	inboundMessages = 16384
)

// ErrClosed says that the fleet runs no more.
var ErrClosed = errors.New("fleet: closed")

// Config of a fleet.
type Config struct {
	core.Config
	// Router is the name on the wire, a protocol.RouterName, never used before by another process.
	Router string
	// OnCard is called with each new checked card, not on the owner's goroutine. An error keeps its groups unused.
	OnCard func(digest string, card *protocol.ModelCard) error
	// OnSnapshot is called on the owner's goroutine with every new view; nil to ignore. It must not block.
	OnSnapshot func(*core.Snapshot)
	// OnDispatch and OnStep observe batches sent and steps received; nil to ignore. They must not block.
	OnDispatch func(requests int)
	OnStep     func(prefill bool, sincePrevious time.Duration)
	// OnTick is called on the owner's goroutine many times a second; nil to ignore. It must not block.
	OnTick func()
}

// Fleet is a router's view of all groups.
type Fleet struct {
	config    Config
	conn      *nats.Conn
	questions questions
	log       zerolog.Logger
	snapshot  atomic.Pointer[core.Snapshot]
	events    chan func(now time.Time)
	messages  chan *nats.Msg
	done      chan struct{}
	workers   sync.WaitGroup // card fetches and dispatches in flight

	// Owned by Run.
	ctx   context.Context
	core  *core.Fleet
	said  repeat.Filter
	frame protocol.Frame
}

// New returns a fleet that speaks over conn. It starts nothing.
func New(conn *nats.Conn, config Config, log zerolog.Logger) (*Fleet, error) {
	f := &Fleet{
		config: config, conn: conn, log: log, questions: questions{conn: conn, router: config.Router, waiting: map[uint64]question{}},
		events: make(chan func(time.Time), 128), messages: make(chan *nats.Msg, inboundMessages), done: make(chan struct{}),
	}
	f.snapshot.Store(&core.Snapshot{})
	var err error
	if f.core, err = core.New(config.Config, (*actions)(f)); err != nil {
		return nil, err
	}
	return f, nil
}

// Snapshot returns the present view.
func (f *Fleet) Snapshot() *core.Snapshot { return f.snapshot.Load() }

// Run subscribes and serves until ctx ends; then all calls fail and groups are told to drop them.
func (f *Fleet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	f.ctx = ctx
	defer func() {
		cancel()
		close(f.done)
		f.core.Stop()
		f.workers.Wait()
		f.conn.FlushTimeout(time.Second)
	}()
	answers, err := f.questions.listen()
	if err != nil {
		return err
	}
	defer answers.Unsubscribe()
	for _, subject := range []string{protocol.AnnounceSubjects, protocol.DownSubjects, protocol.FrameSubjects(f.config.Router)} {
		subscription, err := f.conn.ChanSubscribe(subject, f.messages)
		if err != nil {
			return err
		}
		defer subscription.Unsubscribe()
	}
	ticker := time.NewTicker(tickInterval)
	defer ticker.Stop()
	f.tick()
	for {
		select {
		case <-ctx.Done():
			return nil
		case message := <-f.messages:
			f.receive(message, time.Now())
		case event := <-f.events:
			event(time.Now())
		case <-ticker.C:
			f.tick()
		}
	}
}

func (f *Fleet) tick() {
	f.core.Tick(time.Now(), core.Link{Up: f.conn.IsConnected(), PayloadBytes: int(f.conn.MaxPayload())})
	if f.config.OnTick != nil {
		f.config.OnTick()
	}
}

// receive takes one message from NATS. What it says is believed of the group that its subject names, and of no other.
func (f *Fleet) receive(message *nats.Msg, now time.Time) {
	group := protocol.Sender(message.Subject, protocol.GroupTokens)
	switch message.Sub.Subject {
	case protocol.AnnounceSubjects:
		var a protocol.Announcement
		if err := json.Unmarshal(message.Data, &a); err != nil {
			f.complain(group, "announcement refused", err)
			return
		}
		f.core.Announced(now, group, a)
	case protocol.DownSubjects:
		var d protocol.Down
		if json.Unmarshal(message.Data, &d) == nil {
			f.core.Down(now, group, d)
		}
	default:
		if err := protocol.DecodeFrame(&f.frame, message.Data); err != nil {
			f.complain(group, "frame refused", err)
			return
		}
		f.core.Frame(now, group, &f.frame)
	}
}

// complain tells of what a group does wrong, once and then ever more rarely.
func (f *Fleet) complain(group, what string, err error) {
	if held, say := f.said.Due(what+" of "+group, time.Now()); say {
		f.log.Warn().Err(err).Str("group", core.Said(group)).Int("held_back", held).Msg(what)
	}
}

// post hands a result of a worker to the owner, unless it is gone.
func (f *Fleet) post(event func(now time.Time)) {
	select {
	case f.events <- event:
	case <-f.ctx.Done():
	}
}

// command hands an event to the owner. It returns false when it is gone.
func (f *Fleet) command(event func(now time.Time)) bool {
	select {
	case f.events <- event:
		return true
	case <-f.done:
		return false
	}
}

// Submit queues a request and returns its id and events. The error is an ErrClosed or a *request.Refusal.
func (f *Fleet) Submit(r *request.Request) (uint64, *request.Events, error) {
	promptLogprobs := 0
	if r.PromptLogprobs {
		promptLogprobs = len(r.Prompt) - 1
	}
	type answer struct {
		id      uint64
		refusal *request.Refusal
	}
	keys, events, answers := f.keys(r), request.NewEvents(promptLogprobs), make(chan answer, 1)
	if !f.command(func(now time.Time) {
		id, refusal := f.core.Submit(now, r, keys, events)
		answers <- answer{id, refusal}
	}) {
		return 0, nil, ErrClosed
	}
	select {
	case answer := <-answers:
		if answer.refusal != nil {
			return 0, nil, answer.refusal
		}
		return answer.id, events, nil
	case <-f.done:
		return 0, nil, ErrClosed
	}
}

// keys names the blocks of a prompt, for the guess of where they are cached. It hashes the prompt, so it runs on the
// caller's goroutine and not on the owner's. Nil when nothing of the prompt is read from a cache: prompts whose
// log-probabilities are wanted are computed whole.
func (f *Fleet) keys(r *request.Request) []protocol.BlockKey {
	if r.NoPrefixCache || r.PromptLogprobs {
		return nil
	}
	for _, g := range f.Snapshot().Groups {
		if block := g.Limits.BlockTokens; g.CardDigest == r.CardDigest && block > 0 {
			chain := protocol.NewKeyChain(r.Adapter, r.CacheSalt)
			return chain.Keys(make([]protocol.BlockKey, 0, len(r.Prompt)/block), r.Prompt, block)
		}
	}
	return nil
}

// Cancel ends a request that nobody waits for any more. Ids that have ended are ignored.
func (f *Fleet) Cancel(id uint64) {
	f.command(func(now time.Time) { f.core.Cancel(now, id, false) })
}

// Done ends a request whose output is complete though its group would go on, as after a stop string. Ids that have ended are
// ignored.
func (f *Fleet) Done(id uint64) {
	f.command(func(now time.Time) { f.core.Cancel(now, id, true) })
}

// Healthy returns nil if all ready groups of a model card compute: each has sent tokens lately or answers a probe now. It
// takes no longer than a group may take for that, some seconds.
func (f *Fleet) Healthy(ctx context.Context, digest string) error {
	answer := make(chan error, 1)
	select {
	case f.events <- func(now time.Time) { f.core.Examine(now, digest, func(err error) { answer <- err }) }:
	case <-f.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-answer:
		return err
	case <-f.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}
