package guide

import "unicode/utf8"

// spelling is how characters are written as bytes.
type spelling uint8

const (
	rawSpelling  spelling = iota // in UTF-8
	textSpelling                 // within a JSON string, each in one way, but for the case of hexadecimal digits
)

// spell is what an automaton over characters reads, as bytes.
func (c *compiler) spell(a *automaton, how spelling, next int32) int32 {
	if a == nil || c.err != nil {
		return c.dead()
	}
	waits, states := make([]int32, len(a.states)), make([]int32, len(a.states))
	for i, s := range a.states {
		waits[i] = c.add(node{kind: kindBytes})
		states[i] = waits[i]
		if s.accepts {
			states[i] = c.split(next, waits[i])
		}
	}
	for i := range a.states {
		edges := c.spellEdges(a.states[i].edges, how, states)
		c.setBytes(waits[i], edges)
		if c.err != nil {
			break
		}
	}
	return states[a.start]
}

// spellEdges are those of characters as bytes. Characters of one byte, of several and escaped ones have no first byte in common.
func (c *compiler) spellEdges(chars []charEdge, how spelling, states []int32) (edges []edge) {
	var escaped, wide []run
	wideTo := wholeTo(chars, utf8.RuneSelf, beforeSurrogates)
	if other := wholeTo(chars, behindSurrogates, utf8.MaxRune); other != wideTo {
		wideTo = -1
	}
	escapedTo := int32(-1)
	if how == textSpelling {
		escapedTo = wholeTo(chars, 0, 0x1f)
		if escapedTo >= 0 && (wholeTo(chars, '"', '"') != escapedTo || wholeTo(chars, '\\', '\\') != escapedTo) {
			escapedTo = -1
		}
	}
	for _, e := range chars {
		to := states[e.to]
		for low, last := e.low, min(e.high, utf8.RuneSelf-1); low <= last; {
			switch end := min(last, nextQuoted(low)-1); {
			case how == rawSpelling:
				edges = append(edges, edge{byte(low), byte(last), to})
				low = last + 1
			case low < 0x20:
				if end = min(last, 0x1f); escapedTo < 0 {
					escaped = appendControls(escaped, byte(low), byte(end), to)
				}
				low = end + 1
			case low == '"' || low == '\\':
				if escapedTo < 0 {
					escaped = append(escaped, run{[]byteRange{{'\\', '\\'}, {byte(low), byte(low)}}, to})
				}
				low++
			default:
				edges = append(edges, edge{byte(low), byte(end), to})
				low = end + 1
			}
		}
		if wideTo < 0 && e.high >= utf8.RuneSelf {
			wide = appendUTF8(wide, max(e.low, utf8.RuneSelf), e.high, to)
		}
	}
	switch {
	case escapedTo >= 0:
		edges = append(edges, edge{'\\', '\\', c.anyEscaped(states[escapedTo])})
	case len(escaped) > 0:
		edges = append(edges, c.runEdges(escaped)...)
	}
	if wideTo >= 0 {
		return append(edges, c.anyWide(states[wideTo])...)
	}
	return append(edges, c.runEdges(wide)...)
}

// wholeTo is the state behind all characters from low to high; -1: there is not one, or another too.
func wholeTo(chars []charEdge, low, high rune) int32 {
	to := int32(-1)
	for _, e := range chars {
		switch {
		case e.high < low || high < e.low:
		case to >= 0 || e.low > low || e.high < high:
			return -1
		default:
			to = e.to
		}
	}
	return to
}

// anyEscaped is what follows the backslash of the characters that have one, behind each of which comes the same.
func (c *compiler) anyEscaped(to int32) int32 {
	n, ok := c.escaped[to]
	if !ok {
		all := appendControls(nil, 0, 0x1f, to)
		for i := range all {
			all[i].ranges = all[i].ranges[1:] // behind the backslash
		}
		n = c.bytes(append(c.runEdges(all), edge{'"', '"', to}, edge{'\\', '\\', to})...)
		c.escaped[to] = n
	}
	return n
}

// anyWide are the edges of the characters of several bytes, behind each of which comes the same.
func (c *compiler) anyWide(to int32) []edge {
	edges, ok := c.wide[to]
	if !ok {
		all := appendUTF8(nil, utf8.RuneSelf, beforeSurrogates, to)
		edges = c.runEdges(appendUTF8(all, behindSurrogates, utf8.MaxRune, to))
		c.wide[to] = edges
	}
	return edges
}

// nextQuoted is the first character from r on that stands behind a backslash in a JSON string.
func nextQuoted(r rune) rune {
	switch {
	case r <= '"':
		return '"'
	case r <= '\\':
		return '\\'
	}
	return utf8.MaxRune + 1
}

