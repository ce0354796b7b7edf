package jinja

import "slices"

// postfix reads attributes, subscripts and calls behind a value.
func (p *parser) postfix(value expression) (expression, error) {
	for {
		err := p.enter()
		if err != nil {
			return nil, err
		}
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
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) attribute(value expression) (expression, error) {
	p.next()
	t := p.next()
	switch t.kind {
	case tokenName:
		if object, ok := value.(*nameNode); ok && object.name == "loop" {
			if refusedLoop[t.text] {
				return nil, failAt(t.line, "%s", notSupported("the attribute of loops", t.text))
			}
			if countingLoop[t.text] && p.loop != nil && p.loop.conditional {
				return nil, failAt(t.line, "%s", notSupported("the attribute of loops with a condition", t.text))
			}
		}
		return &attributeNode{value, t.text}, nil
	case tokenInteger:
		return &itemNode{value, &constant{Int(t.whole)}}, nil
	}
	return nil, failAt(t.line, "expected name or number")
}

// subscript reads a key or a slice.
func (p *parser) subscript(object expression) (expression, error) {
	p.next()
	var bounds [3]expression // start, stop and step
	colons := 0
	for !p.current().operator("]") {
		if colons < 2 && p.skipOperator(":") {
			colons++
			continue
		}
		if bounds[colons] != nil {
			return nil, p.expected("]")
		}
		var err error
		if bounds[colons], err = p.expression(); err != nil {
			return nil, err
		}
	}
	switch {
	case colons > 0:
		p.next()
		return &sliceNode{object, bounds[0], bounds[1], bounds[2]}, nil
	case bounds[0] == nil:
		return nil, p.fail("a subscript is due")
	}
	p.next()
	return &itemNode{object, bounds[0]}, nil
}

func (p *parser) call(callee expression) (expression, error) {
	line := p.current().line
	arguments, err := p.arguments()
	if err == nil {
		err = checkCall(callee, arguments, line)
	}
	return &callNode{callee, arguments, line}, err
}

func (p *parser) arguments() (*argumentsNode, error) {
	line := p.next().line
	node := &argumentsNode{}
	return node, p.list(")", func() error {
		var err error
		switch {
		case p.current().operator("*"), p.current().operator("**"):
			return p.refuse("in arguments", p.current().text)
		case p.current().kind == tokenName && p.ahead().operator("="):
			name := p.next().text
			if len(node.names) >= maxArguments {
				return &LimitError{"arguments of one call"}
			}
			if slices.Contains(node.names, name) {
				return failAt(line, "keyword argument repeated: %s", name)
			}
			p.next()
			var value expression
			value, err = p.expression()
			node.names, node.named = append(node.names, name), append(node.named, value)
		default:
			if len(node.names) > 0 {
				return failAt(line, "invalid syntax for function call expression")
			}
			var value expression
			value, err = p.expression()
			node.positional = append(node.positional, value)
		}
		return err
	})
}

// filters reads filters behind a value. Like postfix it leaves it to its caller to take back the levels.
func (p *parser) filters(value expression) (expression, error) {
	var err error
	for err == nil && p.skipOperator("|") {
		if value, err = p.filter(value); err == nil {
			err = p.enter()
		}
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
	if refusedFilters[node.name] {
		return nil, failAt(node.line, "%s", notSupported("filter", node.name))
	}
	node.filter = filters[node.name]
	if p.current().operator("(") {
		if node.arguments, err = p.arguments(); err != nil {
			return nil, err
		}
	}
	return node, checkFilter(node)
}

func (p *parser) test(value expression) (expression, error) {
	node := &testNode{object: value, line: p.next().line}
	negated := p.skipName("not")
	var err error
	if node.name, err = p.dotted(); err != nil {
		return nil, err
	}
	if refusedTests[node.name] {
		return nil, failAt(node.line, "%s", notSupported("test", node.name))
	}
	node.test = tests[node.name]
	switch t := p.current(); {
	case t.operator("("):
		node.arguments, err = p.arguments()
	case t.name("else"), t.name("or"), t.name("and"):
	case t.name("is"):
		return nil, p.fail("You cannot chain multiple tests with is")
	case t.kind == tokenName, t.kind == tokenString, t.kind == tokenInteger, t.kind == tokenFloat, t.operator("["), t.operator("{"):
		var argument expression
		if argument, err = p.primary(); err == nil {
			argument, err = p.postfix(argument)
		}
		node.arguments = &argumentsNode{positional: []expression{argument}}
	}
	if negated {
		return &notNode{node}, err
	}
	return node, err
}
