package jinja

import (
	"slices"
	"strings"
)

func filterMap(r *run, value Value, a *arguments) (Value, error) {
	if !truth(value) {
		return &iterator{}, nil
	}
	convert, err := r.mapping(a)
	if err != nil {
		return nil, err
	}
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	if err := r.allocateValues(len(items)); err != nil {
		return nil, err
	}
	mapped := make([]Value, len(items))
	for i, item := range items {
		if mapped[i], err = convert(item); err != nil {
			return nil, err
		}
	}
	return &iterator{mapped}, nil
}

var mapParameters = parametersOf("map([attribute] [default])")

// mapping is what map does with an item.
func (r *run) mapping(a *arguments) (func(Value) (Value, error), error) {
	if attribute := a.named("attribute"); attribute != nil && len(a.positional) == 0 {
		v, err := mapParameters.bind(a)
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
	f := filters[name]
	if f == nil {
		return nil, failf("No filter named %s.", reprString(name))
	}
	rest := &arguments{positional: a.positional[1:], names: a.names, values: a.values}
	return func(item Value) (Value, error) { return f(r, item, rest) }, nil
}

// selecting is select, reject, selectattr and rejectattr.
func selecting(byAttribute, keep bool) builtin {
	return func(r *run, value Value, a *arguments) (Value, error) {
		if !truth(value) {
			return &iterator{}, nil
		}
		holds, err := r.selection(a, byAttribute)
		if err != nil {
			return nil, err
		}
		items, err := r.itemsOf(value)
		if err != nil {
			return nil, err
		}
		if err := r.allocateValues(len(items)); err != nil {
			return nil, err
		}
		var kept []Value
		for _, item := range items {
			held, err := holds(item)
			if err != nil {
				return nil, err
			}
			if truth(held) == keep {
				kept = append(kept, item)
			}
		}
		return &iterator{kept}, nil
	}
}

// selection is the test that select puts to an item.
func (r *run) selection(a *arguments, byAttribute bool) (func(Value) (Value, error), error) {
	positional := a.positional
	var path []Value
	if byAttribute {
		if len(positional) == 0 {
			return nil, failf("Missing parameter for attribute name")
		}
		path, positional = attributePath(positional[0]), positional[1:]
	}
	if len(positional) == 0 {
		return func(item Value) (Value, error) { return r.follow(item, path, nil) }, nil
	}
	name, _ := text(positional[0])
	t := tests[name]
	if t == nil {
		return nil, failf("No test named %s.", reprString(name))
	}
	rest := &arguments{positional: positional[1:], names: a.names, values: a.values}
	return func(item Value) (Value, error) {
		v, err := r.follow(item, path, nil)
		if err != nil {
			return nil, err
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
		c := 0
		if same, err := r.equal(key(i), key(j)); !same && err == nil {
			c, _, failure = r.order("<", key(i), key(j))
		} else {
			failure = err
		}
		if reverse {
			return -c
		}
		return c
	})
	return order, failure
}

// sortedBy returns items in the order of their keys.
func (r *run) sortedBy(items []Value, keyOf func(Value) (Value, error), reverse bool) (*List, error) {
	if err := r.allocateValues(2 * len(items)); err != nil {
		return nil, err
	}
	keys := make([]Value, len(items))
	for i, item := range items {
		var err error
		if keys[i], err = keyOf(item); err != nil {
			return nil, err
		}
	}
	order, err := r.sorted(len(items), func(i int) Value { return keys[i] }, reverse)
	if err != nil {
		return nil, err
	}
	ordered := make([]Value, len(items))
	for to, from := range order {
		ordered[to] = items[from]
	}
	return &List{items: ordered}, nil
}

func filterSort(r *run, value Value, v []Value) (Value, error) {
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	if s, ok := v[2].(String); ok && strings.Contains(string(s), ",") {
		return nil, failf("sorting by several attributes is not supported")
	}
	path := attributePath(v[2])
	return r.sortedBy(items, func(item Value) (Value, error) { return r.key(item, path, isTrue(v[1])) }, isTrue(v[0]))
}

func filterDictSort(r *run, value Value, v []Value) (Value, error) {
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
		return nil, failf("'%s' object has no attribute 'items'", value.typeName())
	}
	pairs, err := r.view(d, itemsView)
	if err != nil {
		return nil, err
	}
	return r.sortedBy(pairs.items, func(item Value) (Value, error) {
		return r.key(item.(*List).items[at], nil, isTrue(v[0]))
	}, isTrue(v[2]))
}

func filterUnique(r *run, value Value, v []Value) (Value, error) {
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	path := attributePath(v[1])
	var seen, kept []Value
	for _, item := range items {
		key, err := r.key(item, path, isTrue(v[0]))
		if err == nil {
			err = hashable(key)
		}
		if err != nil {
			return nil, err
		}
		switch again, err := r.contains(&List{items: seen}, key); {
		case err != nil:
			return nil, err
		case again:
			continue
		}
		seen, kept = append(seen, key), append(kept, item)
		if err := r.allocateValues(2); err != nil {
			return nil, err
		}
	}
	return &iterator{kept}, nil
}

// extreme is min or, for largest, max: of those as large as another the first.
func extreme(largest bool) builtin {
	return takes("do_min([case_sensitive] [attribute])", func(r *run, value Value, v []Value) (Value, error) {
		items, err := r.itemsOf(value)
		if err != nil {
			return nil, err
		}
		path := attributePath(v[1])
		ordered, err := r.sortedBy(items, func(item Value) (Value, error) {
			key, err := r.key(item, path, isTrue(v[0]))
			if u, ok := key.(*undefined); ok && len(items) > 1 {
				return nil, u.fail()
			}
			return key, err
		}, largest)
		if err != nil {
			return nil, err
		}
		if len(ordered.items) > 0 {
			return ordered.items[0], nil
		}
		return &undefined{hint: "No aggregated item, sequence was empty."}, nil
	})
}
