package text

import (
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// mark is a character on its way through normalization: removed counts the input's characters that it replaces besides
// its own; inserted says that it replaces none, because it came second or later out of a decomposition.
type mark struct {
	r       rune
	class   uint8
	balance int // 1 for inserted, less by one for each character that was composed into it
}

// compose returns text in normalization form C, with the alignment of each byte as the reference counts it: a composed
// character covers the first of the characters that it was made of. norm.NFC would break runs of more than 30 marks
// with a joiner, so this composes on its own and takes from norm only what concerns single characters.
// aligned may be nil; text is valid UTF-8.
func compose(text string, aligned []alignment) (string, []alignment) {
	if isASCII(text) || norm.NFC.IsNormalString(text) {
		return text, aligned
	}
	c := composer{source: text, aligned: aligned}
	c.text.Grow(len(text))
	for i := 0; i < len(text); {
		end := c.boundary(i)
		if norm.NFC.IsNormalString(text[i:end]) {
			c.copy(end)
		} else {
			c.compose(text[i:end])
		}
		i = end
	}
	return c.text.String(), c.out
}

func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// composer writes the composed form of source.
type composer struct {
	source  string
	at      int // how much of source is written
	text    strings.Builder
	aligned []alignment
	out     []alignment
	marks   []mark
}

// boundary returns the end of the sequence at source[i:] that no later character can change.
func (c *composer) boundary(i int) int {
	for first := true; i < len(c.source); first = false {
		p := norm.NFC.PropertiesString(c.source[i:])
		if !first && p.BoundaryBefore() {
			break
		}
		_, size := utf8.DecodeRuneInString(c.source[i:])
		i += size
	}
	return i
}

func (c *composer) copy(end int) {
	c.text.WriteString(c.source[c.at:end])
	if c.aligned != nil {
		c.out = append(c.out, c.aligned[c.at:end]...)
	}
	c.at = end
}

// compose writes the composed form of segment, the part of source at c.at.
func (c *composer) compose(segment string) {
	c.marks = decompose(c.marks[:0], segment)
	sortMarks(c.marks)
	c.marks = composeMarks(c.marks)
	for _, m := range c.marks {
		before := c.text.Len()
		c.text.WriteRune(m.r)
		if m.balance > 0 {
			c.align(c.text.Len()-before, c.at-1)
			continue
		}
		c.align(c.text.Len()-before, c.at)
		for range 1 - m.balance {
			_, size := utf8.DecodeRuneInString(c.source[c.at:])
			c.at += size
		}
	}
}

// align gives the next count bytes the alignment of the source's byte at index.
func (c *composer) align(count, index int) {
	if c.aligned == nil {
		return
	}
	for range count {
		c.out = append(c.out, c.aligned[max(0, min(index, len(c.aligned)-1))])
	}
}

// decompose appends the canonical decomposition of each character of segment.
func decompose(dst []mark, segment string) []mark {
	for len(segment) > 0 {
		p := norm.NFD.PropertiesString(segment)
		size := p.Size()
		if size == 0 {
			_, size = utf8.DecodeRuneInString(segment)
		}
		parts := segment[:size]
		if parts != string(rune(lateLetter)) {
			parts = norm.NFD.String(parts)
		}
		balance := 0
		for _, r := range parts {
			dst = append(dst, mark{r, combiningClass(r), balance})
			balance = 1
		}
		segment = segment[size:]
	}
	return dst
}

// lateMarks are combining characters that the reference takes for starters, because its normalizer has the tables of
// Unicode 9. The one letter that has a decomposition since then is lateLetter.
var lateMarks = [][2]rune{
	{0x7fd, 0x7fd}, {0x898, 0x89f}, {0x8ca, 0x8d3}, {0x9fe, 0x9fe}, {0xc3c, 0xc3c},
	{0xd3b, 0xd3c}, {0xeba, 0xeba}, {0x1715, 0x1715}, {0x1abf, 0x1ace}, {0x1df6, 0x1dfa},
	{0xa82c, 0xa82c}, {0x10d24, 0x10d27}, {0x10eab, 0x10eac}, {0x10efd, 0x10eff}, {0x10f46, 0x10f50},
	{0x10f82, 0x10f85}, {0x11070, 0x11070}, {0x1133b, 0x1133b}, {0x1145e, 0x1145e}, {0x11839, 0x1183a},
	{0x1193d, 0x1193e}, {0x11943, 0x11943}, {0x119e0, 0x119e0}, {0x11a34, 0x11a34}, {0x11a47, 0x11a47},
	{0x11a99, 0x11a99}, {0x11d42, 0x11d42}, {0x11d44, 0x11d45}, {0x11d97, 0x11d97}, {0x11f41, 0x11f42},
	{0x16ff0, 0x16ff1}, {0x1e08f, 0x1e08f}, {0x1e130, 0x1e136}, {0x1e2ae, 0x1e2ae}, {0x1e2ec, 0x1e2ef},
	{0x1e4ec, 0x1e4ef},
}

const lateLetter = 0x11938

func combiningClass(r rune) uint8 {
	if r < 0x300 {
		return 0
	}
	for _, late := range lateMarks {
		if r >= late[0] && r <= late[1] {
			return 0
		}
	}
	var buffer [utf8.UTFMax]byte
	return norm.NFD.Properties(buffer[:utf8.EncodeRune(buffer[:], r)]).CCC()
}

// sortMarks puts each run of combining characters into the order of their classes.
func sortMarks(marks []mark) {
	for i := 0; i < len(marks); {
		end := i + 1
		if marks[i].class != 0 {
			for end < len(marks) && marks[end].class != 0 {
				end++
			}
			slices.SortStableFunc(marks[i:end], func(a, b mark) int { return int(a.class) - int(b.class) })
		}
		i = end
	}
}

// composeMarks joins what composes, in place.
func composeMarks(marks []mark) []mark {
	kept := marks[:0]
	starter := -1 // in kept
	var last uint8
	blocks := false // a character of class last stands between the starter and the next one
	for _, m := range marks {
		if starter >= 0 && (!blocks || last < m.class) {
			if r, ok := composePair(kept[starter].r, m.r); ok {
				kept[starter].r = r
				kept[starter].balance += m.balance - 1
				continue
			}
		}
		kept = append(kept, m)
		if m.class == 0 {
			starter, blocks = len(kept)-1, false
		} else {
			last, blocks = m.class, true
		}
	}
	return kept
}

func composePair(first, second rune) (rune, bool) {
	composed := norm.NFC.String(string([]rune{first, second}))
	r, size := utf8.DecodeRuneInString(composed)
	return r, size == len(composed) && r != lateLetter
}
