package jinja

func (n *constant) eval(*scope) (Value, error) { return n.value, nil }

func (n *nameNode) eval(s *scope) (Value, error) {
	for range n.hops {
		s = s.parent
	}
	if v := s.slots[n.slot]; v != nil {
		return v, nil
	}
	return &undefined{name: String(n.name)}, nil
}

func evalAll(nodes []expression, s *scope) ([]Value, error) {
	if len(nodes) == 0 {
		return nil, nil
	}
	if err := s.run.allocateValues(len(nodes)); err != nil {
		return nil, err
	}
	values := make([]Value, len(nodes))
	for i, node := range nodes {
		var err error
		if values[i], err = node.eval(s); err != nil {
			return nil, err
		}
	}
	return values, nil
}

func (n *sequenceNode) eval(s *scope) (Value, error) {
	items, err := evalAll(n.items, s)
	if err != nil {
		return nil, err
	}
	if err := s.run.allocate(0); err != nil {
		return nil, err
	}
	if n.isTuple {
		return &List{items, tuple}, nil
	}
	return &List{items: items}, nil
}

func (n *dictNode) eval(s *scope) (Value, error) {
	if err := s.run.allocateValues(2 * len(n.keys)); err != nil {
		return nil, err
	}
	d := &Dict{}
	for i, node := range n.keys {
		key, err := node.eval(s)
		if err != nil {
			return nil, err
		}
		value, err := n.values[i].eval(s)
		if err != nil {
			return nil, err
		}
		k, ok := keyOf(key)
		if _, isBool := key.(Bool); !ok || isBool {
			return nil, failf("a key of a dict of the type %s is not supported", key.typeName())
		}
		if _, err := s.run.lookup(d, key); err != nil { // which pays
			return nil, err
		}
		d.set(k, value)
	}
	return d, nil
}

func (n *conditionNode) eval(s *scope) (Value, error) {
	test, err := n.test.eval(s)
	if err != nil {
		return nil, err
	}
	s.run.pay(1)
	switch {
	case truth(test):
		return n.then.eval(s)
	case n.otherwise != nil:
		return n.otherwise.eval(s)
	}
	return &undefined{hint: "the inline if-expression evaluated to false and no else section was defined."}, nil
}

func (n *logicNode) eval(s *scope) (Value, error) {
	left, err := n.left.eval(s)
	if err != nil {
		return nil, err
	}
	s.run.pay(1)
	if truth(left) == n.or {
		return left, nil
	}
	return n.right.eval(s)
}

func (n *notNode) eval(s *scope) (Value, error) {
	value, err := n.operand.eval(s)
	if err != nil {
		return nil, err
	}
	s.run.pay(1)
	return Bool(!truth(value)), nil
}

func (n *compareNode) eval(s *scope) (Value, error) {
	left, err := n.first.eval(s)
	if err != nil {
		return nil, err
	}
	for i := range n.operands {
		right, err := n.operands[i].operand.eval(s)
		if err != nil {
			return nil, err
		}
		holds, err := s.run.compare(n.operands[i].operator, left, right)
		if err != nil || !holds {
			return Bool(false), err
		}
		left = right
	}
	return Bool(true), nil
}

func (n *binaryNode) eval(s *scope) (Value, error) {
	left, err := n.left.eval(s)
	if err != nil {
		return nil, err
	}
	right, err := n.right.eval(s)
	if err != nil {
		return nil, err
	}
	return s.run.arithmetic(n.operator, left, right)
}

func (n *signNode) eval(s *scope) (Value, error) {
	value, err := n.operand.eval(s)
	if err != nil {
		return nil, err
	}
	return s.run.sign(value, n.negative)
}

func (n *joinNode) eval(s *scope) (Value, error) {
	var joined []byte
	for _, item := range n.items {
		value, err := item.eval(s)
		if err != nil {
			return nil, err
		}
		text, err := s.run.str(value)
		if err != nil {
			return nil, err
		}
		if err := s.run.allocate(len(text)); err != nil {
			return nil, err
		}
		joined = append(joined, text...)
	}
	return String(joined), nil
}

func (n *attributeNode) eval(s *scope) (Value, error) {
	object, err := n.object.eval(s)
	if err != nil {
		return nil, err
	}
	s.run.pay(1)
	return s.run.attributeOrItem(object, n.name)
}

func (n *itemNode) eval(s *scope) (Value, error) {
	object, err := n.object.eval(s)
	if err != nil {
		return nil, err
	}
	key, err := n.key.eval(s)
	if err != nil {
		return nil, err
	}
	s.run.pay(1)
	return s.run.itemOrAttribute(object, key)
}

func (n *sliceNode) eval(s *scope) (Value, error) {
	object, err := n.object.eval(s)
	if err != nil {
		return nil, err
	}
	var bounds [3]Value
	for i, node := range []expression{n.start, n.stop, n.step} {
		bounds[i] = None
		if node == nil {
			continue
		}
		if bounds[i], err = node.eval(s); err != nil {
			return nil, err
		}
	}
	return s.run.slice(object, bounds)
}

func (n *callNode) eval(s *scope) (Value, error) { return n.evalWith(s, nil) }

// evalWith calls with a caller, which is nil outside of call blocks.
func (n *callNode) evalWith(s *scope, caller Value) (Value, error) {
	callee, err := n.callee.eval(s)
	if err != nil {
		return nil, err
	}
	a, err := n.arguments.eval(s)
	if err != nil {
		return nil, err
	}
	if caller != nil {
		if a.named("caller") != nil {
			return nil, failf("keyword argument repeated: caller")
		}
		a.names, a.values = append(a.names, "caller"), append(a.values, caller)
	}
	s.run.pay(1)
	return s.run.call(callee, a)
}

func (r *run) call(callee Value, a *arguments) (Value, error) {
	switch f := callee.(type) {
	case *function:
		return f.call(r, f.object, a)
	case *macro:
		return f.call(r, a)
	case *undefined:
		return nil, f.fail()
	}
	return nil, failf("'%s' object is not callable", callee.typeName())
}

func (n *filterNode) eval(s *scope) (Value, error) {
	var object Value
	if n.object == nil {
		object = s.run.blockText
	} else {
		var err error
		if object, err = n.object.eval(s); err != nil {
			return nil, err
		}
	}
	a, err := n.arguments.eval(s)
	if err != nil {
		return nil, err
	}
	if n.filter == nil {
		return nil, failf("No filter named %s found.", reprString(n.name))
	}
	s.run.pay(1)
	return n.filter(s.run, object, a)
}

func (n *testNode) eval(s *scope) (Value, error) {
	object, err := n.object.eval(s)
	if err != nil {
		return nil, err
	}
	a, err := n.arguments.eval(s)
	if err != nil {
		return nil, err
	}
	if n.test == nil {
		return nil, failf("No test named %s found.", reprString(n.name))
	}
	s.run.pay(1)
	return n.test(s.run, object, a)
}
