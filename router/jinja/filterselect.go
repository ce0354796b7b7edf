package jinja

import (
	"slices"
	"strings"
)

// lazy is an iterator that begins when it is first read. Nothing happens, as in the reference, before that.
func (r *run) lazy(begin func() (func() (Value, error), error)) (Value, error) {
	var next func() (Value, error)
	return &iterator{func() (Value, error) {
		if next == nil {
			var err error
			if next, err = begin(); err != nil {
				return nil, err
			}
		}
		return next()
	}}, r.allocate(0)
}

func nothing() (Value, error) { return nil, nil }

func filterMap(r *run, value Value, a *arguments) (Value, error) {
	return r.lazy(func() (func() (Value, error), error) {
		if !truth(value) {
			return nothing, nil
		}
		convert, err := r.mapping(a)
		if err != nil {
			return nil, err
		}
		c, err := r.iterate(value)
		if err != nil {
			return nil, err
		}
		return func() (Value, error) {
			item, err := c.next()
			if item == nil || err != nil {
				return nil, err
			}
			if err := r.step(1); err != nil {
				return nil, err
			}
			return convert(item)
		}, nil
	})
}

// mapping is what map does with an item.
func (r *run) mapping(a *arguments) (func(Value) (Value, error), error) {
	if attribute := a.named("attribute"); attribute != nil && len(a.positional) == 0 {
		v, err := a.bind("map", 0, "attribute", "default")
		if err != nil {
			return nil, err
		}
		path := attributePath(attribute)
		return func(item Value) (Value, error) { return r.follow(item, path, v[1]) }, nil
	}
	if len(a.positional) == 0 {
		return nil, failf("map requires a filter argument")
	}
	name, _ := text(a.positional[0])
	f := filterNamed(name)
	if f == nil {
		return nil, failf("No filter named %s.", shortRepr(a.positional[0]))
	}
	rest := &arguments{positional: a.positional[1:], names: a.names, values: a.values}
	return func(item Value) (Value, error) { return f(r, item, rest) }, nil
}

// selecting is select, reject, selectattr and rejectattr.
func selecting(byAttribute, keep bool) filter {
	return func(r *run, value Value, a *arguments) (Value, error) {
		return r.lazy(func() (func() (Value, error), error) {
			if !truth(value) {
				return nothing, nil
			}
			holds, err := r.selection(a, byAttribute)
			if err != nil {
				return nil, err
			}
			c, err := r.iterate(value)
			if err != nil {
				return nil, err
			}
			return func() (Value, error) {
				for {
					item, err := c.next()
					if item == nil || err != nil {
						return nil, err
					}
					if err := r.step(1); err != nil {
						return nil, err
					}
					held, err := holds(item)
					if err != nil {
						return nil, err
					}
					if held == keep {
						return item, nil
					}
				}
			}, nil
		})
	}
}

// selection is the test that select puts to an item.
func (r *run) selection(a *arguments, byAttribute bool) (func(Value) (bool, error), error) {
	positional := a.positional
	var path []Value
	if byAttribute {
		if len(positional) == 0 {
			return nil, failf("Missing parameter for attribute name")
		}
		path, positional = attributePath(positional[0]), positional[1:]
	}
	if len(positional) == 0 {
		return func(item Value) (bool, error) {
			v, err := r.follow(item, path, nil)
			return err == nil && truth(v), err
		}, nil
	}
	name, _ := text(positional[0])
	t := testNamed(name)
	rest := &arguments{positional: positional[1:], names: a.names, values: a.values}
	return func(item Value) (bool, error) {
		v, err := r.follow(item, path, nil)
		if err != nil {
			return false, err
		}
		if t == nil {
			return false, failf("No test named %s.", shortRepr(positional[0]))
		}
		return t(r, v, rest)
	}, nil
}

