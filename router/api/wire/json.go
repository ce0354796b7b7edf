package wire

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// AppendText appends a JSON string for any reader: what readers of lines take for the end of one (Python's splitlines, Node's
// readline) is escaped too.
func AppendText(b []byte, s string) []byte { return appendString(b, s, lineEndSize) }

// AppendExactText appends a JSON string in its shortest spelling, which is TGI's: only quote, backslash and controls are
// escaped.
func AppendExactText(b []byte, s string) []byte {
	return appendString(b, s, func(string) int { return 0 })
}

// lineEndSize is the size of the character U+0085, U+2028 or U+2029 at the beginning of s, else 0.
func lineEndSize(s string) int {
	switch {
	case strings.HasPrefix(s, "\u0085"):
		return len("\u0085")
	case strings.HasPrefix(s, "\u2028"), strings.HasPrefix(s, "\u2029"):
		return len("\u2028")
	}
	return 0
}

// appendString appends a JSON string; more tells the size of a character beyond ASCII that is to be escaped, else 0.
func appendString(b []byte, s string, more func(string) int) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == 0xc2 || c == 0xe2 {
			if size := more(s[i:]); size > 0 {
				r, _ := utf8.DecodeRuneInString(s[i:])
				b = fmt.Appendf(append(b, s[start:i]...), `\u%04x`, r)
				i += size - 1
				start = i + 1
			}
			continue
		}
		if c >= 0x20 && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\b':
			b = append(b, `\b`...)
		case '\f':
			b = append(b, `\f`...)
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// AppendFloat appends the shortest decimal that reads back as the same single-precision number, with a point or an
// exponent, as serde_json spells it; null for what JSON cannot hold.
func AppendFloat(b []byte, value float32) []byte {
	if value != value || math.IsInf(float64(value), 0) {
		return append(b, "null"...)
	}
	if value == 0 {
		if math.Signbit(float64(value)) {
			return append(b, "-0.0"...)
		}
		return append(b, "0.0"...)
	}
	if magnitude := max(value, -value); magnitude >= 1e-6 && magnitude < 1e13 {
		before := len(b)
		b = strconv.AppendFloat(b, float64(value), 'f', -1, 32)
		for _, c := range b[before:] {
			if c == '.' {
				return b
			}
		}
		return append(b, ".0"...)
	}
	var scratch [32]byte
	text := strconv.AppendFloat(scratch[:0], float64(value), 'e', -1, 32)
	for i, c := range text {
		if c != 'e' {
			continue
		}
		b = append(append(b, text[:i]...), 'e')
		exponent, _ := strconv.Atoi(string(text[i+1:]))
		return strconv.AppendInt(b, int64(exponent), 10)
	}
	return append(b, text...)
}

// AppendPythonFloat spells a single-precision number as Python prints its double.
func AppendPythonFloat(b []byte, value float64) []byte {
	text := strconv.FormatFloat(value, 'g', -1, 64)
	if magnitude := max(value, -value); value == 0 || magnitude >= 1e-4 && magnitude < 1e16 {
		text = strconv.FormatFloat(value, 'f', -1, 64)
		if !strings.Contains(text, ".") {
			text += ".0"
		}
	}
	return append(b, text...)
}

// AppendIDs appends an array of ids.
func AppendIDs(b []byte, ids []int32) []byte {
	b = append(b, '[')
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(id), 10)
	}
	return append(b, ']')
}

// AppendComma appends a comma behind what is there.
func AppendComma(b []byte) []byte {
	if len(b) > 0 {
		b = append(b, ',')
	}
	return b
}

// AppendError appends the error object that TGI and MindIE have: a message and the type of the error.
func AppendError(b []byte, message, kind string) []byte {
	b = AppendExactText(append(b, `{"error":`...), message)
	return append(append(append(b, `,"error_type":"`...), kind...), `"}`...)
}
