package jinja

import (
	"math"
	"math/big"
	"strings"
	"unicode/utf8"
)

// percentWriter is Python's text % values.
type percentWriter struct {
	run      *run
	format   string
	at       int
	out      strings.Builder
	values   []Value // nil where keys are used
	mapping  *Dict
	taken    int
	escaping bool
}

func (r *run) percent(original Value, format string, right Value) (Value, error) {
	w := &percentWriter{run: r, format: format}
	_, w.escaping = original.(markup)
	w.values = []Value{right}
	if t, ok := right.(*tuple); ok {
		w.values = t.items
	}
	w.mapping, _ = right.(*Dict)
	for {
		next := strings.IndexByte(w.format[w.at:], '%')
		if next < 0 {
			w.out.WriteString(w.format[w.at:])
			break
		}
		w.out.WriteString(w.format[w.at : w.at+next])
		w.at += next + 1
		if err := w.conversion(); err != nil {
			return nil, err
		}
		if err := r.step(1); err != nil {
			return nil, err
		}
	}
	if _, isTuple := right.(*tuple); w.taken < len(w.values) && (isTuple || !isMappingLike(right)) {
		return nil, failf("not all arguments converted during string formatting")
	}
	return likeText(original, w.out.String()), r.allocate(w.out.Len())
}

// isMappingLike reports whether a value might be looked up in by keys, in Python's eyes: then no part of it is left over.
func isMappingLike(v Value) bool {
	_, isText := text(v)
	return isSubscriptable(v) && !isText
}

// next takes the next value.
func (w *percentWriter) next() (Value, error) {
	if w.taken >= len(w.values) {
		return nil, failf("not enough arguments for format string")
	}
	w.taken++
	return w.values[w.taken-1], nil
}

func (w *percentWriter) conversion() error {
	f := formatSpec{precision: -1}
	var value Value
	if strings.HasPrefix(w.format[w.at:], "(") {
		end, depth := w.at+1, 1
		for ; end < len(w.format); end++ {
			switch w.format[end] {
			case '(':
				depth++
			case ')':
				depth--
			}
			if depth == 0 {
				break
			}
		}
		if end >= len(w.format) {
			return failf("incomplete format key")
		}
		if w.mapping == nil {
			return failf("format requires a mapping")
		}
		key := w.format[w.at+1 : end]
		if value = w.mapping.Get(key); value == nil {
			return failf("%s", reprString(key))
		}
		w.at = end + 1
	}
	left, err := w.flags(&f)
	if err != nil {
		return err
	}
	for w.at < len(w.format) && strings.IndexByte("hlL", w.format[w.at]) >= 0 {
		w.at++
	}
	if w.at >= len(w.format) {
		return failf("incomplete format")
	}
	kind, size := utf8.DecodeRuneInString(w.format[w.at:])
	w.at += size
	if kind == '%' {
		w.out.WriteByte('%')
		return nil
	}
	if value == nil {
		if value, err = w.next(); err != nil {
			return err
		}
	}
	if kind >= utf8.RuneSelf || strings.IndexByte("sradiuoxXeEfFgGc", byte(kind)) < 0 {
		return failf("unsupported format character '%c' (0x%x) at index %d", kind, kind, w.at-size)
	}
	f.kind = byte(kind)
	if left {
		f.align, f.fill = '<', " "
	}
	text, err := w.converted(f, value)
	if err != nil {
		return err
	}
	w.out.WriteString(text)
	return w.run.allocate(len(text))
}

// flags reads flags, width and precision; left is whether the value stands on the left.
func (w *percentWriter) flags(f *formatSpec) (left bool, err error) {
	for ; w.at < len(w.format); w.at++ {
		switch w.format[w.at] {
		case '-':
			left = true
		case '+':
			f.sign = '+'
		case ' ':
			if f.sign == 0 {
				f.sign = ' '
			}
		case '#':
			f.alternate = true
		case '0':
			f.align, f.fill = '=', "0"
		default:
			if f.width, err = w.size(0); err != nil {
				return left, err
			}
			if f.width < 0 {
				left, f.width = true, -f.width
			}
			if w.at < len(w.format) && w.format[w.at] == '.' {
				w.at++
				if f.precision, err = w.size(0); err != nil {
					return left, err
				}
				f.precision = max(f.precision, 0)
			}
			return left, nil
		}
	}
	return left, nil
}

