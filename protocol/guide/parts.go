package guide

// maxLoops is how many loops a thread's rule may be in that belong to its part.
const maxLoops = 2

// PartKey names what a Part's Local depends on: the part of another state, or of another machine of the program, has an equal Local if it
// has an equal key.
type PartKey struct {
	node  int32
	loops [maxLoops]loopPlace
}

// loopPlace is a loop and how often its rule was called before; node -1: none.
type loopPlace struct{ node, count int32 }

// Part is one way of reading what was said, cut at the rule that it is in.
type Part struct {
	Key PartKey
	// Shared says that parts of all programs with this key are equal.
	Shared bool
	// Local is the state of the rule alone: it Returns where the rule ends.
	Local State
	// Behind is the state at the rule's end.
	Behind State
}

// Returns reports whether a Local state is one at its rule's end.
func (m *Machine) Returns(s State) bool { return m.sets[s].returns }

// Parts are those of a state, appended to a list: what follows it within so many bytes is what follows any of them. It gives none where
// calls are nested so deep that their bound matters.
func (m *Machine) Parts(to []Part, s State, bytes int) ([]Part, error) {
	set := m.sets[s]
	threads := m.threads[set.threads:set.threadsEnd]
	for _, t := range threads {
		if int(m.stacks[t.stack].depth)+bytes*m.program.pushes+m.program.most > maxDepth {
			return nil, nil
		}
	}
	for _, t := range threads {
		part := Part{Key: PartKey{node: t.node}}
		base, loops := t.stack, 0
		for ; loops < maxLoops && base != whole && m.isLoop(base); loops++ {
			f := m.stacks[base].frame
			part.Key.loops[loops] = loopPlace{f.to, m.usualCount(f, bytes)}
			base = f.below
		}
		local := open
		for i := range part.Key.loops {
			at := maxLoops - 1 - i
			if at >= loops {
				part.Key.loops[at] = loopPlace{node: -1}
				continue
			}
			local = m.push(frame{part.Key.loops[at].node, part.Key.loops[at].count, local})
		}
		part.Shared = t.node < m.program.shared && loops == 0
		part.Local = m.alone(thread{t.node, local})
		m.begin()
		m.leave(base)
		if part.Behind = m.intern(); part.Behind == ambiguous {
			return nil, ErrAmbiguous
		}
		to = append(to, part)
	}
	return to, nil
}

func (m *Machine) isLoop(stack int32) bool {
	return m.program.nodes[m.stacks[stack].to].kind == kindLoop
}

// usualCount stands for all counts that make no difference within so many bytes, each of which may be a call.
func (m *Machine) usualCount(f frame, bytes int) int32 {
	l := &m.program.loops[m.program.nodes[f.to].first]
	within := int64(bytes) + 1
	switch count := int64(f.count); {
	case count+within < int64(l.min):
		return 0
	case count >= int64(l.min) && (l.max < 0 || count+within < int64(l.max)):
		return l.min
	}
	return f.count
}

// alone is the state of one thread.
func (m *Machine) alone(t thread) State {
	m.begin()
	m.now = append(m.now, t)
	return m.intern()
}
