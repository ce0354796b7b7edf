package jinja

import (
	"math"
	"math/big"
	"math/bits"
	"strings"
)

func (r *run) arithmetic(operator string, left, right Value) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	if a, ok := left.(Int); ok {
		if b, ok := right.(Int); ok {
			if v, ok := smallArithmetic(operator, int64(a), int64(b)); ok {
				return v, nil
			}
		}
	}
	if u, ok := left.(*undefined); ok {
		return nil, u.fail()
	}
	if s, ok := text(left); ok && operator == "%" {
		return r.percent(left, s, right)
	}
	if u, ok := right.(*undefined); ok {
		return nil, u.fail()
	}
	if isNumber(left) && isNumber(right) {
		return r.numbers(operator, left, right)
	}
	switch operator {
	case "+":
		if v, err := r.concatenate(left, right); v != nil || err != nil {
			return v, err
		}
	case "*":
		if n, ok := wholeNumber(right); ok && isSequence(left) {
			return r.repeat(left, n)
		}
		if n, ok := wholeNumber(left); ok && isSequence(right) {
			return r.repeat(right, n)
		}
	}
	return nil, unsupported(operator, left, right)
}

func unsupported(operator string, left, right Value) error {
	if operator == "**" {
		operator = "** or pow()"
	}
	if operator == "+" && isSequence(left) {
		name := left.typeName()
		return failf("can only concatenate %s (not \"%s\") to %s", name, right.typeName(), name)
	}
	return failf("unsupported operand type(s) for %s: '%s' and '%s'", operator, left.typeName(), right.typeName())
}

func isNumber(v Value) bool {
	switch v.(type) {
	case Int, Float, Bool, bigInt:
		return true
	}
	return false
}

func isSequence(v Value) bool {
	switch v.(type) {
	case String, markup, *List, *tuple:
		return true
	}
	return false
}

// smallArithmetic is what needs neither more than 64 bits nor an error.
func smallArithmetic(operator string, a, b int64) (Value, bool) {
	switch operator {
	case "+":
		if c := a + b; (c > a) == (b > 0) {
			return Int(c), true
		}
	case "-":
		if c := a - b; (c < a) == (b > 0) {
			return Int(c), true
		}
	case "*":
		high, low := bits.Mul64(uint64(max(a, -a)), uint64(max(b, -b)))
		if high == 0 && low < 1<<63 && a != math.MinInt64 && b != math.MinInt64 {
			return Int(a * b), true
		}
	case "//", "%":
		if b == 0 || a == math.MinInt64 {
			return nil, false
		}
		quotient, rest := a/b, a%b
		if rest != 0 && (rest < 0) != (b < 0) {
			quotient, rest = quotient-1, rest+b
		}
		if operator == "%" {
			return Int(rest), true
		}
		return Int(quotient), true
	}
	return nil, false
}

func (r *run) numbers(operator string, left, right Value) (Value, error) {
	a, aWhole := wholeNumber(left)
	b, bWhole := wholeNumber(right)
	if aWhole && bWhole {
		return r.wholes(operator, a, b)
	}
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

// toFloat converts a number.
func toFloat(v Value) (float64, error) {
	if f, ok := v.(Float); ok {
		return float64(f), nil
	}
	n, _ := wholeNumber(v)
	if n.IsInt64() && n.Int64() < 1<<53 && n.Int64() > -1<<53 {
		return float64(n.Int64()), nil
	}
	f, _ := new(big.Float).SetInt(n).Float64()
	if math.IsInf(f, 0) {
		return 0, failf("int too large to convert to float")
	}
	return f, nil
}

func (r *run) wholes(operator string, a, b *big.Int) (Value, error) {
	// Every operation takes at most the product of the lengths.
	if err := r.allocate((a.BitLen() + b.BitLen()) / 8); err != nil {
		return nil, err
	}
	if err := r.step(1 + a.BitLen()*b.BitLen()/(1<<16)); err != nil {
		return nil, err
	}
	result := new(big.Int)
	switch operator {
	case "+":
		result.Add(a, b)
	case "-":
		result.Sub(a, b)
	case "*":
		result.Mul(a, b)
	case "**":
		return r.power(a, b)
	default:
		if b.Sign() == 0 {
			message := map[string]string{"/": "division by zero", "//": "integer division or modulo by zero", "%": "integer modulo by zero"}
			return nil, failf("%s", message[operator])
		}
		if operator == "/" {
			if a.IsInt64() && b.IsInt64() && a.BitLen() <= 53 && b.BitLen() <= 53 {
				return Float(float64(a.Int64()) / float64(b.Int64())), nil
			}
			f, _ := new(big.Rat).SetFrac(a, b).Float64()
			if math.IsInf(f, 0) {
				return nil, failf("integer division result too large for a float")
			}
			return Float(f), nil
		}
		rest := new(big.Int)
		result.QuoRem(a, b, rest)
		if rest.Sign() != 0 && rest.Sign() != b.Sign() {
			result.Sub(result, big.NewInt(1))
			rest.Add(rest, b)
		}
		if operator == "%" {
			result = rest
		}
	}
	return boundedInt(result)
}

func boundedInt(n *big.Int) (Value, error) {
	if n.BitLen() > maxIntegerBits {
		return nil, &LimitError{"integer bits"}
	}
	return normalInt(n), nil
}

func (r *run) power(a, b *big.Int) (Value, error) {
	if b.Sign() < 0 {
		x, err := toFloat(normalInt(a))
		if err != nil {
			return nil, err
		}
		y, err := toFloat(normalInt(b))
		if err != nil {
			return nil, err
		}
		return floats("**", x, y)
	}
	if a.BitLen() > 1 {
		if !b.IsInt64() || b.Int64() > maxIntegerBits || int64(a.BitLen()-1)*b.Int64() > maxIntegerBits {
			return nil, &LimitError{"integer bits"}
		}
	} else if b.BitLen() > 1 {
		b = big.NewInt(2 + int64(b.Bit(0))) // 0, 1 and -1 have no other powers
	}
	if err := r.step(maxIntegerBits / 64); err != nil && a.BitLen() > 64 {
		return nil, err
	}
	return boundedInt(new(big.Int).Exp(a, b, nil))
}

func floats(operator string, x, y float64) (Value, error) {
	switch operator {
	case "+":
		return Float(x + y), nil
	case "-":
		return Float(x - y), nil
	case "*":
		return Float(x * y), nil
	case "**":
		return floatPower(x, y)
	}
	if y == 0 {
		message := map[string]string{"/": "float division by zero", "//": "float floor division by zero", "%": "float modulo"}
		return nil, failf("%s", message[operator])
	}
	if operator == "/" {
		return Float(x / y), nil
	}
	rest := math.Mod(x, y)
	quotient := (x - rest) / y
	if rest == 0 {
		rest = math.Copysign(0, y)
	} else if (y < 0) != (rest < 0) {
		rest += y
		quotient--
	}
	if operator == "%" {
		return Float(rest), nil
	}
	if quotient == 0 {
		return Float(math.Copysign(0, x/y)), nil
	}
	floor := math.Floor(quotient)
	if quotient-floor > 0.5 {
		floor++
	}
	return Float(floor), nil
}

func floatPower(x, y float64) (Value, error) {
	if x == 0 && y < 0 {
		return nil, failf("0.0 cannot be raised to a negative power")
	}
	if x < 0 && y != math.Trunc(y) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		return nil, failf("complex numbers are not supported")
	}
	f := math.Pow(x, y)
	if math.IsInf(f, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		return nil, failf("(34, 'Numerical result out of range')")
	}
	return Float(f), nil
}

