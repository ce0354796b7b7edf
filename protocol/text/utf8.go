package text

import (
	"strings"
	"unicode/utf8"
)

// alignment says which code point of the input a byte of a derived text comes from, by its index. Every byte comes from
// exactly one.
type alignment int32

// alignText returns the alignment of each byte of text, which must be valid UTF-8, to itself.
func alignText(text string) []alignment {
	aligned := make([]alignment, len(text))
	index := alignment(-1)
	for i := range len(text) {
		if utf8.RuneStart(text[i]) {
			index++
		}
		aligned[i] = index
	}
	return aligned
}

func slice(aligned []alignment, s span) []alignment {
	if aligned == nil {
		return nil
	}
	return aligned[s.start:s.end]
}

// validUTF8 returns text with each maximal invalid sequence of bytes replaced by U+FFFD, as the Unicode standard
// recommends (chapter 3.9, "substitution of maximal subparts") and Rust's from_utf8_lossy does.
func validUTF8(text string) string {
	if utf8.ValidString(text) {
		return text
	}
	var out strings.Builder
	out.Grow(len(text) + 16)
	for len(text) > 0 {
		length, valid := sequenceLength(text)
		if valid {
			out.WriteString(text[:length])
		} else {
			out.WriteRune(utf8.RuneError)
		}
		text = text[length:]
	}
	return out.String()
}

// asciiLength returns how many bytes of ASCII text begins with.
func asciiLength(text string) (length int) {
	for length < len(text) && text[length] < utf8.RuneSelf {
		length++
	}
	return length
}

// sequenceLength returns the length of the character at the start of text, which must not be empty, or that of the
// maximal invalid sequence there.
func sequenceLength(text string) (length int, valid bool) {
	r, length := utf8.DecodeRuneInString(text)
	if r != utf8.RuneError || length > 1 {
		return length, true
	}
	want, low, high := leadByte(text[0])
	for length = 1; length < want && length < len(text); length++ {
		if c := text[length]; c < low || c > high {
			break
		}
		low, high = 0x80, 0xbf
	}
	return length, false
}

// leadByte returns how many bytes a character that begins with c has, and the range of its second byte. Bytes that
// cannot begin a character of several bytes have length one.
func leadByte(c byte) (length int, low, high byte) {
	switch {
	case c < 0xc2 || c > 0xf4:
		return 1, 0, 0
	case c < 0xe0:
		return 2, 0x80, 0xbf
	case c == 0xe0:
		return 3, 0xa0, 0xbf
	case c == 0xed:
		return 3, 0x80, 0x9f
	case c < 0xf0:
		return 3, 0x80, 0xbf
	case c == 0xf0:
		return 4, 0x90, 0xbf
	case c == 0xf4:
		return 4, 0x80, 0x8f
	}
	return 4, 0x80, 0xbf
}

// incomplete tells whether text is the beginning of a character that more bytes could complete.
func incomplete(text string) bool {
	if text == "" {
		return false
	}
	length, valid := sequenceLength(text)
	want, _, _ := leadByte(text[0])
	return !valid && length == len(text) && length < want
}
