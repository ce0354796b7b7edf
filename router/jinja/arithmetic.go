package jinja

import (
	"math"
	"math/bits"
	"slices"
	"strings"
)

var errLargeInteger = failf("whole numbers beyond 64 bits are not supported in arithmetic")

func (r *run) arithmetic(operator string, left, right Value) (Value, error) {
	r.pay(1)
	if a, ok := integer(left); ok {
		if b, ok := integer(right); ok {
			return wholes(operator, a, b)
		}
	}
	if u, ok := left.(*undefined); ok {
		return nil, u.fail()
	}
	if _, ok := text(left); ok && operator == "%" {
		return nil, failf("formatting of text by %% is not supported")
	}
	if u, ok := right.(*undefined); ok {
		return nil, u.fail()
	}
	if isNumber(left) && isNumber(right) {
		x, err := toFloat(left)
		if err != nil {
			return nil, err
		}
		y, err := toFloat(right)
		if err != nil {
			return nil, err
		}
		return floats(operator, x, y)
	}
	switch operator {
	case "+":
		if v, err := r.concatenate(left, right); v != nil || err != nil {
			return v, err
		}
	case "*":
		if n, ok := integer(right); ok && isSequence(left) {
			return r.repeat(left, n)
		}
		if n, ok := integer(left); ok && isSequence(right) {
			return r.repeat(right, n)
		}
	}
	return nil, unsupported(operator, left, right)
}

func unsupported(operator string, left, right Value) error {
	return failf("unsupported operand type(s) for %s: '%s' and '%s'", operator, left.typeName(), right.typeName())
}

func isSequence(v Value) bool {
	switch v.(type) {
	case String, markup:
		return true
	}
	_, ok := sequenceOf(v)
	return ok
}

func wholes(operator string, a, b int64) (Value, error) {
	switch operator {
	case "+":
		if c := a + b; (c > a) == (b > 0) {
			return Int(c), nil
		}
	case "-":
		if c := a - b; (c < a) == (b > 0) {
			return Int(c), nil
		}
	case "*":
		high, low := bits.Mul64(uint64(max(a, -a)), uint64(max(b, -b)))
		if high == 0 && low < 1<<63 && a != math.MinInt64 && b != math.MinInt64 {
			return Int(a * b), nil
		}
	case "/":
		return floats(operator, float64(a), float64(b))
	default:
		if b == 0 {
			return nil, failf("integer division or modulo by zero")
		}
		if a == math.MinInt64 {
			break
		}
		quotient, rest := a/b, a%b
		if rest != 0 && (rest < 0) != (b < 0) {
			quotient, rest = quotient-1, rest+b
		}
		if operator == "%" {
			return Int(rest), nil
		}
		return Int(quotient), nil
	}
	return nil, errLargeInteger
}

// toFloat converts a number.
func toFloat(v Value) (float64, error) {
	if f, ok := v.(Float); ok {
		return float64(f), nil
	}
	n, ok := integer(v)
	if !ok {
		return 0, errLargeInteger
	}
	return float64(n), nil
}

func floats(operator string, x, y float64) (Value, error) {
	switch operator {
	case "+":
		return Float(x + y), nil
	case "-":
		return Float(x - y), nil
	case "*":
		return Float(x * y), nil
	}
	if y == 0 {
		return nil, failf("division by zero")
	}
	if operator == "/" {
		return Float(x / y), nil
	}
	return nil, failf("the operator %s between numbers with fractions is not supported", operator)
}

func (r *run) sign(value Value, negative bool) (Value, error) {
	r.pay(1)
	u, isUndefined := value.(*undefined)
	switch {
	case isUndefined:
		return nil, u.fail()
	case !isNumber(value):
		return nil, failf("bad operand type for a sign: '%s'", value.typeName())
	}
	f, isFloat := value.(Float)
	switch {
	case isFloat && negative:
		return -f, nil
	case isFloat:
		return f, nil
	case negative:
		return r.arithmetic("-", Int(0), value)
	}
	return r.arithmetic("+", value, Int(0))
}

var htmlEscapes = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;")

// maxEscape is how many times as long escaping makes a text at most.
const maxEscape = 5

// concatenate returns nil where Python has no sum for the types.
func (r *run) concatenate(left, right Value) (Value, error) {
	a, aText := text(left)
	b, bText := text(right)
	if aText && bText {
		if err := r.allocate(maxEscape * (len(a) + len(b))); err != nil {
			return nil, err
		}
		_, aMarkup := left.(markup)
		_, bMarkup := right.(markup)
		switch {
		case aMarkup && !bMarkup:
			b = htmlEscapes.Replace(b)
		case bMarkup && !aMarkup:
			a = htmlEscapes.Replace(a)
		}
		if aMarkup || bMarkup {
			return markup(a + b), nil
		}
		return String(a + b), nil
	}
	x, isA := sequenceOf(left)
	y, isB := sequenceOf(right)
	if !isA || !isB || x.kind != y.kind {
		return nil, nil
	}
	if err := r.allocateValues(len(x.items) + len(y.items)); err != nil {
		return nil, err
	}
	return &List{slices.Concat(x.items, y.items), x.kind}, nil
}

func (r *run) repeat(sequence Value, times int64) (Value, error) {
	n := int(max(clamp32(times), 0))
	if s, ok := text(sequence); ok {
		if s == "" {
			n = 0
		}
		if err := r.allocate(len(s) * n); err != nil {
			return nil, err
		}
		return likeText(sequence, String(strings.Repeat(s, n))), nil
	}
	l, _ := sequenceOf(sequence)
	if len(l.items) == 0 {
		n = 0
	}
	if err := r.allocateValues(len(l.items) * n); err != nil {
		return nil, err
	}
	return &List{slices.Repeat(l.items, n), l.kind}, nil
}

// clamp32 is n within 32 bits: all that is longer breaks a limit, or is as good as endless.
func clamp32(n int64) int64 { return min(max(n, math.MinInt32), math.MaxInt32) }
