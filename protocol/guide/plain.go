package guide

import (
	"slices"
	"unicode/utf8"
)

// Plain characters are those that a JSON string holds as they are: from U+0020 on, but for the quotation mark and the backslash. Most
// tokens have no others, and inside a text all of these are allowed, so what is known of nodes here saves most walks of a vocabulary.

// Always is what Plain says where any number of plain characters may follow.
const Always = 255

// PlainASCII reports whether a byte is a plain character.
func PlainASCII(b byte) bool { return 0x20 <= b && b < 0x80 && b != '"' && b != '\\' }

// bytes256 is a set of bytes.
type bytes256 [4]uint64

func (s *bytes256) add(low, high byte) {
	for w := range s {
		from, to := max(int(low), 64*w), min(int(high), 64*w+63)
		if from <= to {
			s[w] |= (^uint64(0) >> (63 - (to - from))) << (from & 63)
		}
	}
}

func (s *bytes256) has(other *bytes256) bool {
	for w := range s {
		if other[w]&^s[w] != 0 {
			return false
		}
	}
	return true
}

func (s *bytes256) meets(other *bytes256) bool {
	for w := range s {
		if other[w]&s[w] != 0 {
			return true
		}
	}
	return false
}

func bytesOf(ranges ...byteRange) (s bytes256) {
	for _, r := range ranges {
		s.add(r.low, r.high)
	}
	return s
}

var (
	plainASCII = bytesOf(byteRange{' ', '!'}, byteRange{'#', '['}, byteRange{']', 0x7f})
	plainBytes = bytesOf(byteRange{' ', '!'}, byteRange{'#', '['}, byteRange{']', 0xff})
	// plainRuns are the plain characters of several bytes.
	plainRuns = func() (forms [][]byteRange) {
		for _, part := range [][2]rune{{0x80, beforeSurrogates}, {behindSurrogates, utf8.MaxRune}} {
			for _, r := range appendUTF8(nil, part[0], part[1], 0) {
				forms = append(forms, r.ranges)
			}
		}
		return forms
	}()
)

// isPlain reports whether some byte of an edge can be one of a plain character.
func isPlain(e edge) bool {
	taken := bytesOf(byteRange{e.low, e.high})
	return taken.meets(&plainBytes)
}

// maxPlainWork bounds the edges that findPlain looks at. What it has not found out by then it says nothing of.
const maxPlainWork = 300000

// plainFinder finds out about a program's nodes.
type plainFinder struct {
	*Program
	work int
	good func(n int32) bool // of the nodes that bytes lead to
}

// findPlain sets plain and oneChar.
func (p *Program) findPlain() {
	p.plain, p.oneChar = make([]uint8, len(p.nodes)), make([]bool, len(p.nodes))
	f := plainFinder{Program: p}
	var left []int32 // nodes of which all plain characters lead to others of these so many times
	for n := range p.nodes {
		if f.takesASCII(int32(n)) {
			left = append(left, int32(n))
		}
	}
	f.good = f.ends
	for _, n := range left {
		p.oneChar[n] = f.takesPlain(n) && f.onlyEnds(n, utf8.UTFMax)
	}
	for round := uint8(1); len(left) > 0; round++ {
		f.good = func(n int32) bool { return f.reaches(n, round-1, 4) }
		var next []int32
		for _, n := range left {
			if f.takesPlain(n) {
				next = append(next, n)
			}
		}
		if f.work > maxPlainWork {
			return
		}
		done := round > 1 && len(next) == len(left)
		for _, n := range next {
			if p.plain[n] = round; done {
				p.plain[n] = Always
			}
		}
		if left = next; done || round == Always-1 {
			return
		}
	}
}

// takesASCII reports whether a node goes on by every plain character of one byte.
func (f *plainFinder) takesASCII(n int32) bool {
	v := &f.nodes[n]
	if v.kind != kindBytes {
		return false
	}
	var covered bytes256
	for _, e := range f.edges[v.first:v.last] {
		covered.add(e.low, e.high)
	}
	return covered.has(&plainASCII)
}

// ends reports whether a node is the end of its rule or may be.
func (f *plainFinder) ends(n int32) bool {
	v := &f.nodes[n]
	if v.kind == kindSplit {
		for _, to := range f.targets[v.first:v.last] {
			if f.nodes[to].kind == kindEnd {
				return true
			}
		}
	}
	return v.kind == kindEnd
}

