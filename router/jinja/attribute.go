package jinja

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// attributeOrItem is a.name: the attribute, or else the item of that name.
func (r *run) attributeOrItem(object Value, name string) (Value, error) {
	d, isDict := object.(*Dict)
	if isDict && methods["dict"][name] == nil && !changing["dict"][name] {
		if v := d.Get(name); v != nil {
			return v, nil
		}
	}
	v, err := r.attribute(object, name)
	if v != nil || err != nil {
		return v, err
	}
	if isDict {
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
		v, err := r.lookup(o, key)
		if wrong := new(Error); errors.As(err, &wrong) {
			err = nil // a key that no dict can have is not there
		}
		return v, err
	}
	i, ok := integer(key)
	if !ok {
		return nil, nil
	}
	if l, ok := object.(*List); ok && l.kind <= interval {
		if i < 0 {
			i += int64(len(l.items))
		}
		if i < 0 || i >= int64(len(l.items)) {
			return nil, nil
		}
		return l.items[i], nil
	}
	s, ok := text(object)
	if !ok {
		return nil, nil
	}
	r.pay(1 + len(s)/bytesPerStep)
	if i < 0 {
		i += int64(utf8.RuneCountInString(s))
	}
	if i < 0 || i >= int64(len(s)) {
		return nil, nil
	}
	if c := cutText(s, i, 1); c != "" {
		return likeText(object, String(c)), nil
	}
	return nil, nil
}

// attribute returns nil where the object has no such attribute. One that templates may not use is undefined.
func (r *run) attribute(object Value, name string) (Value, error) {
	isPython := pythonAttributes[name]
	switch o := object.(type) {
	case *undefined:
		if !isPython {
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
	if isPython {
		return unsafeAttribute(object, name), nil
	}
	if strings.HasPrefix(name, "_") {
		return nil, nil
	}
	kind := object.typeName()
	if refusedAttributes[kind][name] {
		return nil, failf("the attribute %q of the type %s is not supported", name, kind)
	}
	if changing[kind][name] {
		return unsafeAttribute(object, name), nil
	}
	if loop, ok := object.(*loopValue); ok {
		return loop.attribute(name)
	}
	if object == Blank {
		kind = "str"
	}
	method := methods[kind][name]
	if method != nil {
		return &function{object, method}, nil
	}
	return nil, nil
}

func unsafeAttribute(object Value, name string) Value {
	hint := "access to attribute " + reprString(name) + " of '" + object.typeName() + "' object is unsafe."
	return &undefined{hint: hint, name: String(name)}
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
	s, isText := text(object)
	length := int64(utf8.RuneCountInString(s))
	l, isList := object.(*List)
	switch {
	case isList && l.kind <= interval:
		length = int64(len(l.items))
	case !isText:
		return nil, failf("'%s' object is not subscriptable", object.typeName())
	}
	start, step, count, err := sliceBounds(bounds, length)
	if err != nil {
		return nil, err
	}
	if isText {
		v, err := r.sliceText(s, start, step, count)
		return likeText(object, v), err
	}
	if step == 1 && count > 0 {
		return &List{l.items[start : start+count : start+count], l.kind}, r.allocate(0)
	}
	if err := r.allocateValues(int(count)); err != nil {
		return nil, err
	}
	taken := make([]Value, 0, count)
	for i := range count {
		taken = append(taken, l.items[start+i*step])
	}
	return &List{taken, l.kind}, nil
}

// sliceBounds returns what the bounds mean for a length. start lies within it where count is not 0.
func sliceBounds(bounds [3]Value, length int64) (start, step, count int64, err error) {
	values := [3]int64{0, 0, 1}
	for i, bound := range bounds {
		if bound == None {
			continue
		}
		n, ok := integer(bound)
		if !ok {
			return 0, 0, 0, failf("slice indices must be integers or None or have an __index__ method")
		}
		values[i] = clamp32(n)
	}
	step = values[2]
	if step == 0 {
		return 0, 0, 0, failf("slice step cannot be zero")
	}
	lowest, highest := int64(0), length
	if step < 0 {
		lowest, highest = -1, length-1
	}
	within := func(i int, absent int64) int64 {
		v := values[i]
		if bounds[i] == None {
			return absent
		}
		if v < 0 {
			v += length
		}
		return min(max(v, lowest), highest)
	}
	first, last := int64(0), length
	if step < 0 {
		first, last = length-1, -1
	}
	start = within(0, first)
	return start, step, stepsBetween(start, within(1, last), step), nil
}

// stepsBetween is how many steps lead from start to before stop.
func stepsBetween(start, stop, step int64) int64 {
	if step < 0 {
		start, stop, step = stop, start, -step
	}
	return max(0, (stop-start+step-1)/step)
}

func (r *run) sliceText(s string, start, step, count int64) (Value, error) {
	r.pay(1 + len(s)/bytesPerStep)
	if count == 0 {
		return String(""), nil
	}
	if step == 1 {
		return String(cutText(s, start, count)), nil
	}
	if err := r.allocate(5 * len(s)); err != nil {
		return nil, err
	}
	characters := []rune(s)
	taken := make([]rune, 0, count)
	for i := range count {
		taken = append(taken, characters[start+i*step])
	}
	return String(taken), nil
}

// cutText is count characters of s from character start on.
func cutText(s string, start, count int64) string {
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
