package jinja

// walkExpression calls visit for each name of an expression, in the reference's order.
func walkExpression(node expression, budget *budget, visit func(*nameNode)) {
	if !budget.spend(1) {
		return
	}
	all := func(nodes ...expression) {
		for _, node := range nodes {
			if node != nil {
				walkExpression(node, budget, visit)
			}
		}
	}
	switch node := node.(type) {
	case nil:
	case *nameNode:
		visit(node)
	default:
		children(node, all)
	}
}

// children calls visit with the expressions that an expression is made of; nil stands for one that is left out.
func children(node expression, visit func(...expression)) {
	switch node := node.(type) {
	case *sequenceNode:
		visit(node.items...)
	case *dictNode:
		for i, key := range node.keys {
			visit(key, node.values[i])
		}
	case *conditionNode:
		visit(node.test, node.then, node.otherwise)
	case *logicNode:
		visit(node.left, node.right)
	case *notNode:
		visit(node.operand)
	case *compareNode:
		visit(node.first)
		for _, operand := range node.operands {
			visit(operand.operand)
		}
	case *binaryNode:
		visit(node.left, node.right)
	case *signNode:
		visit(node.operand)
	case *joinNode:
		visit(node.items...)
	case *attributeNode:
		visit(node.object)
	case *itemNode:
		visit(node.object, node.key)
	case *sliceNode:
		visit(node.object, node.start, node.stop, node.step)
	case *callNode:
		visit(node.callee)
		visitArguments(node.arguments, visit)
	case *filterNode:
		visit(node.object)
		visitArguments(node.arguments, visit)
	case *testNode:
		visit(node.object)
		visitArguments(node.arguments, visit)
	}
}

func visitArguments(a *argumentsNode, visit func(...expression)) {
	if a != nil {
		visit(a.positional...)
		visit(a.named...)
	}
}

// undeclared finds which of a few names a body uses before it assigns to them.
type undeclared struct {
	wanted, found   map[string]bool
	assignmentsOnly bool
	budget          *budget
}

func findUndeclared(body []statement, budget *budget, names ...string) map[string]bool {
	u := &undeclared{wanted: map[string]bool{}, found: map[string]bool{}, budget: budget}
	for _, name := range names {
		u.wanted[name] = true
	}
	u.statements(body)
	return u.found
}

func (u *undeclared) expressions(nodes ...expression) {
	for _, node := range nodes {
		if u.assignmentsOnly {
			return
		}
		walkExpression(node, u.budget, func(name *nameNode) {
			if u.wanted[name.name] {
				u.found[name.name] = true
			}
		})
	}
}

func (u *undeclared) targets(targets ...*target) {
	for _, t := range targets {
		switch {
		case t.isTuple:
			u.targets(t.items...)
		case t.attribute == "":
			delete(u.wanted, t.name)
		}
	}
}

func (u *undeclared) statements(nodes []statement) {
	for _, node := range nodes {
		if !u.budget.spend(1) {
			return
		}
		switch node := node.(type) {
		case *outputNode:
			u.expressions(node.value)
		case *ifNode:
			for i, body := range node.bodies {
				if i < len(node.tests) {
					u.expressions(node.tests[i])
				}
				u.statements(body)
			}
		case *forNode:
			u.targets(node.target)
			u.expressions(node.iterable)
			u.statements(node.body)
			u.statements(node.otherwise)
			u.expressions(node.test)
		case *assignNode:
			u.targets(node.target)
			u.expressions(node.value)
		case *assignBlockNode:
			u.targets(node.target)
			u.expressions(node.filter)
			u.statements(node.body)
		case *macroNode:
			u.function(&node.functionNode)
		case *callBlockNode:
			if node.call != nil {
				u.expressions(node.call)
			}
			u.function(&node.functionNode)
		case *filterBlockNode:
			u.statements(node.body)
			u.expressions(node.filter)
		}
	}
}

func (u *undeclared) function(node *functionNode) {
	u.targets(node.parameters...)
	u.expressions(node.defaults...)
	u.statements(node.body)
}

// tooDeep reports whether a tree has more than maxTreeDepth levels.
func tooDeep(root expression) bool {
	type level struct {
		node  expression
		depth int
	}
	for stack := []level{{root, 1}}; len(stack) > 0; {
		top := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if top.depth > maxTreeDepth {
			return true
		}
		children(top.node, func(nodes ...expression) {
			for _, node := range nodes {
				if node != nil {
					stack = append(stack, level{node, top.depth + 1})
				}
			}
		})
	}
	return false
}
