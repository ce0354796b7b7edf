package jinja

import (
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// plainDigits is a number's text without the white space around it and the underscores within it.
func plainDigits(s string) (string, bool) {
	s = strings.Map(plainDigit, strings.TrimFunc(s, isSpace))
	for i := range len(s) {
		if s[i] == '_' && (i == 0 || i+1 == len(s) || digitValue(s[i-1]) < 0 || digitValue(s[i+1]) < 0) {
			return "", false
		}
	}
	return strings.ReplaceAll(s, "_", ""), true
}

// plainDigit is a decimal digit of any script as that of ASCII, and any other character as it is.
func plainDigit(r rune) rune {
	if r < utf8.RuneSelf || !isDecimal(r) {
		return r
	}
	for _, digits := range unicode.Nd.R16 {
		if r >= rune(digits.Lo) && r <= rune(digits.Hi) {
			return '0' + (r-rune(digits.Lo))%10
		}
	}
	for _, digits := range unicode.Nd.R32 {
		if r >= rune(digits.Lo) && r <= rune(digits.Hi) {
			return '0' + (r-rune(digits.Lo))%10
		}
	}
	return r
}

// parseWhole is Python's int(s, base).
func parseWhole(s string, base int) (Value, bool) {
	s, ok := plainDigits(s)
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
	}
	if len(s) > 2 && s[0] == '0' {
		if prefix := map[byte]int{'b': 2, 'o': 8, 'x': 16}[s[1]|0x20]; prefix > 0 && (base == prefix || base == 0) {
			s, base = s[2:], prefix
		}
	}
	if base == 0 {
		base = 10
	}
	if !ok || s == "" || len(s) > maxIntegerDigits || base < 2 || base > 36 {
		return nil, false
	}
	for i := range len(s) {
		if d := digitValue(s[i]); d < 0 || d >= base {
			return nil, false
		}
	}
	n, ok := new(big.Int).SetString(sign+s, base)
	if !ok {
		return nil, false
	}
	return normalInt(n), true
}

// parseFloat is Python's float(s).
func parseFloat(s string) (float64, bool) {
	s, ok := plainDigits(s)
	if !ok || strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	if numberError, isNumberError := err.(*strconv.NumError); isNumberError && numberError.Err != strconv.ErrRange {
		return 0, false
	}
	return f, true
}

// wholeOf cuts a fraction off; it returns nil for what has no whole part.
func wholeOf(f float64) Value {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil
	}
	n, _ := new(big.Float).SetFloat64(f).Int(nil)
	return normalInt(n)
}

func filterInt(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_int", 0, "default", "base")
	if err != nil {
		return nil, err
	}
	var absent Value = Int(0)
	if v[0] != nil {
		absent = v[0]
	}
	if s, ok := text(value); ok {
		if err := r.work(len(s) * 8); err != nil {
			return nil, err
		}
		base, err := number(v[1], 10)
		if err != nil {
			base = -1
		}
		if n, ok := parseWhole(s, int(base)); ok {
			return n, nil
		}
		if f, ok := parseFloat(s); ok {
			if n := wholeOf(f); n != nil {
				return n, nil
			}
		}
		return absent, nil
	}
	switch n := value.(type) {
	case *undefined:
		return nil, n.fail()
	case Float:
		if math.IsInf(float64(n), 0) {
			return nil, failf("cannot convert float infinity to integer")
		}
		if whole := wholeOf(float64(n)); whole != nil {
			return whole, nil
		}
		return absent, nil
	}
	if n, ok := wholeNumber(value); ok {
		return normalInt(n), nil
	}
	return absent, nil
}

func filterFloat(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_float", 0, "default")
	if err != nil {
		return nil, err
	}
	if u, ok := value.(*undefined); ok {
		return nil, u.fail()
	}
	if isNumber(value) {
		f, err := toFloat(value)
		return Float(f), err
	}
	if s, ok := text(value); ok {
		if err := r.work(len(s)); err != nil {
			return nil, err
		}
		if f, ok := parseFloat(s); ok {
			return Float(f), nil
		}
	}
	if v[0] == nil {
		return Float(0), nil
	}
	return v[0], nil
}

func filterAbs(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("abs", 0, 0); err != nil {
		return nil, err
	}
	if f, ok := value.(Float); ok {
		return Float(math.Abs(float64(f))), nil
	}
	if n, ok := wholeNumber(value); ok {
		return normalInt(new(big.Int).Abs(n)), r.step(1)
	}
	if u, ok := value.(*undefined); ok {
		return nil, u.fail()
	}
	return nil, failf("bad operand type for abs(): '%s'", value.typeName())
}

