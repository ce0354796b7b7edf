package jinja

import "slices"

// arguments of a call, without the object that a method or a filter is of.
type arguments struct {
	positional []Value
	names      []string
	values     []Value // by names
}

var noArguments = &arguments{}

func (n *argumentsNode) eval(s *scope) (*arguments, error) {
	if n == nil {
		return noArguments, nil
	}
	a := &arguments{names: slices.Clip(n.names)}
	var err error
	if a.positional, err = evalAll(n.positional, s); err != nil {
		return nil, err
	}
	if a.values, err = evalAll(n.named, s); err != nil {
		return nil, err
	}
	if n.more != nil {
		more, err := n.more.eval(s)
		if err != nil {
			return nil, err
		}
		items, err := s.run.itemsOf(more)
		if err != nil {
			return nil, err
		}
		a.positional = append(slices.Clip(a.positional), items...)
		if err := s.run.allocateValues(len(items)); err != nil {
			return nil, err
		}
	}
	if n.moreNamed != nil {
		more, err := n.moreNamed.eval(s)
		if err != nil {
			return nil, err
		}
		return a, a.addNamed(s.run, more)
	}
	return a, nil
}

func (a *arguments) addNamed(r *run, more Value) error {
	d, ok := more.(*Dict)
	if !ok {
		return failf("argument after ** must be a mapping, not %s", more.typeName())
	}
	given := *a
	if err := r.allocateValues(2 * len(d.keys)); err != nil {
		return err
	}
	if err := r.step(len(d.keys) * len(given.names)); err != nil {
		return err
	}
	for i, key := range d.keys {
		name, ok := text(key)
		if !ok {
			return failf("keywords must be strings")
		}
		if given.named(name) != nil {
			return failf("got multiple values for keyword argument '%s'", name)
		}
		a.names, a.values = append(a.names, name), append(a.values, d.values[i])
	}
	return nil
}

// named returns nil where there is no argument of this name.
func (a *arguments) named(name string) Value {
	for i, n := range a.names {
		if n == name {
			return a.values[i]
		}
	}
	return nil
}

// bind puts arguments in the order of the parameters. Those that are absent are nil; the first required ones must be
// there.
func (a *arguments) bind(function string, required int, parameters ...string) ([]Value, error) {
	if len(a.positional) > len(parameters) {
		return nil, failf("%s() takes %d positional arguments but %d were given", function, len(parameters), len(a.positional))
	}
	values := make([]Value, len(parameters))
	copy(values, a.positional)
	for i, name := range a.names {
		at := slices.Index(parameters, name)
		if at < 0 {
			return nil, failf("%s() got an unexpected keyword argument '%s'", function, name)
		}
		if values[at] != nil {
			return nil, failf("%s() got multiple values for argument '%s'", function, name)
		}
		values[at] = a.values[i]
	}
	for i := range required {
		if values[i] == nil {
			return nil, failf("%s() missing 1 required positional argument: '%s'", function, parameters[i])
		}
	}
	return values, nil
}

func (a *arguments) noNamed(function string) error {
	if len(a.names) > 0 {
		return failf("%s() takes no keyword arguments", function)
	}
	return nil
}

// places is bind for what takes no argument by its name.
func (a *arguments) places(function string, required, most int) ([]Value, error) {
	if err := a.noNamed(function); err != nil {
		return nil, err
	}
	n := len(a.positional)
	if n < required {
		return nil, failf("%s expected at least %d argument, got %d", function, required, n)
	}
	if n > most {
		return nil, failf("%s expected at most %d arguments, got %d", function, most, n)
	}
	values := make([]Value, most)
	copy(values, a.positional)
	return values, nil
}

// macro is a macro, or the caller of a call block, with the scope that it was made in.
type macro struct {
	node  *functionNode
	scope *scope
}

func (m *macro) attribute(name string) Value {
	switch name {
	case "name":
		if m.node.name == "" {
			return None
		}
		return String(m.node.name)
	case "arguments":
		t := &tuple{}
		for _, parameter := range m.node.parameters {
			t.items = append(t.items, String(parameter.name))
		}
		return t
	case "catch_kwargs":
		return Bool(m.node.keywords >= 0)
	case "catch_varargs":
		return Bool(m.node.varargs >= 0)
	case "caller":
		return Bool(m.node.caller >= 0)
	case "explicit_caller":
		return Bool(slices.ContainsFunc(m.node.parameters, func(t *target) bool { return t.name == "caller" }))
	}
	return nil
}

// call renders the macro's body.
func (m *macro) call(r *run, a *arguments) (Value, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	s := m.scope.inner(m.node.slots)
	if err := r.allocateValues(m.node.slots); err != nil {
		return nil, err
	}
	if err := m.setParameters(s, a); err != nil {
		return nil, err
	}
	s.enter(&m.node.scope)
	firstDefault := len(m.node.parameters) - len(m.node.defaults)
	for i, parameter := range m.node.parameters {
		if s.get(&parameter.variable) != nil {
			continue
		}
		if i < firstDefault {
			s.set(&parameter.variable, &undefined{hint: "parameter " + reprString(parameter.name) + " was not provided", name: String(parameter.name)})
			continue
		}
		value, err := m.node.defaults[i-firstDefault].eval(s)
		if err != nil {
			return nil, err
		}
		s.set(&parameter.variable, value)
	}
	buffer := &output{run: r}
	if _, err := runAll(m.node.body, s, buffer); err != nil {
		return nil, err
	}
	return buffer.value()
}

// setParameters gives each parameter its argument. What is left goes to kwargs and varargs, or is an error.
func (m *macro) setParameters(s *scope, a *arguments) error {
	if err := s.run.step(len(a.names) * (len(m.node.parameters) + 1)); err != nil {
		return err
	}
	used := make([]bool, len(a.names))
	take := func(name string) Value {
		for i, n := range a.names {
			if n == name && !used[i] {
				used[i] = true
				return a.values[i]
			}
		}
		return nil
	}
	for i, parameter := range m.node.parameters {
		var value Value
		if i < len(a.positional) {
			value = a.positional[i]
		} else {
			value = take(parameter.name)
		}
		s.set(&parameter.variable, value)
	}
	if m.node.caller >= 0 {
		caller := take("caller")
		if caller == nil || caller == None {
			caller = &undefined{hint: "No caller defined", name: String("caller")}
		}
		s.slots[m.node.caller] = caller
	}
	rest := &Dict{}
	for i, name := range a.names {
		if !used[i] {
			rest.Set(name, a.values[i])
		}
	}
	switch {
	case m.node.keywords >= 0:
		s.slots[m.node.keywords] = rest
	case rest.Len() > 0 && rest.Get("caller") != nil:
		return failf("macro %s was invoked with two values for the special caller argument. This is most likely a bug.", reprString(m.node.name))
	case rest.Len() > 0:
		return failf("macro %s takes no keyword argument %s", reprString(m.node.name), reprString(string(rest.keys[0].(String))))
	}
	extra := a.positional[min(len(a.positional), len(m.node.parameters)):]
	if m.node.varargs >= 0 {
		s.slots[m.node.varargs] = &tuple{items: extra}
	} else if len(extra) > 0 {
		return failf("macro %s takes not more than %d argument(s)", reprString(m.node.name), len(m.node.parameters))
	}
	return nil
}
