// Package fleet is the router's side of protocol: it knows the groups that are heard over NATS, sends them requests, and
// turns their frames into the events of each request.
//
// One goroutine, Run, owns admission, groups and calls; everything else reaches it through channels. The life of a call:
// it waits in admission's queue; it is dispatched to a group under a wire id of its own for each attempt, so that frames
// of an earlier attempt mean nothing; rows of frames become tokens in order of their positions. When the group dies,
// refuses or loses a frame for good, the call goes back to the front of the queue with the tokens that it has and is
// dispatched again, which by design (law 4) yields the tokens that would have come.
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
	"lockstep/router/admission"
	"lockstep/router/request"
)

const (
	tickInterval = 50 * time.Millisecond
	// aliveInterval between two signs of life, half of what the groups ask for.
	aliveInterval = protocol.RouterAliveInterval / 2
	// dispatchTimeout is how long a group may take to acknowledge a dispatch; then it goes back to the queue.
	dispatchTimeout = 10 * time.Second
	// replayInterval lies between two Replay requests for one gap.
	replayInterval = 200 * time.Millisecond
	// maxReplays is how often a gap is asked for before its requests are dispatched again.
	maxReplays = 5
	// quietTimeout is how long a group with running requests may be silent before the router asks for what it missed.
	quietTimeout = time.Second
	// avoidTime is how long a group may be silent before new requests go elsewhere.
	avoidTime = 3 * protocol.AnnounceInterval
	// forgottenTimeout is how long a call may make no progress while its group says that it holds fewer requests than the
	// router thinks: then the group has forgotten it, as it does after a router's long silence.
	forgottenTimeout = 6 * time.Second
	// cardTimeout is how long a chunk of a card may take.
	cardTimeout = 5 * time.Second
	// downedTime is for how long the death of an incarnation is remembered: what it announced before is under way no longer.
	downedTime = time.Minute
	// maxBackTime bounds the loading time that a group may ask its requests to wait for.
	maxBackTime = 10 * time.Minute
	// stallTimeout is a pause between two ticks after which the router takes itself for the one that was absent.
	stallTimeout = protocol.GroupTimeout / 3
	// inboundMessages bounds what NATS may hold for the owner; when full, NATS drops, which shows as a gap and is mended.
	inboundMessages = 16384
	// maxCardLoads bounds the cards that are fetched at once, and maxCards those that are remembered though no group has them.
	maxCardLoads = 32
	maxCards     = 64
	// loadTimeout bounds the fetching of a whole card. When loadPatience has passed, another group that has it is asked too;
	// when refusalTime has, one that was refused is looked at again: what stood in the way may be gone.
	loadTimeout  = 30 * time.Second
	loadPatience = 3 * time.Second
	refusalTime  = time.Minute
	// maxSaidBytes bounds what of a group's own words is told.
	maxSaidBytes = 200
	// maxGroups bounds the groups that are followed; announcements of more are ignored.
	maxGroups = 1024
)

// ErrClosed says that the fleet runs no more.
var ErrClosed = errors.New("fleet: closed")

// Config of a fleet.
type Config struct {
	// Router is the name on the wire, a protocol.RouterName, never used before by another process.
	Router string
	// QueueLimit bounds the waiting requests; more are refused as overloaded.
	QueueLimit int
	// QueueTimeout is how long a request may wait before anything of its output is there; then it is refused as
	// overloaded. 0: for as long as it takes.
	QueueTimeout time.Duration
	// Policy of admission; see there. Empty: past-future.
	Policy admission.Policy
	// Seed of the policies that draw.
	Seed uint64
	// ResumeTimeout is how long a request may wait without any living group that could take it.
	ResumeTimeout time.Duration
	// ModelID, when not empty, is the only model whose groups are used.
	ModelID string
	// OnCard is called with each new checked card, not on the owner's goroutine. An error keeps its groups unused.
	OnCard func(digest string, card *protocol.ModelCard) error
	// Knows reports whether a card that OnCard took is still known; one that is not is fetched again. Nil: all are.
	Knows func(digest string) bool
	// OnSnapshot is called on the owner's goroutine with every new view; nil to ignore. It must not block.
	OnSnapshot func(*Snapshot)
	// OnDispatch and OnStep observe batches sent and steps received; nil to ignore. They must not block.
	OnDispatch func(requests int)
	OnStep     func(prefill bool, sincePrevious time.Duration)
	// OnTick is called on the owner's goroutine many times a second; nil to ignore. It must not block.
	OnTick func()
}

// Group is a living group whose card is known, as others may see it.
type Group struct {
	Ref        protocol.GroupRef
	CardDigest string
	Limits     protocol.Limits
	Ready      bool
}

// Snapshot is a moment's view of the fleet; it is never changed.
type Snapshot struct {
	Groups []Group
	Load   request.Load
}

