package guide

import (
	"errors"
	"slices"
)

// Bounds of a machine.
const (
	// maxThreads bounds the threads of a state: how many ways of reading a text may still be right.
	maxThreads = 4096
	// maxDepth bounds the calls within one another. What would nest deeper is not allowed, as if the source said so.
	maxDepth = 2048
	// maxSteps bounds the steps without a byte behind one byte.
	maxSteps = 1 << 15
)

// ErrAmbiguous says that a text can be read in too many ways at once.
var ErrAmbiguous = errors.New("the text can be read in too many ways by its guide")

// State is where a machine's program has come to; states of one machine are equal where what may follow is decided alike.
type State int32

// Dead is the state behind what is not allowed.
const Dead State = -1

// Unknown is, in a table, where Next has not been asked.
const Unknown State = -2

const ambiguous State = -3

// thread is one way of reading what was said: a node that waits for a byte, and what is to be returned to.
type thread struct{ node, stack int32 }

// frame is an entry of a stack: where the rule returns to, for a loop's how often it was called before, and the frame below.
type frame struct{ to, count, below int32 }

// Stacks that have no frames.
const (
	whole int32 = 0 // behind which the text is complete
	open  int32 = 1 // of a Local state: what is below is not known
)

// stack is an interned frame with its depth.
type stack struct {
	frame
	depth int32
}

// set is what a State stands for. Its threads and spans are ranges of the machine's.
type set struct {
	threads, threadsEnd int32
	spans, spansEnd     int32
	table               int32 // of the machine's; -1: none
	loops               Chars // see Loops, with NoChars; 0: not known yet
	cost                int32
	plain               int16 // see Plain; -1: not known yet
	expanded            bool
	complete            bool
	returns             bool // to what is below an open stack
}

// Span is a range of bytes behind any of which a state goes on alike.
type Span struct {
	Low, High byte
	to        State // Unknown: not found out yet
}

// fewSpans are so many that they are looked through; more get a table.
const fewSpans = 4

// Machine runs a program. What it finds out it keeps. It is not safe for concurrent use.
type Machine struct {
	program *Program
	stacks  []stack
	byFrame map[frame]int32
	sets    []set
	threads []thread
	spans   []Span
	tables  []*[256]State
	index   index // of sets
	start   State

	// of one step
	now      []thread
	seen     seen // now, and where nothing was taken for
	steps    int
	complete bool
	returns  bool
}

// NewMachine returns a machine.
func NewMachine(p *Program) *Machine {
	m := &Machine{program: p, stacks: make([]stack, open+1), byFrame: make(map[frame]int32)}
	m.begin()
	m.enter(p.start, whole)
	m.start = m.intern()
	return m
}

// Import is another machine's state of the same program, in this one.
func (m *Machine) Import(from *Machine, s State) State {
	set := from.sets[s]
	m.begin()
	m.complete, m.returns = set.complete, set.returns
	for _, t := range from.threads[set.threads:set.threadsEnd] {
		var path []int32
		for t.stack > open {
			path = append(path, t.stack)
			t.stack = from.stacks[t.stack].below
		}
		for _, at := range slices.Backward(path) {
			f := from.stacks[at].frame
			t.stack = m.push(frame{f.to, f.count, t.stack})
		}
		m.now = append(m.now, t)
	}
	return m.intern()
}

// Bytes is about what the machine keeps.
func (m *Machine) Bytes() int {
	return 64*len(m.stacks) + 56*len(m.sets) + 8*len(m.threads) + 8*len(m.spans) + 1032*len(m.tables)
}

// Cost is about what it takes to find out what follows a state, in units of ten nanoseconds. It depends on the state alone, not on what the
// machine has found out before.
func (m *Machine) Cost(s State) int {
	if !m.sets[s].expanded {
		m.expand(s)
	}
	return int(m.sets[s].cost)
}

// Start is the state before the text.
func (m *Machine) Start() State { return m.start }

// Complete reports whether the text may end.
func (m *Machine) Complete(s State) bool { return m.sets[s].complete }

// Ended reports whether it must.
func (m *Machine) Ended(s State) bool { return m.sets[s].threads == m.sets[s].threadsEnd }

// Next is the state behind a byte; Dead: it is not allowed. The error is ErrAmbiguous.
func (m *Machine) Next(s State, b byte) (State, error) {
	if table := m.sets[s].table; table >= 0 {
		if to := m.tables[table][b]; to >= Dead {
			return to, nil
		}
	}
	return m.find(s, b)
}

func (m *Machine) find(s State, b byte) (State, error) {
	spans := m.Spans(s)
	at := 0
	for at < len(spans) && spans[at].High < b {
		at++
	}
	if at == len(spans) || spans[at].Low > b {
		return Dead, nil
	}
	if spans[at].to == Unknown {
		m.step(s, &spans[at])
	}
	if spans[at].to == ambiguous {
		return Dead, ErrAmbiguous
	}
	return spans[at].to, nil
}

// Spans are, in order, the bytes that may follow a state; behind some it may be Dead for all that.
func (m *Machine) Spans(s State) []Span {
	if !m.sets[s].expanded {
		m.expand(s)
	}
	return m.spans[m.sets[s].spans:m.sets[s].spansEnd]
}

