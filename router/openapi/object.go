package openapi

import (
	"bytes"
	"encoding/json"
	"slices"

	"lockstep/protocol/ordered"
)

// object is a JSON object that keeps the order of its members. The other values are those of encoding/json with numbers as
// they are spelled.
type object struct {
	names  []string
	values map[string]any
}

type number = json.Number

const maxDepth = 100 // of the files

func newObject() *object { return &object{values: map[string]any{}} }

func (o *object) set(name string, value any) {
	if _, ok := o.values[name]; !ok {
		o.names = append(o.names, name)
	}
	o.values[name] = value
}

func (o *object) remove(name string) {
	delete(o.values, name)
	o.names = slices.DeleteFunc(o.names, func(other string) bool { return other == name })
}

// object returns a member that is an object, an empty one if there is none.
func (o *object) object(name string) *object {
	if member, ok := o.values[name].(*object); ok {
		return member
	}
	return newObject()
}

// add takes the entries of another object, in place of its own of the same names.
func (o *object) add(other *object) {
	for _, name := range other.names {
		o.set(name, other.values[name])
	}
}

// readFile reads one of the files. They are part of the program: one that is broken is a bug.
func readFile(data []byte) *object {
	value, err := readValue(ordered.NewReader(string(data), maxDepth))
	if err != nil {
		panic(err)
	}
	return value.(*object)
}

func readValue(r *ordered.Reader) (value any, err error) {
	switch r.Next() {
	case '{':
		o := newObject()
		return o, r.Object(func(name string) error {
			value, err := readValue(r)
			o.set(name, value)
			return err
		})
	case '[':
		list := []any{}
		err = r.Array(func() error {
			value, err := readValue(r)
			list = append(list, value)
			return err
		})
		return list, err
	case '"':
		return r.Text()
	}
	raw, err := r.Raw()
	switch raw {
	case "null":
		return nil, err
	case "true", "false":
		return raw == "true", err
	}
	return number(raw), err
}

// MarshalJSON writes the members in their order.
func (o *object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, name := range o.names {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, value := range []any{name, o.values[name]} {
			if j > 0 {
				b.WriteByte(':')
			}
			encoder := json.NewEncoder(&b)
			encoder.SetEscapeHTML(false)
			if err := encoder.Encode(value); err != nil {
				return nil, err
			}
			b.Truncate(b.Len() - 1) // the encoder's newline
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

func (o *object) encode() []byte {
	data, err := o.MarshalJSON()
	if err != nil {
		panic(err) // nothing in it can fail
	}
	return data
}
