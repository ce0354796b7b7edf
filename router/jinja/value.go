package jinja

import "math/big"

// Value is a Python value as templates see it. Values that came from outside a rendering are never changed by it, so
// they may be shared.
type Value interface {
	typeName() string // as Python names the type
}

type noneType struct{}

// None is Python's None and JSON's null.
var None Value = noneType{}

type blankType struct{}

// Blank is a None that templates may write without a thought: it is None to whatever asks for that, and an empty text
// wherever one is needed. No template makes one; it comes with the variables.
var Blank Value = blankType{}

type (
	// Bool is a truth value.
	Bool bool
	// Int is a whole number within 64 bits.
	Int int64
	// Float is a floating-point number.
	Float float64
	// String is text; its characters are those of UTF-8.
	String string

	// bigInt is a whole number beyond 64 bits. It comes with the variables; templates can compare and write it.
	bigInt struct{ n *big.Int }

	markup string // text that has been through safe: the reference escapes what is added to it
)

func (noneType) typeName() string   { return "NoneType" }
func (blankType) typeName() string  { return "NoneType" }
func (Bool) typeName() string       { return "bool" }
func (Int) typeName() string        { return "int" }
func (bigInt) typeName() string     { return "int" }
func (Float) typeName() string      { return "float" }
func (String) typeName() string     { return "str" }
func (markup) typeName() string     { return "Markup" }
func (l *List) typeName() string    { return kindNames[l.kind] }
func (*Dict) typeName() string      { return "dict" }
func (*undefined) typeName() string { return "Undefined" }
func (*namespace) typeName() string { return "Namespace" }
func (*function) typeName() string  { return "function" }
func (*macro) typeName() string     { return "Macro" }
func (*iterator) typeName() string  { return "generator" }
func (*loopValue) typeName() string { return "LoopContext" }

// List is Python's list, or what can be read like one. The sandbox lets no template change it.
type List struct {
	items []Value
	kind  listKind
}

type listKind uint8

const (
	plainList listKind = iota
	tuple
	interval // which range makes; what follows it cannot be indexed
	keysView
	valuesView
	itemsView
)

var kindNames = [...]string{"list", "tuple", "range", "dict_keys", "dict_values", "dict_items"}

// NewList makes a list that owns items.
func NewList(items ...Value) *List { return &List{items: items} }

// Items are the list's own: they must not be changed.
func (l *List) Items() []Value { return l.items }

// sequenceOf is v where it is a list or a tuple.
func sequenceOf(v Value) (*List, bool) {
	l, ok := v.(*List)
	return l, ok && l.kind <= tuple
}

// undefined is what a name that is not there stands for: empty, false, and an error in any other use.
type undefined struct {
	hint   string // the whole message, if not empty
	object Value  // where name was looked for; nil stands for the variables
	name   Value
}

func (u *undefined) fail() error {
	name, isName := u.name.(String)
	switch {
	case u.hint != "":
		return failf("%s", u.hint)
	case u.object == nil:
		return failf("%s is undefined", reprString(string(name)))
	case isName:
		return failf("'%s object' has no attribute %s", u.object.typeName(), reprString(string(name)))
	}
	return failf("'%s object' has no such element", u.object.typeName())
}

// namespace is the one value whose attributes a template may set.
type namespace struct {
	attributes *Dict
}

// function is a built-in function, or a method with its object.
type function struct {
	object Value // nil for a function
	call   builtin
}

// text is the string that v is or stands for, if there is one.
func text(v Value) (string, bool) {
	switch v := v.(type) {
	case String:
		return string(v), true
	case markup:
		return string(v), true
	case blankType:
		return "", true
	}
	return "", false
}

func isText(v Value) bool {
	_, ok := text(v)
	return ok
}

// truth is Python's bool(v).
func truth(v Value) bool {
	switch v := v.(type) {
	case Bool:
		return bool(v)
	case noneType, blankType, *undefined:
		return false
	case String:
		return v != ""
	case markup:
		return v != ""
	case Int:
		return v != 0
	case Float:
		return v != 0
	case *List:
		return len(v.items) > 0
	case *Dict:
		return len(v.keys) > 0
	}
	return true
}

// integer is v as an index: Python's operator.index, for numbers within 64 bits.
func integer(v Value) (int64, bool) {
	switch v := v.(type) {
	case Int:
		return int64(v), true
	case Bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// likeText is v as markup, with the texts in it, where original is that.
func likeText(original, v Value) Value {
	if _, ok := original.(markup); ok {
		switch v := v.(type) {
		case String:
			return markup(v)
		case *List:
			for i, item := range v.items {
				v.items[i] = likeText(original, item)
			}
		}
	}
	return v
}

func isNumber(v Value) bool {
	switch v.(type) {
	case Int, Float, Bool, bigInt:
		return true
	}
	return false
}
