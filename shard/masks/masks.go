package masks

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	"lockstep/protocol/guide"
	"lockstep/shard/sample"
)

const (
	// fewNodes is how many nodes of a trie a walk visits at most for which nothing is kept of a rule.
	fewNodes = 1000
	// listed is how many tokens a mask names one by one at most.
	listed = 256
	// maxBytes is what a guide keeps at most; then it begins anew.
	maxBytes = 64 << 20
	// maxVisits bounds the nodes that are visited for one mask, those of a rule aside, however many ways of reading there are.
	maxVisits = 4 << 20
)

// Errors of a guide end the request.
var (
	// ErrLost says that the tokens are none that the guide allows.
	ErrLost = errors.New("the text is none that its guide allows")
	// ErrCostly says that a mask takes more work than one may.
	ErrCostly = errors.New("what may follow takes too long to find out")
)

// Guide is a program on a vocabulary. It is safe for concurrent use.
type Guide struct {
	vocabulary *Vocabulary
	program    *guide.Program

	mu      sync.Mutex
	machine *guide.Machine
	age     int // counts how often it began anew
	masks   map[guide.State]*sample.Mask
	bytes   int // of masks and of what is kept of rules
	own     inner
	parts   []guide.Part
}

// inner is what is kept of rules.
type inner struct {
	mu sync.Mutex
	of map[guide.PartKey]*rule
}

func newInner() inner { return inner{of: map[guide.PartKey]*rule{}} }

// rule is what a place in a rule allows wherever the rule was called.
type rule struct {
	bits    []uint64 // tokens that stay within it, or end with it; nil: it is found out anew each time, for it takes little
	leaving []int32  // nodes of the trie, with some behind them, at which the rule ends
}

// Place is how far a guide has followed a text. The zero value is before it. It is a value: a copy can go another way.
type Place struct {
	age    int
	tokens int
	state  guide.State
}

// New returns the guide of a program.
func New(v *Vocabulary, p *guide.Program) *Guide {
	return &Guide{vocabulary: v, program: p, machine: guide.NewMachine(p), age: 1, masks: map[guide.State]*sample.Mask{}, own: newInner()}
}

// Mask follows a text from a place to its end, and returns what may come next. The tokens are all those since the text's begin, whichever
// of them were followed before.
func (g *Guide) Mask(at *Place, tokens []int32) (*sample.Mask, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.follow(at, tokens); err != nil {
		return nil, err
	}
	if mask := g.masks[at.state]; mask != nil {
		return mask, nil
	}
	mask, err := g.find(at.state)
	if err == nil {
		g.masks[at.state] = mask
		g.bytes += 64 + 4*len(mask.IDs) + 8*len(mask.Bits)
	}
	return mask, err
}

// Ended reports whether a text is complete and nothing can follow it.
func (g *Guide) Ended(at *Place, tokens []int32) (bool, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.follow(at, tokens)
	return err == nil && g.machine.Ended(at.state), err
}

func (g *Guide) follow(at *Place, tokens []int32) error {
	if g.bytes+g.machine.Bytes() > maxBytes {
		g.machine.Reset()
		g.age++
		g.bytes, g.masks, g.own = 0, map[guide.State]*sample.Mask{}, newInner()
	}
	if at.age != g.age || at.tokens > len(tokens) {
		*at = Place{age: g.age, state: g.machine.Start()}
	}
	for at.tokens < len(tokens) {
		id := tokens[at.tokens]
		if id < 0 || int(id) >= g.vocabulary.size || g.vocabulary.bytes[id] == "" {
			return fmt.Errorf("%w: token %d", ErrLost, id)
		}
		text := g.vocabulary.bytes[id]
		state := at.state
		for i := range len(text) {
			var err error
			if state, err = g.machine.Next(state, text[i]); err != nil {
				return err
			}
			if state == guide.Dead {
				return fmt.Errorf("%w: token %d", ErrLost, id)
			}
		}
		at.state = state
		at.tokens++
	}
	return nil
}

// find finds out what may follow a state.
func (g *Guide) find(s guide.State) (*sample.Mask, error) {
	w := walk{Guide: g}
	var err error
	if g.parts, err = g.machine.Parts(g.parts[:0], s, g.vocabulary.longest); err != nil {
		return nil, err
	}
	if len(g.parts) == 0 {
		w.from(0, s)
	}
	for _, part := range g.parts {
		r, err := g.ruleOf(&part)
		switch {
		case err != nil:
			return nil, err
		case r.bits == nil:
			w.from(0, part.Alone)
		default:
			w.widen()
			for i, word := range r.bits {
				w.bits[i] |= word
			}
			if part.Behind != guide.Dead && !g.machine.Ended(part.Behind) {
				for _, n := range r.leaving {
					w.from(n, part.Behind)
				}
			}
		}
	}
	if g.machine.Complete(s) {
		w.allow(g.vocabulary.ends)
	}
	return w.mask(), w.err
}

// ruleOf is what is known of a part's rule.
func (g *Guide) ruleOf(part *guide.Part) (*rule, error) {
	kept := &g.own
	if part.Shared {
		kept = &g.vocabulary.common
		kept.mu.Lock()
		defer kept.mu.Unlock()
	}
	r := kept.of[part.Key]
	if r == nil {
		w := walk{Guide: g, local: true}
		if w.from(0, part.Local); w.err != nil {
			return nil, w.err
		}
		if r = (&rule{}); w.visited > fewNodes {
			w.widen()
			r.bits, r.leaving = w.bits, w.leaving
		}
		kept.of[part.Key] = r
		g.bytes += 100 + 8*len(r.bits) + 4*len(r.leaving)
	}
	return r, nil
}

// walk collects what a trie's nodes allow.
type walk struct {
	*Guide
	local   bool // a rule alone is walked, to its end
	leaving []int32
	ids     []int32
	bits    []uint64 // once there are many ids
	visited int
	err     error
}

// from walks what is behind a node, at which the state is s.
func (w *walk) from(n int32, s guide.State) {
	v := w.vocabulary
	for child := n + 1; child < v.next[n] && w.err == nil; child = v.next[child] {
		w.visited++
		to, err := w.machine.Next(s, v.char[child])
		switch {
		case err != nil:
			w.err = err
			return
		case to == guide.Dead:
			continue
		case w.visited > maxVisits:
			w.err = ErrCostly
			return
		}
		w.allow(v.at(child))
		if child+1 == v.next[child] {
			continue
		}
		if w.local && w.machine.Returns(to) {
			w.leaving = append(w.leaving, child)
		}
		w.from(child, to)
	}
}

func (w *walk) allow(ids []int32) {
	if w.bits == nil {
		if w.ids = append(w.ids, ids...); len(w.ids) > listed {
			w.widen()
		}
		return
	}
	for _, id := range ids {
		w.bits[id>>6] |= 1 << (id & 63)
	}
}

// widen goes on with bits.
func (w *walk) widen() {
	if w.bits == nil {
		w.bits = make([]uint64, (w.vocabulary.size+63)/64)
		w.allow(w.ids)
		w.ids = nil
	}
}

func (w *walk) mask() *sample.Mask {
	slices.Sort(w.ids)
	return &sample.Mask{IDs: slices.Compact(w.ids), Bits: w.bits}
}

// Bytes is about what a guide takes of memory.
func (g *Guide) Bytes() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.program.Bytes() + g.machine.Bytes() + g.bytes
}
