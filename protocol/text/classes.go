package text

import (
	"unicode"
	"unicode/utf8"
)

// class is what a split pattern wants to know of a character: \p{L}, \p{N}, \s, or none of them.
type class uint8

const (
	other class = iota
	letter
	number
	space
)

// classLimit lies behind the last character that has a class; those from it on are other.
const classLimit = 0x32400

// classes holds the class of each character as Unicode 16 has it, which is what the reference's pattern engine has.
var classes = makeClasses()

// additions are the letters and numbers that Unicode 15.1 and 16 added to the version 15.0 of the standard library.
// They say nothing that a newer standard library would not say too.
var additions = []struct {
	first, last rune
	class       class
}{
	{0x1c89, 0x1c8a, letter}, {0xa7cb, 0xa7cd, letter}, {0xa7da, 0xa7dc, letter}, {0x105c0, 0x105f3, letter},
	{0x10d40, 0x10d49, number}, {0x10d4a, 0x10d65, letter}, {0x10d6f, 0x10d85, letter}, {0x10ec2, 0x10ec4, letter},
	{0x11380, 0x11389, letter}, {0x1138b, 0x1138b, letter}, {0x1138e, 0x1138e, letter}, {0x11390, 0x113b5, letter},
	{0x113b7, 0x113b7, letter}, {0x113d1, 0x113d1, letter}, {0x113d3, 0x113d3, letter}, {0x116d0, 0x116e3, number},
	{0x11bc0, 0x11be0, letter}, {0x11bf0, 0x11bf9, number}, {0x13460, 0x143fa, letter}, {0x16100, 0x1611d, letter},
	{0x16130, 0x16139, number}, {0x16d40, 0x16d6c, letter}, {0x16d70, 0x16d79, number}, {0x18cff, 0x18cff, letter},
	{0x1ccf0, 0x1ccf9, number}, {0x1e5d0, 0x1e5ed, letter}, {0x1e5f0, 0x1e5f0, letter}, {0x1e5f1, 0x1e5fa, number},
	{0x2ebf0, 0x2ee5d, letter},
}

func makeClasses() *[classLimit]class {
	table := new([classLimit]class)
	fill := func(first, last, stride rune, c class) {
		for r := first; r <= last && r < classLimit; r += stride {
			table[r] = c
		}
	}
	for _, property := range []struct {
		ranges *unicode.RangeTable
		class  class
	}{{unicode.L, letter}, {unicode.N, number}, {unicode.White_Space, space}} {
		for _, r := range property.ranges.R16 {
			fill(rune(r.Lo), rune(r.Hi), rune(r.Stride), property.class)
		}
		for _, r := range property.ranges.R32 {
			fill(rune(r.Lo), rune(r.Hi), rune(r.Stride), property.class)
		}
	}
	for _, a := range additions {
		fill(a.first, a.last, 1, a.class)
	}
	return table
}

// classAt returns the class and the length of the character at text[i:], which must not be empty.
func classAt(text string, i int) (class, int) {
	if c := text[i]; c < utf8.RuneSelf {
		return classes[c], 1
	}
	r, size := utf8.DecodeRuneInString(text[i:])
	return classOf(r), size
}

func classOf(r rune) class {
	if r < classLimit {
		return classes[r]
	}
	return other
}

// isNumeric tells whether the reference's Digits takes r for a digit. Its Unicode version is 17, that of its pattern
// engine 16.
func isNumeric(r rune) bool {
	return classOf(r) == number || r >= 0x11de0 && r <= 0x11de9 || r >= 0x16ff4 && r <= 0x16ff6
}

// runEnd returns the end of the longest run of characters of class c that begins at text[i:].
func runEnd(text string, i int, c class) int {
	for i < len(text) {
		got, size := classAt(text, i)
		if got != c {
			break
		}
		i += size
	}
	return i
}
