package jinja

import (
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// str is Python's str(v).
func (r *run) str(v Value) (string, error) {
	switch v := v.(type) {
	case String:
		return string(v), nil
	case markup:
		return string(v), nil
	case *undefined, blankType:
		return "", nil
	}
	return r.repr(v)
}

// repr is Python's repr(v).
func (r *run) repr(v Value) (string, error) {
	b, err := r.appendRepr(nil, v)
	if err != nil {
		return "", err
	}
	return string(b), r.allocate(len(b))
}

// shortRepr is the repr of a key in messages.
func shortRepr(v Value) string {
	r := &run{limits: Limits{}.withDefaults(), steps: 1000, memory: 10_000}
	s, err := r.repr(v)
	if err != nil {
		return "..."
	}
	return s
}

func (r *run) appendRepr(b []byte, v Value) ([]byte, error) {
	if len(b) > r.memory {
		return nil, &LimitError{"memory"}
	}
	if err := r.step(1); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case noneType, blankType:
		return append(b, "None"...), nil
	case Bool:
		if v {
			return append(b, "True"...), nil
		}
		return append(b, "False"...), nil
	case Int:
		return strconv.AppendInt(b, int64(v), 10), nil
	case bigInt:
		return v.n.Append(b, 10), r.work(v.n.BitLen())
	case Float:
		return append(b, floatRepr(float64(v))...), nil
	case String:
		return appendStringRepr(b, string(v)), r.work(len(v))
	case markup:
		return append(appendStringRepr(append(b, "Markup("...), string(v)), ')'), r.work(len(v))
	case *undefined:
		return append(b, "Undefined"...), nil
	}
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	switch v := v.(type) {
	case *List:
		switch {
		case v.kind == plainList:
			return r.appendItems(b, "[", v.items, "]")
		case v.kind == interval:
			return nil, failf("writing a range is not supported")
		case v.kind > interval:
			return r.appendItems(b, v.typeName()+"([", v.items, "])")
		case len(v.items) == 1:
			return r.appendItems(b, "(", v.items, ",)")
		}
		return r.appendItems(b, "(", v.items, ")")
	case *Dict:
		return r.appendDict(b, v)
	case *namespace:
		b, err := r.appendDict(append(b, "<Namespace "...), v.attributes)
		return append(b, '>'), err
	}
	return nil, failf("writing a value of the type %s is not supported", v.typeName())
}

func (r *run) appendItems(b []byte, begin string, items []Value, end string) ([]byte, error) {
	b = append(b, begin...)
	for i, item := range items {
		if i > 0 {
			b = append(b, ", "...)
		}
		var err error
		if b, err = r.appendRepr(b, item); err != nil {
			return nil, err
		}
	}
	return append(b, end...), nil
}

func (r *run) appendDict(b []byte, d *Dict) ([]byte, error) {
	b = append(b, '{')
	for i, key := range d.keys {
		if i > 0 {
			b = append(b, ", "...)
		}
		var err error
		if b, err = r.appendRepr(b, key); err != nil {
			return nil, err
		}
		if b, err = r.appendRepr(append(b, ": "...), d.values[i]); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// floatRepr is the shortest text that reads as f again, as Python writes it.
func floatRepr(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	at := strings.IndexByte(s, 'e')
	exponent, _ := strconv.Atoi(s[at+1:])
	if exponent < -4 || exponent >= 16 {
		return s
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

func reprString(s string) string { return string(appendStringRepr(nil, s)) }

// appendStringRepr quotes as Python does: with the apostrophe, unless only that occurs in the text.
func appendStringRepr(b []byte, s string) []byte {
	quote := byte('\'')
	if strings.IndexByte(s, '\'') >= 0 && strings.IndexByte(s, '"') < 0 {
		quote = '"'
	}
	b = append(b, quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case r >= ' ' && r < 0x7f:
			b = append(b, byte(r))
		case unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		default:
			b = append(append(b, '\\'), escapeRune(r)...)
		}
	}
	return append(b, quote)
}
