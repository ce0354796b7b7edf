package jinja

var globals = map[string]Value{
	"range":           &function{call: takes("range(/ start [stop] [step])", newRange)},
	"namespace":       &function{call: newNamespace},
	"raise_exception": &function{call: takes("raise_exception(message)", raise)},
	"strftime_now":    &function{call: takes("strftime_now(format)", strftimeNow)},
}

func raise(r *run, _ Value, v []Value) (Value, error) {
	message, err := r.str(v[0])
	if err != nil {
		return nil, err
	}
	return nil, &RaisedError{message}
}

func newRange(r *run, _ Value, v []Value) (Value, error) {
	numbers := [3]int64{0, 0, 1}
	for i, value := range v {
		if value == nil {
			continue
		}
		n, ok := integer(value)
		if !ok {
			return nil, failf("'%s' object cannot be interpreted as an integer", value.typeName())
		}
		numbers[i] = clamp32(n)
	}
	if v[1] == nil {
		numbers[0], numbers[1] = 0, numbers[0]
	}
	start, stop, step := numbers[0], numbers[1], numbers[2]
	if step == 0 {
		return nil, failf("range() arg 3 must not be zero")
	}
	length := stepsBetween(start, stop, step)
	if length > maxRange {
		return nil, &LimitError{"range: the sandbox blocks ranges longer than 100000"}
	}
	if err := r.allocateValues(int(length)); err != nil {
		return nil, err
	}
	items := make([]Value, length)
	for i := range items {
		items[i] = Int(start + int64(i)*step)
	}
	return &List{items, interval}, nil
}

func newNamespace(r *run, _ Value, a *arguments) (Value, error) {
	if len(a.positional) > 0 {
		return nil, failf("a namespace of other values than named ones is not supported")
	}
	if err := r.allocateValues(2 * len(a.names)); err != nil {
		return nil, err
	}
	d := &Dict{}
	for i, name := range a.names {
		d.Set(name, a.values[i])
	}
	return &namespace{d}, nil
}
