// Package admission decides when a request may go to which group. It is a pure core: events in, decisions out, with no
// clock, goroutine, log or global random source. One goroutine owns a Core; equal configurations and events give equal
// decisions.
//
// Requests wait in one queue for each kind (protocol.ModelCard.Kinds), first in first out: a head that fits nowhere holds up the
// later ones of its kind, and those of other kinds at the groups that it waits for.
//
// The ledger knows of every request at a group what it holds and, by the Policy, what it may come to hold. The head goes
// to the group that computes it soonest (choose.go) among those where the peak of all that will be held fits:
//
//   - Conservative adds up prompts and all of max_new_tokens, TGI's rule: no group ever lacks a block for what this
//     router sent there.
//   - Peak assumes lengths and finds the largest sum of what is alive at any future moment, LightLLM's rule (peak.go).
//   - PastFuture draws the lengths from those of the requests that ended lately, the rule of "Past-Future Scheduler for
//     LLM Serving under SLA Guarantees" (ASPLOS 2025, https://arxiv.org/abs/2507.10150; history.go).
//   - Aggressive looks at the present only. It is the baseline that simulations compare with.
//
// The last three can be wrong; a group whose blocks run out parks its newest request and computes it again later. A
// group without a request of ours takes any item that it could hold at all, whatever others hold there: so no item
// waits for ever behind estimates.
package admission

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"lockstep/protocol"
)

// Errors of Push; nothing was queued.
var (
	// ErrQueueFull says that the queue has reached its bound.
	ErrQueueFull = errors.New("admission: the queue is full")
	// ErrOrder says that an item's id does not lie above those of all earlier ones.
	ErrOrder = errors.New("admission: ids must grow")
)

// Policy says how much room a request needs.
type Policy string

const (
	Conservative Policy = "conservative"
	Peak         Policy = "peak"
	PastFuture   Policy = "past-future"
	Aggressive   Policy = "aggressive"
)

const (
	// DefaultHistory is how many ended lengths PastFuture remembers. The artifact of the paper uses 40 or 200; more see
	// the long tail better and a changing load later.
	DefaultHistory = 200
	// DefaultPrior is how many lengths must have ended before the prior has no weight left.
	DefaultPrior = 20
	// DefaultReservePercent of the capacity is kept free by PastFuture. The artifact keeps 5; here a wrong draw costs
	// little, since the newest request is parked and is the next to go on, so simulations favour less (docs/simulator.md).
	DefaultReservePercent = 1
	// aggressiveReservePercent is what Aggressive keeps free, as in the paper's baseline.
	aggressiveReservePercent = 5
	// DefaultDecodeWeight is what a token that is held costs in units of a token still to prefill. NVIDIA Dynamo's is 1;
	// in simulations a tenth follows cached prefixes more, to a quarter more goodput, and spreads other load as well
	// (docs/simulator.md).
	DefaultDecodeWeight = 0.1
	// trustWeight is the weight of the newest request in a group's trust: some twenty of them change it.
	trustWeight = 0.1
	// maxSamples bounds the futures that PastFuture looks at for one decision.
	maxSamples = 5
	// maxKinds bounds the kinds whose lengths are remembered; when full, kinds without items and groups are forgotten.
	maxKinds = 64
)

// Config of a core. The zero value of a field but QueueLimit means its default.
type Config struct {
	// QueueLimit bounds the items that wait; Push refuses more. Items that come back from a group are always taken.
	QueueLimit int
	// Policy is PastFuture by default.
	Policy Policy
	// Seed of PastFuture's draws.
	Seed uint64
	// History is how many ended lengths of each kind PastFuture draws from. Small: noisy. Large: slow to follow a change.
	History int
	// Prior is how many ended lengths are at first assumed to be startAverageTokens, or max_new_tokens if that is less.
	// Each real one replaces one of them. Negative: none.
	Prior int
	// Samples bounds the futures that PastFuture draws for a decision, of which the worst counts; at most 5.
	Samples int
	// ReservePercent of a group's capacity is kept free by PastFuture. Negative: none.
	ReservePercent int
	// DecodeWeight is the cost of a held token in units of one token to prefill. Large: requests spread evenly. Small:
	// they follow cached prefixes.
	DecodeWeight float64
}

func (c Config) withDefaults() Config {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	set(&c.History, DefaultHistory)
	set(&c.Prior, DefaultPrior)
	set(&c.Samples, maxSamples)
	set(&c.ReservePercent, DefaultReservePercent)
	c.Prior, c.ReservePercent = max(c.Prior, 0), max(c.ReservePercent, 0)
	if c.Policy == "" {
		c.Policy = PastFuture
	}
	if c.DecodeWeight == 0 {
		c.DecodeWeight = DefaultDecodeWeight
	}
	return c
}

