package jinja

// postfix reads attributes, subscripts and calls behind a value.
func (p *parser) postfix(value expression) (expression, error) {
	var err error
	for err == nil {
		switch t := p.current(); {
		case t.operator("."):
			value, err = p.attribute(value)
		case t.operator("["):
			value, err = p.subscript(value)
		case t.operator("("):
			value, err = p.call(value)
		default:
			return value, nil
		}
	}
	return nil, err
}

func (p *parser) attribute(value expression) (expression, error) {
	p.next()
	t := p.next()
	switch t.kind {
	case tokenName:
		return &attributeNode{value, t.text}, nil
	case tokenInteger:
		return &itemNode{value, &constant{normalInt(t.whole)}}, nil
	}
	return nil, failAt(t.line, "expected name or number")
}

func (p *parser) subscript(object expression) (expression, error) {
	p.next()
	var keys []expression
	for !p.current().operator("]") {
		if len(keys) > 0 {
			if err := p.expectOperator(","); err != nil {
				return nil, err
			}
		}
		key, err := p.key()
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	p.next()
	if len(keys) != 1 {
		return &itemNode{object, &sequenceNode{items: keys, isTuple: true}}, nil
	}
	if slice, ok := keys[0].(*sliceKey); ok {
		return &sliceNode{object, slice.start, slice.stop, slice.step}, nil
	}
	return &itemNode{object, keys[0]}, nil
}

// key reads one subscript, which may be a slice.
func (p *parser) key() (expression, error) {
	var bounds [3]expression
	ends := func() bool {
		t := p.current()
		return t.operator("]") || t.operator(",") || t.operator(":")
	}
	for i := range bounds {
		if !ends() {
			value, err := p.expression()
			if err != nil {
				return nil, err
			}
			if i == 0 && !p.current().operator(":") {
				return value, nil
			}
			bounds[i] = value
		} else if i == 0 && !p.current().operator(":") {
			return p.expression()
		}
		if i < len(bounds)-1 && !p.skipOperator(":") {
			break
		}
	}
	return &sliceKey{bounds[0], bounds[1], bounds[2]}, nil
}

func (p *parser) call(callee expression) (expression, error) {
	arguments, err := p.arguments()
	return &callNode{callee, arguments}, err
}

func (p *parser) arguments() (*argumentsNode, error) {
	line := p.next().line
	node := &argumentsNode{}
	invalid := func() error { return failAt(line, "invalid syntax for function call expression") }
	return node, p.list(")", func() error {
		var err error
		switch {
		case p.skipOperator("*"):
			if node.more != nil || node.moreNamed != nil {
				return invalid()
			}
			node.more, err = p.expression()
		case p.skipOperator("**"):
			if node.moreNamed != nil {
				return invalid()
			}
			node.moreNamed, err = p.expression()
		case p.current().kind == tokenName && p.ahead().operator("="):
			if node.moreNamed != nil {
				return invalid()
			}
			name := p.next().text
			if len(node.names) >= maxArguments {
				return &LimitError{"arguments of one call"}
			}
			for _, other := range node.names {
				if other == name {
					return failAt(line, "keyword argument repeated: %s", name)
				}
			}
			p.next()
			var value expression
			value, err = p.expression()
			node.names, node.named = append(node.names, name), append(node.named, value)
		default:
			if node.more != nil || node.moreNamed != nil || len(node.names) > 0 {
				return invalid()
			}
			var value expression
			value, err = p.expression()
			node.positional = append(node.positional, value)
		}
		return err
	})
}

// filters reads filters behind a value.
func (p *parser) filters(value expression) (expression, error) {
	var err error
	for err == nil && p.skipOperator("|") {
		value, err = p.filter(value)
	}
	return value, err
}

// dotted reads a name that may have dots in it.
func (p *parser) dotted() (string, error) {
	t, err := p.expect(tokenName)
	if err != nil {
		return "", err
	}
	name := t.text
	for p.skipOperator(".") {
		t, err := p.expect(tokenName)
		if err != nil {
			return "", err
		}
		name += "." + t.text
	}
	return name, nil
}

func (p *parser) filter(value expression) (expression, error) {
	node := &filterNode{object: value, line: p.current().line}
	var err error
	if node.name, err = p.dotted(); err != nil {
		return nil, err
	}
	node.filter = filterNamed(node.name)
	if p.current().operator("(") {
		node.arguments, err = p.arguments()
	}
	return node, err
}

func (p *parser) test(value expression) (expression, error) {
	node := &testNode{object: value, line: p.next().line}
	negated := p.skipName("not")
	var err error
	if node.name, err = p.dotted(); err != nil {
		return nil, err
	}
	node.test = testNamed(node.name)
	switch t := p.current(); {
	case t.operator("("):
		node.arguments, err = p.arguments()
	case t.name("else"), t.name("or"), t.name("and"):
	case t.name("is"):
		return nil, p.fail("You cannot chain multiple tests with is")
	case t.kind == tokenName, t.kind == tokenString, t.kind == tokenInteger, t.kind == tokenFloat, t.operator("["), t.operator("{"):
		var argument expression
		if argument, err = p.primary(false); err == nil {
			argument, err = p.postfix(argument)
		}
		node.arguments = &argumentsNode{positional: []expression{argument}}
	}
	if negated {
		return &notNode{node}, err
	}
	return node, err
}
