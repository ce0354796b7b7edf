package jinja

import "unicode/utf8"

// cursor goes over the items of a value once.
type cursor struct {
	run   *run
	items []Value
	at    int
	more  func() (Value, error) // where items has no more; may be nil
}

// next returns nil at the end.
func (c *cursor) next() (Value, error) {
	if c.at < len(c.items) {
		c.at++
		return c.items[c.at-1], nil
	}
	if c.more == nil {
		return nil, nil
	}
	return c.more()
}

// sequenceItems are the items of a list or a tuple.
func sequenceItems(v Value) ([]Value, bool) {
	switch v := v.(type) {
	case *List:
		return v.items, true
	case *tuple:
		return v.items, true
	}
	return nil, false
}

// iterate is Python's iter(v).
func (r *run) iterate(v Value) (*cursor, error) {
	if items, ok := sequenceItems(v); ok {
		return &cursor{run: r, items: items}, nil
	}
	if s, ok := text(v); ok {
		return &cursor{run: r, more: func() (Value, error) {
			if s == "" {
				return nil, nil
			}
			_, size := utf8.DecodeRuneInString(s)
			var c Value = String(s[:size])
			s = s[size:]
			return c, r.step(1)
		}}, nil
	}
	switch v := v.(type) {
	case *undefined:
		return &cursor{run: r}, nil
	case *Dict:
		return &cursor{run: r, items: v.keys}, nil
	case *view:
		c := r.indexed(len(v.dict.keys), v.at)
		if v.kind == "items" {
			pairs := c.more
			c.more = func() (Value, error) {
				if err := r.allocate(2 * valueBytes); err != nil {
					return nil, err
				}
				return pairs()
			}
		}
		return c, nil
	case *interval:
		return r.indexed(int(v.length), func(i int) Value { return v.at(int64(i)) }), nil
	case *iterator:
		return &cursor{run: r, more: v.next}, nil
	case *loopValue:
		return &cursor{run: r, more: func() (Value, error) {
			item, err := v.advance()
			if item == nil || err != nil {
				return nil, err
			}
			return &tuple{items: []Value{item, v}}, nil
		}}, nil
	}
	return nil, failf("'%s' object is not iterable", v.typeName())
}

func (r *run) indexed(length int, at func(int) Value) *cursor {
	i := 0
	return &cursor{run: r, more: func() (Value, error) {
		if i >= length {
			return nil, nil
		}
		i++
		return at(i - 1), r.step(1)
	}}
}

// collect reads a cursor to its end.
func (r *run) collect(c *cursor) ([]Value, error) {
	var items []Value
	for {
		item, err := c.next()
		if err != nil {
			return nil, err
		}
		if item == nil {
			return items, nil
		}
		if err := r.allocate(0); err != nil {
			return nil, err
		}
		items = append(items, item)
	}
}

// itemsOf are all items of a value; they must not be changed.
func (r *run) itemsOf(v Value) ([]Value, error) {
	if items, ok := sequenceItems(v); ok {
		return items, r.step(1 + len(items))
	}
	c, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	return r.collect(c)
}

// size is Python's len(v).
func (r *run) size(v Value) (int64, error) {
	if s, ok := text(v); ok {
		if err := r.work(len(s)); err != nil {
			return 0, err
		}
	}
	n, ok := sizeOf(v)
	if !ok {
		return 0, failf("object of type '%s' has no len()", v.typeName())
	}
	return n, nil
}

// sizeOf is Python's len(v); ok is false where there is none.
func sizeOf(v Value) (size int64, ok bool) {
	if s, ok := text(v); ok {
		return int64(utf8.RuneCountInString(s)), true
	}
	switch v := v.(type) {
	case *List:
		return int64(len(v.items)), true
	case *tuple:
		return int64(len(v.items)), true
	case *Dict:
		return int64(len(v.keys)), true
	case *view:
		return int64(len(v.dict.keys)), true
	case *interval:
		return v.length, true
	case *undefined:
		return 0, true
	case *loopValue:
		n, err := v.size()
		return n, err == nil
	}
	return 0, false
}