// sorted returns the order of n items by their keys. Items with equal keys keep theirs.
func (r *run) sorted(n int, key func(i int) Value, reverse bool) ([]int, error) {
	if err := r.allocateValues(n); err != nil {
		return nil, err
	}
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	var failure error
	slices.SortStableFunc(order, func(i, j int) int {
		if failure != nil {
			return 0
		}
		if failure = r.step(1); failure != nil {
			return 0
		}
		c, _, err := r.order("<", key(i), key(j))
		failure = err
		if reverse {
			return -c
		}
		return c
	})
	return order, failure
}

// sortedBy returns items in the order of their keys, and the keys in that order.
func (r *run) sortedBy(items []Value, keyOf func(Value) (Value, error), reverse bool) (ordered, keys []Value, err error) {
	if err := r.allocateValues(3 * len(items)); err != nil {
		return nil, nil, err
	}
	unordered := make([]Value, len(items))
	for i, item := range items {
		if unordered[i], err = keyOf(item); err != nil {
			return nil, nil, err
		}
	}
	order, err := r.sorted(len(items), func(i int) Value { return unordered[i] }, reverse)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range order {
		ordered, keys = append(ordered, items[i]), append(keys, unordered[i])
	}
	return ordered, keys, nil
}

func filterSort(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_sort", 0, "reverse", "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	paths := [][]Value{attributePath(v[2])}
	if v[2] != nil {
		if s, ok := text(v[2]); ok {
			paths = nil
			for _, part := range strings.Split(s, ",") {
				paths = append(paths, attributePath(String(part)))
			}
		}
	}
	ordered, _, err := r.sortedBy(items, func(item Value) (Value, error) {
		keys := &List{make([]Value, len(paths))}
		for i, path := range paths {
			if keys.items[i], err = r.key(item, path, nil, isTrue(v[1])); err != nil {
				return nil, err
			}
		}
		return keys, r.allocateValues(len(paths))
	}, isTrue(v[0]))
	return &List{ordered}, err
}

func filterDictSort(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_dictsort", 0, "case_sensitive", "by", "reverse")
	if err != nil {
		return nil, err
	}
	at := 0
	if v[1] != nil {
		switch by, _ := text(v[1]); by {
		case "key":
		case "value":
			at = 1
		default:
			return nil, failf("You can only sort by either \"key\" or \"value\"")
		}
	}
	d, ok := value.(*Dict)
	if !ok {
		if u, ok := value.(*undefined); ok {
			return nil, u.fail()
		}
		return nil, failf("'%s' object has no attribute 'items'", value.typeName())
	}
	items, err := r.itemsOf(&view{d, "items"})
	if err != nil {
		return nil, err
	}
	ordered, _, err := r.sortedBy(items, func(item Value) (Value, error) {
		return r.key(item.(*tuple).items[at], nil, nil, isTrue(v[0]))
	}, isTrue(v[2]))
	return &List{ordered}, err
}

func filterGroupBy(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_groupby", 1, "attribute", "default", "case_sensitive")
	if err != nil {
		return nil, err
	}
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	path := attributePath(v[0])
	ordered, keys, err := r.sortedBy(items, func(item Value) (Value, error) { return r.key(item, path, v[1], isTrue(v[2])) }, false)
	if err != nil {
		return nil, err
	}
	groups := &List{}
	for i, item := range ordered {
		if i > 0 {
			same, err := r.equal(keys[i-1], keys[i])
			if err != nil {
				return nil, err
			}
			if same {
				members := groups.items[len(groups.items)-1].(*tuple).items[1].(*List)
				members.items = append(members.items, item)
				continue
			}
		}
		grouper, err := r.key(item, path, v[1], true)
		if err != nil {
			return nil, err
		}
		groups.items = append(groups.items, &tuple{[]Value{grouper, NewList(item)}, []string{"grouper", "list"}})
	}
	return groups, r.allocateValues(len(ordered))
}

