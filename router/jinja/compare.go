package jinja

import (
	"cmp"
	"math/big"
	"strings"
)

// compare is one of Python's comparisons, or in or not in.
func (r *run) compare(operator string, left, right Value) (bool, error) {
	r.pay(1)
	switch operator {
	case "==":
		return r.equal(left, right)
	case "!=":
		same, err := r.equal(left, right)
		return !same, err
	case "in":
		return r.contains(right, left)
	case "not in":
		within, err := r.contains(right, left)
		return !within, err
	}
	order, ordered, err := r.order(operator, left, right)
	if err != nil || !ordered {
		return false, err
	}
	switch operator {
	case "<":
		return order < 0, nil
	case "<=":
		return order <= 0, nil
	case ">":
		return order > 0, nil
	}
	return order >= 0, nil
}

// equal is Python's ==.
func (r *run) equal(a, b Value) (bool, error) {
	if isNone(a) && isNone(b) {
		return true, nil
	}
	if s, ok := text(a); ok {
		t, ok := text(b)
		if !ok || len(s) != len(t) {
			return false, nil
		}
		return s == t, r.work(len(s))
	}
	if isNumber(a) {
		if !isNumber(b) {
			return false, nil
		}
		order, ordered := compareNumbers(a, b)
		return ordered && order == 0, nil
	}
	if err := r.enter(); err != nil {
		return false, err
	}
	defer r.leave()
	switch x := a.(type) {
	case *List:
		y, ok := b.(*List)
		if !ok || x.kind != y.kind {
			return false, nil
		}
		if x.kind > interval && x != y {
			return false, failf("comparing two values of the type %s is not supported", x.typeName())
		}
		return r.equalAll(x.items, y.items)
	case *undefined:
		return isUndefined(b), nil
	case *Dict:
		y, ok := b.(*Dict)
		if !ok || len(x.keys) != len(y.keys) {
			return false, nil
		}
		return r.equalDicts(x, y)
	}
	return a == b, nil
}

func (r *run) equalAll(a, b []Value) (bool, error) {
	if len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if err := r.step(1); err != nil {
			return false, err
		}
		if same, err := r.equal(a[i], b[i]); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *run) equalDicts(a, b *Dict) (bool, error) {
	for i, key := range a.keys {
		other, err := r.lookup(b, key)
		if other == nil || err != nil {
			return false, err
		}
		if same, err := r.equal(a.values[i], other); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// compareNumbers orders numbers exactly; NaN has no order.
func compareNumbers(a, b Value) (order int, ordered bool) {
	if m, ok := a.(Int); ok {
		if n, ok := b.(Int); ok {
			return cmp.Compare(m, n), true
		}
	}
	for _, v := range []Value{a, b} {
		if f, ok := v.(Float); ok && f != f {
			return 0, false
		}
	}
	return exactNumber(a).Cmp(exactNumber(b)), true
}

func exactNumber(v Value) *big.Float {
	switch v := v.(type) {
	case Float:
		return new(big.Float).SetFloat64(float64(v))
	case bigInt:
		return new(big.Float).SetInt(v.n)
	}
	n, _ := integer(v)
	return new(big.Float).SetInt64(n)
}

// order is below, at or above zero as a is to b; ordered is false for NaN.
func (r *run) order(operator string, a, b Value) (order int, ordered bool, err error) {
	if isNumber(a) && isNumber(b) {
		order, ordered = compareNumbers(a, b)
		return order, ordered, nil
	}
	if s, ok := text(a); ok {
		if t, ok := text(b); ok {
			return strings.Compare(s, t), true, r.work(min(len(s), len(t)))
		}
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*undefined); ok {
			return 0, false, u.fail()
		}
	}
	if _, ok := sequenceOf(a); ok && a.typeName() == b.typeName() {
		return 0, false, failf("the order of two values of the type %s is not supported", a.typeName())
	}
	return 0, false, failf("'%s' not supported between instances of '%s' and '%s'", operator, a.typeName(), b.typeName())
}

// contains is Python's in.
func (r *run) contains(container, item Value) (bool, error) {
	if s, ok := text(container); ok {
		t, ok := text(item)
		if !ok {
			return false, failf("'in <string>' requires string as left operand, not %s", item.typeName())
		}
		return strings.Contains(s, t), r.work(len(s))
	}
	if d, ok := container.(*Dict); ok {
		v, err := r.lookup(d, item)
		return v != nil, err
	}
	items, err := r.itemsOf(container)
	for _, v := range items {
		if same, err := r.equal(item, v); same || err != nil {
			return same, err
		}
	}
	return false, err
}
