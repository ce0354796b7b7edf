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
