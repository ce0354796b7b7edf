package admission

import "slices"

// option is a group that could take an item.
type option struct {
	group   *group
	matched int // tokens of the item that the prefix index has
	cached  int // tokens of the item that the group is thought to have cached
	cost    float64
}

// Admit places as many waiting items as fit and returns where, in the order in which they came. Items that are overdue
// at now are passed over: Expire removes them.
func (c *Core) Admit(now int64) []Assignment {
	if c.queued == 0 {
		return nil
	}
	var assignments []Assignment
	for _, k := range c.kinds {
		k.head, k.blocked = 0, false
	}
	for _, g := range c.ordered {
		g.claimed = false
	}
	for {
		e := c.next(now)
		if e == nil {
			return assignments
		}
		k := e.kind
		chosen, found := c.choose(e)
		if !found {
			k.blocked = true
			c.claim(e)
			continue
		}
		if k.head == 0 {
			k.waiting[0] = nil
			k.waiting = k.waiting[1:]
		} else {
			k.waiting = slices.Delete(k.waiting, k.head, k.head+1)
		}
		c.place(e, &chosen)
		assignments = append(assignments, Assignment{ID: e.ID, Group: chosen.group.name})
	}
}

// takes reports whether a group is one for an item, if it has room.
func (g *group) takes(e *entry) bool {
	return g.open && g.kinds[e.kind] && Fits(e.total(), g.Limits)
}

// claim keeps the groups that an item waits for from younger ones of other kinds: these would always find the room that an older
// and larger item does not.
func (c *Core) claim(e *entry) {
	for _, g := range c.ordered {
		g.claimed = g.claimed || g.takes(e)
	}
}

// next returns the oldest item that is the head of a queue that is not blocked, or nil.
func (c *Core) next(now int64) *entry {
	var oldest *entry
	for _, k := range c.kinds {
		for !k.blocked && k.head < len(k.waiting) && k.waiting[k.head].overdue(now) {
			k.head++
		}
		if k.blocked || k.head == len(k.waiting) {
			continue
		}
		if e := k.waiting[k.head]; oldest == nil || e.ID < oldest.ID {
			oldest = e
		}
	}
	return oldest
}

// choose returns the group of the least cost among those that have room; the first by name of equals.
//
// The cost is what NVIDIA Dynamo's router takes: the tokens that must be prefilled before the item's first token comes
// (those of our requests that are still in prefill there, and the item's own without what the group is thought to have
// cached), and the tokens held there, which slow down every later step, times DecodeWeight. All of it is predicted when
// an item is placed, when its first token comes and when it ends, and corrected by the group's reports.
func (c *Core) choose(e *entry) (option, bool) {
	options := c.scratch.options[:0]
	for _, g := range c.ordered {
		if g.claimed || !g.takes(e) {
			continue
		}
		matched := min(g.prefixes.match(e.Keys)*g.Limits.BlockTokens, e.known()-1)
		cached := int(g.trust * float64(matched))
		prefill := g.pending + e.known() - cached
		options = append(options, option{g, matched, cached, float64(prefill) + c.config.DecodeWeight*float64(g.held+g.foreign)})
	}
	c.scratch.options = options
	for len(options) > 0 {
		best := 0
		for i := range options {
			if options[i].cost < options[best].cost {
				best = i
			}
		}
		if c.hasRoom(options[best].group, e) {
			return options[best], true
		}
		options = slices.Delete(options, best, best+1)
	}
	return option{}, false
}

// hasRoom reports whether a group that the item fits has room for it now.
func (c *Core) hasRoom(g *group, e *entry) bool {
	tried := refusal{e.ID, g.version, e.kind.lengths.version}
	if g.refused == tried {
		return false
	}
	if !c.tryRoom(g, e) {
		g.refused = tried
		return false
	}
	return true
}

func (c *Core) tryRoom(g *group, e *entry) bool {
	limits, running := &g.Limits, len(g.running)
	if limits.MaxRequests > 0 && running >= limits.MaxRequests || limits.MaxSequences > 0 && running >= limits.MaxSequences {
		return false
	}
	if running == 0 {
		return true
	}
	room := limits.CapacityTokens - g.foreign
	worstCaseFits := g.reserved+g.need(e.total()) <= room
	now := g.held + g.need(e.known()+1)
	switch {
	case c.config.Policy == Conservative:
		return worstCaseFits
	case c.config.Policy == Aggressive:
		return now < room-limits.CapacityTokens*aggressiveReservePercent/100
	case worstCaseFits:
		return true
	case now > room+g.shared:
		return false
	case c.config.Policy == Peak:
		return c.assumedPeak(g, e) < room+g.shared
	default:
		return c.sampledPeakWith(g, e) < room+g.shared-limits.CapacityTokens*c.config.ReservePercent/100
	}
}
