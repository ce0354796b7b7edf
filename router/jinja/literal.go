package jinja

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// number reads a whole number or a float, in decimal digits.
func (l *lexer) number(rest string) error {
	afterDot := l.position > 0 && l.source[l.position-1] == '.'
	n := digitsLength(rest)
	length := n
	if !afterDot {
		length = floatLength(rest, n)
	}
	t := token{kind: tokenInteger, line: l.line}
	var err error
	if length > n {
		t.kind = tokenFloat
		t.float, _ = strconv.ParseFloat(rest[:length], 64) // infinite where it is too large, as in Python
	} else if t.whole, err = strconv.ParseInt(rest[:n], 10, 64); err != nil {
		return l.fail("whole numbers beyond 64 bits are not supported")
	}
	if t.kind == tokenInteger && n > 1 && rest[0] == '0' && t.whole != 0 || nameLength(rest[length:]) > 0 && rest[0] == '0' {
		return l.fail("numbers that begin with 0 are not supported")
	}
	l.tokens = append(l.tokens, t)
	l.advance(l.position + length)
	return nil
}

func digitsLength(s string) int { return len(s) - len(strings.TrimLeft(s, "0123456789")) }

// floatLength is the length of a number whose first n characters are digits, with its fraction and its exponent.
func floatLength(s string, n int) int {
	if strings.HasPrefix(s[n:], ".") {
		if fraction := digitsLength(s[n+1:]); fraction > 0 {
			n += 1 + fraction
		}
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		at := n + 1
		if at < len(s) && (s[at] == '+' || s[at] == '-') {
			at++
		}
		if exponent := digitsLength(s[at:]); exponent > 0 {
			return at + exponent
		}
	}
	return n
}

// quoted reads a string; ok is false if it does not end.
func (l *lexer) quoted(rest string) (value token, ok bool, err error) {
	end := 1
	for end < len(rest) && rest[end] != rest[0] {
		if rest[end] == '\\' {
			end++
		}
		end++
	}
	if end >= len(rest) {
		return value, false, nil
	}
	decoded, err := unescape(rest[1:end])
	if err != nil {
		return value, false, located(err, l.line)
	}
	value = token{kind: tokenString, line: l.line, text: decoded}
	l.advance(l.position + end + 1)
	return value, true, nil
}

var simpleEscapes = map[byte]string{
	'\n': "", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

// unescape decodes Python's escapes. One that Python does not know stands for itself.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			i++
			continue
		}
		i++
		if i == len(s) {
			return "", failf("\\ at end of string")
		}
		c := s[i]
		i++
		if plain, ok := simpleEscapes[c]; ok {
			b.WriteString(plain)
			continue
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		switch {
		case c >= '0' && c <= '7' || c == 'N' || c >= utf8.RuneSelf:
			first, _ := utf8.DecodeRuneInString(s[i-1:])
			return "", failf("the escape \\%c is not supported", first)
		case digits > 0:
			code, err := strconv.ParseUint(s[i:min(i+digits, len(s))], 16, 32)
			if err != nil || i+digits > len(s) || code > utf8.MaxRune {
				return "", failf("an escape \\%c needs %d hexadecimal digits of a character", c, digits)
			}
			b.WriteRune(rune(code))
			i += digits
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}

// escapeRune is Python's escape for a character, without the backslash.
func escapeRune(r rune) string {
	hex := strconv.FormatInt(int64(r), 16)
	switch {
	case r < 0x100:
		return "x" + strings.Repeat("0", 2-len(hex)) + hex
	case r < 0x10000:
		return "u" + strings.Repeat("0", 4-len(hex)) + hex
	}
	return "U" + strings.Repeat("0", 8-len(hex)) + hex
}
