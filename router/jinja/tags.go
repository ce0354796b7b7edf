package jinja

func (p *parser) filterStatement() (statement, error) {
	node := &filterBlockNode{line: p.next().line}
	var err error
	if node.filter, err = p.filter(nil); err != nil {
		return nil, err
	}
	if node.filter, err = p.whole(p.filters(node.filter)); err != nil {
		return nil, err
	}
	node.body, err = p.closed("endfilter")
	return node, err
}

func (p *parser) withStatement() (statement, error) {
	node := &withNode{line: p.next().line}
	for p.current().kind != tokenBlockEnd {
		if len(node.targets) > 0 {
			if err := p.expectOperator(","); err != nil {
				return nil, err
			}
		}
		target, err := p.target(targetOptions{})
		if err != nil {
			return nil, err
		}
		if err := p.expectOperator("="); err != nil {
			return nil, err
		}
		value, err := p.root()
		if err != nil {
			return nil, err
		}
		node.targets, node.values = append(node.targets, target), append(node.values, value)
	}
	var err error
	node.body, err = p.closed("endwith")
	return node, err
}

func (p *parser) blockStatement() (statement, error) {
	node := &blockNode{line: p.next().line}
	name, err := p.expect(tokenName)
	if err != nil {
		return nil, err
	}
	node.name = name.text
	if p.blocks[node.name] {
		return nil, failAt(node.line, "block %s defined twice", reprString(node.name))
	}
	p.blocks[node.name] = true
	scoped := p.skipName("scoped")
	required := p.skipName("required")
	if p.current().operator("-") {
		return nil, p.fail("Block names in Jinja have to be valid Python identifiers and may not contain hyphens, use an underscore instead.")
	}
	loops := p.loops
	p.loops = 0
	node.body, err = p.closed("endblock")
	p.loops = loops
	p.skipName(node.name)
	switch {
	case err != nil:
		return nil, err
	case required:
		return &refuseNode{"Required block " + reprString(node.name) + " not found", node.line}, nil
	case scoped:
		// What a scoped block sees is what a scope sees.
		return &withNode{body: node.body, line: node.line}, nil
	}
	return node, nil
}

func (p *parser) autoescapeStatement() (statement, error) {
	line := p.next().line
	value, err := p.root()
	if err != nil {
		return nil, err
	}
	body, err := p.closed("endautoescape")
	if err != nil {
		return nil, err
	}
	refuse := &refuseNode{"escaping is not supported", line}
	return &withNode{line: line, body: []statement{
		&ifNode{tests: []expression{value}, bodies: [][]statement{{refuse}, nil}, lines: []int{line}},
		&withNode{line: line, body: body},
	}}, nil
}

// refuseStatement reads a tag that would need other templates: it fails when it is reached, as it does in the
// reference.
func (p *parser) refuseStatement() (statement, error) {
	line := p.next().line
	if _, err := p.root(); err != nil {
		return nil, err
	}
	for p.current().kind != tokenBlockEnd && p.current().kind != tokenEnd {
		p.next()
	}
	return &refuseNode{"no loader for this environment specified", line}, nil
}

type targetOptions struct {
	namespace bool   // attributes may be assigned to
	end       string // a name that ends the target
}

// target reads what is assigned to.
func (p *parser) target(options targetOptions) (*target, error) {
	value, err := p.tuple(tupleOptions{simple: true, namespace: options.namespace, end: options.end})
	if err != nil {
		return nil, err
	}
	return p.asTarget(value)
}

func (p *parser) nameTarget() (*target, error) {
	t, err := p.expect(tokenName)
	if err != nil {
		return nil, err
	}
	return p.nameAsTarget(t.text, t.line)
}

func (p *parser) nameAsTarget(name string, line int) (*target, error) {
	switch name {
	case "true", "false", "none", "True", "False", "None":
		return nil, failAt(line, "can't assign to 'const'")
	}
	return &target{variable: variable{name: name}, line: line}, nil
}

func (p *parser) asTarget(value expression) (*target, error) {
	switch value := value.(type) {
	case *nameNode:
		return p.nameAsTarget(value.name, value.line)
	case *namespaceNode:
		return &target{variable: variable{name: value.name}, attribute: value.attribute, line: value.line}, nil
	case *sequenceNode:
		if value.isTuple {
			tuple := &target{isTuple: true, line: p.current().line}
			for _, item := range value.items {
				target, err := p.asTarget(item)
				if err != nil {
					return nil, err
				}
				tuple.items = append(tuple.items, target)
			}
			return tuple, nil
		}
		return nil, p.fail("can't assign to 'list'")
	case *constant:
		return nil, p.fail("can't assign to 'const'")
	}
	return nil, p.fail("can't assign to this expression")
}

// namespaceNode is an attribute of a namespace that is assigned to; it stands in no finished tree.
type namespaceNode struct {
	name, attribute string
	line            int
}

func (n *namespaceNode) eval(*scope) (Value, error) { return nil, failAt(n.line, "not an expression") }
