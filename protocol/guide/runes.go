package guide

import (
	"slices"
	"unicode/utf8"
)

// maxAutomaton bounds the states of an automaton over characters.
const maxAutomaton = 20000

// automaton reads characters (Unicode scalar values). It may go on in several ways by one character. A nil one reads nothing.
type automaton struct {
	states []charState
	start  int32
}

// charState is a state of an automaton.
type charState struct {
	accepts bool
	edges   []charEdge
}

// charEdge goes on at a state by a character from low to high.
type charEdge struct {
	low, high rune
	to        int32
}

// Surrogates are no characters.
const (
	beforeSurrogates = 0xd7ff
	behindSurrogates = 0xe000
)

// anyChar are edges by every character.
func anyChar(to int32) []charEdge {
	return []charEdge{{0, beforeSurrogates, to}, {behindSurrogates, utf8.MaxRune, to}}
}

// charRange are edges by the characters from low to high.
func charRange(edges []charEdge, low, high rune, to int32) []charEdge {
	if low <= min(high, beforeSurrogates) {
		edges = append(edges, charEdge{low, min(high, beforeSurrogates), to})
	}
	if max(low, behindSurrogates) <= high {
		edges = append(edges, charEdge{max(low, behindSurrogates), high, to})
	}
	return edges
}

// matches reports whether an automaton reads a whole text.
func (a *automaton) matches(text string) bool {
	if a == nil {
		return false
	}
	now := []int32{a.start}
	for _, r := range text {
		var next []int32
		for _, s := range now {
			for _, e := range a.states[s].edges {
				if e.low <= r && r <= e.high && !slices.Contains(next, e.to) {
					next = append(next, e.to)
				}
			}
		}
		now = next
	}
	return slices.ContainsFunc(now, func(s int32) bool { return a.states[s].accepts })
}

// lengths reads texts of least to greatest characters; greatest -1: without end.
func (c *compiler) lengths(least, greatest int) *automaton {
	last := greatest
	if greatest < 0 {
		last = least
	}
	if last > maxAutomaton {
		c.fail(TooLarge, "lengths of a text with a pattern go up to %d here", maxAutomaton)
		return nil
	}
	a := &automaton{}
	for i := range last + 1 {
		s := charState{accepts: i >= least}
		switch {
		case i < last:
			s.edges = anyChar(int32(i + 1))
		case greatest < 0:
			s.edges = anyChar(int32(i))
		}
		a.states = append(a.states, s)
	}
	c.spend(last)
	return a
}

// intersect reads what both read. It builds pairs of states.
func (c *compiler) intersect(a, b *automaton) *automaton {
	if a == nil || b == nil {
		return nil
	}
	type pair struct{ a, b int32 }
	out := &automaton{}
	places := map[pair]int32{}
	var pairs []pair
	reach := func(p pair) int32 {
		at, ok := places[p]
		if !ok {
			at = int32(len(pairs))
			places[p] = at
			pairs = append(pairs, p)
		}
		return at
	}
	reach(pair{a.start, b.start})
	for i := 0; i < len(pairs); i++ {
		left, right := &a.states[pairs[i].a], &b.states[pairs[i].b]
		if !c.spend(1+len(left.edges)*len(right.edges)) || len(pairs) > maxAutomaton {
			c.fail(TooLarge, "its patterns together have more than %d states", maxAutomaton)
			return nil
		}
		s := charState{accepts: left.accepts && right.accepts}
		for _, e := range left.edges {
			for _, f := range right.edges {
				if low, high := max(e.low, f.low), min(e.high, f.high); low <= high {
					s.edges = append(s.edges, charEdge{low, high, reach(pair{e.to, f.to})})
				}
			}
		}
		out.states = append(out.states, s)
	}
	return c.trim(out)
}

// unite reads what any of them reads.
func (c *compiler) unite(all ...*automaton) *automaton {
	out := &automaton{states: make([]charState, 1)}
	for _, a := range all {
		if a == nil {
			continue
		}
		shift := int32(len(out.states))
		for _, s := range a.states {
			s.edges = slices.Clone(s.edges)
			for i := range s.edges {
				s.edges[i].to += shift
			}
			out.states = append(out.states, s)
		}
		first := out.states[a.start+shift]
		out.states[0].accepts = out.states[0].accepts || first.accepts
		out.states[0].edges = append(out.states[0].edges, first.edges...)
		c.spend(len(a.states))
	}
	return c.trim(out)
}