// shortEscapes are the letters of control characters that have one; 0: it has none.
var shortEscapes = [0x20]byte{'\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r'}

// appendControls adds the sequences of control characters from low to high.
func appendControls(all []run, low, high byte, to int32) []run {
	for b := low; b <= high; {
		if letter := shortEscapes[b]; letter != 0 {
			all = append(all, run{[]byteRange{{'\\', '\\'}, {letter, letter}}, to})
			b++
			continue
		}
		last := b // of those that differ in a digit only, which is no letter or is one
		for last < high && shortEscapes[last+1] == 0 && (last+1)&15 != 0 && (last+1)&15 != 10 {
			last++
		}
		code := func(low, high byte) run {
			digit := '0' + b>>4
			return run{[]byteRange{{'\\', '\\'}, {'u', 'u'}, {'0', '0'}, {'0', '0'}, {digit, digit}, {low, high}}, to}
		}
		if from, to := b&15, last&15; to < 10 {
			all = append(all, code('0'+from, '0'+to))
		} else {
			all = append(all, code('a'-10+from, 'a'-10+to), code('A'-10+from, 'A'-10+to))
		}
		b = last + 1
	}
	return all
}

// appendUTF8 adds the sequences of bytes of characters from low to high, which are not surrogates: ranges of equal length whose last bytes
// run through all values but in the last place where bounds differ.
func appendUTF8(all []run, low, high rune, to int32) []run {
	for low <= high {
		end := min(high, lastOfLength(low))
		// Cut where a continuation byte would not run through all its values.
		for bits := 6; bits < 24; bits += 6 {
			block := rune(1)<<bits - 1
			if low&^block == end&^block {
				break
			}
			if low&block != 0 {
				end = low | block
				break
			}
			if end&block != block {
				end = end&^block - 1
			}
		}
		all = append(all, run{between(low, end), to})
		low = end + 1
	}
	return all
}

// lastOfLength is the last character with as many bytes as r.
func lastOfLength(r rune) rune {
	for _, last := range []rune{0x7f, 0x7ff, 0xffff} {
		if r <= last {
			return last
		}
	}
	return utf8.MaxRune
}

// between are the ranges of bytes of characters of one length that differ in such a way that each byte has a range of its own.
func between(low, high rune) []byteRange {
	first, last := utf8.AppendRune(nil, low), utf8.AppendRune(nil, high)
	ranges := make([]byteRange, len(first))
	for i := range ranges {
		ranges[i] = byteRange{first[i], last[i]}
	}
	return ranges
}

// stringTail is the rest of a plain JSON string behind its quotation mark, which ends the rule. It is at n.
func (c *compiler) stringTail(n int32) {
	c.setBytes(n, append(c.stringChar(n), edge{'"', '"', endNode}))
}

// stringChar are the ways to write one character in a plain JSON string: as it is, or escaped in any way that JSON has. Escapes of
// surrogates come in pairs only.
func (c *compiler) stringChar(to int32) []edge {
	plain := []edge{{' ', '!', to}, {'#', '[', to}, {']', 0x7f, to}}
	second := c.literal(`\u`, c.bytes(edge{'D', 'D', c.lowSurrogate(to)}, edge{'d', 'd', c.lowSurrogate(to)}))
	high := c.hex(c.hex(second))
	d := c.bytes(edge{'0', '7', c.hex(c.hex(to))}, edge{'8', '9', high}, edge{'A', 'B', high}, edge{'a', 'b', high})
	three := c.hex(c.hex(c.hex(to)))
	code := c.bytes(edge{'0', '9', three}, edge{'A', 'C', three}, edge{'D', 'D', d}, edge{'E', 'F', three}, edge{'a', 'c', three},
		edge{'d', 'd', d}, edge{'e', 'f', three})
	escape := []edge{{'u', 'u', code}}
	for _, letter := range []byte(`"\/bfnrt`) {
		escape = append(escape, edge{letter, letter, to})
	}
	return append(append(plain, edge{'\\', '\\', c.bytes(escape...)}), c.anyWide(to)...)
}

// lowSurrogate is what follows the D of the second half of a surrogate pair.
func (c *compiler) lowSurrogate(to int32) int32 {
	last := c.hex(c.hex(to))
	return c.bytes(edge{'C', 'F', last}, edge{'c', 'f', last})
}

// hex is a hexadecimal digit.
func (c *compiler) hex(to int32) int32 {
	return c.bytes(edge{'0', '9', to}, edge{'A', 'F', to}, edge{'a', 'f', to})
}
