package jinja

import "slices"

// resolver gives each name of a tree its place. It also refuses what the reference refuses before anything runs:
// filters and tests that there are not, outside of conditions, and loops that assign to loop.
type resolver struct {
	err    error
	budget *budget
}

// frame is where a node stands.
type frame struct {
	symbols *symbols
	soft    bool // in a condition, where an unknown filter fails only when it is reached
}

func (f frame) inner(s *symbols) frame { return frame{symbols: s} }

func (r *resolver) fail(line int, format string, values ...any) {
	if r.err == nil {
		r.err = failAt(line, format, values...)
	}
}

// resolve returns the number of slots of the template itself.
func (r *resolver) resolve(body []placed) (scopeNode, int) {
	root := newSymbols(nil, &functionSlots{slots: map[string]int{}}, r.budget)
	root.scan(body)
	r.body(body, frame{symbols: root})
	return root.scope(), len(root.function.slots)
}

func (r *resolver) body(nodes []placed, f frame) {
	for _, node := range nodes {
		r.statement(node.statement, node.line, f)
	}
}

func (r *resolver) statement(node statement, line int, f frame) {
	switch node := node.(type) {
	case *outputNode:
		r.expression(node.value, f)
	case *ifNode:
		f.soft = true
		r.expression(node.test, f)
		r.body(node.body, f)
		r.body(node.otherwise, f)
	case *forNode:
		r.forLoop(node, line, f)
	case *assignNode:
		r.expression(node.value, f)
		r.target(node.target, f)
	case *macroNode:
		node.variable = f.symbols.variable(node.name)
		r.function(&node.functionNode, line, f)
	case *callBlockNode:
		r.function(&node.functionNode, line, f)
		if node.call != nil {
			r.expression(node.call, f)
		}
	}
}

func (r *resolver) forLoop(node *forNode, line int, f frame) {
	if (&mention{name: "loop", assigned: true, budget: r.budget}).statement(node) {
		r.fail(line, "Can't assign to special loop variable in for-loop target")
	}
	r.expression(node.iterable, f)
	inner := f.inner(f.symbols.inner())
	loop := inner.symbols
	node.extended = r.mentions(node.body, "loop")
	if node.extended {
		loop.argument("loop")
		node.loop = loop.variable("loop")
	}
	loop.argumentTarget(node.target)
	loop.scan(node.body)
	r.target(node.target, inner)
	otherwise := f.inner(f.symbols.inner())
	otherwise.symbols.scan(node.otherwise)
	if node.test != nil {
		node.testTarget = node.target.clone()
		test := f.inner(f.symbols.innerFunction())
		test.symbols.argumentTarget(node.testTarget)
		test.symbols.scanExpression(node.test)
		r.target(node.testTarget, test)
		r.expression(node.test, test)
		node.testScope, node.testSlots = test.symbols.scope(), len(test.symbols.function.slots)
	}
	r.body(node.body, inner)
	r.body(node.otherwise, otherwise)
	node.bodyScope, node.elseScope = loop.scope(), otherwise.symbols.scope()
}

func (t *target) clone() *target {
	c := *t
	c.items = nil
	for _, item := range t.items {
		c.items = append(c.items, item.clone())
	}
	return &c
}

func (r *resolver) function(node *functionNode, line int, f frame) {
	inner := f.inner(f.symbols.innerFunction())
	s := inner.symbols
	for _, parameter := range node.parameters {
		s.argument(parameter.name)
	}
	for _, value := range node.defaults {
		s.scanExpression(value)
	}
	s.scan(node.body)
	node.caller = -1
	at := slices.IndexFunc(node.parameters, func(t *target) bool { return t.name == "caller" })
	switch {
	case !r.mentions(node.body, "caller"):
	case at >= 0 && at < len(node.parameters)-len(node.defaults):
		r.fail(line, "When defining macros or call blocks the special \"caller\" argument must be omitted or be given a default.")
	case at < 0:
		node.caller = s.argument("caller").slot
	}
	for _, name := range []string{"kwargs", "varargs"} {
		if r.mentions(node.body, name) {
			r.fail(line, "%s", notSupported("the variable", name))
		}
	}
	for _, parameter := range node.parameters {
		r.target(parameter, inner)
	}
	for _, value := range node.defaults {
		r.expression(value, inner)
	}
	r.body(node.body, inner)
	node.scope, node.slots = s.scope(), len(s.function.slots)
}

func (r *resolver) target(t *target, f frame) {
	if t.isTuple {
		for _, item := range t.items {
			r.target(item, f)
		}
		return
	}
	t.variable = f.symbols.variable(t.name)
}

func (r *resolver) mentions(body []placed, name string) bool {
	return (&mention{name: name, budget: r.budget}).statements(body)
}

func (r *resolver) expression(node expression, f frame) {
	if node == nil || r.err != nil {
		return
	}
	all := func(nodes ...expression) {
		for _, node := range nodes {
			r.expression(node, f)
		}
	}
	switch node := node.(type) {
	case *nameNode:
		node.variable = f.symbols.variable(node.name)
		return
	case *bodyNode:
		inner := f.inner(f.symbols.inner())
		inner.symbols.scanExpression(node.filter)
		inner.symbols.scan(node.body)
		r.body(node.body, inner)
		r.expression(node.filter, inner)
		node.scope = inner.symbols.scope()
		return
	case *callNode:
		if callee, ok := node.callee.(*nameNode); ok && refusedFunctions[callee.name] && f.symbols.isGiven(callee.name) {
			r.fail(node.line, "%s", notSupported("function", callee.name))
		}
	case *conditionNode:
		f.soft = true
	case *filterNode:
		if node.filter == nil && !f.soft {
			r.fail(node.line, "No filter named %s.", reprString(node.name))
		}
	case *testNode:
		if node.test == nil && !f.soft {
			r.fail(node.line, "No test named %s.", reprString(node.name))
		}
	}
	children(node, all)
}
