package jinja

func runAll(body []statement, s *scope, out *output) (jump, error) {
	for _, node := range body {
		if j, err := node.run(s, out); j != jumpNone || err != nil {
			return j, err
		}
	}
	return jumpNone, nil
}

func (n *dataNode) run(_ *scope, out *output) (jump, error) { return jumpNone, out.write(n.text) }

func (n *outputNode) run(s *scope, out *output) (jump, error) {
	value, err := n.value.eval(s)
	if err != nil {
		return jumpNone, located(err, n.line)
	}
	if text, ok := value.(String); ok {
		return jumpNone, out.write(string(text))
	}
	text, err := s.run.str(value)
	if err != nil {
		return jumpNone, located(err, n.line)
	}
	return jumpNone, out.write(text)
}

func (n *ifNode) run(s *scope, out *output) (jump, error) {
	for i, test := range n.tests {
		value, err := test.eval(s)
		if err != nil {
			return jumpNone, located(err, n.lines[i])
		}
		if err := s.run.step(1); err != nil {
			return jumpNone, err
		}
		if truth(value) {
			return runAll(n.bodies[i], s, out)
		}
	}
	return runAll(n.bodies[len(n.tests)], s, out)
}

func (n *assignNode) run(s *scope, _ *output) (jump, error) {
	if err := s.run.step(1); err != nil {
		return jumpNone, err
	}
	if err := n.target.check(s); err != nil {
		return jumpNone, located(err, n.line)
	}
	value, err := n.value.eval(s)
	if err == nil {
		err = n.target.assign(s, value)
	}
	return jumpNone, located(err, n.line)
}

// textOf runs a body in a scope of its own and returns what it writes.
func textOf(body []statement, inner *scopeNode, s *scope) (Value, jump, error) {
	s.enter(inner)
	buffer := &output{run: s.run}
	j, err := runAll(body, s, buffer)
	if j != jumpNone || err != nil {
		return nil, j, err
	}
	value, err := buffer.value()
	return value, jumpNone, err
}

func (n *assignBlockNode) run(s *scope, _ *output) (jump, error) {
	value, j, err := textOf(n.body, &n.scope, s)
	if j != jumpNone || err != nil {
		return j, err
	}
	if n.filter != nil {
		s.run.blockText = value
		value, err = n.filter.eval(s)
	}
	if err == nil {
		err = n.target.assign(s, value)
	}
	return jumpNone, located(err, n.line)
}

// check fails where an attribute is assigned to that is none of a namespace.
func (t *target) check(s *scope) error {
	for _, item := range t.items {
		if err := item.check(s); err != nil {
			return err
		}
	}
	if t.attribute != "" {
		if _, ok := s.get(&t.variable).(*namespace); !ok {
			return failf("cannot assign attribute on non-namespace object")
		}
	}
	return nil
}

func (t *target) assign(s *scope, value Value) error {
	switch {
	case t.isTuple:
		return t.unpack(s, value)
	case t.attribute == "":
		s.set(&t.variable, value)
		return nil
	}
	space, ok := s.get(&t.variable).(*namespace)
	if !ok {
		return failf("cannot assign attribute on non-namespace object")
	}
	if err := s.run.allocate(0); err != nil {
		return err
	}
	space.attributes.Set(t.attribute, value)
	return nil
}

func (t *target) unpack(s *scope, value Value) error {
	items, err := s.run.itemsOf(value)
	if err != nil {
		return err
	}
	if len(items) > len(t.items) {
		return failf("too many values to unpack (expected %d)", len(t.items))
	}
	if len(items) < len(t.items) {
		return failf("not enough values to unpack (expected %d, got %d)", len(t.items), len(items))
	}
	for i, item := range t.items {
		if err := item.assign(s, items[i]); err != nil {
			return err
		}
	}
	return nil
}

func (n *macroNode) run(s *scope, _ *output) (jump, error) {
	m := &macro{node: &n.functionNode, scope: s}
	s.set(&n.variable, m)
	return jumpNone, s.run.allocate(0)
}

func (n *callBlockNode) run(s *scope, out *output) (jump, error) {
	caller := &macro{node: &n.functionNode, scope: s}
	var value Value
	var err error
	if n.call == nil {
		value, err = caller.call(s.run, &arguments{})
	} else {
		value, err = n.call.evalWith(s, caller)
	}
	if err != nil {
		return jumpNone, located(err, n.line)
	}
	return jumpNone, located(out.writeText(value), n.line)
}

func (n *filterBlockNode) run(s *scope, out *output) (jump, error) {
	value, j, err := textOf(n.body, &n.scope, s)
	if j != jumpNone || err != nil {
		return j, err
	}
	s.run.blockText = value
	if value, err = n.filter.eval(s); err != nil {
		return jumpNone, located(err, n.line)
	}
	return jumpNone, located(out.writeText(value), n.line)
}

func (n *jumpNode) run(*scope, *output) (jump, error) { return n.jump, nil }
