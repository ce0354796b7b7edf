package jinja

import (
	"errors"
	"math"
	"strconv"
	"strings"
)

// plainNumber is a number's text without the white space around it and the underscores between its digits.
func plainNumber(s string) string {
	s = strings.TrimFunc(s, isSpace)
	if strings.Contains(s, "__") || strings.Trim(s, "+-_") != strings.Trim(s, "+-") {
		return "" // which is no number
	}
	return strings.ReplaceAll(s, "_", "")
}

// parseWhole is Python's int(s), for digits of ASCII.
func parseWhole(s string) (n int64, ok bool, err error) {
	n, err = strconv.ParseInt(plainNumber(s), 10, 64)
	if errors.Is(err, strconv.ErrRange) {
		return 0, false, errLargeInteger
	}
	return n, err == nil, nil
}

// parseFloat is Python's float(s), for digits of ASCII.
func parseFloat(s string) (float64, bool) {
	s = plainNumber(s)
	if strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || errors.Is(err, strconv.ErrRange)
}

// wholeOf cuts a fraction off.
func wholeOf(f float64) (Value, error) {
	if math.IsNaN(f) || math.Abs(f) >= 1<<63 {
		return nil, failf("cannot convert float %s to a whole number of 64 bits", floatRepr(f))
	}
	return Int(f), nil
}

func filterInt(r *run, value Value, v []Value) (Value, error) {
	var absent Value = Int(0)
	if v[0] != nil {
		absent = v[0]
	}
	if s, ok := text(value); ok {
		if err := r.work(len(s) * 8); err != nil {
			return nil, err
		}
		if n, ok, err := parseWhole(s); ok || err != nil {
			return Int(n), err
		}
		f, ok := parseFloat(s)
		if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
			return absent, nil
		}
		return wholeOf(f)
	}
	switch n := value.(type) {
	case *undefined:
		return nil, n.fail()
	case Float:
		if math.IsNaN(float64(n)) {
			return absent, nil
		}
		return wholeOf(float64(n))
	case bigInt:
		return n, nil
	}
	if n, ok := integer(value); ok {
		return Int(n), nil
	}
	return absent, nil
}

func filterFloat(r *run, value Value, v []Value) (Value, error) {
	if u, ok := value.(*undefined); ok {
		return nil, u.fail()
	}
	if isNumber(value) {
		f, err := toFloat(value)
		return Float(f), err
	}
	if s, ok := text(value); ok {
		r.pay(1 + len(s)/bytesPerStep)
		if f, ok := parseFloat(s); ok {
			return Float(f), nil
		}
	}
	if v[0] == nil {
		return Float(0), nil
	}
	return v[0], nil
}

func filterAbs(_ *run, value Value, _ []Value) (Value, error) {
	switch n := value.(type) {
	case Float:
		return Float(math.Abs(float64(n))), nil
	case bigInt:
		return nil, errLargeInteger
	case *undefined:
		return nil, n.fail()
	}
	n, ok := integer(value)
	if !ok {
		return nil, failf("bad operand type for abs(): '%s'", value.typeName())
	}
	if n < 0 {
		return wholes("-", 0, n)
	}
	return Int(n), nil
}