// trim leaves out the states from which nothing can be read to its end; without any left the automaton is nil.
func (c *compiler) trim(a *automaton) *automaton {
	users := make([][]int32, len(a.states))
	var queue []int32
	useful := make([]bool, len(a.states))
	for s := range a.states {
		c.spend(1 + len(a.states[s].edges))
		for _, e := range a.states[s].edges {
			users[e.to] = append(users[e.to], int32(s))
		}
		if a.states[s].accepts {
			useful[s] = true
			queue = append(queue, int32(s))
		}
	}
	for len(queue) > 0 {
		s := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		for _, user := range users[s] {
			if !useful[user] {
				useful[user] = true
				queue = append(queue, user)
			}
		}
	}
	if !useful[a.start] {
		return nil
	}
	place := make([]int32, len(a.states))
	kept := int32(0)
	for s := range a.states {
		if useful[s] {
			place[s] = kept
			kept++
		}
	}
	out := &automaton{states: make([]charState, 0, kept), start: place[a.start]}
	for s, old := range a.states {
		if !useful[s] {
			continue
		}
		state := charState{accepts: old.accepts}
		for _, e := range old.edges {
			if useful[e.to] {
				state.edges = append(state.edges, charEdge{e.low, e.high, place[e.to]})
			}
		}
		out.states = append(out.states, state)
	}
	return out
}

// maxMembers bounds the states in the sets that determine makes, some ten bytes each.
const maxMembers = 4 << 20

// determine makes an automaton that goes on in one way only by each character. One that would have more states than most, or
// take too much to find out, is nil, and ok is false.
func (c *compiler) determine(a *automaton, most int) (out *automaton, ok bool) {
	if a == nil {
		return nil, true
	}
	out = &automaton{}
	places := map[string]int32{}
	var sets [][]int32
	var key []byte
	reach := func(set []int32) int32 {
		slices.Sort(set)
		set = slices.Compact(set)
		key = key[:0]
		for _, s := range set {
			key = append(key, byte(s), byte(s>>8), byte(s>>16))
		}
		at, known := places[string(key)]
		if !known {
			at = int32(len(sets))
			places[string(key)] = at
			sets = append(sets, slices.Clone(set))
		}
		return at
	}
	reach([]int32{a.start})
	var edges []charEdge
	members := 0
	for i := 0; i < len(sets); i++ {
		if members += len(sets[i]); len(sets) > most || members > maxMembers {
			return nil, false
		}
		s := charState{}
		edges = edges[:0]
		for _, old := range sets[i] {
			s.accepts = s.accepts || a.states[old].accepts
			edges = append(edges, a.states[old].edges...)
		}
		var ended bool
		if s.edges, ended = c.disjoint(edges, reach); ended {
			return nil, false
		}
		out.states = append(out.states, s)
	}
	return out, true
}

// disjoint makes of edges, which may overlap, some that do not: each goes to what reach gives for the states that the overlapping ones go
// to, which it may reorder and must not keep.
func (c *compiler) disjoint(edges []charEdge, reach func([]int32) int32) (out []charEdge, ended bool) {
	bounds := make([]rune, 0, 2*len(edges))
	for _, e := range edges {
		bounds = append(bounds, e.low, e.high+1)
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	var to []int32
	for i := 0; i+1 < len(bounds); i++ {
		if !c.spend(1 + len(edges)/8) {
			return nil, true
		}
		to = to[:0]
		for _, e := range edges {
			if e.low <= bounds[i] && bounds[i+1] <= e.high+1 {
				to = append(to, e.to)
			}
		}
		if len(to) == 0 {
			continue
		}
		next := charEdge{bounds[i], bounds[i+1] - 1, reach(to)}
		if n := len(out); n > 0 && out[n-1].to == next.to && out[n-1].high+1 == next.low {
			out[n-1].high = next.high
		} else {
			out = append(out, next)
		}
	}
	return out, false
}

// complement reads every text that an automaton does not read.
func (c *compiler) complement(a *automaton) *automaton {
	if a == nil {
		return c.lengths(0, -1)
	}
	d, ok := c.determine(a, maxAutomaton/4)
	if !ok {
		c.fail(TooLarge, "its patterns of names have more than %d states", maxAutomaton/4)
		return nil
	}
	sink := int32(len(d.states))
	for i := range d.states {
		s := &d.states[i]
		s.accepts = !s.accepts
		next := rune(0)
		var gaps []charEdge
		for _, e := range s.edges {
			if e.low > next {
				gaps = charRange(gaps, next, e.low-1, sink)
			}
			next = e.high + 1
		}
		if next <= utf8.MaxRune {
			gaps = charRange(gaps, next, utf8.MaxRune, sink)
		}
		s.edges = append(s.edges, gaps...)
	}
	d.states = append(d.states, charState{accepts: true, edges: anyChar(sink)})
	return c.trim(d)
}

// texts reads one of several texts. It goes on in one way only.
func (c *compiler) texts(all []string) *automaton {
	a := &automaton{states: make([]charState, 1)}
	for _, text := range all {
		at := int32(0)
		for _, r := range text {
			c.spend(1)
			found := slices.IndexFunc(a.states[at].edges, func(e charEdge) bool { return e.low == r })
			if found < 0 {
				found = len(a.states[at].edges)
				a.states[at].edges = append(a.states[at].edges, charEdge{r, r, int32(len(a.states))})
				a.states = append(a.states, charState{})
			}
			at = a.states[at].edges[found].to
		}
		a.states[at].accepts = true
	}
	for i := range a.states {
		slices.SortFunc(a.states[i].edges, func(x, y charEdge) int { return int(x.low - y.low) })
	}
	if len(all) == 0 {
		return nil
	}
	return a
}