// Fleet is a router's view of all groups.
type Fleet struct {
	config    Config
	conn      *nats.Conn
	questions questions
	log       zerolog.Logger
	snapshot  atomic.Pointer[Snapshot]
	commands  chan func()
	results   chan func()
	messages  chan *nats.Msg
	done      chan struct{}
	workers   sync.WaitGroup // card fetches and dispatches in flight

	// Owned by Run.
	ctx      context.Context
	core     *admission.Core
	groups   map[string]*group // by name
	cards    map[string]cardState
	loading  map[string]bool             // groups whose cards are fetched now
	rewards  map[string]bool             // digests of cards of reward models
	downed   map[protocol.GroupRef]death // incarnations known to be dead
	awaited  map[string]time.Time        // by card: until when a group that restarts is waited for
	talks    map[protocol.GroupRef]*talk // with groups that were lost and may come back
	calls    map[uint64]*call            // by id
	wires    map[uint64]*call            // by wire id of the running attempt
	lastID   uint64
	lastWire uint64
	alive    time.Time // of the last sign of life
	ticked   time.Time // of the last tick
	totals   request.Totals
	said     repeat.Filter
	frame    protocol.Frame
}

// New returns a fleet that speaks over conn. It starts nothing.
func New(conn *nats.Conn, config Config, log zerolog.Logger) (*Fleet, error) {
	core, err := admission.New(admission.Config{QueueLimit: config.QueueLimit, Policy: config.Policy, Seed: config.Seed})
	if err != nil {
		return nil, err
	}
	f := &Fleet{
		config: config, loading: map[string]bool{}, conn: conn, log: log,
		questions: questions{conn: conn, router: config.Router, waiting: map[uint64]question{}},
		commands:  make(chan func(), 64), results: make(chan func(), 64),
		messages: make(chan *nats.Msg, inboundMessages), done: make(chan struct{}),
		core: core, groups: map[string]*group{}, cards: map[string]cardState{}, rewards: map[string]bool{},
		downed: map[protocol.GroupRef]death{}, awaited: map[string]time.Time{}, talks: map[protocol.GroupRef]*talk{},
		calls: map[uint64]*call{}, wires: map[uint64]*call{},
	}
	if f.config.Knows == nil {
		f.config.Knows = func(string) bool { return true }
	}
	f.snapshot.Store(&Snapshot{})
	return f, nil
}

// Snapshot returns the present view.
func (f *Fleet) Snapshot() *Snapshot { return f.snapshot.Load() }

// Run subscribes and serves until ctx ends; then all calls fail and groups are told to drop them.
func (f *Fleet) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	f.ctx = ctx
	defer func() {
		cancel()
		f.shutDown()
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
	f.tick(time.Now())
	for {
		select {
		case <-ctx.Done():
			return nil
		case message := <-f.messages:
			f.receive(message)
		case command := <-f.commands:
			command()
			f.admit()
		case result := <-f.results:
			result()
			f.admit()
		case <-ticker.C:
			f.tick(time.Now())
		}
	}
}

// shutDown ends what is left after Run.
func (f *Fleet) shutDown() {
	close(f.done)
	for _, g := range f.groups {
		f.cancelNow(g, g.wires())
	}
	for _, c := range f.calls {
		c.events.Fail(&request.Refusal{Class: request.Incomplete, Message: "the router is shutting down"})
	}
	f.workers.Wait()
	f.conn.FlushTimeout(time.Second)
}

// post hands a result of a worker to the owner.
func (f *Fleet) post(result func()) {
	select {
	case f.results <- result:
	case <-f.ctx.Done():
	}
}

func (f *Fleet) publish(subject string, message any) {
	data, err := json.Marshal(message)
	if err != nil {
		panic(err) // our own types
	}
	f.publishBytes(subject, data)
}

func (f *Fleet) publishBytes(subject string, data []byte) {
	if err := f.conn.Publish(subject, data); err != nil {
		f.log.Warn().Err(err).Str("subject", subject).Msg("publish failed")
	}
}

// sendCancel tells a group to drop requests. Those of a dispatch that it has not answered wait for that: a cancel that
// overtook its request would be forgotten, and the request computed for nobody.
func (f *Fleet) sendCancel(g *group, wires []uint64) {
	var now []uint64
	for _, wire := range wires {
		if g.unanswered[wire] {
			g.late = append(g.late, wire)
		} else {
			now = append(now, wire)
		}
	}
	f.cancelNow(g, now)
}

// cancelNow publishes a cancel. Cancels are numbered, so that audit knows which of them a frame lies behind.
func (f *Fleet) cancelNow(g *group, wires []uint64) {
	if len(wires) > 0 {
		g.cancels++
		f.publish(g.Announcement.Cancel(f.config.Router), protocol.Cancel{Router: f.config.Router, Number: g.cancels, IDs: wires})
	}
}

// receive takes one message from NATS. What it says is believed of the group that its subject names, and of no other.
func (f *Fleet) receive(message *nats.Msg) {
	group := protocol.Sender(message.Subject, protocol.GroupTokens)
	switch message.Sub.Subject {
	case protocol.AnnounceSubjects:
		f.announced(group, message.Data)
	case protocol.DownSubjects:
		f.down(group, message.Data)
	default:
		f.receiveFrame(group, message.Data)
	}
	f.admit()
}

// tick does what time asks for.
func (f *Fleet) tick(now time.Time) {
	if now.Sub(f.alive) >= aliveInterval {
		f.alive = now
		f.publishBytes(protocol.AliveSubject(f.config.Router), nil)
	}
	f.forget(now)
	f.watchGroups(now, now.Sub(f.ticked) > stallTimeout || !f.conn.IsConnected())
	f.ticked = now
	if f.config.OnTick != nil {
		f.config.OnTick()
	}
	f.watchOrphans(now)
	f.expire(now)
	f.admit()
	f.publishSnapshot()
}