// onlyEnds reports whether the rule is at its end behind a plain character of at most so many bytes, whatever comes.
func (f *plainFinder) onlyEnds(n int32, most int) bool {
	v := &f.nodes[n]
	if v.kind != kindBytes || most == 0 {
		return v.kind == kindEnd
	}
	for _, e := range f.edges[v.first:v.last] {
		if isPlain(e) && !f.onlyEnds(e.to, most-1) {
			return false
		}
	}
	return true
}

// reaches reports whether a node, or one that it splits to, takes so many plain characters.
func (f *plainFinder) reaches(n int32, count uint8, splits int) bool {
	v := &f.nodes[n]
	if v.kind == kindSplit && splits > 0 {
		for _, to := range f.targets[v.first:v.last] {
			if f.reaches(to, count, splits-1) {
				return true
			}
		}
	}
	return v.kind == kindBytes && f.plain[n] >= count
}

// takesPlain reports whether every plain character leads from a node to a good one.
func (f *plainFinder) takesPlain(n int32) bool {
	v := &f.nodes[n]
	var covered bytes256
	for _, e := range f.edges[v.first:v.last] {
		if f.work++; f.good(e.to) {
			covered.add(e.low, e.high)
		}
	}
	if !covered.has(&plainASCII) {
		return false
	}
	for _, form := range plainRuns {
		if !f.takesRun(n, form) {
			return false
		}
	}
	return true
}

// takesRun reports whether a sequence of bytes leads from a node to a good one, whichever of its bytes come.
func (f *plainFinder) takesRun(n int32, ranges []byteRange) bool {
	v := &f.nodes[n]
	if v.kind != kindBytes || f.work > maxPlainWork {
		return false
	}
	want := bytesOf(ranges[0])
	var covered bytes256
	for _, e := range f.edges[v.first:v.last] {
		f.work++
		if e.high < ranges[0].low || ranges[0].high < e.low {
			continue
		}
		if len(ranges) == 1 && f.good(e.to) || len(ranges) > 1 && f.takesRun(e.to, ranges[1:]) {
			covered.add(e.low, e.high)
		}
	}
	return covered.has(&want)
}

// Plain is how many plain characters, whichever they are, may follow a state at least; Always: any number. Exactly says that no more
// than these may.
func (m *Machine) Plain(s State) (count int, exactly bool) {
	set := &m.sets[s]
	if set.plain >= 0 {
		return int(set.plain >> 1), set.plain&1 != 0
	}
	threads := m.threads[set.threads:set.threadsEnd]
	if len(threads) <= 16 {
		for _, t := range threads {
			count = max(count, int(m.program.plain[t.node]))
			if more, exact := m.plainCalls(t); more > count {
				count, exactly = more, exact && len(threads) == 1
			}
		}
	}
	if count = min(count, Always); count == Always {
		exactly = false
	}
	m.sets[s].plain = int16(count << 1)
	if exactly {
		m.sets[s].plain |= 1
	}
	return count, exactly
}

// plainCalls is how many plain characters a thread takes that stands before a rule of one character that is called again and again.
func (m *Machine) plainCalls(t thread) (count int, exactly bool) {
	if !m.program.oneChar[t.node] || t.stack == whole || t.stack == open {
		return 0, false
	}
	f := m.stacks[t.stack].frame
	if v := &m.program.nodes[f.to]; v.kind == kindLoop {
		l := &m.program.loops[v.first]
		switch then := &m.program.nodes[l.then]; {
		case l.entry != t.node:
			return 0, false
		case l.max < 0:
			return Always, false
		default:
			return int(min(l.max-f.count, Always)), then.kind == kindBytes && !m.program.takesAnyPlain(then)
		}
	}
	m.begin()
	m.enter(f.to, f.below)
	again := false
	for _, next := range m.now {
		again = again || next == t
	}
	if again && m.steps <= maxSteps {
		return Always, false
	}
	return 1, false
}

// takesAnyPlain reports whether a node that takes bytes takes any of a plain character.
func (p *Program) takesAnyPlain(v *node) bool {
	return slices.ContainsFunc(p.edges[v.first:v.last], isPlain)
}
