package masks

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"lockstep/protocol/guide"
	"lockstep/shard/sample"
)

const (
	// fewNodes is how many nodes of a trie a walk visits at most for which nothing is found out of rules.
	fewNodes = 5000
	// listed is how many tokens a mask names one by one at most.
	listed = 256
	// maxBytes is what a guide keeps at most; then it begins anew. What its machine kept stays for once more, for those who come from it.
	maxBytes = 32 << 20
	// maxCost bounds what is done for one mask, in units of ten nanoseconds: nodes that are visited, and states that the machine comes to.
	// What is kept from before counts as if it were not, so that whether a mask can be had depends on the text alone.
	maxCost = 1 << 20
)

// Errors of a guide end the request.
var (
	// ErrLost says that the tokens are none that the guide allows.
	ErrLost = errors.New("the text is none that its guide allows")
	// ErrCostly says that a mask takes more work than one may.
	ErrCostly = errors.New("what may follow takes too long to find out")

	// errMany ends a walk that was to visit few nodes.
	errMany = errors.New("many tokens")
)

// Guide is a program on a vocabulary. It is safe for concurrent use.
type Guide struct {
	vocabulary *Vocabulary
	program    *guide.Program
	thought    guide.Thought

	size atomic.Int64 // what it kept when it was asked last, in bytes

	mu      sync.Mutex
	machine *guide.Machine
	before  *guide.Machine // that of the age before; nil: there was none
	age     int            // counts how often it began anew
	limit   int            // in bytes
	masks   map[guide.State]*sample.Mask
	same    map[ending]*sample.Mask
	bytes   int // of masks and of what is kept of rules
	own     rules
	scratch []guide.Part
	looked  []lookup // what a walk has looked up of states
	walks   int      // how many there were
}

// rules are what is known of places in rules.
type rules struct {
	mu sync.Mutex // of those that guides have in common
	of map[ruleKey]*rule
}

func newRules() rules { return rules{of: map[ruleKey]*rule{}} }

// Place is how far a guide has followed a text. The zero value is before it. It is a value: a copy can go another way.
type Place struct {
	age    int
	tokens int
	state  guide.State
	thinking
}

// New returns the guide of a program.
func New(v *Vocabulary, p *guide.Program) *Guide { return NewThinking(v, p, guide.Thought{}) }

// NewThinking returns the guide of a program for texts that begin with a thought, whose Budget it ends.
func NewThinking(v *Vocabulary, p *guide.Program, thought guide.Thought) *Guide {
	g := &Guide{vocabulary: v, program: p, thought: thought, limit: maxBytes}
	g.beginAnew()
	g.measure()
	return g
}

// beginAnew forgets what was found out.
func (g *Guide) beginAnew() {
	g.before, g.machine = g.machine, guide.NewMachine(g.program)
	g.age++
	g.masks, g.same, g.own, g.bytes, g.looked = map[guide.State]*sample.Mask{}, map[ending]*sample.Mask{}, newRules(), 0, nil
}

// measure notes what the guide keeps.
func (g *Guide) measure() {
	size := g.program.Bytes() + g.machine.Bytes() + g.bytes + 48*len(g.looked)
	if g.before != nil {
		size += g.before.Bytes()
	}
	g.size.Store(int64(size))
}

// Mask follows a text from a place to its end, and returns what may come next. The tokens are all those since the text's begin, whichever
// of them were followed before.
func (g *Guide) Mask(at *Place, tokens []int32) (*sample.Mask, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.follow(at, tokens); err != nil {
		return nil, err
	}
	if due := at.due(&g.thought, len(tokens)); due != "" {
		return g.vocabulary.spelling(due), nil
	}
	if mask := g.masks[at.state]; mask != nil {
		return mask, nil
	}
	mask, err := g.find(at.state)
	if err == nil {
		g.masks[at.state] = mask
		g.bytes += 32
	}
	g.measure()
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
	if g.bytes+g.machine.Bytes() > g.limit {
		g.beginAnew()
	}
	switch {
	case at.age == g.age && at.tokens <= len(tokens):
	case at.age == g.age-1 && at.age > 0 && at.tokens <= len(tokens):
		at.age, at.state = g.age, g.machine.Import(g.before, at.state)
	default:
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
		if at.tokens++; g.thought.Budget > 0 {
			at.add(&g.thought, text)
		}
	}
	return nil
}

// Bytes is about what a guide takes of memory. It does not wait for who asks for masks.
func (g *Guide) Bytes() int { return int(g.size.Load()) }
