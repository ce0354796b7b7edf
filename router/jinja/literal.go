package jinja

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// number reads an integer or a float. Digits may be parted by underscores.
func (l *lexer) number(rest string) error {
	afterDot := l.position > 0 && l.source[l.position-1] == '.'
	if n := floatLength(rest); n > 0 && !afterDot {
		value, err := strconv.ParseFloat(strings.ReplaceAll(rest[:n], "_", ""), 64)
		if numberError, ok := err.(*strconv.NumError); ok && numberError.Err != strconv.ErrRange {
			return l.fail("invalid number %s", rest[:n])
		}
		l.tokens = append(l.tokens, token{kind: tokenFloat, line: l.line, float: value})
		l.advance(l.position + n)
		return nil
	}
	n := integerLength(rest)
	digits := strings.ReplaceAll(rest[:n], "_", "")
	if len(digits) > maxIntegerDigits {
		return l.fail("Exceeds the limit (%d digits) for integer string conversion", maxIntegerDigits)
	}
	if len(digits) > 1 && strings.Trim(digits, "0") == "" {
		digits = "0"
	}
	value, ok := new(big.Int).SetString(digits, 0)
	if !ok {
		return l.fail("invalid number %s", rest[:n])
	}
	l.tokens = append(l.tokens, token{kind: tokenInteger, line: l.line, whole: value})
	l.advance(l.position + n)
	return nil
}

// digitsLength is the length of the digits of a base that s begins with; single underscores may stand between them.
func digitsLength(s string, base int) int {
	n := 0
	for i := 0; i < len(s); i++ {
		if s[i] == '_' && i == n && i > 0 {
			continue
		}
		d := digitValue(s[i])
		if d < 0 || d >= base {
			break
		}
		n = i + 1
	}
	return n
}

func digitValue(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'z':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'Z':
		return int(c-'A') + 10
	}
	return -1
}

func floatLength(s string) int {
	n := digitsLength(s, 10)
	fraction := 0
	if n > 0 && n+1 < len(s) && s[n] == '.' {
		if fraction = digitsLength(s[n+1:], 10); fraction > 0 {
			n += 1 + fraction
		}
	}
	if n > 0 && n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		at := n + 1
		if at < len(s) && (s[at] == '+' || s[at] == '-') {
			at++
		}
		if exponent := digitsLength(s[at:], 10); exponent > 0 {
			return at + exponent
		}
	}
	if fraction == 0 {
		return 0
	}
	return n
}

func integerLength(s string) int {
	if s[0] != '0' {
		return digitsLength(s, 10)
	}
	if len(s) > 2 {
		base := map[byte]int{'b': 2, 'o': 8, 'x': 16}[s[1]|0x20]
		if base > 0 {
			digits := s[2:]
			skipped := 0
			if digits[0] == '_' {
				digits, skipped = digits[1:], 1
			}
			if n := digitsLength(digits, base); n > 0 {
				return 2 + skipped + n
			}
		}
	}
	return digitsLength(s, 1)
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
	decoded, message := unescape(rest[1:end])
	if message != "" {
		return value, false, l.fail("%s", message)
	}
	value = token{kind: tokenString, line: l.line, text: decoded}
	l.advance(l.position + end + 1)
	return value, true, nil
}

var simpleEscapes = map[byte]string{
	'\n': "", '\\': "\\", '\'': "'", '"': "\"", 'a': "\a", 'b': "\b", 'f': "\f", 'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

// unescape decodes Python's escapes. An unknown one stands for itself; a backslash before a character beyond ASCII
// leaves the backslash and that character's code, as it does in the reference.
func unescape(s string) (decoded, failure string) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, ""
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
			return "", "\\ at end of string"
		}
		c := s[i]
		if plain, ok := simpleEscapes[c]; ok {
			b.WriteString(plain)
			i++
			continue
		}
		digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[c]
		switch {
		case c >= '0' && c <= '7':
			n := 1
			for n < 3 && i+n < len(s) && s[i+n] >= '0' && s[i+n] <= '7' {
				n++
			}
			code, _ := strconv.ParseUint(s[i:i+n], 8, 32)
			b.WriteRune(rune(code))
			i += n
		case digits > 0:
			if i+1+digits > len(s) {
				return "", truncated(c)
			}
			code, err := strconv.ParseUint(s[i+1:i+1+digits], 16, 32)
			if err != nil {
				return "", truncated(c)
			}
			if code > utf8.MaxRune {
				return "", "illegal Unicode character"
			}
			b.WriteRune(rune(code))
			i += 1 + digits
		case c == 'N':
			return "", "unknown Unicode character name"
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRuneInString(s[i:])
			b.WriteByte('\\')
			b.WriteString(escapeRune(r))
			i += size
		default:
			b.WriteByte('\\')
			b.WriteByte(c)
			i++
		}
	}
	return b.String(), ""
}

func truncated(c byte) string {
	return map[byte]string{'x': "truncated \\xXX escape", 'u': "truncated \\uXXXX escape", 'U': "truncated \\UXXXXXXXX escape"}[c]
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
