package jinja

import (
	"cmp"
	"math"
	"math/big"
	"strings"
)

// compare is one of Python's comparisons, or in or not in.
func (r *run) compare(operator string, left, right Value) (bool, error) {
	if err := r.step(1); err != nil {
		return false, err
	}
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
	if same, known := identical(a, b); known {
		return same, nil
	}
	if err := r.enter(); err != nil {
		return false, err
	}
	defer r.leave()
	switch x := a.(type) {
	case *undefined:
		_, ok := b.(*undefined)
		return ok, nil
	case *List:
		y, ok := b.(*List)
		if !ok {
			return false, nil
		}
		return r.equalAll(x.items, y.items)
	case *tuple:
		y, ok := b.(*tuple)
		if !ok {
			return false, nil
		}
		return r.equalAll(x.items, y.items)
	case *Dict:
		y, ok := b.(*Dict)
		if !ok || len(x.keys) != len(y.keys) {
			return false, nil
		}
		return r.equalDicts(x, y)
	case *interval:
		y, ok := b.(*interval)
		return ok && x.length == y.length && (x.length == 0 || x.start == y.start && (x.length == 1 || x.step == y.step)), nil
	case *view:
		y, ok := b.(*view)
		if !ok || x.kind != y.kind || x.kind == "values" || len(x.dict.keys) != len(y.dict.keys) {
			return false, nil
		}
		return r.equalViews(x, y)
	}
	return false, nil
}

// identical is Python's is, for values that are made once; known is false where equal values are not one.
func identical(a, b Value) (same, known bool) {
	switch a.(type) {
	case noneType, blankType:
		return isNone(b), true
	case *undefined, *List, *tuple, *Dict, *view, *interval:
		return true, a == b
	}
	return a == b, true
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
		if err := r.step(1); err != nil {
			return false, err
		}
		if err := r.payKey(key); err != nil {
			return false, err
		}
		other, err := b.lookup(key)
		if other == nil || err != nil {
			return false, err
		}
		if same, err := r.equal(a.values[i], other); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

func (r *run) equalViews(a, b *view) (bool, error) {
	if a.kind == "items" {
		return r.equalDicts(a.dict, b.dict)
	}
	for _, key := range a.dict.keys {
		if err := r.payKey(key); err != nil {
			return false, err
		}
		if other, err := b.dict.lookup(key); other == nil || err != nil {
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
	x, xWhole := wholeNumber(a)
	y, yWhole := wholeNumber(b)
	switch {
	case xWhole && yWhole:
		return x.Cmp(y), true
	case xWhole:
		order, ordered = compareNumbers(b, a)
		return -order, ordered
	case yWhole:
		f := float64(a.(Float))
		if math.IsNaN(f) {
			return 0, false
		}
		if math.IsInf(f, 0) {
			return cmp.Compare(f, 0), true
		}
		return new(big.Float).SetFloat64(f).Cmp(new(big.Float).SetInt(y)), true
	}
	f, g := float64(a.(Float)), float64(b.(Float))
	return cmp.Compare(f, g), f == f && g == g
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
	x, isA := sequenceItems(a)
	y, isB := sequenceItems(b)
	if !isA || !isB || a.typeName() != b.typeName() {
		return 0, false, failf("'%s' not supported between instances of '%s' and '%s'", operator, a.typeName(), b.typeName())
	}
	if err := r.enter(); err != nil {
		return 0, false, err
	}
	defer r.leave()
	for i := range min(len(x), len(y)) {
		if err := r.step(1); err != nil {
			return 0, false, err
		}
		if same, err := r.equal(x[i], y[i]); err != nil {
			return 0, false, err
		} else if !same {
			return r.order(operator, x[i], y[i])
		}
	}
	return cmp.Compare(len(x), len(y)), true, nil
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
	switch c := container.(type) {
	case *Dict:
		if err := r.payKey(item); err != nil {
			return false, err
		}
		v, err := c.lookup(item)
		return v != nil, err
	case *view:
		if c.kind == "keys" {
			if err := r.payKey(item); err != nil {
				return false, err
			}
			v, err := c.dict.lookup(item)
			return v != nil, err
		}
	case *interval:
		n, ok := integer(item)
		if f, isFloat := item.(Float); isFloat && float64(f) == math.Trunc(float64(f)) && math.Abs(float64(f)) < 1<<53 {
			n, ok = int64(f), true
		}
		if !ok || c.length == 0 {
			return false, nil
		}
		offset := n - c.start
		return offset%c.step == 0 && offset/c.step >= 0 && offset/c.step < c.length, nil
	}
	c, err := r.iterate(container)
	if err != nil {
		return false, failf("argument of type '%s' is not iterable", container.typeName())
	}
	for {
		v, err := c.next()
		if v == nil || err != nil {
			return false, err
		}
		if err := r.step(1); err != nil {
			return false, err
		}
		if same, err := r.equal(item, v); same || err != nil {
			return same, err
		}
	}
}
