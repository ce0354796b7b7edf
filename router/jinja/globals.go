package jinja

import (
	"math"
	"slices"
)

// global returns nil where there is no global of this name.
func global(name string) Value { return globals[name] }

var globals = map[string]Value{
	"range":           &function{"range", newRange},
	"dict":            &dictType{},
	"cycler":          &function{"Cycler", newCycler},
	"joiner":          &function{"Joiner", newJoiner},
	"namespace":       &function{"Namespace", newNamespace},
	"raise_exception": &function{"raise_exception", raise},
	"strftime_now":    &function{"strftime_now", strftimeNow},
	"lipsum":          &function{"lipsum", func(*run, *arguments) (Value, error) { return nil, failf("lipsum is not supported") }},
}

func raise(r *run, a *arguments) (Value, error) {
	v, err := a.bind("raise_exception", 1, "message")
	if err != nil {
		return nil, err
	}
	message, err := r.str(v[0])
	if err != nil {
		return nil, err
	}
	return nil, &RaisedError{message}
}

func newRange(_ *run, a *arguments) (Value, error) {
	v, err := a.places("range", 1, 3)
	if err != nil {
		return nil, err
	}
	numbers := [3]int64{0, 0, 1}
	for i, value := range v {
		if value == nil {
			continue
		}
		n, ok := wholeNumber(value)
		if !ok {
			if u, ok := value.(*undefined); ok {
				return nil, u.fail()
			}
			return nil, failf("'%s' object cannot be interpreted as an integer", value.typeName())
		}
		if !n.IsInt64() || n.Int64() > math.MaxInt32 || n.Int64() < math.MinInt32 {
			return nil, &LimitError{"range"}
		}
		numbers[i] = n.Int64()
	}
	if v[1] == nil {
		numbers[0], numbers[1] = 0, numbers[0]
	}
	start, stop, step := numbers[0], numbers[1], numbers[2]
	if step == 0 {
		return nil, failf("range() arg 3 must not be zero")
	}
	length := int64(0)
	switch {
	case step > 0 && stop > start:
		length = (stop-start-1)/step + 1
	case step < 0 && stop < start:
		length = (start-stop-1)/-step + 1
	}
	if length > maxRange {
		return nil, &LimitError{"range: the sandbox blocks ranges longer than 100000"}
	}
	return &interval{start, stop, step, length}, nil
}

// dictType is Python's dict as a function.
type dictType struct{}

func (*dictType) typeName() string { return "type" }

func newDict(r *run, a *arguments) (Value, error) {
	d := &Dict{}
	if len(a.positional) > 1 {
		return nil, failf("dict expected at most 1 argument, got %d", len(a.positional))
	}
	if len(a.positional) == 1 {
		if from, ok := a.positional[0].(*Dict); ok {
			if err := r.allocateValues(2 * len(from.keys)); err != nil {
				return nil, err
			}
			d = from.clone()
		} else if err := r.setPairs(d, a.positional[0]); err != nil {
			return nil, err
		}
	}
	if err := r.allocateValues(2 * len(a.names)); err != nil {
		return nil, err
	}
	for i, name := range a.names {
		d.Set(name, a.values[i])
	}
	return d, nil
}

// setPairs fills a dict from pairs of keys and values.
func (r *run) setPairs(d *Dict, pairs Value) error {
	items, err := r.itemsOf(pairs)
	if err != nil {
		return err
	}
	for i, item := range items {
		pair, err := r.itemsOf(item)
		if err != nil {
			return failf("cannot convert dictionary update sequence element #%d to a sequence", i)
		}
		if len(pair) != 2 {
			return failf("dictionary update sequence element #%d has length %d; 2 is required", i, len(pair))
		}
		if err := r.allocateValues(2); err != nil {
			return err
		}
		if err := r.payKey(pair[0]); err != nil {
			return err
		}
		if err := d.set(pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

func newNamespace(r *run, a *arguments) (Value, error) {
	v, err := newDict(r, a)
	if err != nil {
		return nil, err
	}
	return &namespace{v.(*Dict)}, nil
}

// cycler goes through its items again and again.
type cycler struct {
	items []Value
	at    int
}

func (*cycler) typeName() string { return "Cycler" }

func newCycler(_ *run, a *arguments) (Value, error) {
	if err := a.noNamed("Cycler"); err != nil {
		return nil, err
	}
	if len(a.positional) == 0 {
		return nil, failf("at least one item has to be provided")
	}
	return &cycler{items: slices.Clone(a.positional)}, nil
}

func (c *cycler) attribute(name string) Value {
	switch name {
	case "current":
		return c.items[c.at]
	case "items":
		return &tuple{items: c.items}
	case "pos":
		return Int(c.at)
	case "next":
		return &function{name, func(*run, *arguments) (Value, error) {
			v := c.items[c.at]
			c.at = (c.at + 1) % len(c.items)
			return v, nil
		}}
	case "reset":
		return &function{name, func(*run, *arguments) (Value, error) {
			c.at = 0
			return None, nil
		}}
	}
	return nil
}

// joiner is empty at first and its separator from then on.
type joiner struct {
	separator Value
	used      bool
}

func (*joiner) typeName() string { return "Joiner" }

func newJoiner(_ *run, a *arguments) (Value, error) {
	v, err := a.bind("Joiner", 0, "sep")
	if err != nil {
		return nil, err
	}
	if v[0] == nil {
		v[0] = String(", ")
	}
	return &joiner{separator: v[0]}, nil
}

func (j *joiner) attribute(name string) Value {
	switch name {
	case "sep":
		return j.separator
	case "used":
		return Bool(j.used)
	}
	return nil
}

func (j *joiner) call(_ *run, a *arguments) (Value, error) {
	if _, err := a.places("Joiner", 0, 0); err != nil {
		return nil, err
	}
	if j.used {
		return j.separator, nil
	}
	j.used = true
	return String(""), nil
}
