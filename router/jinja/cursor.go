package jinja

import "unicode/utf8"

// iterator can be read once: it is a generator of the reference's, whose items are made beforehand.
type iterator struct {
	items []Value
}

// next returns nil at the end.
func (i *iterator) next() (Value, error) {
	if len(i.items) == 0 {
		return nil, nil
	}
	item := i.items[0]
	i.items = i.items[1:]
	return item, nil
}

// iterate is Python's iter(v).
func (r *run) iterate(v Value) (*iterator, error) {
	if i, ok := v.(*iterator); ok {
		return i, nil
	}
	items, err := r.itemsOf(v)
	return &iterator{items}, err
}

// itemsOf are all items of a value; they must not be changed.
func (r *run) itemsOf(v Value) ([]Value, error) {
	if s, ok := text(v); ok {
		n := utf8.RuneCountInString(s)
		if err := r.allocateValues(2 * n); err != nil {
			return nil, err
		}
		items := make([]Value, 0, n)
		for i, c := range s {
			items = append(items, String(s[i:i+utf8.RuneLen(c)]))
		}
		return items, nil
	}
	switch v := v.(type) {
	case *undefined:
		return nil, nil
	case *List:
		return v.items, r.step(1 + len(v.items))
	case *Dict:
		return v.keys, r.step(1 + len(v.keys))
	case *iterator:
		items := v.items
		v.items = nil
		return items, r.step(1 + len(items))
	}
	return nil, failf("'%s' object is not iterable", v.typeName())
}

// size is Python's len(v).
func (r *run) size(v Value) (int64, error) {
	if s, ok := text(v); ok {
		return int64(utf8.RuneCountInString(s)), r.work(len(s))
	}
	switch v := v.(type) {
	case *List:
		return int64(len(v.items)), nil
	case *Dict:
		return int64(len(v.keys)), nil
	case *undefined:
		return 0, nil
	}
	return 0, failf("object of type '%s' has no len()", v.typeName())
}
