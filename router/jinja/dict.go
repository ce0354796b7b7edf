package jinja

import (
	"math"
	"strconv"
	"strings"
)

// smallDict is how many keys are found by looking at each.
const smallDict = 8

// Dict is Python's dict: it keeps the order in which keys came. The sandbox lets no template change one.
type Dict struct {
	keys, values []Value
	index        map[dictKey]int // by key; nil while the dict is small
}

// dictKey is equal for keys that Python takes for one: 1, 1.0 and True are.
type dictKey struct {
	kind   byte
	text   string
	number int64
	object Value
}

// Len is the number of keys.
func (d *Dict) Len() int { return len(d.keys) }

// At returns the key and the value at position i, in the order in which keys came.
func (d *Dict) At(i int) (key, value Value) { return d.keys[i], d.values[i] }

// Get returns the value of a key that is text, or nil.
func (d *Dict) Get(key string) Value {
	if d.index == nil {
		for i, k := range d.keys {
			if s, ok := k.(String); ok && string(s) == key {
				return d.values[i]
			}
		}
		return nil
	}
	if i, ok := d.index[dictKey{kind: 's', text: key}]; ok {
		return d.values[i]
	}
	return nil
}

// Set gives key, which is text, a value. A key that is there keeps its place. Dicts are filled by who makes them,
// before anyone else sees them.
func (d *Dict) Set(key string, value Value) { _ = d.set(String(key), value) }

func (d *Dict) set(key, value Value) error {
	k, err := keyOf(key, 0)
	if err != nil {
		return err
	}
	if i := d.find(k); i >= 0 {
		d.values[i] = value
		return nil
	}
	d.keys, d.values = append(d.keys, key), append(d.values, value)
	switch {
	case d.index != nil:
		d.index[k] = len(d.keys) - 1
	case len(d.keys) > smallDict:
		d.index = make(map[dictKey]int, 2*len(d.keys))
		for i, key := range d.keys {
			k, _ := keyOf(key, 0)
			d.index[k] = i
		}
	}
	return nil
}

func (d *Dict) find(k dictKey) int {
	if d.index != nil {
		if i, ok := d.index[k]; ok {
			return i
		}
		return -1
	}
	for i, key := range d.keys {
		if s, ok := key.(String); ok {
			if k.kind == 's' && k.text == string(s) {
				return i
			}
			continue
		}
		if other, err := keyOf(key, 0); err == nil && other == k {
			return i
		}
	}
	return -1
}

// lookup returns nil where the key is not there.
func (d *Dict) lookup(key Value) (Value, error) {
	if s, ok := text(key); ok {
		return d.Get(s), nil
	}
	k, err := keyOf(key, 0)
	if err != nil {
		return nil, err
	}
	if i := d.find(k); i >= 0 {
		return d.values[i], nil
	}
	return nil, nil
}

func (d *Dict) clone() *Dict {
	c := &Dict{keys: append([]Value(nil), d.keys...), values: append([]Value(nil), d.values...)}
	if d.index != nil {
		c.index = make(map[dictKey]int, len(d.index))
		for k, i := range d.index {
			c.index[k] = i
		}
	}
	return c
}

// payKey pays for finding a key.
func (r *run) payKey(key Value) error {
	if s, ok := text(key); ok {
		return r.work(len(s))
	}
	if t, ok := key.(*tuple); ok {
		if err := r.enter(); err != nil {
			return err
		}
		defer r.leave()
		for _, item := range t.items {
			if err := r.payKey(item); err != nil {
				return err
			}
		}
	}
	return r.step(1)
}

// keyOf fails for values that Python cannot hash.
func keyOf(v Value, depth int) (dictKey, error) {
	switch v := v.(type) {
	case String:
		return dictKey{kind: 's', text: string(v)}, nil
	case markup:
		return dictKey{kind: 's', text: string(v)}, nil
	case Int:
		return dictKey{kind: 'n', number: int64(v)}, nil
	case Bool:
		n, _ := integer(v)
		return dictKey{kind: 'n', number: n}, nil
	case Float:
		if f := float64(v); f == math.Trunc(f) && math.Abs(f) < 1<<62 {
			return dictKey{kind: 'n', number: int64(f)}, nil
		}
		return dictKey{kind: 'f', number: int64(math.Float64bits(float64(v)))}, nil
	case bigInt:
		return dictKey{kind: 'b', text: v.n.Text(16)}, nil
	case noneType, blankType:
		return dictKey{kind: '0'}, nil
	case *undefined:
		return dictKey{kind: 'u'}, nil
	case *tuple:
		return tupleKey(v, depth)
	case *List, *Dict, *view:
		return dictKey{}, failf("unhashable type: '%s'", v.typeName())
	}
	return dictKey{kind: 'o', object: v}, nil
}

func tupleKey(v *tuple, depth int) (dictKey, error) {
	if depth > DefaultDepth {
		return dictKey{}, &LimitError{"depth of values"}
	}
	var b strings.Builder
	for _, item := range v.items {
		k, err := keyOf(item, depth+1)
		if err != nil {
			return dictKey{}, err
		}
		if k.kind == 'o' {
			return dictKey{kind: 'o', object: v}, nil
		}
		b.WriteByte(k.kind)
		b.WriteString(strconv.FormatInt(k.number, 16))
		b.WriteByte(':')
		b.WriteString(strconv.Itoa(len(k.text)))
		b.WriteByte(':')
		b.WriteString(k.text)
		if b.Len() > DefaultOutputBytes {
			return dictKey{}, &LimitError{"memory"}
		}
	}
	return dictKey{kind: 't', text: b.String()}, nil
}