func filterUnique(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_unique", 0, "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	path := attributePath(v[1])
	return r.lazy(func() (func() (Value, error), error) {
		c, err := r.iterate(value)
		if err != nil {
			return nil, err
		}
		seen := map[dictKey]bool{}
		return func() (Value, error) {
			for {
				item, err := c.next()
				if item == nil || err != nil {
					return nil, err
				}
				key, err := r.key(item, path, nil, isTrue(v[0]))
				if err != nil {
					return nil, err
				}
				if err := r.payKey(key); err != nil {
					return nil, err
				}
				k, err := keyOf(key, 0)
				if err != nil {
					return nil, err
				}
				if !seen[k] {
					seen[k] = true
					return item, r.allocate(2 * valueBytes)
				}
			}
		}, nil
	})
}

// extreme is min, for the operator <, or max, for >.
func extreme(operator string) filter {
	return func(r *run, value Value, a *arguments) (Value, error) {
		v, err := a.bind("do_min", 0, "case_sensitive", "attribute")
		if err != nil {
			return nil, err
		}
		items, err := r.itemsOf(value)
		if err != nil {
			return nil, err
		}
		path := attributePath(v[1])
		var best, bestKey Value
		for _, item := range items {
			key, err := r.key(item, path, nil, isTrue(v[0]))
			if err != nil {
				return nil, err
			}
			better := best == nil
			if !better {
				if better, err = r.compare(operator, key, bestKey); err != nil {
					return nil, err
				}
			}
			if better {
				best, bestKey = item, key
			}
		}
		if best == nil {
			return &undefined{hint: "No aggregated item, sequence was empty."}, nil
		}
		return best, nil
	}
}

func filterSum(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_sum", 0, "attribute", "start")
	if err != nil {
		return nil, err
	}
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	path := attributePath(v[0])
	var sum Value = Int(0)
	if v[1] != nil {
		sum = v[1]
	}
	if _, ok := text(sum); ok {
		return nil, failf("sum() can't sum strings [use ''.join(seq) instead]")
	}
	for _, item := range items {
		if item, err = r.follow(item, path, nil); err != nil {
			return nil, err
		}
		if sum, err = r.arithmetic("+", sum, item); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// itemsBy returns the items of a value and the number by which they are parted.
func (r *run) itemsBy(value, by Value) (items []Value, n int64, err error) {
	if items, err = r.itemsOf(value); err == nil {
		n, err = number(by, 0)
	}
	return items, n, err
}

func filterBatch(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_batch", 1, "linecount", "fill_with")
	if err != nil {
		return nil, err
	}
	return r.lazy(func() (func() (Value, error), error) {
		items, size, err := r.itemsBy(value, v[0])
		if err != nil {
			return nil, err
		}
		if size < 1 {
			size = int64(len(items)) + 1
		}
		return func() (Value, error) {
			if len(items) == 0 {
				return nil, nil
			}
			n := min(int(size), len(items))
			line := slices.Clone(items[:n])
			items = items[n:]
			if v[1] != nil && v[1] != None && int64(n) < size {
				if err := r.allocateValues(int(size)); err != nil {
					return nil, err
				}
				for int64(len(line)) < size {
					line = append(line, v[1])
				}
			}
			return &List{line}, r.allocateValues(n)
		}, nil
	})
}

func filterSlice(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_slice", 1, "slices", "fill_with")
	if err != nil {
		return nil, err
	}
	return r.lazy(func() (func() (Value, error), error) {
		items, count, err := r.itemsBy(value, v[0])
		if err != nil {
			return nil, err
		}
		if count == 0 {
			return nil, failf("integer division or modulo by zero")
		}
		each, longer := int64(len(items))/count, int64(len(items))%count
		i, start := int64(0), int64(0)
		return func() (Value, error) {
			if i >= count {
				return nil, nil
			}
			n := each + int64(boolInt(i < longer))
			line := slices.Clone(items[start : start+n])
			if v[1] != nil && v[1] != None && i >= longer {
				line = append(line, v[1])
			}
			i, start = i+1, start+n
			return &List{line}, r.allocateValues(len(line))
		}, nil
	})
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
