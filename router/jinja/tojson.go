package jinja

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// jsonWriter is Python's json.dumps.
type jsonWriter struct {
	run         *run
	out         []byte
	ascii       bool
	sortKeys    bool
	lines       bool // each item on a line of its own
	indent      string
	comma       string
	colon       string
	afterIndent []byte // the newline and the indentation of the current depth
}

func filterToJSON(r *run, value Value, v []Value) (Value, error) {
	w := &jsonWriter{run: r, comma: ", ", colon: ": ", afterIndent: []byte{'\n'}}
	w.ascii = isTrue(v[0])
	w.sortKeys = isTrue(v[3])
	if err := w.setIndent(v[1]); err != nil {
		return nil, err
	}
	if v[2] != nil && v[2] != None {
		parts, ok := sequenceOf(v[2])
		if !ok || len(parts.items) != 2 {
			return nil, failf("separators must be two strings")
		}
		comma, ok1 := text(parts.items[0])
		colon, ok2 := text(parts.items[1])
		if !ok1 || !ok2 {
			return nil, failf("separators must be two strings")
		}
		w.comma, w.colon = comma, colon
	}
	if err := w.write(value); err != nil {
		return nil, err
	}
	return String(w.out), r.allocate(len(w.out))
}

func (w *jsonWriter) setIndent(v Value) error {
	if v == nil || v == None {
		return nil
	}
	w.lines, w.comma = true, ","
	if s, ok := text(v); ok {
		w.indent = s
		return nil
	}
	n, ok := integer(v)
	if !ok {
		return failf("indent must be a whole number or text")
	}
	if n > 0 {
		if n > int64(w.run.limits.OutputBytes) {
			return &LimitError{"memory"}
		}
		w.indent = strings.Repeat(" ", int(n))
	}
	return nil
}

func (w *jsonWriter) write(v Value) error {
	if len(w.out) > w.run.memory {
		return &LimitError{"memory"}
	}
	if err := w.run.step(1); err != nil {
		return err
	}
	if s, ok := text(v); ok && v != Blank {
		return w.string(s)
	}
	switch v := v.(type) {
	case noneType, blankType:
		w.out = append(w.out, "null"...)
		return nil
	case Bool:
		w.out = strconv.AppendBool(w.out, bool(v))
		return nil
	case Int:
		w.out = strconv.AppendInt(w.out, int64(v), 10)
		return nil
	case bigInt:
		w.out = v.n.Append(w.out, 10)
		return w.run.work(v.n.BitLen())
	case Float:
		w.out = append(w.out, jsonFloat(float64(v))...)
		return nil
	case *Dict:
		return w.object(v)
	}
	if l, ok := sequenceOf(v); ok {
		return w.enclosed('[', ']', len(l.items), func(i int) error { return w.write(l.items[i]) })
	}
	return failf("Object of type %s is not JSON serializable", v.typeName())
}

func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return floatRepr(f)
}

// enclosed writes n items between brackets.
func (w *jsonWriter) enclosed(begin, end byte, n int, item func(i int) error) error {
	w.out = append(w.out, begin)
	if n == 0 {
		w.out = append(w.out, end)
		return nil
	}
	if err := w.run.enter(); err != nil {
		return err
	}
	defer w.run.leave()
	outer := len(w.afterIndent)
	if err := w.run.allocate(len(w.indent)); err != nil {
		return err
	}
	w.afterIndent = append(w.afterIndent, w.indent...)
	for i := range n {
		if len(w.out)+len(w.afterIndent) > w.run.memory {
			return &LimitError{"memory"}
		}
		if i > 0 {
			w.out = append(w.out, w.comma...)
		}
		if w.lines {
			w.out = append(w.out, w.afterIndent...)
		}
		if err := item(i); err != nil {
			return err
		}
	}
	w.afterIndent = w.afterIndent[:outer]
	if w.lines {
		w.out = append(w.out, w.afterIndent...)
	}
	w.out = append(w.out, end)
	return nil
}

func (w *jsonWriter) object(d *Dict) error {
	keys, values := d.keys, d.values
	if w.sortKeys {
		order, err := w.run.sorted(len(keys), func(i int) Value { return keys[i] }, false)
		if err != nil {
			return err
		}
		keys, values = make([]Value, len(order)), make([]Value, len(order))
		for i, at := range order {
			keys[i], values[i] = d.keys[at], d.values[at]
		}
	}
	return w.enclosed('{', '}', len(keys), func(i int) error {
		key, ok := keys[i].(String)
		if !ok {
			key = String(strconv.FormatInt(int64(keys[i].(Int)), 10))
		}
		if err := w.string(string(key)); err != nil {
			return err
		}
		w.out = append(w.out, w.colon...)
		return w.write(values[i])
	})
}

func (w *jsonWriter) string(s string) error {
	w.out = append(w.out, '"')
	start := 0
	for i, r := range s {
		if r >= ' ' && r != '"' && r != '\\' && (r <= '~' || !w.ascii) {
			continue
		}
		w.out = append(w.out, s[start:i]...)
		_, size := utf8.DecodeRuneInString(s[i:])
		start = i + size
		w.escape(r)
	}
	w.out = append(append(w.out, s[start:]...), '"')
	return w.run.work(len(s))
}

func (w *jsonWriter) escape(r rune) {
	if at := strings.IndexRune("\"\\\b\f\n\r\t", r); at >= 0 {
		w.out = append(w.out, '\\', `"\bfnrt`[at])
		return
	}
	if r >= 0x10000 {
		w.escape(0xd800 + (r-0x10000)>>10)
		w.escape(0xdc00 + (r-0x10000)&0x3ff)
		return
	}
	hex := strconv.FormatInt(int64(r), 16)
	w.out = append(append(append(w.out, `\u`...), "0000"[len(hex):]...), hex...)
}
