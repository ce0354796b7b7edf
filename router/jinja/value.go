package jinja

import (
	"math/big"
)

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

	bigInt struct{ n *big.Int } // a whole number beyond 64 bits
	markup string               // text that is HTML already
)

func (noneType) typeName() string   { return "NoneType" }
func (blankType) typeName() string  { return "NoneType" }
func (Bool) typeName() string       { return "bool" }
func (Int) typeName() string        { return "int" }
func (bigInt) typeName() string     { return "int" }
func (Float) typeName() string      { return "float" }
func (String) typeName() string     { return "str" }
func (markup) typeName() string     { return "Markup" }
func (*List) typeName() string      { return "list" }
func (*tuple) typeName() string     { return "tuple" }
func (*Dict) typeName() string      { return "dict" }
func (*undefined) typeName() string { return "Undefined" }
func (*namespace) typeName() string { return "Namespace" }
func (*function) typeName() string  { return "function" }
func (*macro) typeName() string     { return "Macro" }
func (*iterator) typeName() string  { return "generator" }
func (*interval) typeName() string  { return "range" }
func (v *view) typeName() string    { return "dict_" + v.kind }

// List is Python's list. The sandbox lets no template change one.
type List struct {
	items []Value
}

// NewList makes a list that owns items.
func NewList(items ...Value) *List { return &List{items} }

// Items are the list's own: they must not be changed.
func (l *List) Items() []Value { return l.items }

// tuple may name its elements, as groupby's do.
type tuple struct {
	items []Value
	names []string
}

// undefined is what a name that is not there stands for: empty, false, and an error in any other use.
type undefined struct {
	hint   string // the whole message, if not empty
	object Value  // where name was looked for; nil stands for the variables
	name   Value
}

func (u *undefined) message() string {
	switch name, isText := u.name.(String); {
	case u.hint != "":
		return u.hint
	case u.object == nil && isText:
		return reprString(string(name)) + " is undefined"
	case u.object == nil:
		return "value is undefined"
	case isText:
		return "'" + describeObject(u.object) + "' has no attribute " + reprString(string(name))
	default:
		return describeObject(u.object) + " has no element " + shortRepr(u.name)
	}
}

func (u *undefined) fail() error { return &Error{Message: u.message()} }

func describeObject(v Value) string {
	if v == None {
		return "None"
	}
	return v.typeName() + " object"
}

// namespace is the one value whose attributes a template may set.
type namespace struct {
	attributes *Dict
}

// function is a built-in function or a method with its object.
type function struct {
	name string
	call func(r *run, a *arguments) (Value, error)
}

// iterator can be read once. next returns nil at the end.
type iterator struct {
	next func() (Value, error)
}

// interval is Python's range.
type interval struct {
	start, stop, step, length int64
}

func (v *interval) at(i int64) Value { return Int(v.start + i*v.step) }

// view is what keys(), values() and items() of a dict return.
type view struct {
	dict *Dict
	kind string // keys, values or items
}

func (v *view) at(i int) Value {
	switch v.kind {
	case "keys":
		return v.dict.keys[i]
	case "values":
		return v.dict.values[i]
	}
	return &tuple{items: []Value{v.dict.keys[i], v.dict.values[i]}}
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
	case *tuple:
		return len(v.items) > 0
	case *Dict:
		return len(v.keys) > 0
	case *view:
		return len(v.dict.keys) > 0
	case *interval:
		return v.length > 0
	}
	return true
}

// integer is v as an index: Python's operator.index.
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

// normalInt is n as the smallest type that holds it.
func normalInt(n *big.Int) Value {
	if n.IsInt64() {
		return Int(n.Int64())
	}
	return bigInt{n}
}

// wholeNumber is v as a big integer, if it is a whole number or a truth value.
func wholeNumber(v Value) (*big.Int, bool) {
	if n, ok := integer(v); ok {
		return big.NewInt(n), true
	}
	if n, ok := v.(bigInt); ok {
		return n.n, true
	}
	return nil, false
}
