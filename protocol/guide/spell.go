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
	for i, s := range a.states {
		var all []run
		for _, e := range s.edges {
			all = appendSpelled(all, how, e.low, e.high, states[e.to])
		}
		edges := c.runEdges(all)
		c.setBytes(waits[i], edges)
		if c.err != nil {
			break
		}
	}
	return states[a.start]
}

// appendSpelled adds the sequences of bytes for characters from low to high.
func appendSpelled(all []run, how spelling, low, high rune, to int32) []run {
	if how == rawSpelling {
		return appendUTF8(all, low, high, to)
	}
	for r := low; r <= min(high, 0x1f); r++ {
		all = appendControl(all, byte(r), to)
	}
	for low = max(low, 0x20); low <= high; {
		switch end := min(high, nextQuoted(low)-1); {
		case low == '"' || low == '\\':
			all = append(all, run{[]byteRange{{'\\', '\\'}, {byte(low), byte(low)}}, to})
			low++
		default:
			all = appendUTF8(all, low, end, to)
			low = end + 1
		}
	}
	return all
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

// shortEscapes are the letters of control characters that have one.
var shortEscapes = map[byte]byte{'\b': 'b', '\t': 't', '\n': 'n', '\f': 'f', '\r': 'r'}

func appendControl(all []run, b byte, to int32) []run {
	ranges := []byteRange{{'\\', '\\'}}
	if letter, ok := shortEscapes[b]; ok {
		return append(all, run{append(ranges, byteRange{letter, letter}), to})
	}
	ranges = append(ranges, byteRange{'u', 'u'}, byteRange{'0', '0'}, byteRange{'0', '0'}, byteRange{'0' + b>>4, '0' + b>>4})
	if low := b & 15; low < 10 {
		return append(all, run{append(ranges, byteRange{'0' + low, '0' + low}), to})
	} else {
		letter := 'a' + low - 10
		lower := append(ranges[:len(ranges):len(ranges)], byteRange{letter, letter})
		upper := append(ranges[:len(ranges):len(ranges)], byteRange{letter - 'a' + 'A', letter - 'a' + 'A'})
		return append(all, run{lower, to}, run{upper, to})
	}
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

// stringTail is the rest of a plain JSON string behind its quotation mark.
func (c *compiler) stringTail(next int32) int32 {
	n := c.add(node{kind: kindBytes})
	c.setBytes(n, append(c.stringChar(n), edge{'"', '"', next}))
	return n
}

// stringChar are the ways to write one character in a plain JSON string: as it is, or escaped in any way that JSON has. Escapes of
// surrogates come in pairs only.
func (c *compiler) stringChar(to int32) []edge {
	var plain []run
	for _, part := range [][2]rune{{' ', '!'}, {'#', '['}, {']', beforeSurrogates}, {behindSurrogates, utf8.MaxRune}} {
		plain = appendUTF8(plain, part[0], part[1], to)
	}
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
	return append(c.runEdges(plain), edge{'\\', '\\', c.bytes(escape...)})
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
