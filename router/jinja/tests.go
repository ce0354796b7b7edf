package jinja

import (
	"unicode"
)

// test is what stands behind is.
type test func(r *run, value Value, a *arguments) (bool, error)

var tests map[string]test

func testNamed(name string) test { return tests[name] }

func init() { // tests and what they use refer to each other
	tests = map[string]test{
		"defined":     asking(func(v Value) bool { return !isUndefined(v) }),
		"undefined":   asking(isUndefined),
		"none":        asking(isNone),
		"boolean":     asking(func(v Value) bool { _, ok := v.(Bool); return ok }),
		"true":        asking(func(v Value) bool { return v == Bool(true) }),
		"false":       asking(func(v Value) bool { return v == Bool(false) }),
		"integer":     asking(isInteger),
		"float":       asking(func(v Value) bool { _, ok := v.(Float); return ok }),
		"number":      asking(isNumber),
		"string":      asking(func(v Value) bool { _, ok := text(v); return ok && v != Blank }),
		"mapping":     asking(func(v Value) bool { _, ok := v.(*Dict); return ok }),
		"sequence":    asking(isSubscriptable),
		"iterable":    asking(isIterable),
		"callable":    asking(isCallable),
		"escaped":     asking(func(v Value) bool { _, ok := v.(markup); return ok }),
		"odd":         remainder(2, 1),
		"even":        remainder(2, 0),
		"divisibleby": divisibleBy,
		"lower":       cased(unicode.IsLower, unicode.IsUpper),
		"upper":       cased(unicode.IsUpper, unicode.IsLower),
		"filter":      named(func(name string) bool { return filterNamed(name) != nil }),
		"test":        named(func(name string) bool { return testNamed(name) != nil }),
		"sameas":      sameAs,
		"in":          comparing("in"),
	}
	for operator, names := range map[string][]string{
		"==": {"==", "eq", "equalto"}, "!=": {"!=", "ne"},
		">": {">", "gt", "greaterthan"}, ">=": {">=", "ge"},
		"<": {"<", "lt", "lessthan"}, "<=": {"<=", "le"},
	} {
		for _, name := range names {
			tests[name] = comparing(operator)
		}
	}
}

func asking(ask func(Value) bool) test {
	return func(_ *run, v Value, a *arguments) (bool, error) {
		_, err := a.places("test", 0, 0)
		return ask(v), err
	}
}

func isNone(v Value) bool { return v == None || v == Blank }

func isUndefined(v Value) bool {
	_, ok := v.(*undefined)
	return ok
}

func isInteger(v Value) bool {
	switch v.(type) {
	case Int, bigInt:
		return true
	}
	return false
}

func isSubscriptable(v Value) bool {
	switch v.(type) {
	case String, markup, *List, *tuple, *Dict, *interval, *undefined:
		return true
	}
	return false
}

func isIterable(v Value) bool {
	switch v.(type) {
	case *view, *iterator, *loopValue:
		return true
	}
	return isSubscriptable(v)
}

func isCallable(v Value) bool {
	switch v.(type) {
	case *function, *macro, *joiner, *dictType, *loopValue, *undefined:
		return true
	}
	return false
}

func remainder(divisor, wanted Int) test {
	return func(r *run, v Value, a *arguments) (bool, error) {
		if _, err := a.places("test", 0, 0); err != nil {
			return false, err
		}
		rest, err := r.arithmetic("%", v, divisor)
		if err != nil {
			return false, err
		}
		return r.equal(rest, wanted)
	}
}

func divisibleBy(r *run, v Value, a *arguments) (bool, error) {
	values, err := a.bind("test_divisibleby", 1, "num")
	if err != nil {
		return false, err
	}
	rest, err := r.arithmetic("%", v, values[0])
	if err != nil {
		return false, err
	}
	return r.equal(rest, Int(0))
}

func cased(wanted, other func(rune) bool) test {
	return func(r *run, v Value, a *arguments) (bool, error) {
		if _, err := a.places("test", 0, 0); err != nil {
			return false, err
		}
		s, err := r.str(v)
		if err != nil {
			return false, err
		}
		return hasCase(s, wanted, other), r.work(len(s))
	}
}

func named(known func(string) bool) test {
	return func(_ *run, v Value, a *arguments) (bool, error) {
		if _, err := a.places("test", 0, 0); err != nil {
			return false, err
		}
		if _, err := keyOf(v, 0); err != nil {
			return false, err
		}
		name, ok := text(v)
		return ok && known(name), nil
	}
}

func sameAs(r *run, v Value, a *arguments) (bool, error) {
	values, err := a.bind("test_sameas", 1, "other")
	if err != nil {
		return false, err
	}
	other := values[0]
	if v.typeName() != other.typeName() {
		return false, nil
	}
	if _, isBig := v.(bigInt); isBig {
		return r.equal(v, other)
	}
	return v == other, r.step(1)
}

func comparing(operator string) test {
	return func(r *run, v Value, a *arguments) (bool, error) {
		values, err := a.places(operator, 1, 1)
		if operator == "in" {
			values, err = a.bind("test_in", 1, "seq")
		}
		if err != nil {
			return false, err
		}
		return r.compare(operator, v, values[0])
	}
}