// size reads a width or a precision: digits, or a star for the next value.
func (w *percentWriter) size(absent int64) (int64, error) {
	if w.at < len(w.format) && w.format[w.at] == '*' {
		w.at++
		v, err := w.next()
		if err != nil {
			return 0, err
		}
		n, ok := integer(v)
		if !ok {
			return 0, failf("* wants int")
		}
		if n > math.MaxInt32 || n < math.MinInt32 {
			return 0, &LimitError{"width"}
		}
		return n, nil
	}
	n, rest, err := leadingNumber(w.format[w.at:], absent)
	if err != nil {
		return 0, failf("width too big")
	}
	w.at = len(w.format) - len(rest)
	return n, nil
}

func (w *percentWriter) converted(f formatSpec, v Value) (string, error) {
	switch f.kind {
	case 's', 'r', 'a':
		s, err := w.run.str(v)
		if f.kind != 's' {
			s, err = w.run.repr(v)
		}
		if f.kind == 'a' {
			s = asciiRepr(s)
		}
		if err != nil {
			return "", err
		}
		if _, isMarkup := v.(markup); w.escaping && !isMarkup {
			s = escapeHTML(s)
		}
		if f.precision >= 0 && f.precision < int64(len(s)) {
			s = cutText(s, 0, f.precision)
		}
		return w.padded(f, s)
	case 'c':
		s, ok := text(v)
		if n, isInt := integer(v); isInt {
			s, ok = string(rune(n)), n >= 0 && n <= utf8.MaxRune
		}
		if !ok || utf8.RuneCountInString(s) != 1 {
			return "", failf("%%c requires int or char")
		}
		return w.padded(f, s)
	case 'd', 'i', 'u', 'o', 'x', 'X':
		return w.whole(f, v)
	}
	if !isNumber(v) {
		if u, ok := v.(*undefined); ok {
			return "", u.fail()
		}
		return "", failf("must be real number, not %s", v.typeName())
	}
	x, err := toFloat(v)
	if err != nil {
		return "", err
	}
	return w.run.formatNumber(f, Float(x))
}

// padded fills text up; text takes no zeros.
func (w *percentWriter) padded(f formatSpec, s string) (string, error) {
	if f.align != '<' {
		f.align = '>'
	}
	f.fill = " "
	return w.run.aligned(f, "", s)
}

func (w *percentWriter) whole(f formatSpec, v Value) (string, error) {
	n, ok := wholeNumber(v)
	if x, isFloat := v.(Float); isFloat && strings.IndexByte("diu", f.kind) >= 0 {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			return "", failf("cannot convert float %s to integer", floatRepr(float64(x)))
		}
		n, _ = new(big.Float).SetFloat64(float64(x)).Int(nil)
		ok = true
	}
	if !ok {
		if u, isUndefined := v.(*undefined); isUndefined {
			return "", u.fail()
		}
		if strings.IndexByte("diu", f.kind) >= 0 {
			return "", failf("%%%c format: a real number is required, not %s", f.kind, v.typeName())
		}
		return "", failf("%%%c format: an integer is required, not %s", f.kind, v.typeName())
	}
	if strings.IndexByte("iu", f.kind) >= 0 {
		f.kind = 'd'
	}
	sign := ""
	switch {
	case n.Sign() < 0:
		sign = "-"
	case f.sign == '+' || f.sign == ' ':
		sign = string(f.sign)
	}
	prefix, digits, err := wholeDigits(f, n)
	if err != nil {
		return "", err
	}
	if f.precision > int64(len(digits)) {
		if digits, err = w.run.pad(digits, "0", f.precision, "rjust"); err != nil {
			return "", err
		}
	}
	if f.align == 0 {
		f.align = '>'
	}
	return w.run.aligned(f, sign+prefix, digits)
}
