package jinja

import "strings"

// filter is what stands behind |.
type filter func(r *run, value Value, a *arguments) (Value, error)

var filters map[string]filter

func filterNamed(name string) filter { return filters[name] }

func init() { // filters and what they use refer to each other
	filters = map[string]filter{
		"abs":            filterAbs,
		"attr":           filterAttr,
		"batch":          filterBatch,
		"capitalize":     textFilter(capitalize),
		"center":         filterCenter,
		"count":          filterLength,
		"d":              filterDefault,
		"default":        filterDefault,
		"dictsort":       filterDictSort,
		"e":              filterEscape,
		"escape":         filterEscape,
		"filesizeformat": filterFileSize,
		"first":          filterFirst,
		"float":          filterFloat,
		"forceescape":    filterForceEscape,
		"format":         filterFormat,
		"groupby":        filterGroupBy,
		"indent":         filterIndent,
		"int":            filterInt,
		"items":          filterItems,
		"join":           filterJoin,
		"last":           filterLast,
		"length":         filterLength,
		"list":           filterList,
		"lower":          textFilter(lower),
		"map":            filterMap,
		"max":            extreme(">"),
		"min":            extreme("<"),
		"pprint":         filterPrettyPrint,
		"random":         refusedFilter("random"),
		"reject":         selecting(false, false),
		"rejectattr":     selecting(true, false),
		"replace":        filterReplace,
		"reverse":        filterReverse,
		"round":          filterRound,
		"safe":           filterSafe,
		"select":         selecting(false, true),
		"selectattr":     selecting(true, true),
		"slice":          filterSlice,
		"sort":           filterSort,
		"string":         filterString,
		"striptags":      filterStripTags,
		"sum":            filterSum,
		"title":          textFilter(titleWords),
		"tojson":         filterToJSON,
		"trim":           filterTrim,
		"truncate":       filterTruncate,
		"unique":         filterUnique,
		"upper":          textFilter(upper),
		"urlencode":      filterURLEncode,
		"urlize":         refusedFilter("urlize"),
		"wordcount":      filterWordCount,
		"wordwrap":       filterWordWrap,
		"xmlattr":        filterXMLAttributes,
	}
}

func refusedFilter(name string) filter {
	return func(*run, Value, *arguments) (Value, error) { return nil, failf("%s is not supported", name) }
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
		if all(part, isDigit) {
			if n, ok := parseWhole(part, 10); ok {
				path = append(path, n)
				continue
			}
		}
		path = append(path, String(part))
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

// ignoringCase is text in lower case, and anything else as it is.
func (r *run) ignoringCase(v Value) (Value, error) {
	s, ok := text(v)
	if !ok {
		return v, nil
	}
	if err := r.allocate(len(s)); err != nil {
		return nil, err
	}
	return String(lower(s)), nil
}

// key is what a filter compares an item by.
func (r *run) key(item Value, path []Value, absent Value, caseSensitive bool) (Value, error) {
	v, err := r.follow(item, path, absent)
	if err != nil || caseSensitive {
		return v, err
	}
	return r.ignoringCase(v)
}

func isTrue(v Value) bool { return v != nil && truth(v) }

func filterDefault(_ *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_default", 0, "default_value", "boolean")
	if err != nil {
		return nil, err
	}
	if !isUndefined(value) && !(isTrue(v[1]) && !truth(value)) {
		return value, nil
	}
	if v[0] == nil {
		return String(""), nil
	}
	return v[0], nil
}

func filterLength(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("len", 0, 0); err != nil {
		return nil, err
	}
	n, err := r.size(value)
	return Int(n), err
}

func filterAttr(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_attr", 1, "name")
	if err != nil {
		return nil, err
	}
	name, ok := text(v[0])
	if !ok {
		return nil, failf("attribute name must be string, not '%s'", v[0].typeName())
	}
	found, err := r.attribute(value, name)
	if found == nil && err == nil {
		return &undefined{object: value, name: v[0]}, nil
	}
	return found, err
}

func filterFirst(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("first", 0, 0); err != nil {
		return nil, err
	}
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

func filterLast(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("last", 0, 0); err != nil {
		return nil, err
	}
	c, err := r.reversed(value)
	if err != nil {
		return nil, err
	}
	item, err := c.next()
	if item == nil && err == nil {
		return &undefined{hint: "No last item, sequence was empty."}, nil
	}
	return item, err
}

// reversed is Python's reversed(v).
func (r *run) reversed(v Value) (*cursor, error) {
	var items []Value
	switch o := v.(type) {
	case *List:
		items = o.items
	case *tuple:
		items = o.items
	case *Dict:
		items = o.keys
	case *view:
		n := len(o.dict.keys)
		return r.indexed(n, func(i int) Value { return o.at(n - 1 - i) }), nil
	case *interval:
		return r.indexed(int(o.length), func(i int) Value { return o.at(o.length - 1 - int64(i)) }), nil
	case *undefined:
	case String, markup:
		var err error
		if items, err = r.itemsOf(v); err != nil {
			return nil, err
		}
	default:
		return nil, failf("'%s' object is not reversible", v.typeName())
	}
	return r.indexed(len(items), func(i int) Value { return items[len(items)-1-i] }), nil
}

func filterReverse(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("reverse", 0, 0); err != nil {
		return nil, err
	}
	if _, ok := text(value); ok {
		return r.slice(value, [3]Value{None, None, Int(-1)})
	}
	c, err := r.reversed(value)
	if err != nil {
		items, itemsErr := r.itemsOf(value)
		if itemsErr != nil {
			return nil, failf("argument must be iterable")
		}
		backwards := make([]Value, len(items))
		for i, item := range items {
			backwards[len(items)-1-i] = item
		}
		return &List{backwards}, r.allocateValues(len(items))
	}
	return &iterator{c.next}, r.allocate(0)
}

func filterList(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("list", 0, 0); err != nil {
		return nil, err
	}
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	return &List{items[:len(items):len(items)]}, r.allocate(0)
}

func filterItems(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("items", 0, 0); err != nil {
		return nil, err
	}
	var c *cursor
	return &iterator{func() (Value, error) {
		if c == nil {
			d, ok := value.(*Dict)
			if !ok {
				if isUndefined(value) {
					return nil, nil
				}
				return nil, failf("Can only get item pairs from a mapping.")
			}
			var err error
			if c, err = r.iterate(&view{d, "items"}); err != nil {
				return nil, err
			}
		}
		return c.next()
	}}, r.allocate(0)
}

func filterJoin(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_join", 0, "d", "attribute")
	if err != nil {
		return nil, err
	}
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
	joined, err := r.join(separator, items)
	return String(joined), err
}

func filterString(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("string", 0, 0); err != nil {
		return nil, err
	}
	if _, ok := text(value); ok {
		return value, nil
	}
	s, err := r.str(value)
	return String(s), err
}
