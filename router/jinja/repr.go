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
	if s, ok := text(v); ok || isUndefined(v) {
		return s, nil
	}
	return r.repr(v)
}

// repr is Python's repr(v).
func (r *run) repr(v Value) (string, error) {
	w := &writer{run: r, comma: ", ", colon: ": "}
	if err := w.write(v); err != nil {
		return "", err
	}
	return string(w.out), r.allocate(len(w.out))
}

// writer writes values as Python's repr does or, for json, as json.dumps does.
type writer struct {
	run      *run
	out      []byte
	json     bool
	ascii    bool
	sortKeys bool
	lines    bool // each item on a line of its own
	indent   string
	comma    string
	colon    string
	newline  []byte // with the indentation of the current depth
}

func (w *writer) write(v Value) error {
	if len(w.out) > w.run.memory {
		return &LimitError{"memory"}
	}
	if err := w.run.step(1); err != nil {
		return err
	}
	if s, ok := text(v); ok && v != Blank {
		w.text(v, s)
		return w.run.work(len(s))
	}
	switch v := v.(type) {
	case noneType, blankType:
		w.word("None", "null")
	case Bool:
		if v {
			w.word("True", "true")
		} else {
			w.word("False", "false")
		}
	case Int:
		w.out = strconv.AppendInt(w.out, int64(v), 10)
	case bigInt:
		w.out = v.n.Append(w.out, 10)
		return w.run.work(v.n.BitLen())
	case Float:
		s := floatRepr(float64(v))
		w.word(s, jsonFloats.Replace(s))
	case *List:
		return w.list(v)
	case *Dict:
		return w.dict(v)
	case *undefined:
		if w.json {
			return v.fail()
		}
		w.out = append(w.out, "Undefined"...)
	case *namespace:
		if w.json {
			return failf("Object of type Namespace is not JSON serializable")
		}
		w.out = append(w.out, "<Namespace "...)
		err := w.dict(v.attributes)
		w.out = append(w.out, '>')
		return err
	default:
		return failf("writing a value of the type %s is not supported", v.typeName())
	}
	return nil
}

func (w *writer) word(python, json string) {
	if w.json {
		python = json
	}
	w.out = append(w.out, python...)
}

func (w *writer) text(v Value, s string) {
	_, isMarkup := v.(markup)
	switch {
	case w.json:
		w.quoted(s)
	case isMarkup:
		w.out = append(appendStringRepr(append(w.out, "Markup("...), s), ')')
	default:
		w.out = appendStringRepr(w.out, s)
	}
}

func (w *writer) list(l *List) error {
	begin, end := "[", "]"
	switch {
	case l.kind == interval, w.json && l.kind > tuple:
		return failf("writing a value of the type %s is not supported", l.typeName())
	case w.json:
	case l.kind > interval:
		begin, end = l.typeName()+"([", "])"
	case l.kind == tuple && len(l.items) == 1:
		begin, end = "(", ",)"
	case l.kind == tuple:
		begin, end = "(", ")"
	}
	return w.enclosed(begin, end, len(l.items), func(i int) error { return w.write(l.items[i]) })
}

func (w *writer) dict(d *Dict) error {
	order := make([]int, len(d.keys))
	for i := range order {
		order[i] = i
	}
	if w.sortKeys {
		var err error
		if order, err = w.run.sorted(len(d.keys), func(i int) Value { return d.keys[i] }, false); err != nil {
			return err
		}
	}
	return w.enclosed("{", "}", len(order), func(i int) error {
		key, value := d.keys[order[i]], d.values[order[i]]
		if n, ok := key.(Int); ok && w.json {
			key = String(strconv.FormatInt(int64(n), 10))
		}
		if err := w.write(key); err != nil {
			return err
		}
		w.out = append(w.out, w.colon...)
		return w.write(value)
	})
}

// enclosed writes n items between brackets.
func (w *writer) enclosed(begin, end string, n int, item func(i int) error) error {
	w.out = append(w.out, begin...)
	if n == 0 {
		w.out = append(w.out, end...)
		return nil
	}
	if err := w.run.enter(); err != nil {
		return err
	}
	defer w.run.leave()
	outer := len(w.newline)
	if err := w.run.allocate(len(w.indent)); err != nil {
		return err
	}
	w.newline = append(w.newline, w.indent...)
	for i := range n {
		if len(w.out)+len(w.newline) > w.run.memory {
			return &LimitError{"memory"}
		}
		if i > 0 {
			w.out = append(w.out, w.comma...)
		}
		if w.lines {
			w.out = append(w.out, w.newline...)
		}
		if err := item(i); err != nil {
			return err
		}
	}
	w.newline = w.newline[:outer]
	if w.lines {
		w.out = append(w.out, w.newline...)
	}
	w.out = append(w.out, end...)
	return nil
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
