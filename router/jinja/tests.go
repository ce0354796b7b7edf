package jinja

// tests are what stands behind is; each returns a Bool.
var tests map[string]builtin

func init() { // tests and what they use refer to each other
	tests = map[string]builtin{
		"defined":     asking(func(v Value) bool { return !isUndefined(v) }),
		"undefined":   asking(isUndefined),
		"none":        asking(isNone),
		"boolean":     asking(func(v Value) bool { _, ok := v.(Bool); return ok }),
		"true":        asking(func(v Value) bool { return v == Bool(true) }),
		"false":       asking(func(v Value) bool { return v == Bool(false) }),
		"integer":     asking(func(v Value) bool { return v.typeName() == "int" }),
		"float":       asking(func(v Value) bool { _, ok := v.(Float); return ok }),
		"number":      asking(isNumber),
		"string":      asking(func(v Value) bool { _, ok := text(v); return ok && v != Blank }),
		"mapping":     asking(func(v Value) bool { _, ok := v.(*Dict); return ok }),
		"sequence":    asking(isSubscriptable),
		"iterable":    asking(isIterable),
		"odd":         remainder("odd(/)", 2, 1),
		"even":        remainder("even(/)", 2, 0),
		"divisibleby": remainder("test_divisibleby(num)", 0, 0),
		"sameas":      takes("test_sameas(other)", sameAs),
		"in":          comparing("in", "test_in(seq)"),
	}
	for operator, names := range map[string][]string{
		"==": {"==", "eq", "equalto"}, "!=": {"!=", "ne"},
		">": {">", "gt", "greaterthan"}, ">=": {">=", "ge"},
		"<": {"<", "lt", "lessthan"}, "<=": {"<=", "le"},
	} {
		for _, name := range names {
			tests[name] = comparing(operator, name+"(/ other)")
		}
	}
}

func asking(ask func(Value) bool) builtin {
	return takes("test(/)", func(_ *run, v Value, _ []Value) (Value, error) { return Bool(ask(v)), nil })
}

func isNone(v Value) bool { return v == None || v == Blank }

func isUndefined(v Value) bool {
	_, ok := v.(*undefined)
	return ok
}

func isSubscriptable(v Value) bool {
	switch v := v.(type) {
	case *Dict, *undefined:
		return true
	case *List:
		return v.kind <= interval
	}
	return isSequence(v)
}

func isIterable(v Value) bool {
	switch v.(type) {
	case *List, *iterator, *loopValue:
		return true
	}
	return isSubscriptable(v)
}

// remainder tests what is left when a value is divided; divisor 0 stands for the argument.
func remainder(declaration string, divisor, wanted Int) builtin {
	return takes(declaration, func(r *run, value Value, v []Value) (Value, error) {
		var by Value = divisor
		if divisor == 0 {
			by = v[0]
		}
		rest, err := r.arithmetic("%", value, by)
		if err != nil {
			return nil, err
		}
		same, err := r.equal(rest, wanted)
		return Bool(same), err
	})
}

func sameAs(r *run, value Value, v []Value) (Value, error) {
	if isNumber(value) && value.typeName() == v[0].typeName() {
		same, err := r.equal(value, v[0])
		return Bool(same), err
	}
	return Bool(value == v[0]), r.step(1)
}

func comparing(operator, declaration string) builtin {
	return takes(declaration, func(r *run, value Value, v []Value) (Value, error) {
		holds, err := r.compare(operator, value, v[0])
		return Bool(holds), err
	})
}
