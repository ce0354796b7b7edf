package jinja

import (
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// attributeOrItem is a.name: the attribute, or else the item of that name.
func (r *run) attributeOrItem(object Value, name string) (Value, error) {
	if d, ok := object.(*Dict); ok && !dictMethods[name] {
		if v := d.Get(name); v != nil {
			return v, nil
		}
	}
	v, err := r.attribute(object, name)
	if v != nil || err != nil {
		return v, err
	}
	if d, ok := object.(*Dict); ok {
		if v := d.Get(name); v != nil {
			return v, nil
		}
	}
	return &undefined{object: object, name: String(name)}, nil
}

// itemOrAttribute is a[key]: the item, or else the attribute of that name.
func (r *run) itemOrAttribute(object, key Value) (Value, error) {
	v, err := r.item(object, key)
	if v != nil || err != nil {
		return v, err
	}
	if name, ok := text(key); ok {
		v, err := r.attribute(object, name)
		if v != nil || err != nil {
			return v, err
		}
	}
	return &undefined{object: object, name: key}, nil
}

// item returns nil where the object has no such item, or no items.
func (r *run) item(object, key Value) (Value, error) {
	switch o := object.(type) {
	case *undefined:
		return nil, o.fail()
	case *Dict:
		if err := r.payKey(key); err != nil {
			return nil, err
		}
		v, err := o.lookup(key)
		if _, ok := err.(*Error); ok {
			err = nil // a key that no dict can have is not there
		}
		return v, err
	}
	i, ok := integer(key)
	if !ok {
		return nil, nil
	}
	switch o := object.(type) {
	case *List:
		return at(o.items, i), nil
	case *tuple:
		return at(o.items, i), nil
	case *interval:
		if i < 0 {
			i += o.length
		}
		if i < 0 || i >= o.length {
			return nil, nil
		}
		return o.at(i), nil
	}
	s, ok := text(object)
	if !ok {
		return nil, nil
	}
	if err := r.work(len(s)); err != nil {
		return nil, err
	}
	if i < 0 {
		i += int64(utf8.RuneCountInString(s))
	}
	if c, ok := characterAt(s, i); ok {
		return likeText(object, c), nil
	}
	return nil, nil
}

func at(items []Value, i int64) Value {
	if i < 0 {
		i += int64(len(items))
	}
	if i < 0 || i >= int64(len(items)) {
		return nil
	}
	return items[i]
}

func characterAt(s string, i int64) (string, bool) {
	if i < 0 || i >= int64(len(s)) {
		return "", false
	}
	for j, r := range s {
		if i == 0 {
			return s[j : j+utf8.RuneLen(r)], true
		}
		i--
	}
	return "", false
}

// likeText is s as the type of text that original is.
func likeText(original Value, s string) Value {
	if _, ok := original.(markup); ok {
		return markup(s)
	}
	return String(s)
}

// attribute returns nil where the object has no such attribute. One that templates may not use is undefined.
func (r *run) attribute(object Value, name string) (Value, error) {
	switch o := object.(type) {
	case *undefined:
		if !isDunder(name) || !pythonAttributes[name] {
			return nil, o.fail()
		}
	case *namespace:
		if v := o.attributes.Get(name); v != nil {
			if strings.HasPrefix(name, "_") {
				return unsafeAttribute(object, name), nil
			}
			return v, nil
		}
		if name != "__class__" {
			return nil, nil
		}
	}
	if isDunder(name) && pythonAttributes[name] {
		return unsafeAttribute(object, name), nil
	}
	if strings.HasPrefix(name, "_") {
		return nil, nil
	}
	switch o := object.(type) {
	case String, markup, blankType:
		return textAttribute(object, name), nil
	case *Dict:
		return dictAttribute(o, name), nil
	case *List:
		return listAttribute(o, name), nil
	case *tuple:
		if i := slices.Index(o.names, name); i >= 0 {
			return o.items[i], nil
		}
		if name == "count" || name == "index" {
			return sequenceMethod(o, name), nil
		}
	case *loopValue:
		return o.attribute(name)
	case *macro:
		return o.attribute(name), nil
	case *cycler:
		return o.attribute(name), nil
	case *joiner:
		return o.attribute(name), nil
	case *interval:
		return intervalAttribute(o, name), nil
	case *dictType:
		if name == "fromkeys" {
			return &function{name, dictFromKeys}, nil
		}
	}
	if isNumber(object) {
		return numberAttribute(object, name), nil
	}
	return nil, nil
}

func unsafeAttribute(object Value, name string) Value {
	return &undefined{hint: "access to attribute " + reprString(name) + " of '" + object.typeName() + "' object is unsafe.", name: String(name)}
}

func isDunder(name string) bool {
	return strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__")
}

// pythonAttributes are the attributes that every Python object has.
var pythonAttributes = wordSet(`__class__ __doc__ __init__ __new__ __repr__ __str__ __hash__ __eq__ __ne__ __lt__ __le__
	__gt__ __ge__ __dir__ __format__ __getattribute__ __setattr__ __delattr__ __reduce__ __reduce_ex__ __sizeof__
	__subclasshook__ __init_subclass__`)

func wordSet(words string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(words) {
		set[word] = true
	}
	return set
}

// slice is object[start:stop:step].
func (r *run) slice(object Value, bounds [3]Value) (Value, error) {
	if u, ok := object.(*undefined); ok {
		return nil, u.fail()
	}
	length, ok := sizeOf(object)
	_, isRange := object.(*interval)
	switch object.(type) {
	case *Dict:
		return nil, failf("unhashable type: 'slice'")
	case *view, *loopValue:
		ok = false
	}
	if !ok {
		return nil, failf("'%s' object is not subscriptable", object.typeName())
	}
	start, stop, step, count, err := sliceBounds(bounds, length)
	if err != nil {
		return nil, err
	}
	if isRange {
		o := object.(*interval)
		if count == 0 {
			start = 0
		}
		if count < 2 { // the step says nothing more, and could grow without bound
			first := o.start + start*o.step
			return &interval{first, first + count, 1, count}, nil
		}
		return &interval{o.start + start*o.step, o.start + stop*o.step, o.step * step, count}, nil
	}
	if s, ok := text(object); ok {
		return r.sliceText(object, s, start, step, count)
	}
	items, _ := sequenceItems(object)
	var taken []Value
	if step == 1 && count > 0 {
		taken = items[start : start+count : start+count]
	} else {
		if err := r.allocateValues(int(count)); err != nil {
			return nil, err
		}
		taken = make([]Value, 0, count)
		for i := range count {
			taken = append(taken, items[start+i*step])
		}
	}
	if _, ok := object.(*tuple); ok {
		return &tuple{items: taken}, r.allocate(0)
	}
	return &List{taken}, r.allocate(0)
}

// sliceBounds returns what the bounds mean for a length. start lies within it where count is not 0, and stop is
// where Python's slice ends.
func sliceBounds(bounds [3]Value, length int64) (start, stop, step, count int64, err error) {
	values := [3]int64{0, 0, 1}
	for i, bound := range bounds {
		if bound == None {
			continue
		}
		n, ok := wholeNumber(bound)
		if !ok {
			return 0, 0, 0, 0, failf("slice indices must be integers or None or have an __index__ method")
		}
		switch {
		case n.IsInt64():
			values[i] = min(max(n.Int64(), math.MinInt32), math.MaxInt32)
		case n.Sign() < 0:
			values[i] = math.MinInt32
		default:
			values[i] = math.MaxInt32
		}
	}
	step = values[2]
	if step == 0 {
		return 0, 0, 0, 0, failf("slice step cannot be zero")
	}
	lowest, highest := int64(0), length
	if step < 0 {
		lowest, highest = -1, length-1
	}
	clamp := func(i int, absent int64) int64 {
		v := values[i]
		if bounds[i] == None {
			return absent
		}
		if v < 0 {
			v += length
		}
		return min(max(v, lowest), highest)
	}
	if step > 0 {
		start, stop = clamp(0, 0), clamp(1, length)
		count = max(0, (stop-start+step-1)/step)
	} else {
		start, stop = clamp(0, length-1), clamp(1, -1)
		count = max(0, (start-stop-step-1)/-step)
	}
	return start, stop, step, count, nil
}

func (r *run) sliceText(object Value, s string, start, step, count int64) (Value, error) {
	if err := r.work(len(s)); err != nil {
		return nil, err
	}
	if count == 0 {
		return likeText(object, ""), nil
	}
	if step == 1 {
		return likeText(object, cutText(s, start, count)), nil
	}
	if err := r.allocate(5 * len(s)); err != nil {
		return nil, err
	}
	characters := []rune(s)
	taken := make([]rune, 0, count)
	for i := range count {
		taken = append(taken, characters[start+i*step])
	}
	return likeText(object, string(taken)), nil
}

// cutText is count characters of s from character start on.
func cutText(s string, start, count int64) string {
	if int64(len(s)) == start+count {
		if int64(utf8.RuneCountInString(s)) == int64(len(s)) {
			return s[start:]
		}
	}
	from, at := len(s), int64(0)
	for i := range s {
		if at == start {
			from = i
		}
		if at == start+count {
			return s[from:i]
		}
		at++
	}
	return s[from:]
}
