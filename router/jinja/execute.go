package jinja

func runAll(body []placed, s *scope, out *output) (jump, error) {
	for i := range body {
		if j, err := body[i].run(s, out); j != jumpNone || err != nil {
			return j, located(err, body[i].line)
		}
	}
	return jumpNone, nil
}

func (n *dataNode) run(_ *scope, out *output) (jump, error) { return jumpNone, out.write(n.text) }

func (n *outputNode) run(s *scope, out *output) (jump, error) {
	value, err := n.value.eval(s)
	if err != nil {
		return jumpNone, err
	}
	if _, isBlock := n.value.(*bodyNode); isBlock {
		return jumpNone, out.writeText(value)
	}
	text, err := s.run.str(value)
	if err != nil {
		return jumpNone, err
	}
	return jumpNone, out.write(text)
}

func (n *ifNode) run(s *scope, out *output) (jump, error) {
	value, err := n.test.eval(s)
	if err != nil {
		return jumpNone, err
	}
	if err := s.run.step(1); err != nil {
		return jumpNone, err
	}
	if truth(value) {
		return runAll(n.body, s, out)
	}
	return runAll(n.otherwise, s, out)
}

func (n *assignNode) run(s *scope, _ *output) (jump, error) {
	if err := s.run.step(1); err != nil {
		return jumpNone, err
	}
	value, err := n.value.eval(s)
	if err != nil {
		return jumpNone, err
	}
	return jumpNone, n.target.assign(s, value)
}

// eval runs the body in a scope of its own, and passes what it writes through the filter.
func (n *bodyNode) eval(s *scope) (Value, error) {
	s.enter(&n.scope)
	buffer := &output{run: s.run}
	if _, err := runAll(n.body, s, buffer); err != nil {
		return nil, err
	}
	value, err := buffer.value()
	if err != nil || n.filter == nil {
		return value, err
	}
	s.run.blockText = value
	return n.filter.eval(s)
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
	space.attributes.Set(t.attribute, value)
	return s.run.allocate(0)
}

func (t *target) unpack(s *scope, value Value) error {
	items, err := s.run.itemsOf(value)
	if err != nil {
		return err
	}
	if len(items) != len(t.items) {
		return failf("cannot unpack %d values (expected %d)", len(items), len(t.items))
	}
	for i, item := range t.items {
		if err := item.assign(s, items[i]); err != nil {
			return err
		}
	}
	return nil
}

func (n *macroNode) run(s *scope, _ *output) (jump, error) {
	s.set(&n.variable, &macro{node: &n.functionNode, scope: s})
	return jumpNone, s.run.allocate(0)
}

func (n *callBlockNode) run(s *scope, out *output) (jump, error) {
	caller := &macro{node: &n.functionNode, scope: s}
	var value Value
	var err error
	if n.call == nil {
		value, err = caller.call(s.run, noArguments)
	} else {
		value, err = n.call.evalWith(s, caller)
	}
	if err != nil {
		return jumpNone, err
	}
	return jumpNone, out.writeText(value)
}

func (n *jumpNode) run(*scope, *output) (jump, error) { return n.jump, nil }