// Item is a request as admission sees it.
type Item struct {
	// ID grows with arrival.
	ID uint64
	// Kind names what the item needs a group to be; only groups of the same kind fit.
	Kind string
	// PromptTokens are known and no output; at least 1.
	PromptTokens int
	// Produced is the output so far, more than 0 for a request that is resumed.
	Produced int
	// MaxNewTokens bounds the whole output, Produced included.
	MaxNewTokens int
	// IgnoreEOS says that the output will have MaxNewTokens tokens.
	IgnoreEOS bool
	// Keys name the prompt's full blocks. Nil: nothing of it is cached anywhere, nor will be.
	Keys []protocol.BlockKey
	// Deadline is the moment, in nanoseconds of the caller's clock, after which the item shall wait no more; 0: none. An
	// item that has produced something is past waiting for: its deadline counts no more.
	Deadline int64
}

func (i *Item) known() int { return i.PromptTokens + i.Produced }
func (i *Item) total() int { return i.PromptTokens + i.MaxNewTokens }

// Group is what admission must know of a group.
type Group struct {
	Kind string
	// Adapters are further kinds of items that it takes: those that use its adapters, or have guides.
	Adapters []string
	Limits   protocol.Limits
}

func (g *Group) equal(other *Group) bool {
	return g.Kind == other.Kind && g.Limits == other.Limits && slices.Equal(g.Adapters, other.Adapters)
}

// Assignment says that an item goes to a group now.
type Assignment struct {
	ID    uint64
	Group string
}

// Core is queues and ledger. See New.
type Core struct {
	config  Config
	entries map[uint64]*entry // all items, waiting and at groups
	kinds   map[string]*kind
	groups  map[string]*group
	ordered []*group // the same, by name
	queued  int
	lastID  uint64
	scratch scratch
}

// kind is what all items and groups of one kind share.
type kind struct {
	waiting []*entry // by id
	lengths lengths
	items   int // waiting and at groups
	groups  int

	// During Admit: where the head is, behind those that are overdue, and whether it fits nowhere.
	head    int
	blocked bool
}

// entry is an item and where it is.
type entry struct {
	Item
	kind  *kind
	group *group // nil: it waits
	stay
}

// stay is what is known of an item's stay at its group.
type stay struct {
	yielded bool
	// pending is how many known tokens are still to be computed before the next token comes; 0 once it has come.
	pending int
	cached  int // known tokens that the group's cache had, as predicted or as told
	// promised is how many of them the prefix index is sure of; 0 once the group has told.
	promised int
	// resumed says that the item had produced something before this stay.
	resumed bool
	draws   [maxSamples]int // PastFuture's lengths; 0: not drawn yet
}

// New returns a core without groups. The error says what is wrong with the configuration.
func New(config Config) (*Core, error) {
	config = config.withDefaults()
	switch config.Policy {
	case Conservative, Peak, PastFuture, Aggressive:
	default:
		return nil, fmt.Errorf("admission: unknown policy %q", config.Policy)
	}
	if config.QueueLimit < 1 || config.History < 1 || config.Samples < 1 || config.Samples > maxSamples || config.ReservePercent >= 100 ||
		config.DecodeWeight < 0 {
		return nil, fmt.Errorf("admission: a setting is out of range: %+v", config)
	}
	return &Core{config: config, entries: map[uint64]*entry{}, kinds: map[string]*kind{}, groups: map[string]*group{}}, nil
}

// Need is what an item of so many tokens takes in a group with these limits: whole blocks.
func Need(tokens int, limits protocol.Limits) int {
	block := max(limits.BlockTokens, 1)
	return (tokens + block - 1) / block * block
}

// Fits reports whether an empty group with these limits could take an item of so many tokens, output included.
func Fits(tokens int, limits protocol.Limits) bool {
	return tokens <= limits.MaxSequenceTokens && Need(tokens, limits) <= limits.CapacityTokens
}

// Push adds an item at the back of its queue.
func (c *Core) Push(item Item) error {
	switch {
	case c.queued >= c.config.QueueLimit:
		return ErrQueueFull
	case item.ID < c.lastID || c.entries[item.ID] != nil:
		return ErrOrder
	}
	c.lastID = item.ID
	e := &entry{Item: item, kind: c.kindOf(item.Kind)}
	c.entries[item.ID] = e
	e.kind.waiting = append(e.kind.waiting, e)
	e.kind.items++
	c.queued++
	return nil
}

func (c *Core) kindOf(name string) *kind {
	k := c.kinds[name]
	if k != nil {
		return k
	}
	if len(c.kinds) >= maxKinds {
		for old, k := range c.kinds {
			if k.groups == 0 && k.items == 0 {
				delete(c.kinds, old)
			}
		}
	}
	k = &kind{lengths: newLengths(c.config)}
	c.kinds[name] = k
	return k
}

