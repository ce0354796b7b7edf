package admission

import (
	"slices"

	"lockstep/protocol"
)

// group is the ledger of one group. Its sums follow from running; recount says how.
type group struct {
	Group
	name     string
	kinds    map[*kind]bool // its own, and those of its adapters
	open     bool
	claimed  bool     // during Admit: an older item of another kind waits for room here
	running  []*entry // in the order in which peak.go last found them to end, latest first
	prefixes prefixes
	// trust is the share of what the prefix index promises that the group's cache has lately been found to hold: little
	// where the cache is off, or where others fill it.
	trust float64

	reserved int // worst case of all that run, in whole blocks
	held     int // known tokens of all that run, in whole blocks
	pending  int // tokens to prefill
	resumed  int // entries that had produced something when they came and have yielded nothing yet
	account  protocol.Account
	yielded  int // tokens computed of those that have yielded here, in whole blocks: of all but the newest token of each

	reported int // tokens held as the group last said
	foreign  int // tokens that only other routers' requests can explain
	shared   int // tokens that the ledger counts again and again and the group holds once

	// version counts the events that may have made room. What is refused once is not tried again before the next.
	version uint64
	refused refusal
}

// refusal remembers the last item that found no room.
type refusal struct {
	id                    uint64
	version, kindsVersion uint64
}

// leaveKinds undoes what SetGroup did to kinds.
func (g *group) leaveKinds() {
	for k := range g.kinds {
		k.groups--
	}
	clear(g.kinds)
}

func (g *group) need(tokens int) int { return Need(tokens, g.Limits) }

// recount makes the sums anew.
func (g *group) recount() {
	g.reserved, g.held, g.pending, g.resumed, g.yielded, g.account = 0, 0, 0, 0, 0, protocol.Account{}
	for _, e := range g.running {
		g.add(e, 1)
	}
	g.version++
}

// add puts an entry into the sums; sign -1 takes it out.
func (g *group) add(e *entry, sign int) {
	g.reserved += sign * g.need(e.total())
	g.held += sign * g.need(e.known())
	g.pending += sign * e.pending
	if e.yielded {
		g.yielded += sign * g.need(e.known()-1)
		g.account.Requests += sign
		g.account.Tokens += sign * e.known()
	} else if e.resumed {
		g.resumed += sign
	}
}

// place takes a waiting entry into a group.
func (c *Core) place(e *entry, chosen *option) {
	g := chosen.group
	c.queued--
	e.group = g
	e.yielded, e.cached, e.pending, e.resumed = false, chosen.cached, e.known()-chosen.cached, e.Produced > 0
	e.promised = min(g.prefixes.computed(e.Keys)*g.Limits.BlockTokens, chosen.matched)
	g.running = append(g.running, e)
	g.add(e, 1)
	g.prefixes.insert(e.Keys)
}

// depart takes an entry out of its group.
func (c *Core) depart(e *entry) {
	g := e.group
	g.add(e, -1)
	at := slices.Index(g.running, e)
	g.running = slices.Delete(g.running, at, at+1)
	g.shared = max(0, g.shared-e.cached)
	if !e.yielded {
		// What it did not compute was not cached either.
		g.prefixes.forget(e.Keys, e.cached/max(g.Limits.BlockTokens, 1))
	}
	g.version++
	e.group, e.stay = nil, stay{draws: e.draws}
}

// Begun takes in how many known tokens of an item its group's cache had. The keys that were wrongly thought to be there
// stay in the prefix index, since the item computes them now (they go if it leaves before it has); what is corrected is
// the prefill that is waited for, and the trust in that index.
func (c *Core) Begun(id uint64, cachedTokens int) {
	e := c.entries[id]
	if e == nil || e.group == nil || e.yielded {
		return // a parked one that begins again: its decoding is only interrupted
	}
	g := e.group
	cachedTokens = min(max(cachedTokens, 0), e.known())
	if e.promised > 0 {
		g.trust += trustWeight * (min(1, float64(cachedTokens)/float64(e.promised)) - g.trust)
		e.promised = 0
	}
	g.pending -= e.pending
	e.cached, e.pending = cachedTokens, e.known()-cachedTokens
	g.pending += e.pending
}

// Advance takes in how many output tokens an item has. The first that comes at a group ends the prefill there.
func (c *Core) Advance(id uint64, produced int) {
	e := c.entries[id]
	if e == nil {
		return
	}
	g := e.group
	if g == nil {
		e.Produced = produced
		return
	}
	if !e.yielded {
		g.add(e, -1)
		e.yielded, e.pending, e.Produced = true, 0, produced
		g.add(e, 1)
		g.prefixes.settle(e.Keys)
		g.version++
		return
	}
	g.held -= g.need(e.known())
	g.yielded -= g.need(e.known() - 1)
	g.account.Tokens += produced - e.Produced
	e.Produced = produced
	g.held += g.need(e.known())
	g.yielded += g.need(e.known() - 1)
}

// Report takes in what a group says of itself, after all tokens that came before it. Tokens that our requests cannot
// explain are other routers' and lessen the room. Where the group holds less than our decoding requests have, they share
// cached blocks: that much may be used once more by Peak and PastFuture. While requests wait at the group, parked ones
// might be the reason, so the credit does not grow then.
func (c *Core) Report(name string, load protocol.Load) {
	g := c.groups[name]
	if g == nil {
		return
	}
	foreign, shared := max(0, load.HeldTokens-g.held), max(0, g.yielded-load.HeldTokens)
	if load.Waiting > 0 {
		shared = min(shared, g.shared)
	}
	if foreign < g.foreign || shared > g.shared {
		g.version++
	}
	g.reported, g.foreign, g.shared = load.HeldTokens, foreign, shared
}

// Account is what the ledger says that a group should say of our requests: those that have yielded a token there and
// not ended, with their tokens. Cancels is left 0.
func (c *Core) Account(name string) protocol.Account {
	if g := c.groups[name]; g != nil {
		return g.account
	}
	return protocol.Account{}
}

// Resuming is the number of items at a group that came with output and have yielded nothing there yet.
func (c *Core) Resuming(name string) int {
	if g := c.groups[name]; g != nil {
		return g.resumed
	}
	return 0
}

// GroupLoad is the ledger of one group.
type GroupLoad struct {
	Group          string
	CapacityTokens int
	// HeldTokens is what the group last said that it holds for requests of all routers.
	HeldTokens int
	// LedgerTokens is what our requests hold there, in whole blocks, shared ones counted for each.
	LedgerTokens int
	// ReservedTokens is what our requests can come to hold, in whole blocks.
	ReservedTokens int
	// PeakTokens is LightLLM's estimate of the most that our requests will hold at once, whatever the policy.
	PeakTokens int
	// PrefillTokens are those that our requests there still wait for.
	PrefillTokens int
	// Requests is the number of our requests there.
	Requests int
}

// Load returns the ledger of a group; of an unknown one, nothing but the name.
func (c *Core) Load(name string) GroupLoad {
	g := c.groups[name]
	if g == nil {
		return GroupLoad{Group: name}
	}
	return GroupLoad{
		Group: name, CapacityTokens: g.Limits.CapacityTokens, HeldTokens: g.reported, LedgerTokens: g.held, ReservedTokens: g.reserved,
		PeakTokens: c.assumedPeak(g, nil), PrefillTokens: g.pending, Requests: len(g.running),
	}
}

// Loads returns the ledgers of all groups, by name.
func (c *Core) Loads() []GroupLoad {
	loads := make([]GroupLoad, 0, len(c.ordered))
	for _, g := range c.ordered {
		loads = append(loads, c.Load(g.name))
	}
	return loads
}
