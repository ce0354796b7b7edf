// Package core is the router's side of protocol without a wire: the groups that are heard, the requests that run there, and
// what follows from each thing that happens. It is a core: it is told what happens and when, one event at a time, and says by
// its Actions what is to be done. It has no goroutine, clock, socket or log. One goroutine owns it.
//
// The life of a call: it waits in admission's queue; it is dispatched to a group under a wire id of its own for each attempt,
// so that frames of an earlier attempt mean nothing; rows of frames become tokens in order of their positions. When the group
// dies, refuses or loses a frame for good, the call goes back to the front of the queue with the tokens that it has and is
// dispatched again, which by design (law 4) yields the tokens that would have come.
package core

import (
	"slices"
	"strings"
	"time"

	"lockstep/protocol"
	"lockstep/router/admission"
	"lockstep/router/request"
)

const (
	// aliveInterval between two signs of life, half of what the groups ask for.
	aliveInterval = protocol.RouterAliveInterval / 2
	// replayInterval lies between two replays that are asked for because of one gap.
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
	// downedTime is for how long the death of an incarnation is remembered: what it announced before is under way no longer.
	downedTime = time.Minute
	// maxBackTime bounds the loading time that a group may ask its requests to wait for.
	maxBackTime = 10 * time.Minute
	// stallTimeout is a pause between two ticks after which the router takes itself for the one that was absent.
	stallTimeout = protocol.GroupTimeout / 3
	// maxCardFetches bounds the cards that are fetched at once, and maxCards those that are remembered though no group has them.
	maxCardFetches = 32
	maxCards       = 64
	// CardTimeout bounds the fetching of a whole card. When fetchPatience has passed, another group that has it is asked too;
	// when refusalTime has, one that was refused is looked at again: what stood in the way may be gone.
	CardTimeout   = 30 * time.Second
	fetchPatience = 3 * time.Second
	refusalTime   = time.Minute
	// maxGroups bounds the groups that are followed; announcements of more are ignored.
	maxGroups = 1024
)

// Config of a fleet's core.
type Config struct {
	// Admission is that of the queue; QueueLimit bounds the waiting requests, and more are refused as overloaded.
	Admission admission.Config
	// QueueTimeout is how long a request may wait before anything of its output is there; then it is refused as
	// overloaded. 0: for as long as it takes.
	QueueTimeout time.Duration
	// ResumeTimeout is how long a request may wait without any living group that could take it.
	ResumeTimeout time.Duration
	// ModelID, when not empty, is the only model whose groups are used.
	ModelID string
	// Knows reports whether a card that was loaded is still known to the owner of models; one that is not is fetched again when
	// a group with it announces itself. Nil: all are.
	Knows func(digest string) bool
}

// Actions do what the core decides, in order. They are called during its methods; they do not block, nor call it.
type Actions interface {
	// Alive gives a sign of life to all groups.
	Alive()
	// Dispatch sends requests to a group. Answered is told of the outcome, whatever it is, but not during the call.
	Dispatch(*Delivery)
	// Cancel tells a group to drop requests. Numbers count the cancels to an incarnation from 1.
	Cancel(group protocol.GroupRef, number uint64, wires []uint64)
	// Replay asks a group to send its frames again from a number on.
	Replay(group protocol.GroupRef, from uint64)
	// FetchCard gets and checks the card of a group. CardLoaded or CardRefused is told of the outcome, within CardTimeout.
	FetchCard(protocol.Announcement)
	// Show hands out a new view, which does not change any more.
	Show(*Snapshot)
	// Stepped tells of a group's step that brought first tokens (prefill), and of one that brought later ones, and how much
	// time passed since the group's frame before.
	Stepped(prefill bool, sincePrevious time.Duration)
	// Log tells the operator. fields are names and values in turn.
	Log(level Level, message string, fields ...any)
	// Complain is Log of what a group does wrong, which may come again and again.
	Complain(group, what string, err error)
}

// Level says how much a line of the log matters.
type Level int

const (
	Info Level = iota
	Warn
)

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

