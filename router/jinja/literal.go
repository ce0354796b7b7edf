package jinja

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

var numberPattern = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?`)

// number reads a whole number or a float, in decimal digits.
func (l *lexer) number(rest string) error {
	spelled := numberPattern.FindString(rest)
	if l.position > 0 && l.source[l.position-1] == '.' {
		spelled, _, _ = strings.Cut(spelled, ".") // of items within items
	}
	t := token{kind: tokenInteger, line: l.line}
	if strings.ContainsAny(spelled, ".eE") {
		t.kind = tokenFloat
		t.float, _ = strconv.ParseFloat(spelled, 64) // infinite where it is too large, as in Python
	} else {
		var err error
		if t.whole, err = strconv.ParseInt(spelled, 10, 64); err != nil {
			return l.fail("whole numbers beyond 64 bits are not supported")
		}
		if spelled[0] == '0' && t.whole != 0 || nameLength(rest[len(spelled):]) > 0 {
			return l.fail("numbers in other forms than the decimal one are not supported")
		}
	}
	l.tokens = append(l.tokens, t)
	l.advance(l.position + len(spelled))
	return nil
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
	switch {
	case r < 0x100:
		return fmt.Sprintf("x%02x", r)
	case r < 0x10000:
		return fmt.Sprintf("u%04x", r)
	}
	return fmt.Sprintf("U%08x", r)
}
