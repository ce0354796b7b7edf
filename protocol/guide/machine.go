package guide

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Bounds of a machine.
const (
	// maxThreads bounds the threads of a state: how many ways of reading a text may still be right.
	maxThreads = 4096
	// maxDepth bounds the calls within one another. What would nest deeper is not allowed, as if the source said so.
	maxDepth = 512
	// maxSteps bounds the steps without a byte behind one byte.
	maxSteps = 1 << 16
)

// ErrAmbiguous says that a text can be read in too many ways at once.
var ErrAmbiguous = errors.New("the text can be read in too many ways by its guide")

// State is where a machine's program has come to; states of one machine are equal where what may follow is decided alike. It is valid until
// the machine is reset.
type State int32

// Dead is the state behind what is not allowed.
const Dead State = -1

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

// set is what a State stands for.
type set struct {
	threads  []thread
	complete bool
	returns  bool // to what is below an open stack
	few      []step
	many     *[256]State
}

// step is a known one of a set. A byte that is not known has unknown.
type step struct {
	by byte
	to State
}

const (
	unknown   State = -2
	ambiguous State = -3
	fewSteps        = 6
)

// Machine runs a program. What it finds out it keeps, until Reset. It is not safe for concurrent use.
type Machine struct {
	program *Program
	stacks  []stack
	byFrame map[frame]int32
	sets    []set
	byKey   map[string]State
	start   State
	bytes   int

	// of one step
	threads  []thread
	seen     map[thread]bool
	key      []byte
	steps    int
	complete bool
	returns  bool
}

// NewMachine returns a machine.
func NewMachine(p *Program) *Machine {
	m := &Machine{program: p}
	m.Reset()
	return m
}

// Reset forgets what is kept. States from before must not be used.
func (m *Machine) Reset() {
	m.stacks = append(m.stacks[:0], stack{}, stack{})
	m.byFrame, m.byKey, m.seen = make(map[frame]int32), make(map[string]State), make(map[thread]bool)
	m.sets, m.bytes = nil, 0
	m.begin()
	m.enter(m.program.start, whole)
	m.start = m.intern()
}

// Bytes is about what the machine keeps.
func (m *Machine) Bytes() int { return m.bytes }

// Start is the state before the text.
func (m *Machine) Start() State { return m.start }

// Complete reports whether the text may end.
func (m *Machine) Complete(s State) bool { return m.sets[s].complete }

// Ended reports whether it must.
func (m *Machine) Ended(s State) bool { return len(m.sets[s].threads) == 0 }

// Next is the state behind a byte; Dead: it is not allowed. The error is ErrAmbiguous.
func (m *Machine) Next(s State, b byte) (State, error) {
	to := m.known(s, b)
	if to == unknown {
		to = m.step(s, b)
	}
	if to == ambiguous {
		return Dead, ErrAmbiguous
	}
	return to, nil
}

func (m *Machine) known(s State, b byte) State {
	set := &m.sets[s]
	if set.many != nil {
		return set.many[b]
	}
	for _, step := range set.few {
		if step.by == b {
			return step.to
		}
	}
	return unknown
}

// step finds out what is behind a byte, and keeps it.
func (m *Machine) step(s State, b byte) State {
	m.begin()
	for _, t := range m.sets[s].threads {
		v := &m.program.nodes[t.node]
		for _, e := range m.program.edges[v.first:v.last] {
			if e.low <= b && b <= e.high {
				m.enter(e.to, t.stack)
			}
		}
	}
	to := m.intern()
	set := &m.sets[s]
	switch {
	case set.many != nil:
		set.many[b] = to
	case len(set.few) < fewSteps:
		set.few = append(set.few, step{b, to})
		m.bytes += 8
	default:
		set.many = new([256]State)
		for i := range set.many {
			set.many[i] = unknown
		}
		for _, known := range set.few {
			set.many[known.by] = known.to
		}
		set.many[b], set.few = to, nil
		m.bytes += 1024
	}
	return to
}

func (m *Machine) begin() {
	m.threads, m.complete, m.returns, m.steps = m.threads[:0], false, false, 0
	clear(m.seen)
}

// enter adds the threads that come of being at a node.
func (m *Machine) enter(n, stack int32) {
	if m.steps++; m.steps > maxSteps || len(m.threads) > maxThreads {
		m.steps = maxSteps + 1
		return
	}
	p, v := m.program, &m.program.nodes[n]
	if v.kind == kindBytes {
		m.wait(thread{n, stack})
		return
	}
	if m.steps > 1 { // most steps are one; a cycle has more
		if t := (thread{n, stack}); m.seen[t] {
			return
		} else {
			m.seen[t] = true
		}
	}
	switch v.kind {
	case kindSplit:
		for _, to := range p.targets[v.first:v.last] {
			m.enter(to, stack)
		}
	case kindCall:
		if below := m.push(frame{to: v.last, below: stack}); below >= 0 {
			m.enter(v.first, below)
		}
	case kindLoop:
		m.repeat(n, 0, stack)
	case kindEnd:
		m.leave(stack)
	}
}

// wait adds a thread, if it is not there.
func (m *Machine) wait(t thread) {
	const few = 16
	switch v := &m.program.nodes[t.node]; {
	case v.first == v.last: // nothing follows
	case len(m.threads) < few:
		if !slices.Contains(m.threads, t) {
			m.threads = append(m.threads, t)
		}
	default:
		if len(m.threads) == few {
			for _, t := range m.threads {
				m.seen[t] = true
			}
		}
		if !m.seen[t] {
			m.seen[t] = true
			m.threads = append(m.threads, t)
		}
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
		if below := m.push(frame{n, count, stack}); below >= 0 {
			m.enter(l.entry, below)
		}
	}
}

// push puts a frame on a stack; -1: it is too deep.
func (m *Machine) push(f frame) int32 {
	s, ok := m.byFrame[f]
	if !ok {
		depth := m.stacks[f.below].depth + 1
		if depth > maxDepth {
			return -1
		}
		s = int32(len(m.stacks))
		m.stacks = append(m.stacks, stack{f, depth})
		m.byFrame[f] = s
		m.bytes += 64
	}
	return s
}

// intern is the state that the step has come to.
func (m *Machine) intern() State {
	switch {
	case m.steps > maxSteps:
		return ambiguous
	case len(m.threads) == 0 && !m.complete && !m.returns:
		return Dead
	}
	slices.SortFunc(m.threads, func(a, b thread) int {
		if a.node != b.node {
			return int(a.node - b.node)
		}
		return int(a.stack - b.stack)
	})
	m.key = m.key[:0]
	flags := byte(0)
	if m.complete {
		flags |= 1
	}
	if m.returns {
		flags |= 2
	}
	m.key = append(m.key, flags)
	for _, t := range m.threads {
		m.key = binary.LittleEndian.AppendUint32(m.key, uint32(t.node))
		m.key = binary.LittleEndian.AppendUint32(m.key, uint32(t.stack))
	}
	s, ok := m.byKey[string(m.key)]
	if !ok {
		s = State(len(m.sets))
		m.sets = append(m.sets, set{threads: slices.Clone(m.threads), complete: m.complete, returns: m.returns})
		m.byKey[string(m.key)] = s
		m.bytes += 120 + 2*len(m.key)
	}
	return s
}
