package tgi

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"lockstep/router/api/wire"
)

// bodyDecoder reads a request body as the original's decoder (serde_json with the path of the error) does, so that what
// it accepts and the text of every refusal are the same: a field may be set once, null is only for nullable fields,
// structures may come as arrays, bytes behind the value are not looked at, and a refusal names path, line and column.
//
// Where a refusal points to follows from how far the original has read at that moment; index is that place.
type bodyDecoder struct {
	data  []byte
	index int
	path  []string // segments: ".name" or "[i]"

	ignoring bool // within the value of an unknown field, where numbers have no range
}

// bodyError is a refusal. syntax tells malformed JSON (400) from a value that does not fit (422).
type bodyError struct {
	syntax bool
	text   string
}

func (e *bodyError) Error() string { return e.text }

// fail makes the refusal for a place in the data.
func (d *bodyDecoder) fail(syntax bool, at int, reason string) error {
	at = min(at, len(d.data))
	lineStart := bytes.LastIndexByte(d.data[:at], '\n') + 1
	line := 1 + bytes.Count(d.data[:lineStart], []byte{'\n'})
	path := strings.TrimPrefix(strings.Join(d.path, ""), ".")
	if path != "" {
		path += ": "
	}
	return &bodyError{syntax: syntax, text: fmt.Sprintf("%s%s at line %d column %d", path, reason, line, at-lineStart)}
}

// here and ahead are syntax errors at what was read and at the byte behind it.
func (d *bodyDecoder) here(reason string) error  { return d.fail(true, d.index, reason) }
func (d *bodyDecoder) ahead(reason string) error { return d.fail(true, d.index+1, reason) }

// misfit is the error for a value that does not fit.
func (d *bodyDecoder) misfit(reason string) error { return d.fail(false, d.index, reason) }

const (
	eofValue  = "EOF while parsing a value"
	eofString = "EOF while parsing a string"
	eofList   = "EOF while parsing a list"
	eofObject = "EOF while parsing an object"
	badNumber = "invalid number"
)

func (d *bodyDecoder) push(segment string) { d.path = append(d.path, segment) }
func (d *bodyDecoder) pop()                { d.path = d.path[:len(d.path)-1] }

// peek returns the next byte, 0 at the end.
func (d *bodyDecoder) peek() byte {
	if d.index < len(d.data) {
		return d.data[d.index]
	}
	return 0
}

func (d *bodyDecoder) atEnd() bool { return d.index >= len(d.data) }

// space passes over white space and returns the next byte; ok is false at the end.
func (d *bodyDecoder) space() (next byte, ok bool) {
	for d.index < len(d.data) {
		switch c := d.data[d.index]; c {
		case ' ', '\n', '\t', '\r':
			d.index++
		default:
			return c, true
		}
	}
	return 0, false
}

// word reads the rest of true, false or null, whose first byte has been seen.
func (d *bodyDecoder) word(word string) error {
	d.index++
	for i := 1; i < len(word); i++ {
		if d.atEnd() {
			return d.here(eofValue)
		}
		d.index++
		if d.data[d.index-1] != word[i] {
			return d.here("expected ident")
		}
	}
	return nil
}

// number is a JSON number as the original holds it: unsigned, negative or floating point.
type number struct {
	kind     byte // 'u', 'i' or 'f'
	unsigned uint64
	negative int64
	float    float64
}