// Fleet is a router's view of all groups. The moments that its methods are given never go back.
type Fleet struct {
	config    Config
	actions   Actions
	admission *admission.Core
	now       time.Time // of the event that is handled
	link      Link

	groups   map[string]*group // by name
	cards    map[string]card   // by digest
	fetching map[string]bool   // groups whose cards are fetched now
	downed   map[protocol.GroupRef]death
	awaited  map[string]time.Time        // by kind: until when a group that restarts is waited for
	talks    map[protocol.GroupRef]*talk // with groups that were lost and may come back
	calls    map[uint64]*call            // by id
	wires    map[uint64]*call            // by wire id of the running attempt
	lastID   uint64
	lastWire uint64
	alive    time.Time // of the last sign of life
	ticked   time.Time // of the last tick
	totals   request.Totals
}

// New returns a fleet without groups.
func New(config Config, actions Actions) (*Fleet, error) {
	queue, err := admission.New(config.Admission)
	if err != nil {
		return nil, err
	}
	return &Fleet{
		config: config, actions: actions, admission: queue, groups: map[string]*group{}, cards: map[string]card{},
		fetching: map[string]bool{}, downed: map[protocol.GroupRef]death{}, awaited: map[string]time.Time{},
		talks: map[protocol.GroupRef]*talk{}, calls: map[uint64]*call{}, wires: map[uint64]*call{},
	}, nil
}

// Link is how the router stands with the broker.
type Link struct {
	// Up says that there is a connection. While there is none, silence says nothing of a group.
	Up bool
	// PayloadBytes bounds a message; 0: protocol.MaxPayloadBytes does.
	PayloadBytes int
}

// Tick does what time asks for. It is due many times in the shortest of the core's times.
func (f *Fleet) Tick(now time.Time, link Link) {
	f.now, f.link = now, link
	if now.Sub(f.alive) >= aliveInterval {
		f.alive = now
		f.actions.Alive()
	}
	f.forget()
	f.watchGroups(now.Sub(f.ticked) > stallTimeout || !link.Up)
	f.ticked = now
	f.watchOrphans()
	f.expire()
	f.admit()
	f.show()
}

// Stop fails all calls and tells the groups to drop them. The fleet is of no use any more.
func (f *Fleet) Stop() {
	for _, g := range f.ordered() {
		f.cancelNow(g, g.wires())
	}
	for _, c := range f.calls {
		c.events.Fail(&request.Refusal{Class: request.Incomplete, Message: "the router is shutting down"})
	}
}

// ordered returns the groups by name: what is done to several is done in this order.
func (f *Fleet) ordered() []*group {
	groups := make([]*group, 0, len(f.groups))
	for _, g := range f.groups {
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b *group) int { return strings.Compare(a.Announcement.Group, b.Announcement.Group) })
	return groups
}

// show hands out a new view.
func (f *Fleet) show() {
	s := &Snapshot{Load: request.Load{Queued: f.admission.Queued(), Totals: f.totals}}
	for _, g := range f.ordered() {
		if !g.known {
			continue
		}
		a := &g.Announcement
		ledger := f.admission.Load(a.Group)
		s.Groups = append(s.Groups, Group{Ref: a.GroupRef, CardDigest: a.CardDigest, Limits: a.Limits, Ready: g.ready()})
		s.Load.Groups = append(s.Load.Groups, request.GroupLoad{
			Group: a.Group, About: f.about(g), CapacityTokens: a.Limits.CapacityTokens, HeldTokens: a.Load.HeldTokens,
			CachedTokens: a.Load.CachedTokens, LedgerTokens: ledger.LedgerTokens, ReservedTokens: ledger.ReservedTokens,
			PeakTokens: ledger.PeakTokens, ErrorTokens: g.errorTokens, Requests: ledger.Requests, Parked: a.Load.Parked,
			Drafted: a.Speculation.Drafted, Accepted: a.Speculation.Accepted,
		})
	}
	f.actions.Show(s)
}

// about is what is told of a group whose card is known.
func (f *Fleet) about(g *group) request.About {
	a, card := &g.Announcement, f.cards[g.Announcement.CardDigest]
	return request.About{Node: a.Node, ModelID: a.ModelID, Kind: g.kinds[0], DeviceType: card.DeviceType, Numerics: card.Numerics,
		Device: a.Device, Shards: a.Shards, State: a.State, Silent: g.quiet, Running: a.Load.Running, Waiting: a.Load.Waiting}
}
