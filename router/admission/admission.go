// Package admission decides when a request may go to which group. It is a pure core: events in, decisions out, with no
// clock, goroutine or log. One goroutine owns a Core.
//
// Requests wait in one queue, first in first out among those of the same kind (the model card): a head that fits nowhere
// holds up the later ones of its kind and no others. The ledger is conservative: a request reserves its prompt and all
// of max_new_tokens, rounded up to whole blocks, from its dispatch to its end, so a group never runs out of blocks for
// what this router sent there. Other routers' requests are known only from the group's load reports; where these make a
// group refuse, the request comes back to the front of the queue.
package admission

import (
	"errors"
	"sort"

	"lockstep/protocol"
)

// ErrQueueFull says that the queue has reached its bound; nothing was queued.
var ErrQueueFull = errors.New("admission: the queue is full")

// Item is a request as admission sees it.
type Item struct {
	ID uint64
	// Kind names the model card; only groups of the same kind fit.
	Kind string
	// Tokens is the worst case: prompt and all of max_new_tokens.
	Tokens int
}

// Group is what admission must know of a group.
type Group struct {
	Kind   string
	Limits protocol.Limits
}

// Assignment says that an item goes to a group now.
type Assignment struct {
	ID    uint64
	Group string
}

type group struct {
	Group
	open     bool
	held     int // tokens held by all routers, as last reported
	reserved int
	items    map[uint64]int // id to reserved tokens
}

// Core is queue and ledger. The zero value is not usable; see New.
type Core struct {
	limit  int
	queue  []Item // front first
	placed map[uint64]placed
	groups map[string]*group
}

type placed struct {
	item  Item
	group string
}

// New returns a core that lets at most limit items wait. Items that come back from a group do not count against it.
func New(limit int) *Core {
	return &Core{limit: limit, placed: map[uint64]placed{}, groups: map[string]*group{}}
}

// Need is what an item of so many tokens reserves in a group with these limits.
func Need(tokens int, limits protocol.Limits) int {
	block := max(limits.BlockTokens, 1)
	return (tokens + block - 1) / block * block
}

// Fits reports whether an empty group with these limits could take an item of so many tokens.
func Fits(tokens int, limits protocol.Limits) bool {
	return tokens <= limits.MaxSequenceTokens && Need(tokens, limits) <= limits.CapacityTokens
}

// SetGroup adds a group, open, or changes what is known of it.
func (c *Core) SetGroup(name string, description Group) {
	if g := c.groups[name]; g != nil {
		g.Group = description
		return
	}
	c.groups[name] = &group{Group: description, open: true, items: map[uint64]int{}}
}

// SetOpen says whether a group takes new items. Unknown groups are ignored.
func (c *Core) SetOpen(name string, open bool) {
	if g := c.groups[name]; g != nil {
		g.open = open
	}
}

// Report takes in what a group says that it holds.
func (c *Core) Report(name string, heldTokens int) {
	if g := c.groups[name]; g != nil {
		g.held = heldTokens
	}
}

// RemoveGroup forgets a group. Its items go back to the front of the queue in the order of their ids, which are
// returned.
func (c *Core) RemoveGroup(name string) []uint64 {
	g := c.groups[name]
	if g == nil {
		return nil
	}
	ids := make([]uint64, 0, len(g.items))
	for id := range g.items {
		ids = append(ids, id)
	}
	c.Requeue(ids)
	delete(c.groups, name)
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	return ids
}

// Push adds an item at the back of the queue. Ids must grow: they are the order in which items came.
func (c *Core) Push(item Item) error {
	if len(c.queue) >= c.limit {
		return ErrQueueFull
	}
	c.queue = append(c.queue, item)
	return nil
}

// Requeue takes items back from their groups and puts them at the front of the queue, in the order of their ids.
// Ids that are in no group are ignored.
func (c *Core) Requeue(ids []uint64) {
	back := make([]Item, 0, len(ids))
	for _, id := range ids {
		if p, ok := c.placed[id]; ok {
			c.release(id, p)
			back = append(back, p.item)
		}
	}
	c.queue = append(back, c.queue...)
	// All that wait are in the order of their arrival: those who come back came before those who still wait.
	sort.SliceStable(c.queue, func(i, j int) bool { return c.queue[i].ID < c.queue[j].ID })
}

func (c *Core) release(id uint64, p placed) {
	delete(c.placed, id)
	if g := c.groups[p.group]; g != nil {
		g.reserved -= g.items[id]
		delete(g.items, id)
	}
}

// Remove forgets an item, whether it waits or is in a group. It returns the group that it was in, if any.
func (c *Core) Remove(id uint64) (inGroup string) {
	if p, ok := c.placed[id]; ok {
		c.release(id, p)
		return p.group
	}
	for i := range c.queue {
		if c.queue[i].ID == id {
			c.queue = append(c.queue[:i], c.queue[i+1:]...)
			break
		}
	}
	return ""
}

// Admit places as many waiting items as fit and returns where, in order of the queue. Each goes to the open group of
// its kind with the least load that has room.
func (c *Core) Admit() []Assignment {
	var assignments []Assignment
	blocked := map[string]bool{}
	kept := c.queue[:0]
	for _, item := range c.queue {
		name := ""
		if !blocked[item.Kind] {
			name = c.choose(item)
		}
		if name == "" {
			blocked[item.Kind] = true
			kept = append(kept, item)
			continue
		}
		g := c.groups[name]
		need := Need(item.Tokens, g.Limits)
		g.items[item.ID] = need
		g.reserved += need
		c.placed[item.ID] = placed{item: item, group: name}
		assignments = append(assignments, Assignment{ID: item.ID, Group: name})
	}
	c.queue = kept
	return assignments
}

// choose returns the open group with the least load that has room, the first by name among equals, or "".
func (c *Core) choose(item Item) string {
	best, bestLoad := "", 0.0
	for name, g := range c.groups {
		if !g.open || g.Kind != item.Kind || !Fits(item.Tokens, g.Limits) {
			continue
		}
		if g.Limits.MaxRequests > 0 && len(g.items) >= g.Limits.MaxRequests {
			continue
		}
		if g.reserved+Need(item.Tokens, g.Limits) > g.Limits.CapacityTokens {
			continue
		}
		load := float64(max(g.reserved, g.held)) / float64(g.Limits.CapacityTokens)
		if best == "" || load < bestLoad || load == bestLoad && name < best {
			best, bestLoad = name, load
		}
	}
	return best
}

// Queued is the number of waiting items.
func (c *Core) Queued() int { return len(c.queue) }

// Waiting returns the ids of the waiting items of a kind, front first.
func (c *Core) Waiting(kind string) []uint64 {
	var ids []uint64
	for _, item := range c.queue {
		if item.Kind == kind {
			ids = append(ids, item.ID)
		}
	}
	return ids
}

// Reserved returns the tokens and items that a group holds of this router.
func (c *Core) Reserved(name string) (tokens, items int) {
	g := c.groups[name]
	if g == nil {
		return 0, 0
	}
	return g.reserved, len(g.items)
}

// GroupOf returns the group that an item was sent to, or "".
func (c *Core) GroupOf(id uint64) string { return c.placed[id].group }
