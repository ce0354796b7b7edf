package jinja

import "slices"

// tuple reads one expression, or several with commas between, which are a tuple. Where conditions are allowed, "a if b
// else c" may stand without brackets.
func (p *parser) tuple(conditions bool) (expression, error) {
	item := p.or
	if conditions {
		item = p.expression
	}
	value, err := item()
	if err != nil || !p.current().operator(",") {
		return value, err
	}
	items := []expression{value}
	for p.skipOperator(",") {
		if t := p.current(); t.kind == tokenVariableEnd || t.kind == tokenBlockEnd || t.operator(")") {
			break
		}
		if value, err = item(); err != nil {
			return nil, err
		}
		items = append(items, value)
	}
	return &sequenceNode{items: items, isTuple: true}, nil
}

// expression reads an expression: conditions bind least, then or, and, not, comparisons, sums, ~, products, signs,
// and last what follows a value.
func (p *parser) expression() (expression, error) {
	defer p.chain()()
	if err := p.enter(); err != nil {
		return nil, err
	}
	value, err := p.or()
	if err != nil {
		return nil, err
	}
	for p.skipName("if") {
		if err := p.enter(); err != nil {
			return nil, err
		}
		node := &conditionNode{then: value}
		if node.test, err = p.or(); err != nil {
			return nil, err
		}
		if p.skipName("else") {
			if node.otherwise, err = p.expression(); err != nil {
				return nil, err
			}
		}
		value = node
	}
	return value, nil
}

func (p *parser) or() (expression, error) { return p.logic(p.and, "or") }

func (p *parser) and() (expression, error) { return p.logic(p.not, "and") }

func (p *parser) logic(operand func() (expression, error), word string) (expression, error) {
	defer p.chain()()
	left, err := operand()
	for err == nil && p.skipName(word) {
		node := &logicNode{left: left, or: word == "or"}
		if err = p.enter(); err == nil {
			node.right, err = operand()
		}
		left = node
	}
	return left, err
}

func (p *parser) not() (expression, error) {
	if !p.skipName("not") {
		return p.compare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	operand, err := p.not()
	return &notNode{operand}, err
}

var comparisonOperators = []string{"==", "!=", "<", "<=", ">", ">="}

func (p *parser) compare() (expression, error) {
	first, err := p.sum()
	if err != nil {
		return nil, err
	}
	var operands []comparison
	for {
		operator := ""
		switch t := p.current(); {
		case t.kind == tokenOperator && slices.Contains(comparisonOperators, t.text):
			operator = p.next().text
		case t.name("in"):
			operator = p.next().text
		case t.name("not") && p.ahead().name("in"):
			p.next()
			p.next()
			operator = "not in"
		case operands == nil:
			return first, nil
		default:
			return &compareNode{first, operands}, nil
		}
		operand, err := p.sum()
		if err != nil {
			return nil, err
		}
		operands = append(operands, comparison{operator, operand})
	}
}

// binary reads a chain of operators of one rank.
func (p *parser) binary(operand func() (expression, error), operators ...string) (expression, error) {
	defer p.chain()()
	left, err := operand()
	for err == nil && p.current().kind == tokenOperator && slices.Contains(operators, p.current().text) {
		node := &binaryNode{operator: p.current().text, left: left}
		if _, ok := constantText(left); ok && node.operator == "%" {
			return nil, p.refuse("operator on text", "%")
		}
		p.next()
		if err = p.enter(); err == nil {
			node.right, err = operand()
		}
		left = node
	}
	return left, err
}

func (p *parser) sum() (expression, error) { return p.binary(p.joined, "+", "-") }

func (p *parser) joined() (expression, error) {
	first, err := p.product()
	if err != nil || !p.current().operator("~") {
		return first, err
	}
	node := &joinNode{items: []expression{first}}
	for p.skipOperator("~") {
		item, err := p.product()
		if err != nil {
			return nil, err
		}
		node.items = append(node.items, item)
	}
	return node, nil
}

func (p *parser) product() (expression, error) {
	return p.binary(func() (expression, error) { return p.unary(true) }, "*", "/", "//", "%")
}

// unary reads a sign or a primary expression, and what follows it.
func (p *parser) unary(filters bool) (value expression, err error) {
	defer p.chain()()
	if t := p.current(); t.operator("-") || t.operator("+") {
		if err := p.enter(); err != nil {
			return nil, err
		}
		p.next()
		var operand expression
		operand, err = p.unary(false)
		value = &signNode{operand, t.text == "-"}
	} else {
		value, err = p.primary()
	}
	if err != nil {
		return nil, err
	}
	if value, err = p.postfix(value); err != nil || !filters {
		return value, err
	}
	for {
		if err := p.enter(); err != nil {
			return nil, err
		}
		switch t := p.current(); {
		case t.operator("|"):
			value, err = p.filters(value)
		case t.name("is"):
			value, err = p.test(value)
		case t.operator("("):
			value, err = p.call(value)
		case t.operator("**"):
			return nil, p.refuse("operator", t.text)
		default:
			return value, nil
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) primary() (expression, error) {
	t := p.current()
	switch t.kind {
	case tokenName:
		p.next()
		switch t.text {
		case "true", "True":
			return &constant{Bool(true)}, nil
		case "false", "False":
			return &constant{Bool(false)}, nil
		case "none", "None":
			return &constant{None}, nil
		}
		return &nameNode{variable{name: t.text}}, nil
	case tokenString:
		joined := []byte(nil)
		for p.current().kind == tokenString {
			joined = append(joined, p.next().text...)
		}
		return &constant{String(joined)}, nil
	case tokenInteger:
		p.next()
		return &constant{Int(t.whole)}, nil
	case tokenFloat:
		p.next()
		return &constant{Float(t.float)}, nil
	case tokenOperator:
		return p.bracketed(t)
	}
	return nil, p.fail("unexpected '%s'", t.describe())
}

func (p *parser) bracketed(t *token) (expression, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	switch t.text {
	case "(":
		p.next()
		if p.skipOperator(")") {
			return &sequenceNode{isTuple: true}, nil
		}
		value, err := p.tuple(true)
		if err != nil {
			return nil, err
		}
		return value, p.expectOperator(")")
	case "[":
		p.next()
		node := &sequenceNode{}
		err := p.list("]", func() error {
			item, err := p.expression()
			node.items = append(node.items, item)
			return err
		})
		return node, err
	case "{":
		p.next()
		node := &dictNode{}
		err := p.list("}", func() error {
			line := p.current().line
			key, err := p.expression()
			if err != nil {
				return err
			}
			if c, ok := key.(*constant); ok && c.value.typeName() != "str" && c.value.typeName() != "int" {
				return failAt(line, "a key of a dict of the type %s is not supported", c.value.typeName())
			}
			if err := p.expectOperator(":"); err != nil {
				return err
			}
			value, err := p.expression()
			node.keys, node.values = append(node.keys, key), append(node.values, value)
			return err
		})
		return node, err
	}
	return nil, p.fail("unexpected '%s'", t.describe())
}

// list reads items up to the bracket that ends them; a comma may stand behind the last.
func (p *parser) list(end string, item func() error) error {
	for first := true; !p.current().operator(end); first = false {
		if !first {
			if err := p.expectOperator(","); err != nil {
				return err
			}
			if p.current().operator(end) {
				break
			}
		}
		if err := item(); err != nil {
			return err
		}
	}
	return p.expectOperator(end)
}