// Table has the states behind all bytes, as far as they are known, of a state behind which many may follow; nil: few do.
func (m *Machine) Table(s State) *[256]State {
	if !m.sets[s].expanded {
		m.expand(s)
	}
	if table := m.sets[s].table; table >= 0 {
		return m.tables[table]
	}
	return nil
}

// expand lists the spans of a set.
func (m *Machine) expand(s State) {
	var begins [257]bool
	var change [257]int32 // in how many edges there are
	set := &m.sets[s]
	taken := int32(0) // edges
	for _, t := range m.threads[set.threads:set.threadsEnd] {
		v := &m.program.nodes[t.node]
		taken += v.last - v.first
		for _, e := range m.program.edges[v.first:v.last] {
			begins[e.low], begins[int(e.high)+1] = true, true
			change[e.low]++
			change[int(e.high)+1]--
		}
	}
	set.expanded, set.spans = true, int32(len(m.spans))
	edges := int32(0)
	for b := range 256 {
		edges += change[b]
		switch {
		case edges == 0:
		case begins[b]:
			m.spans = append(m.spans, Span{byte(b), byte(b), Unknown})
		default:
			m.spans[len(m.spans)-1].High = byte(b)
		}
	}
	set.spansEnd = int32(len(m.spans))
	spans := set.spansEnd - set.spans
	set.cost = 20 + taken + spans*(3+3*(set.threadsEnd-set.threads)+taken/4)
	if spans > fewSpans {
		set.table = int32(len(m.tables))
		table := new([256]State)
		for b := range table {
			table[b] = Dead
		}
		for _, span := range m.spans[set.spans:] {
			for b := int(span.Low); b <= int(span.High); b++ {
				table[b] = Unknown
			}
		}
		m.tables = append(m.tables, table)
	}
}

// step finds out what is behind a span, and keeps it.
func (m *Machine) step(s State, of *Span) {
	m.begin()
	set := m.sets[s]
	for _, t := range m.threads[set.threads:set.threadsEnd] {
		v := &m.program.nodes[t.node]
		for _, e := range m.program.edges[v.first:v.last] {
			if e.low <= of.Low && of.Low <= e.high {
				m.enter(e.to, t.stack)
			}
		}
	}
	of.to = m.intern()
	if set.table >= 0 {
		table := m.tables[set.table]
		for b := int(of.Low); b <= int(of.High); b++ {
			table[b] = of.to
		}
	}
}

func (m *Machine) begin() {
	m.now, m.complete, m.returns, m.steps = m.now[:0], false, false, 0
	m.seen.clear()
}

// enter adds the threads that come of being at a node.
func (m *Machine) enter(n, stack int32) {
	if m.steps++; m.steps > maxSteps || len(m.now) > maxThreads {
		m.steps = maxSteps + 1
		return
	}
	p, v := m.program, &m.program.nodes[n]
	if m.stacks[stack].depth+p.needs[n] > maxDepth {
		return
	}
	if v.kind == kindBytes {
		if v.first != v.last && m.seen.add(thread{n, stack}) {
			m.now = append(m.now, thread{n, stack})
		}
		return
	}
	if m.steps > 1 && !m.seen.add(thread{n, stack}) { // most steps are one; a cycle has more
		return
	}
	switch v.kind {
	case kindSplit:
		for _, to := range p.targets[v.first:v.last] {
			m.enter(to, stack)
		}
	case kindCall:
		m.enter(v.first, m.push(frame{to: v.last, below: stack}))
	case kindLoop:
		m.repeat(n, 0, stack)
	case kindEnd:
		m.leave(stack)
	}
}

// leave returns from a rule.
func (m *Machine) leave(stack int32) {
	switch stack {
	case whole:
		m.complete = true
	case open:
		m.returns = true
	default:
		f := m.stacks[stack].frame
		if m.program.nodes[f.to].kind == kindLoop {
			m.repeat(f.to, f.count+1, f.below)
		} else {
			m.enter(f.to, f.below)
		}
	}
}

// repeat goes on at a loop whose rule was called so many times.
func (m *Machine) repeat(n, count, stack int32) {
	l := &m.program.loops[m.program.nodes[n].first]
	if count >= l.min {
		m.enter(l.then, stack)
	}
	if l.max < 0 {
		count = min(count, l.min) // more makes no difference
	}
	if l.max < 0 || count < l.max {
		m.enter(l.entry, m.push(frame{n, count, stack}))
	}
}

// push puts a frame on a stack.
func (m *Machine) push(f frame) int32 {
	s, ok := m.byFrame[f]
	if !ok {
		s = int32(len(m.stacks))
		m.stacks = append(m.stacks, stack{f, m.stacks[f.below].depth + 1})
		m.byFrame[f] = s
	}
	return s
}

// intern is the state that the step has come to.
func (m *Machine) intern() State {
	switch {
	case m.steps > maxSteps:
		return ambiguous
	case len(m.now) == 0 && !m.complete && !m.returns:
		return Dead
	}
	if len(m.now) > 1 {
		m.prune()
		slices.SortFunc(m.now, func(a, b thread) int {
			if a.node != b.node {
				return int(a.node - b.node)
			}
			return int(a.stack - b.stack)
		})
	}
	return m.index.find(m)
}
