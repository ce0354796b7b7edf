package guide

import (
	"cmp"
	"slices"
)

// index is a hash table of sets, with open addressing.
type index struct{ slots []State } // a state and one; 0: free

// find is the state of the threads of this step.
func (x *index) find(m *Machine) State {
	if 2*len(m.sets) >= len(x.slots) {
		x.grow(m)
	}
	mask := len(x.slots) - 1
	at := hash(m.now, m.complete, m.returns) & mask
	for ; x.slots[at] != 0; at = (at + 1) & mask {
		s := x.slots[at] - 1
		set := &m.sets[s]
		if set.complete == m.complete && set.returns == m.returns && slices.Equal(m.threads[set.threads:set.threadsEnd], m.now) {
			return s
		}
	}
	first := int32(len(m.threads))
	m.threads = append(m.threads, m.now...)
	m.sets = append(m.sets, set{threads: first, threadsEnd: int32(len(m.threads)), table: -1, plain: -1, complete: m.complete,
		returns: m.returns})
	x.slots[at] = State(len(m.sets))
	return State(len(m.sets) - 1)
}

func (x *index) grow(m *Machine) {
	x.slots = make([]State, max(64, 2*len(x.slots)))
	mask := len(x.slots) - 1
	for s := range m.sets {
		set := &m.sets[s]
		at := hash(m.threads[set.threads:set.threadsEnd], set.complete, set.returns) & mask
		for x.slots[at] != 0 {
			at = (at + 1) & mask
		}
		x.slots[at] = State(s + 1)
	}
}

func hash(threads []thread, complete, returns bool) int {
	sum := uint64(1)
	if complete {
		sum += 2
	}
	if returns {
		sum += 4
	}
	for _, t := range threads {
		sum = hashThread(sum, t)
	}
	return int(sum >> 1)
}

// hashThread mixes by an odd constant, the golden ratio's.
func hashThread(sum uint64, t thread) uint64 {
	const ratio = 0x9e3779b97f4a7c15
	sum = (sum ^ uint64(uint32(t.node))<<32 ^ uint64(uint32(t.stack))) * ratio
	return sum ^ sum>>29
}

// seen is a set of threads: a hash table with open addressing. Its slots are of this step if they have its number.
type seen struct {
	slots []seenSlot
	step  uint32
	count int
}

type seenSlot struct {
	thread
	step uint32
}

func (s *seen) clear() {
	if s.step++; s.step == 0 { // of a slot that is free
		clear(s.slots)
		s.step = 1
	}
	s.count = 0
}

// add adds a thread, and reports whether it was not there.
func (s *seen) add(t thread) bool {
	if 2*s.count >= len(s.slots) {
		s.grow()
	}
	mask := len(s.slots) - 1
	at := int(hashThread(1, t)>>1) & mask
	for ; s.slots[at].step == s.step; at = (at + 1) & mask {
		if s.slots[at].thread == t {
			return false
		}
	}
	s.slots[at] = seenSlot{t, s.step}
	s.count++
	return true
}

func (s *seen) grow() {
	old := s.slots
	s.slots = make([]seenSlot, max(64, 2*len(old)))
	s.count = 0
	for _, slot := range old {
		if slot.step == s.step {
			s.add(slot.thread)
		}
	}
}

// fewThreads are so many that each is compared with each.
const fewThreads = 256

// prune leaves out threads that can only go on as others do: those that differ in that a loop was called more often, where it was called
// often enough already.
func (m *Machine) prune() {
	if len(m.program.loops) == 0 {
		return
	}
	if len(m.now) > fewThreads {
		m.pruneTops()
	}
	if len(m.now) > fewThreads {
		return
	}
	kept := m.now[:0]
	for i, t := range m.now {
		idle := slices.ContainsFunc(kept, func(other thread) bool { return m.covers(other, t) }) ||
			slices.ContainsFunc(m.now[i+1:], func(other thread) bool { return m.covers(other, t) })
		if !idle {
			kept = append(kept, t)
		}
	}
	m.now = kept
}

// pruneTops is prune for threads that differ in the loop that they are in, if at all.
func (m *Machine) pruneTops() {
	slices.SortFunc(m.now, func(a, b thread) int {
		f, g := &m.stacks[a.stack].frame, &m.stacks[b.stack].frame
		return cmp.Or(cmp.Compare(a.node, b.node), cmp.Compare(f.to, g.to), cmp.Compare(f.below, g.below), cmp.Compare(f.count, g.count))
	})
	kept := m.now[:1]
	for _, t := range m.now[1:] {
		if !m.covers(kept[len(kept)-1], t) {
			kept = append(kept, t)
		}
	}
	m.now = kept
}

// covers reports whether a thread can go on in every way in which an unlike one can.
func (m *Machine) covers(one, other thread) bool {
	if one.node != other.node {
		return false
	}
	a, b := one.stack, other.stack
	for a != b {
		if a <= open || b <= open {
			return false
		}
		f, g := &m.stacks[a].frame, &m.stacks[b].frame
		if f.to != g.to {
			return false
		}
		if f.count != g.count {
			l := &m.program.loops[m.program.nodes[f.to].first]
			if f.count > g.count || f.count < l.min {
				return false
			}
		}
		a, b = f.below, g.below
	}
	return true
}
