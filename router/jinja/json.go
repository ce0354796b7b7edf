package jinja

import (
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds how deep JSON may nest.
const maxJSONDepth = 100

// FromJSON returns the value that JSON stands for: objects keep the order of their keys, numbers without a fraction and
// an exponent are whole. Of equal keys the last value holds, at the place of the first. It refuses what is no JSON and
// what nests deeper than 100.
func FromJSON(data []byte) (Value, error) {
	p := &jsonReader{text: string(data)}
	v, err := p.value(0)
	if err != nil {
		return nil, err
	}
	if p.space(); p.at < len(p.text) {
		return nil, p.fail("more follows")
	}
	return v, nil
}

var jsonConstants = []struct {
	word  string
	value Value
}{{"true", Bool(true)}, {"false", Bool(false)}, {"null", None}}

type jsonReader struct {
	text string
	at   int
}

func (p *jsonReader) fail(what string) error { return failf("invalid JSON at byte %d: %s", p.at, what) }

func (p *jsonReader) space() {
	for p.at < len(p.text) && strings.IndexByte(" \t\r\n", p.text[p.at]) >= 0 {
		p.at++
	}
}

// skip passes over a character, if it is next after white space.
func (p *jsonReader) skip(c byte) bool {
	p.space()
	if p.at < len(p.text) && p.text[p.at] == c {
		p.at++
		return true
	}
	return false
}

func (p *jsonReader) value(depth int) (Value, error) {
	if depth > maxJSONDepth {
		return nil, &LimitError{"depth of JSON"}
	}
	p.space()
	if p.at >= len(p.text) {
		return nil, p.fail("it ends")
	}
	switch c := p.text[p.at]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		s, err := p.quoted()
		return String(s), err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for _, constant := range jsonConstants {
		if strings.HasPrefix(p.text[p.at:], constant.word) {
			p.at += len(constant.word)
			return constant.value, nil
		}
	}
	return nil, p.fail("no value begins so")
}

func (p *jsonReader) object(depth int) (Value, error) {
	p.at++
	d := &Dict{}
	if p.skip('}') {
		return d, nil
	}
	for {
		if p.space(); p.at >= len(p.text) || p.text[p.at] != '"' {
			return nil, p.fail("a key is due")
		}
		key, err := p.quoted()
		if err != nil {
			return nil, err
		}
		if !p.skip(':') {
			return nil, p.fail("a colon is due")
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		d.Set(key, v)
		if p.skip('}') {
			return d, nil
		}
		if !p.skip(',') {
			return nil, p.fail("a comma is due")
		}
	}
}

func (p *jsonReader) array(depth int) (Value, error) {
	p.at++
	l := &List{}
	if p.skip(']') {
		return l, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		l.items = append(l.items, v)
		if p.skip(']') {
			return l, nil
		}
		if !p.skip(',') {
			return nil, p.fail("a comma is due")
		}
	}
}

func (p *jsonReader) digits() int {
	start := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	return p.at - start
}

func (p *jsonReader) number() (Value, error) {
	start := p.at
	if p.text[p.at] == '-' {
		p.at++
	}
	leading := p.at
	if n := p.digits(); n == 0 || n > 1 && p.text[leading] == '0' {
		return nil, p.fail("this is no number")
	}
	whole := true
	if p.at < len(p.text) && p.text[p.at] == '.' {
		whole = false
		p.at++
		if p.digits() == 0 {
			return nil, p.fail("this is no number")
		}
	}
	if p.at < len(p.text) && p.text[p.at]|0x20 == 'e' {
		whole = false
		p.at++
		if p.at < len(p.text) && (p.text[p.at] == '+' || p.text[p.at] == '-') {
			p.at++
		}
		if p.digits() == 0 {
			return nil, p.fail("this is no number")
		}
	}
	s := p.text[start:p.at]
	if !whole {
		f, _ := strconv.ParseFloat(s, 64) // infinite where it is too large, as in Python
		return Float(f), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return Int(n), nil
	}
	if len(s) > maxIntegerDigits {
		return nil, p.fail("the number has too many digits")
	}
	n, _ := new(big.Int).SetString(s, 10)
	return normalInt(n), nil
}

func (p *jsonReader) quoted() (string, error) {
	p.at++
	start := p.at
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			p.at++
			return strings.ToValidUTF8(p.text[start:p.at-1], "\ufffd"), nil
		case c == '\\':
			return p.escaped(start)
		case c < ' ':
			return "", p.fail("a control character")
		}
		p.at++
	}
	return "", p.fail("a string does not end")
}

// escaped is the rest of quoted for a string with an escape, which is next.
func (p *jsonReader) escaped(start int) (string, error) {
	b := []byte(p.text[start:p.at])
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == '"':
			return strings.ToValidUTF8(string(b), "\ufffd"), nil
		case c < ' ':
			return "", p.fail("a control character")
		case c != '\\':
			b = append(b, c)
			continue
		case p.at >= len(p.text):
			return "", p.fail("a string does not end")
		}
		c = p.text[p.at]
		p.at++
		if c == 'u' {
			r, err := p.code()
			if err != nil {
				return "", err
			}
			b = utf8.AppendRune(b, r)
			continue
		}
		at := strings.IndexByte(`"\/bfnrt`, c)
		if at < 0 {
			return "", p.fail("an unknown escape")
		}
		b = append(b, "\"\\/\b\f\n\r\t"[at])
	}
	return "", p.fail("a string does not end")
}

// code reads the digits of a character's escape, and of the second half where the first is a surrogate.
func (p *jsonReader) code() (rune, error) {
	first, ok := p.hex(p.at)
	if !ok {
		return 0, p.fail("an incomplete escape")
	}
	p.at += 4
	if utf16.IsSurrogate(first) && strings.HasPrefix(p.text[p.at:], `\u`) {
		if second, ok := p.hex(p.at + 2); ok {
			if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
				p.at += 6
				return r, nil
			}
		}
	}
	return first, nil
}

func (p *jsonReader) hex(at int) (rune, bool) {
	if at+4 > len(p.text) {
		return 0, false
	}
	n, err := strconv.ParseUint(p.text[at:at+4], 16, 16)
	return rune(n), err == nil
}