func filterRound(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_round", 0, "precision", "method")
	if err != nil {
		return nil, err
	}
	method := "common"
	if v[1] != nil {
		method, _ = text(v[1])
	}
	var precision Value = Int(0)
	if v[0] != nil {
		precision = v[0]
	}
	switch method {
	case "common":
		return r.round(value, precision)
	case "ceil", "floor":
	default:
		return nil, failf("method must be common, ceil or floor")
	}
	scale, err := r.arithmetic("**", Int(10), precision)
	if err != nil {
		return nil, err
	}
	scaled, err := r.arithmetic("*", value, scale)
	if err != nil {
		return nil, err
	}
	if f, ok := scaled.(Float); ok {
		x := math.Floor(float64(f))
		if method == "ceil" {
			x = math.Ceil(float64(f))
		}
		if scaled = wholeOf(x); scaled == nil {
			return nil, failf("cannot convert float %s to integer", floatRepr(x))
		}
	}
	return r.arithmetic("/", scaled, scale)
}

// round is Python's round(value, precision): to the nearest, and of two as near to the even one.
func (r *run) round(value, precision Value) (Value, error) {
	if n, ok := wholeNumber(value); ok {
		digits, ok := integer(precision)
		if precision != None && !ok {
			return nil, failf("'%s' object cannot be interpreted as an integer", precision.typeName())
		}
		if digits >= 0 {
			return normalInt(n), nil
		}
		if digits < -maxIntegerDigits {
			return Int(0), nil
		}
		return normalInt(roundTo(n, -digits, false)), r.step(int(-digits))
	}
	f, ok := value.(Float)
	if !ok {
		return nil, failf("type %s doesn't define __round__ method", value.typeName())
	}
	x := float64(f)
	if precision == None {
		if whole := wholeOf(math.RoundToEven(x)); whole != nil {
			return whole, nil
		}
		return nil, failf("cannot convert float %s to integer", floatRepr(x))
	}
	digits, ok := integer(precision)
	if !ok {
		return nil, failf("'%s' object cannot be interpreted as an integer", precision.typeName())
	}
	switch {
	case math.IsNaN(x) || math.IsInf(x, 0) || digits > 330:
		return f, nil
	case digits < -330:
		return Float(math.Copysign(0, x)), nil
	case digits < 0:
		n, _ := wholeNumber(wholeOf(math.Abs(x)))
		y, err := toFloat(normalInt(roundTo(n, -digits, x != math.Trunc(x))))
		return Float(math.Copysign(y, x)), err
	}
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(x, 'f', int(digits), 64), 64)
	if err != nil {
		return nil, failf("rounded value too large to represent")
	}
	return Float(rounded), nil
}

// roundTo rounds n to zeros zeros; more is whether a fraction follows it.
func roundTo(n *big.Int, zeros int64, more bool) *big.Int {
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(zeros), nil)
	quotient, rest := new(big.Int).DivMod(n, unit, new(big.Int))
	c := rest.Lsh(rest, 1).Cmp(unit)
	if c > 0 || c == 0 && (more || quotient.Bit(0) == 1) {
		quotient.Add(quotient, big.NewInt(1))
	}
	return quotient.Mul(quotient, unit)
}

func filterFileSize(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_filesizeformat", 0, "binary")
	if err != nil {
		return nil, err
	}
	number, err := filterFloat(r, value, &arguments{positional: []Value{None}})
	if err != nil {
		return nil, err
	}
	f, ok := number.(Float)
	if !ok {
		return nil, failf("could not convert to float: %s", shortRepr(value))
	}
	size, base, middle := float64(f), 1000.0, "B"
	prefixes := "kMGTPEZY"
	if isTrue(v[0]) {
		base, middle, prefixes = 1024, "iB", "KMGTPEZY"
	}
	switch {
	case size == 1:
		return String("1 Byte"), nil
	case size < base:
		if math.IsInf(size, 0) || math.IsNaN(size) {
			return nil, failf("cannot convert float %s to integer", floatRepr(size))
		}
		return String(fmt.Sprintf("%d Bytes", int64(size))), nil
	}
	unit := base
	for i := range prefixes {
		unit *= base
		if size < unit || i == len(prefixes)-1 {
			return String(fmt.Sprintf("%.1f %c%s", base*size/unit, prefixes[i], middle)), nil
		}
	}
	return None, nil
}
