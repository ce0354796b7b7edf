package jinja

import (
	"slices"
	"strings"
)

var filters map[string]builtin

func init() { // filters and what they use refer to each other
	filters = map[string]builtin{
		"abs":        takes("abs(/)", filterAbs),
		"capitalize": textFilter(capitalize),
		"count":      takes("len(/)", filterLength),
		"d":          takes("do_default([default_value] [boolean])", filterDefault),
		"default":    takes("do_default([default_value] [boolean])", filterDefault),
		"dictsort":   takes("do_dictsort([case_sensitive] [by] [reverse])", filterDictSort),
		"first":      takes("first(/)", filterFirst),
		"float":      takes("do_float([default])", filterFloat),
		"indent":     takes("do_indent([width] [first] [blank])", filterIndent),
		"int":        takes("do_int([default])", filterInt),
		"items":      takes("items(/)", filterItems),
		"join":       takes("do_join([d] [attribute])", filterJoin),
		"last":       takes("last(/)", filterLast),
		"length":     takes("len(/)", filterLength),
		"list":       takes("list(/)", filterList),
		"lower":      textFilter(lower),
		"map":        filterMap,
		"max":        extreme(true),
		"min":        extreme(false),
		"reject":     selecting(false, false),
		"rejectattr": selecting(true, false),
		"replace":    takes("do_replace(old new [count])", filterReplace),
		"reverse":    takes("reverse(/)", filterReverse),
		"safe":       takes("safe(/)", filterSafe),
		"select":     selecting(false, true),
		"selectattr": selecting(true, true),
		"sort":       takes("do_sort([reverse] [case_sensitive] [attribute])", filterSort),
		"string":     takes("string(/)", filterString),
		"title":      textFilter(titleWords),
		"tojson":     takes("tojson([ensure_ascii] [indent] [separators] [sort_keys])", filterToJSON),
		"trim":       takes("do_trim([chars])", filterTrim),
		"unique":     takes("do_unique([case_sensitive] [attribute])", filterUnique),
		"upper":      textFilter(upper),
	}
}

// attributePath is an attribute argument: names and numbers with dots between. It is empty for None.
func attributePath(v Value) []Value {
	if v == nil || v == None {
		return nil
	}
	s, ok := text(v)
	if !ok {
		return []Value{v}
	}
	var path []Value
	for _, part := range strings.Split(s, ".") {
		if n, ok, _ := parseWhole(part); ok && part[0] >= '0' {
			path = append(path, Int(n))
		} else {
			path = append(path, String(part))
		}
	}
	return path
}

// follow looks a path up. Where a step is not there it goes on with absent, unless that is nil or None.
func (r *run) follow(v Value, path []Value, absent Value) (Value, error) {
	for _, key := range path {
		var err error
		if v, err = r.itemOrAttribute(v, key); err != nil {
			return nil, err
		}
		if absent != nil && absent != None && isUndefined(v) {
			v = absent
		}
	}
	return v, r.step(1 + len(path))
}

// key is what a filter compares an item by: text without its case, unless that counts.
func (r *run) key(item Value, path []Value, caseSensitive bool) (Value, error) {
	v, err := r.follow(item, path, nil)
	s, ok := text(v)
	if err != nil || caseSensitive || !ok {
		return v, err
	}
	return String(lower(s)), r.allocate(len(s))
}

func filterDefault(_ *run, value Value, v []Value) (Value, error) {
	if !isUndefined(value) && !(isTrue(v[1]) && !truth(value)) {
		return value, nil
	}
	if v[0] == nil {
		return String(""), nil
	}
	return v[0], nil
}

func filterLength(r *run, value Value, _ []Value) (Value, error) {
	n, err := r.size(value)
	return Int(n), err
}

func filterFirst(r *run, value Value, _ []Value) (Value, error) {
	c, err := r.iterate(value)
	if err != nil {
		return nil, err
	}
	item, err := c.next()
	if item == nil && err == nil {
		return &undefined{hint: "No first item, sequence was empty."}, nil
	}
	return item, err
}

func filterLast(r *run, value Value, _ []Value) (Value, error) {
	if _, ok := value.(*iterator); ok {
		return nil, failf("'%s' object is not reversible", value.typeName())
	}
	items, err := r.itemsOf(value)
	if len(items) == 0 && err == nil {
		return &undefined{hint: "No last item, sequence was empty."}, nil
	}
	if err != nil {
		return nil, err
	}
	return items[len(items)-1], nil
}

func filterReverse(r *run, value Value, _ []Value) (Value, error) {
	if _, ok := text(value); ok {
		return r.slice(value, [3]Value{None, None, Int(-1)})
	}
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	if err := r.allocateValues(len(items)); err != nil {
		return nil, err
	}
	backwards := slices.Clone(items)
	slices.Reverse(backwards)
	if _, ok := value.(*iterator); ok {
		return &List{items: backwards}, nil
	}
	return &iterator{backwards}, nil
}

func filterList(r *run, value Value, _ []Value) (Value, error) {
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	return &List{items: slices.Clip(items)}, r.allocate(0)
}

func filterItems(r *run, value Value, _ []Value) (Value, error) {
	if isUndefined(value) {
		return &iterator{}, nil
	}
	d, ok := value.(*Dict)
	if !ok {
		return nil, failf("Can only get item pairs from a mapping.")
	}
	pairs, err := r.view(d, itemsView)
	return &iterator{pairs.items}, err
}

func filterJoin(r *run, value Value, v []Value) (Value, error) {
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	if path := attributePath(v[1]); path != nil {
		if err := r.allocateValues(len(items)); err != nil {
			return nil, err
		}
		found := make([]Value, len(items))
		for i, item := range items {
			if found[i], err = r.follow(item, path, nil); err != nil {
				return nil, err
			}
		}
		items = found
	}
	separator := ""
	if v[0] != nil {
		if separator, err = r.str(v[0]); err != nil {
			return nil, err
		}
	}
	return r.join(separator, items)
}

func filterString(r *run, value Value, _ []Value) (Value, error) {
	if _, ok := text(value); ok {
		return value, nil
	}
	s, err := r.str(value)
	return String(s), err
}

func filterSafe(r *run, value Value, _ []Value) (Value, error) {
	s, err := r.str(value)
	return markup(s), err
}
