package guide

import (
	"slices"
	"unicode/utf8"
)

// Chars is a set of kinds of characters: each letter of ASCII is one, and what expressions rarely tell apart is one together.
type Chars uint64

// Kinds behind those of the letters.
const (
	kindDigit = 52 + iota
	kindSpace
	kindUnderscore
	kindHyphen
	kindDot
	kindSign // other signs of ASCII
	kindQuote
	kindLineFeed
	kindControl // others, and the backslash
	kindWide    // of several bytes
	kindNone    // bytes that begin no character
)

// NoChars is the set of what is no character, behind which a machine never Loops.
const NoChars Chars = 1 << kindNone

// asciiChars are the kinds of bytes.
var asciiChars = func() (kinds [utf8.RuneSelf]uint8) {
	for b := range kinds {
		switch {
		case 'a' <= b && b <= 'z':
			kinds[b] = uint8(b - 'a')
		case 'A' <= b && b <= 'Z':
			kinds[b] = uint8(b - 'A' + 26)
		case '0' <= b && b <= '9':
			kinds[b] = kindDigit
		case b < ' ' || b == 0x7f || b == '\\':
			kinds[b] = kindControl
		default:
			kinds[b] = kindSign
		}
	}
	kinds[' '], kinds['_'], kinds['-'], kinds['.'] = kindSpace, kindUnderscore, kindHyphen, kindDot
	kinds['"'], kinds['\n'] = kindQuote, kindLineFeed
	return kinds
}()

// CharAt is the kind of the character with which a text begins, and its bytes. One that is cut at the end counts as a whole one.
func CharAt(text string) (Chars, int) {
	if b := text[0]; b < utf8.RuneSelf {
		return 1 << asciiChars[b], 1
	}
	if !utf8.FullRuneInString(text) {
		return 1 << kindWide, len(text)
	}
	if r, size := utf8.DecodeRuneInString(text); r != utf8.RuneError || size > 1 {
		return 1 << kindWide, size
	}
	return NoChars, 1
}

// Loops are characters behind any number of which the state is still s.
func (m *Machine) Loops(s State) Chars {
	if m.sets[s].loops == 0 {
		m.sets[s].loops = m.findLoops(s) | NoChars
	}
	return m.sets[s].loops &^ NoChars
}

func (m *Machine) findLoops(s State) Chars {
	var loops, others Chars
	for b, kind := range asciiChars {
		if to, err := m.Next(s, byte(b)); err == nil && to == s {
			loops |= 1 << kind
		} else {
			others |= 1 << kind
		}
	}
	if loops == 0 {
		return 0
	}
	if !slices.ContainsFunc(plainRuns, func(form []byteRange) bool { return !m.returnsTo(s, s, form) }) {
		loops |= 1 << kindWide
	}
	return loops &^ others
}

// returnsTo reports whether the state behind a sequence of bytes is as wanted, whichever of its bytes come.
func (m *Machine) returnsTo(want, s State, ranges []byteRange) bool {
	if len(ranges) == 0 {
		return s == want
	}
	low := int(ranges[0].low)
	for _, span := range m.Spans(s) {
		if int(span.High) < low {
			continue
		}
		if int(span.Low) > low {
			return false
		}
		if to, err := m.Next(s, byte(low)); err != nil || to == Dead || !m.returnsTo(want, to, ranges[1:]) {
			return false
		}
		if low = int(span.High) + 1; low > int(ranges[0].high) {
			return true
		}
	}
	return false
}