func (r *run) sign(value Value, negative bool) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	if f, ok := value.(Float); ok {
		if negative {
			return -f, nil
		}
		return f, nil
	}
	if n, ok := wholeNumber(value); ok {
		if negative {
			n = new(big.Int).Neg(n)
		}
		return normalInt(n), nil
	}
	if u, ok := value.(*undefined); ok {
		return nil, u.fail()
	}
	return nil, failf("bad operand type for unary %s: '%s'", map[bool]string{true: "-", false: "+"}[negative], value.typeName())
}

// concatenate returns nil where Python has no sum for the types.
func (r *run) concatenate(left, right Value) (Value, error) {
	a, aText := text(left)
	b, bText := text(right)
	if aText && bText {
		_, aMarkup := left.(markup)
		_, bMarkup := right.(markup)
		if aMarkup && !bMarkup {
			b = escapeHTML(b)
		}
		if bMarkup && !aMarkup {
			a = escapeHTML(a)
		}
		if err := r.allocate(len(a) + len(b)); err != nil {
			return nil, err
		}
		if aMarkup || bMarkup {
			return markup(a + b), nil
		}
		return String(a + b), nil
	}
	x, isList := left.(*List)
	y, isList2 := right.(*List)
	if isList && isList2 {
		items, err := r.joinItems(x.items, y.items)
		return &List{items}, err
	}
	v, isTuple := left.(*tuple)
	w, isTuple2 := right.(*tuple)
	if isTuple && isTuple2 {
		items, err := r.joinItems(v.items, w.items)
		return &tuple{items: items}, err
	}
	return nil, nil
}

func (r *run) joinItems(a, b []Value) ([]Value, error) {
	if err := r.allocateValues(len(a) + len(b)); err != nil {
		return nil, err
	}
	return append(append(make([]Value, 0, len(a)+len(b)), a...), b...), nil
}

func (r *run) repeat(sequence Value, times *big.Int) (Value, error) {
	if !times.IsInt64() {
		return nil, failf("cannot fit 'int' into an index-sized integer")
	}
	n := min(max(times.Int64(), 0), math.MaxInt32)
	if s, ok := text(sequence); ok {
		if s == "" {
			n = 0
		}
		if err := r.allocate(len(s) * int(n)); err != nil {
			return nil, err
		}
		if _, ok := sequence.(markup); ok {
			return markup(strings.Repeat(s, int(n))), nil
		}
		return String(strings.Repeat(s, int(n))), nil
	}
	items, _ := sequenceItems(sequence)
	if len(items) == 0 {
		n = 0
	}
	if err := r.allocateValues(len(items) * int(n)); err != nil {
		return nil, err
	}
	repeated := make([]Value, 0, len(items)*int(n))
	for range n {
		repeated = append(repeated, items...)
	}
	if _, ok := sequence.(*tuple); ok {
		return &tuple{items: repeated}, nil
	}
	return &List{repeated}, nil
}
