package jinja

import (
	"slices"
	"strings"
)

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
	a.values, err = evalAll(n.named, s)
	return a, err
}

// named returns nil where there is no argument of this name.
func (a *arguments) named(name string) Value {
	if i := slices.Index(a.names, name); i >= 0 {
		return a.values[i]
	}
	return nil
}

// builtin is a filter, a test, a method or a function. object is what it is applied to; functions have none.
type builtin func(r *run, object Value, a *arguments) (Value, error)

// takes makes a builtin of what wants its arguments in the order of its parameters, with nil for those that are absent.
// The declaration is "name(a b [c])": what stands in brackets may be absent, and behind a slash no parameter has a name.
func takes(declaration string, call func(r *run, object Value, v []Value) (Value, error)) builtin {
	p := parametersOf(declaration)
	return func(r *run, object Value, a *arguments) (Value, error) {
		v, err := p.bind(a)
		if err != nil {
			return nil, err
		}
		return call(r, object, v)
	}
}

type parameters struct {
	function string
	names    []string
	required int  // the first of names
	nameless bool // none can be given by its name
}

func parametersOf(declaration string) *parameters {
	function, list, _ := strings.Cut(strings.TrimSuffix(declaration, ")"), "(")
	p := &parameters{function: function}
	for _, word := range strings.Fields(list) {
		if word == "/" {
			p.nameless = true
			continue
		}
		if word[0] != '[' {
			p.required++
		}
		p.names = append(p.names, strings.Trim(word, "[]"))
	}
	return p
}

func (p *parameters) bind(a *arguments) ([]Value, error) {
	if len(a.positional) > len(p.names) {
		return nil, failf("%s() takes %d positional arguments but %d were given", p.function, len(p.names), len(a.positional))
	}
	values := make([]Value, len(p.names))
	copy(values, a.positional)
	for i, name := range a.names {
		at := slices.Index(p.names, name)
		if at < 0 || p.nameless {
			return nil, failf("%s() got an unexpected keyword argument '%s'", p.function, name)
		}
		if values[at] != nil {
			return nil, failf("%s() got multiple values for argument '%s'", p.function, name)
		}
		values[at] = a.values[i]
	}
	for i := range p.required {
		if values[i] == nil {
			return nil, failf("%s() missing 1 required positional argument: '%s'", p.function, p.names[i])
		}
	}
	return values, nil
}

func isTrue(v Value) bool { return v != nil && truth(v) }

// textArgument is an argument that must be text.
func textArgument(v Value) (string, error) {
	s, ok := text(v)
	if !ok {
		return "", failf("must be str, not %s", v.typeName())
	}
	return s, nil
}

// numberArgument is an argument that must be a whole number; absent stands for nil. Large ones are cut to 32 bits.
func numberArgument(v Value, absent int64) (int64, error) {
	if v == nil {
		return absent, nil
	}
	n, ok := integer(v)
	if !ok {
		return 0, failf("'%s' object cannot be interpreted as an integer", v.typeName())
	}
	return clamp32(n), nil
}

// macro is a macro, or the caller of a call block, with the scope that it was made in.
type macro struct {
	node  *functionNode
	scope *scope
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
			hint := "parameter " + reprString(parameter.name) + " was not provided"
			s.set(&parameter.variable, &undefined{hint: hint, name: String(parameter.name)})
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

// setParameters gives each parameter its argument. What is left over is an error.
func (m *macro) setParameters(s *scope, a *arguments) error {
	if err := s.run.step(len(a.names) * (len(m.node.parameters) + 1)); err != nil {
		return err
	}
	used := make([]bool, len(a.names))
	take := func(name string) Value {
		if i := slices.Index(a.names, name); i >= 0 && !used[i] {
			used[i] = true
			return a.values[i]
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
	if i := slices.Index(used, false); i >= 0 {
		return failf("macro %s takes no keyword argument %s", reprString(m.node.name), reprString(a.names[i]))
	}
	if len(a.positional) > len(m.node.parameters) {
		return failf("macro %s takes not more than %d argument(s)", reprString(m.node.name), len(m.node.parameters))
	}
	return nil
}