// Requeue takes items back from their groups and puts them at the front of their queues, in the order of their ids.
// Ids that are at no group are ignored.
func (c *Core) Requeue(ids []uint64) {
	changed := map[*kind]bool{}
	for _, id := range ids {
		e := c.entries[id]
		if e == nil || e.group == nil {
			continue
		}
		c.depart(e)
		e.kind.waiting = append(e.kind.waiting, e)
		c.queued++
		changed[e.kind] = true
	}
	for k := range changed {
		// All that wait are in the order of their arrival: those who come back came before those who still wait.
		slices.SortFunc(k.waiting, func(a, b *entry) int { return compareID(a, b.ID) })
	}
}

// Remove forgets an item that was cancelled or has failed, whether it waits or is at a group. It returns the group that
// it was at, if any. Unknown ids are ignored.
func (c *Core) Remove(id uint64) (inGroup string) {
	e := c.entries[id]
	if e == nil {
		return ""
	}
	delete(c.entries, id)
	e.kind.items--
	if e.group != nil {
		inGroup = e.group.name
		c.depart(e)
		return inGroup
	}
	at, _ := slices.BinarySearchFunc(e.kind.waiting, id, compareID)
	e.kind.waiting = slices.Delete(e.kind.waiting, at, at+1)
	c.queued--
	return ""
}

func compareID(e *entry, id uint64) int {
	switch {
	case e.ID < id:
		return -1
	case e.ID > id:
		return 1
	}
	return 0
}

// Finish forgets an item that has ended by itself: its length tells of those that come. Unknown ids are ignored.
func (c *Core) Finish(id uint64) {
	if e := c.entries[id]; e != nil {
		if !e.IgnoreEOS {
			e.kind.lengths.learn(e.Produced)
		}
		c.Remove(id)
	}
}

func (e *entry) overdue(now int64) bool {
	return e.Deadline != 0 && now > e.Deadline && e.Produced == 0
}

// Expire removes the items whose deadline passed while they waited and returns their ids, growing.
func (c *Core) Expire(now int64) []uint64 {
	var ids []uint64
	for _, k := range c.kinds {
		for _, e := range k.waiting {
			if e.overdue(now) {
				ids = append(ids, e.ID)
			}
		}
	}
	for _, id := range ids {
		c.Remove(id)
	}
	slices.Sort(ids)
	return ids
}

// SetGroup adds a group, open, or changes what is known of it.
func (c *Core) SetGroup(name string, description Group) {
	g := c.groups[name]
	if g == nil {
		g = &group{name: name, open: true, prefixes: newPrefixes(), trust: 1, kinds: map[*kind]bool{}}
		c.groups[name] = g
		at, _ := slices.BinarySearchFunc(c.ordered, name, func(g *group, name string) int { return strings.Compare(g.name, name) })
		c.ordered = slices.Insert(c.ordered, at, g)
	} else if g.equal(&description) {
		return
	} else {
		g.leaveKinds()
	}
	g.Group = description
	for _, name := range append([]string{g.Kind}, g.Adapters...) {
		if k := c.kindOf(name); !g.kinds[k] {
			k.groups++
			g.kinds[k] = true
		}
	}
	g.prefixes.bound(description.Limits.CapacityTokens / max(description.Limits.BlockTokens, 1))
	g.recount()
}

// SetOpen says whether a group takes new items. Unknown groups are ignored.
func (c *Core) SetOpen(name string, open bool) {
	if g := c.groups[name]; g != nil {
		g.open = open
	}
}

// RemoveGroup forgets a group. Its items go back to the front of their queues; their ids are returned, growing.
func (c *Core) RemoveGroup(name string) []uint64 {
	g := c.groups[name]
	if g == nil {
		return nil
	}
	ids := make([]uint64, 0, len(g.running))
	for _, e := range g.running {
		ids = append(ids, e.ID)
	}
	slices.Sort(ids)
	c.Requeue(ids)
	delete(c.groups, name)
	c.ordered = slices.DeleteFunc(c.ordered, func(other *group) bool { return other == g })
	g.leaveKinds()
	return ids
}

// Queued is the number of waiting items.
func (c *Core) Queued() int { return c.queued }

// Waiting returns the ids of the waiting items of a kind, front first.
func (c *Core) Waiting(name string) []uint64 {
	k := c.kinds[name]
	if k == nil {
		return nil
	}
	ids := make([]uint64, 0, len(k.waiting))
	for _, e := range k.waiting {
		ids = append(ids, e.ID)
	}
	return ids
}

// GroupOf returns the group that an item is at, or "".
func (c *Core) GroupOf(id uint64) string {
	if e := c.entries[id]; e != nil && e.group != nil {
		return e.group.name
	}
	return ""
}