func (n number) unexpected() string {
	switch n.kind {
	case 'u':
		return fmt.Sprintf("integer `%d`", n.unsigned)
	case 'i':
		return fmt.Sprintf("integer `%d`", n.negative)
	}
	return "floating point `" + strconv.FormatFloat(n.float, 'f', -1, 64) + "`"
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// number reads a number whose first byte is next.
func (d *bodyDecoder) number() (number, error) {
	start := d.index
	negative := d.peek() == '-'
	if negative {
		d.index++
	}
	switch first := d.peek(); {
	case first == '0':
		d.index++
		if isDigit(d.peek()) {
			return number{}, d.ahead(badNumber)
		}
	case isDigit(first):
		d.digits()
	default:
		d.index = min(d.index+1, len(d.data))
		if d.index == len(d.data) && first == 0 {
			return number{}, d.here(eofValue)
		}
		return number{}, d.here(badNumber)
	}
	whole := true
	if d.peek() == '.' {
		whole = false
		d.index++
		if !isDigit(d.peek()) {
			if d.atEnd() {
				return number{}, d.ahead(eofValue)
			}
			return number{}, d.ahead(badNumber)
		}
		d.digits()
	}
	if c := d.peek(); c == 'e' || c == 'E' {
		whole = false
		d.index++
		if c := d.peek(); c == '+' || c == '-' {
			d.index++
		}
		if d.atEnd() {
			return number{}, d.here(eofValue)
		}
		if !isDigit(d.peek()) {
			d.index++
			return number{}, d.here(badNumber)
		}
		d.digits()
	}
	text := string(d.data[start:d.index])
	if whole && !negative {
		if value, err := strconv.ParseUint(text, 10, 64); err == nil {
			return number{kind: 'u', unsigned: value}, nil
		}
	} else if whole {
		if value, err := strconv.ParseInt(text, 10, 64); err == nil && value < 0 {
			return number{kind: 'i', negative: value}, nil
		}
	}
	value, _ := strconv.ParseFloat(text, 64)
	if math.IsInf(value, 0) && !d.ignoring {
		return number{}, d.here("number out of range")
	}
	return number{kind: 'f', float: value}, nil
}

func (d *bodyDecoder) digits() {
	for isDigit(d.peek()) {
		d.index++
	}
}

// unexpected reads what stands where expected should, as far as the original does, and refuses it.
func (d *bodyDecoder) unexpected(expected string) error {
	what := ""
	switch c := d.peek(); {
	case c == 'n':
		if err := d.word("null"); err != nil {
			return err
		}
		what = "null"
	case c == 't':
		if err := d.word("true"); err != nil {
			return err
		}
		what = "boolean `true`"
	case c == 'f':
		if err := d.word("false"); err != nil {
			return err
		}
		what = "boolean `false`"
	case c == '-' || isDigit(c):
		n, err := d.number()
		if err != nil {
			return err
		}
		what = n.unexpected()
	case c == '"':
		s, err := d.text()
		if err != nil {
			return err
		}
		what = "string " + rustQuote(wire.Quoted(s))
	case c == '[':
		what = "sequence"
	case c == '{':
		what = "map"
	default:
		return d.ahead("expected value")
	}
	return d.misfit("invalid type: " + what + ", expected " + expected)
}

// rustQuote quotes a string as Rust's debug form does.
func rustQuote(s string) string {
	b := []byte{'"'}
	for _, r := range s {
		switch r {
		case '"', '\\':
			b = append(b, '\\', byte(r))
		case '\n':
			b = append(b, `\n`...)
		case '\r':
			b = append(b, `\r`...)
		case '\t':
			b = append(b, `\t`...)
		case 0:
			b = append(b, `\0`...)
		default:
			if unicode.IsPrint(r) {
				b = utf8.AppendRune(b, r)
			} else {
				b = fmt.Appendf(b, `\u{%x}`, r)
			}
		}
	}
	return string(append(b, '"'))
}

// text reads a string whose opening quote is next.
func (d *bodyDecoder) text() (string, error) {
	d.index++
	start := d.index
	var unescaped []byte
	escaped := false
	for {
		if d.atEnd() {
			return "", d.here(eofString)
		}
		c := d.data[d.index]
		d.index++
		switch {
		case c == '"':
			piece := d.data[start : d.index-1]
			if escaped {
				piece = append(unescaped, piece...)
			}
			if !utf8.Valid(piece) {
				return "", d.here("invalid unicode code point")
			}
			return string(piece), nil
		case c < 0x20:
			return "", d.here(`control character (\u0000-\u001F) found while parsing a string`)
		case c == '\\':
			unescaped = append(unescaped, d.data[start:d.index-1]...)
			escaped = true
			r, err := d.escape()
			if err != nil {
				return "", err
			}
			unescaped = utf8.AppendRune(unescaped, r)
			start = d.index
		}
	}
}

// next reads one byte of a string.
func (d *bodyDecoder) next() (byte, error) {
	if d.atEnd() {
		return 0, d.here(eofString)
	}
	d.index++
	return d.data[d.index-1], nil
}

var simpleEscapes = map[byte]rune{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

// escape reads what follows a backslash.
func (d *bodyDecoder) escape() (rune, error) {
	c, err := d.next()
	if err != nil {
		return 0, err
	}
	if r, ok := simpleEscapes[c]; ok {
		return r, nil
	}
	if c != 'u' {
		return 0, d.here("invalid escape")
	}
	first, err := d.hex()
	if err != nil {
		return 0, err
	}
	const lone = "lone leading surrogate in hex escape"
	switch {
	case first >= 0xdc00 && first <= 0xdfff:
		return 0, d.here(lone)
	case first < 0xd800 || first > 0xdbff:
		return first, nil
	}
	for _, want := range []byte(`\u`) {
		c, err := d.next()
		if err != nil {
			return 0, err
		}
		if c != want {
			return 0, d.here("unexpected end of hex escape")
		}
	}
	second, err := d.hex()
	if err != nil {
		return 0, err
	}
	if second < 0xdc00 || second > 0xdfff {
		return 0, d.here(lone)
	}
	return (first-0xd800)<<10 + (second - 0xdc00) + 0x10000, nil
}

// hex reads four hexadecimal digits.
func (d *bodyDecoder) hex() (rune, error) {
	if d.index+4 > len(d.data) {
		d.index = len(d.data)
		return 0, d.here(eofString)
	}
	value := rune(0)
	for range 4 {
		c := d.data[d.index]
		d.index++
		digit, err := strconv.ParseUint(string(c), 16, 8)
		if err != nil {
			return 0, d.here("invalid escape")
		}
		value = value<<4 | rune(digit)
	}
	return value, nil
}
