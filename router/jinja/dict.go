package jinja

import "math"

// smallDict is how many keys are found by looking at each.
const smallDict = 8

// Dict is Python's dict with texts and whole numbers for keys: it keeps the order in which they came. The sandbox lets no
// template change one.
type Dict struct {
	keys, values []Value       // keys are of the types String and Int
	index        map[Value]int // by key; nil while the dict is small
}

// Len is the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

// At returns the key and the value at position i, in the order in which keys came.
func (d *Dict) At(i int) (key, value Value) { return d.keys[i], d.values[i] }

// Get returns the value of a key that is text, or nil.
func (d *Dict) Get(key string) Value {
	if i := d.find(String(key)); i >= 0 {
		return d.values[i]
	}
	return nil
}

// Set gives key, which is text, a value. A key that is there keeps its place. Dicts are filled by who makes them,
// before anyone else sees them.
func (d *Dict) Set(key string, value Value) { d.set(String(key), value) }

func (d *Dict) set(key, value Value) {
	if i := d.find(key); i >= 0 {
		d.values[i] = value
		return
	}
	d.keys, d.values = append(d.keys, key), append(d.values, value)
	switch {
	case d.index != nil:
		d.index[key] = len(d.keys) - 1
	case len(d.keys) > smallDict:
		d.index = make(map[Value]int, 2*len(d.keys))
		for i, key := range d.keys {
			d.index[key] = i
		}
	}
}

func (d *Dict) find(key Value) int {
	if d.index != nil {
		if i, ok := d.index[key]; ok {
			return i
		}
		return -1
	}
	for i, k := range d.keys {
		if k == key {
			return i
		}
	}
	return -1
}

// keyOf is v as a key that dicts have: Python takes 1, 1.0 and True for one. ok is false where no dict has such a key.
func keyOf(v Value) (key Value, ok bool) {
	switch v := v.(type) {
	case String, Int:
		return v, true
	case markup:
		return String(v), true
	case Float:
		return Int(v), float64(v) == math.Trunc(float64(v)) && math.Abs(float64(v)) < 1<<62
	}
	n, ok := integer(v)
	return Int(n), ok
}

// lookup pays for finding a key. It returns nil where the key is not there, and fails for values that Python cannot hash.
func (r *run) lookup(d *Dict, key Value) (Value, error) {
	if err := hashable(key); err != nil {
		return nil, err
	}
	s, _ := text(key)
	if k, ok := keyOf(key); ok {
		if i := d.find(k); i >= 0 {
			return d.values[i], r.work(len(s))
		}
	}
	return nil, r.work(len(s))
}

// hashable fails for values that Python cannot hash.
func hashable(v Value) error {
	l, isList := v.(*List)
	if _, isDict := v.(*Dict); isDict || isList && l.kind != tuple && l.kind != interval {
		return failf("unhashable type: '%s'", v.typeName())
	}
	return nil
}
