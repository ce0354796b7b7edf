package jinja

import "slices"

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
	case *bodyNode:
		visit(node.filter)
	}
}

func visitArguments(a *argumentsNode, visit func(...expression)) {
	if a != nil {
		visit(a.positional...)
		visit(a.named...)
	}
}

// mention looks for a name in statements and all that stands in them: where it is used or, for assigned, assigned to.
type mention struct {
	name     string
	assigned bool
	budget   *budget
}

func (m *mention) statements(nodes []placed) bool {
	return slices.ContainsFunc(nodes, func(node placed) bool { return m.budget.spend(1) && m.statement(node.statement) })
}

func (m *mention) statement(node statement) bool {
	switch node := node.(type) {
	case *outputNode:
		return m.expressions(node.value)
	case *ifNode:
		return m.expressions(node.test) || m.statements(node.body) || m.statements(node.otherwise)
	case *forNode:
		return m.targets(node.target) || m.expressions(node.iterable, node.test) || m.statements(node.body) ||
			m.statements(node.otherwise)
	case *assignNode:
		return m.targets(node.target) || m.expressions(node.value)
	case *macroNode:
		return m.function(&node.functionNode)
	case *callBlockNode:
		return node.call != nil && m.expressions(node.call) || m.function(&node.functionNode)
	}
	return false
}

func (m *mention) function(node *functionNode) bool {
	return m.targets(node.parameters...) || m.expressions(node.defaults...) || m.statements(node.body)
}

func (m *mention) targets(targets ...*target) bool {
	return slices.ContainsFunc(targets, func(t *target) bool {
		return m.assigned && !t.isTuple && t.attribute == "" && t.name == m.name || m.targets(t.items...)
	})
}

func (m *mention) expressions(nodes ...expression) bool {
	return slices.ContainsFunc(nodes, func(node expression) bool {
		found := false
		walkExpression(node, m.budget, func(name *nameNode) { found = found || !m.assigned && name.name == m.name })
		if body, ok := node.(*bodyNode); ok {
			found = found || m.statements(body.body)
		}
		return found
	})
}
