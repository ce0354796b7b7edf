package jinja

import (
	"math"
	"math/big"
	"math/bits"
)

// changing are the methods that change their object, which the sandbox lets nobody call.
var (
	changingDict = wordSet("clear pop popitem setdefault update")
	changingList = wordSet("append clear pop reverse insert sort extend remove")
	dictMethods  = wordSet("clear pop popitem setdefault update get items keys values copy fromkeys")
)

func dictAttribute(d *Dict, name string) Value {
	if changingDict[name] {
		return unsafeAttribute(d, name)
	}
	switch name {
	case "keys", "values", "items":
		return &function{name, func(r *run, a *arguments) (Value, error) {
			_, err := a.places(name, 0, 0)
			return &view{d, name}, err
		}}
	case "get":
		return &function{name, func(r *run, a *arguments) (Value, error) {
			v, err := a.places("get", 1, 2)
			if err != nil {
				return nil, err
			}
			if err := r.payKey(v[0]); err != nil {
				return nil, err
			}
			found, err := d.lookup(v[0])
			switch {
			case found != nil || err != nil:
				return found, err
			case v[1] != nil:
				return v[1], nil
			}
			return None, nil
		}}
	case "copy":
		return &function{name, func(r *run, a *arguments) (Value, error) {
			_, err := a.places("copy", 0, 0)
			return d, err
		}}
	case "fromkeys":
		return &function{name, dictFromKeys}
	}
	return nil
}

func dictFromKeys(r *run, a *arguments) (Value, error) {
	v, err := a.places("fromkeys", 1, 2)
	if err != nil {
		return nil, err
	}
	keys, err := r.itemsOf(v[0])
	if err != nil {
		return nil, err
	}
	if err := r.allocateValues(2 * len(keys)); err != nil {
		return nil, err
	}
	value := None
	if v[1] != nil {
		value = v[1]
	}
	d := &Dict{}
	for _, key := range keys {
		if err := r.payKey(key); err != nil {
			return nil, err
		}
		if err := d.set(key, value); err != nil {
			return nil, err
		}
	}
	return d, nil
}

func listAttribute(l *List, name string) Value {
	if changingList[name] {
		return unsafeAttribute(l, name)
	}
	switch name {
	case "count", "index":
		return sequenceMethod(l, name)
	case "copy":
		return &function{name, func(r *run, a *arguments) (Value, error) {
			_, err := a.places("copy", 0, 0)
			return l, err
		}}
	}
	return nil
}

// sequenceMethod is count or index.
func sequenceMethod(sequence Value, name string) Value {
	return &function{name, func(r *run, a *arguments) (Value, error) {
		items, err := r.itemsOf(sequence)
		if err != nil {
			return nil, err
		}
		most := 3
		if name == "count" {
			most = 1
		}
		v, err := a.places(name, 1, most)
		if err != nil {
			return nil, err
		}
		from, to := int64(0), int64(len(items))
		if name == "index" {
			if from, to, err = bounds(v[1], v[2], to); err != nil {
				return nil, err
			}
		}
		count := 0
		for i := from; i < to; i++ {
			if err := r.step(1); err != nil {
				return nil, err
			}
			same, err := r.equal(items[i], v[0])
			if err != nil {
				return nil, err
			}
			if same && name == "index" {
				return Int(i), nil
			}
			if same {
				count++
			}
		}
		if name == "index" {
			return nil, failf("%s is not in list", shortRepr(v[0]))
		}
		return Int(count), nil
	}}
}

// bounds are optional start and stop arguments within a length.
func bounds(start, stop Value, length int64) (from, to int64, err error) {
	pair := [3]Value{None, None, None}
	for i, v := range []Value{start, stop} {
		if v != nil {
			pair[i] = v
		}
	}
	from, to = 0, length
	for i, v := range pair[:2] {
		if v == None {
			continue
		}
		n, ok := wholeNumber(v)
		if !ok {
			return 0, 0, failf("slice indices must be integers or None or have an __index__ method")
		}
		if !n.IsInt64() {
			n = big.NewInt(int64(n.Sign()) * math.MaxInt32)
		}
		k := min(max(n.Int64(), math.MinInt32), math.MaxInt32)
		if k < 0 {
			k = max(0, k+length)
		}
		if i == 0 {
			from = k
		} else {
			to = min(k, length)
		}
	}
	return from, to, nil
}

func intervalAttribute(v *interval, name string) Value {
	switch name {
	case "start":
		return Int(v.start)
	case "step":
		return Int(v.step)
	case "stop":
		return Int(v.stop)
	case "count", "index":
		return sequenceMethod(v, name)
	}
	return nil
}

func bitCount(n *big.Int) Value {
	count := 0
	for _, word := range n.Bits() {
		count += bits.OnesCount(uint(word))
	}
	return Int(count)
}

func numberAttribute(v Value, name string) Value {
	constantly := func(result Value) Value {
		return &function{name, func(r *run, a *arguments) (Value, error) {
			_, err := a.places(name, 0, 0)
			return result, err
		}}
	}
	f, isFloat := v.(Float)
	n, _ := wholeNumber(v)
	switch {
	case name == "real":
		if isFloat {
			return v
		}
		return normalInt(n)
	case name == "imag" && isFloat:
		return Float(0)
	case name == "imag":
		return Int(0)
	case name == "conjugate":
		return constantly(v)
	case name == "is_integer" && isFloat:
		return constantly(Bool(float64(f) == math.Trunc(float64(f)) && !math.IsInf(float64(f), 0)))
	case isFloat:
		return nil
	case name == "numerator":
		return normalInt(n)
	case name == "denominator":
		return Int(1)
	case name == "bit_length":
		return constantly(Int(n.BitLen()))
	case name == "bit_count":
		return constantly(bitCount(n))
	}
	return nil
}
