package jinja

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// filterToJSON is Python's json.dumps.
func filterToJSON(r *run, value Value, v []Value) (Value, error) {
	w := &writer{run: r, json: true, comma: ", ", colon: ": ", newline: []byte{'\n'}}
	w.ascii = isTrue(v[0])
	w.sortKeys = isTrue(v[3])
	if err := w.setIndent(v[1]); err != nil {
		return nil, err
	}
	if v[2] != nil && v[2] != None {
		parts, ok := sequenceOf(v[2])
		if ok = ok && len(parts.items) == 2 && isText(parts.items[0]) && isText(parts.items[1]); !ok {
			return nil, failf("separators must be two strings")
		}
		w.comma, _ = text(parts.items[0])
		w.colon, _ = text(parts.items[1])
	}
	if err := w.write(value); err != nil {
		return nil, err
	}
	return String(w.out), r.allocate(len(w.out))
}

func (w *writer) setIndent(v Value) error {
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

// jsonFloats are the numbers that JSON has no form for, as Python writes them.
var jsonFloats = strings.NewReplacer("nan", "NaN", "inf", "Infinity")

// quoted writes a text as JSON has it.
func (w *writer) quoted(s string) {
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
}

func (w *writer) escape(r rune) {
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
