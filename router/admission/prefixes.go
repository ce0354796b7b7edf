package admission

import (
	"sort"

	"lockstep/protocol"
)

// prefixes guesses what a group's prefix cache holds: the blocks of the prompts that were sent there, the least recently
// used ones left out beyond a bound. A block is never older than those behind it and never goes before them; so of a
// chain of keys some first ones are there and no later ones.
type prefixes struct {
	blocks map[protocol.BlockKey]*block
	newest *block // a ring: newest.older is the next one, newest.newer the oldest
	limit  int    // in blocks; the least recently used go
}

type block struct {
	key          protocol.BlockKey
	parent       *block
	children     int
	computed     bool // a prompt with it has been computed; before, one is on its way
	older, newer *block
}

func newPrefixes() prefixes { return prefixes{blocks: map[protocol.BlockKey]*block{}} }

// bound sets the largest number of blocks, the group's capacity.
func (p *prefixes) bound(blocks int) {
	p.limit = blocks
	p.evict()
}

// match returns how many of the first keys are there.
func (p *prefixes) match(keys []protocol.BlockKey) int {
	if len(keys) == 0 || p.blocks[keys[0]] == nil {
		return 0
	}
	return sort.Search(len(keys), func(i int) bool { return p.blocks[keys[i]] == nil })
}

// computed returns how many of the first keys belong to prompts that have been computed.
func (p *prefixes) computed(keys []protocol.BlockKey) int {
	return sort.Search(len(keys), func(i int) bool { b := p.blocks[keys[i]]; return b == nil || !b.computed })
}

// settle notes that a prompt of these blocks has been computed.
func (p *prefixes) settle(keys []protocol.BlockKey) {
	for _, key := range keys {
		b := p.blocks[key]
		if b == nil {
			return
		}
		b.computed = true
	}
}

// insert notes that a prompt of these blocks is computed.
func (p *prefixes) insert(keys []protocol.BlockKey) {
	keys = keys[:min(len(keys), p.limit)]
	var last *block
	for _, key := range keys {
		b := p.blocks[key]
		if b == nil {
			b = &block{key: key, parent: last}
			p.blocks[key] = b
			if last != nil {
				last.children++
			}
		} else {
			p.unlink(b)
		}
		p.link(b)
		last = b
	}
	// Again from the tail, so that the first block is the newest.
	for b := last; b != nil; b = b.parent {
		p.unlink(b)
		p.link(b)
	}
	p.evict()
}

// forget drops the blocks of a prompt from the from-th on, but for those that others continue.
func (p *prefixes) forget(keys []protocol.BlockKey, from int) {
	for i := len(keys) - 1; i >= max(from, 0); i-- {
		b := p.blocks[keys[i]]
		if b == nil {
			continue
		}
		if b.children > 0 {
			return
		}
		p.remove(b)
	}
}

func (p *prefixes) evict() {
	for len(p.blocks) > max(p.limit, 0) {
		p.remove(p.newest.newer)
	}
}

func (p *prefixes) remove(b *block) {
	p.unlink(b)
	delete(p.blocks, b.key)
	if b.parent != nil {
		b.parent.children--
	}
}

// link makes a block the newest.
func (p *prefixes) link(b *block) {
	if p.newest == nil {
		b.older, b.newer = b, b
	} else {
		oldest := p.newest.newer
		b.older, b.newer = p.newest, oldest
		p.newest.newer, oldest.older = b, b
	}
	p.newest = b
}

func (p *prefixes) unlink(b *block) {
	if b.older == b {
		p.newest = nil
		return
	}
	b.older.newer, b.newer.older = b.newer, b.older
	if p.newest == b {
		p.newest = b.older
	}
}
