package guide

import "slices"

// finish resolves calls of rules, refuses rules that call themselves before they take a byte, cuts away what can never be completed, and
// keeps what the root reaches.
func (c *compiler) finish(root int32) (*Program, error) {
	if c.err != nil {
		return nil, c.err
	}
	for i := range c.nodes {
		if c.nodes[i].kind == kindCall {
			c.nodes[i].first = c.entries[c.nodes[i].first]
		}
	}
	for i := range c.loops {
		c.loops[i].entry = c.entries[c.loops[i].entry]
	}
	entry := c.entries[root]
	g := graph{compiler: c}
	g.findNullable()
	if g.callsItself() {
		c.fail(Invalid, "a rule calls itself before it takes a character")
		return nil, c.err
	}
	g.findProductive()
	if !g.productive[entry] {
		c.fail(Unsatisfiable, "nothing fits it")
		return nil, c.err
	}
	return g.compact(entry), nil
}

// graph is what is known of a compiler's nodes.
type graph struct {
	*compiler
	nullable   []bool // the end of the rule can be reached without a byte
	productive []bool // the end of the rule can be reached
}

// without calls each for every node that n goes on at without a byte, but not for what a called rule begins with.
func (g *graph) without(n int32, each func(int32)) {
	switch v := &g.nodes[n]; v.kind {
	case kindSplit:
		for _, to := range g.targets[v.first:v.last] {
			each(to)
		}
	case kindCall:
		if g.nullable[v.first] {
			each(v.last)
		}
	case kindLoop:
		if l := &g.loops[v.first]; l.min == 0 {
			each(l.then)
		}
	}
}

// findNullable grows the set of such nodes from the ends.
func (g *graph) findNullable() {
	g.nullable = make([]bool, len(g.nodes))
	users := g.users(func(v *node, each func(int32)) {
		switch v.kind {
		case kindSplit:
			for _, to := range g.targets[v.first:v.last] {
				each(to)
			}
		case kindCall:
			each(v.first)
			each(v.last)
		case kindLoop:
			each(g.loops[v.first].then)
		}
	})
	g.grow(g.nullable, users, func(v *node) bool {
		switch v.kind {
		case kindSplit:
			return slices.ContainsFunc(g.targets[v.first:v.last], func(to int32) bool { return g.nullable[to] })
		case kindCall:
			return g.nullable[v.first] && g.nullable[v.last]
		case kindLoop:
			l := &g.loops[v.first]
			return l.min == 0 && g.nullable[l.then]
		}
		return v.kind == kindEnd
	})
}

// findProductive grows the set of such nodes from the ends.
func (g *graph) findProductive() {
	g.productive = make([]bool, len(g.nodes))
	users := g.users(func(v *node, each func(int32)) {
		switch v.kind {
		case kindBytes:
			for _, e := range g.edges[v.first:v.last] {
				each(e.to)
			}
		case kindSplit:
			for _, to := range g.targets[v.first:v.last] {
				each(to)
			}
		case kindCall:
			each(v.first)
			each(v.last)
		case kindLoop:
			each(g.loops[v.first].entry)
			each(g.loops[v.first].then)
		}
	})
	g.grow(g.productive, users, func(v *node) bool {
		switch v.kind {
		case kindBytes:
			return slices.ContainsFunc(g.edges[v.first:v.last], func(e edge) bool { return g.productive[e.to] })
		case kindSplit:
			return slices.ContainsFunc(g.targets[v.first:v.last], func(to int32) bool { return g.productive[to] })
		case kindCall:
			return g.productive[v.first] && g.productive[v.last]
		case kindLoop:
			l := &g.loops[v.first]
			return (l.min == 0 || g.productive[l.entry]) && g.productive[l.then]
		}
		return true
	})
}

// users lists for each node those that refer to it, where references calls its function for each that a node refers to.
func (g *graph) users(references func(v *node, each func(int32))) [][]int32 {
	users := make([][]int32, len(g.nodes))
	for n := range g.nodes {
		references(&g.nodes[n], func(to int32) { users[to] = append(users[to], int32(n)) })
	}
	return users
}

// grow sets a node's entry if it holds by those of the nodes that it refers to, until no other does.
func (g *graph) grow(set []bool, users [][]int32, holds func(*node) bool) {
	queue := make([]int32, 0, len(g.nodes))
	for n := range g.nodes {
		queue = append(queue, int32(n))
	}
	for len(queue) > 0 {
		n := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if set[n] || !holds(&g.nodes[n]) {
			continue
		}
		set[n] = true
		queue = append(queue, users[n]...)
	}
}

// callsItself reports whether a call can come to itself without a byte, which would call without end: whether a call and the beginning of
// what it calls are in one cycle of steps without bytes. It looks for strongly connected components (Tarjan, Depth-First Search and Linear
// Graph Algorithms, 1972) by a stack of its own.
func (g *graph) callsItself() bool {
	component := g.components(func(n int32, each func(int32)) {
		g.without(n, each)
		switch v := &g.nodes[n]; v.kind {
		case kindCall:
			each(v.first)
		case kindLoop:
			each(g.loops[v.first].entry)
		}
	})
	for n := range g.nodes {
		switch v := &g.nodes[n]; {
		case v.kind == kindCall && component[n] == component[v.first],
			v.kind == kindLoop && (component[n] == component[g.loops[v.first].entry] || g.nullable[g.loops[v.first].entry]):
			return true
		}
	}
	return false
}

// components numbers the strongly connected components of the nodes, each of which leads to those that each is called for.
func (g *graph) components(leads func(n int32, each func(int32))) []int32 {
	const unseen = 0
	count := len(g.nodes)
	component := make([]int32, count)
	order, low := make([]int32, count), make([]int32, count) // from 1
	onPath := make([]bool, count)
	type visit struct {
		n    int32
		next []int32
	}
	var visits []visit
	var path []int32
	seen, found := int32(0), int32(0)
	enter := func(n int32) {
		seen++
		order[n], low[n], onPath[n] = seen, seen, true
		path = append(path, n)
		v := visit{n: n}
		leads(n, func(to int32) { v.next = append(v.next, to) })
		visits = append(visits, v)
	}
	for root := range int32(count) {
		if order[root] != unseen {
			continue
		}
		for enter(root); len(visits) > 0; {
			v := &visits[len(visits)-1]
			n := v.n
			if len(v.next) > 0 {
				to := v.next[0]
				if v.next = v.next[1:]; order[to] == unseen {
					enter(to)
				} else if onPath[to] {
					low[n] = min(low[n], order[to])
				}
				continue
			}
			visits = visits[:len(visits)-1]
			if len(visits) > 0 {
				before := visits[len(visits)-1].n
				low[before] = min(low[before], low[n])
			}
			if low[n] != order[n] {
				continue
			}
			for found++; ; {
				member := path[len(path)-1]
				path = path[:len(path)-1]
				component[member], onPath[member] = found, false
				if member == n {
					break
				}
			}
		}
	}
	return component
}

// compact makes the program: the shared nodes as they are, then what is reached. A call behind which its rule ends is a step: it returns
// to where its own rule returns to.
func (g *graph) compact(entry int32) *Program {
	p := &Program{shared: g.shared}
	place := make([]int32, len(g.nodes))
	var order []int32
	reach := func(n int32) int32 {
		if place[n] == 0 {
			order = append(order, n)
			place[n] = int32(len(order)) // from 1
		}
		return place[n] - 1
	}
	for n := range g.shared {
		reach(n)
	}
	p.start = reach(entry)
	for at := 0; at < len(order); at++ {
		v := g.nodes[order[at]]
		switch v.kind {
		case kindBytes:
			first := int32(len(p.edges))
			for _, e := range g.edges[v.first:v.last] {
				if g.productive[e.to] {
					p.edges = append(p.edges, edge{e.low, e.high, reach(e.to)})
				}
			}
			v.first, v.last = first, int32(len(p.edges))
		case kindSplit:
			v = p.split(g, g.targets[v.first:v.last], reach)
		case kindCall:
			if v.last == endNode {
				v = p.split(g, []int32{v.first}, reach)
				break
			}
			v.first, v.last = reach(v.first), reach(v.last)
		case kindLoop:
			l := g.loops[v.first]
			if !g.productive[l.entry] {
				v = p.split(g, []int32{l.then}, reach)
				break
			}
			l.entry, l.then = reach(l.entry), reach(l.then)
			v.first = int32(len(p.loops))
			p.loops = append(p.loops, l)
		}
		p.nodes = append(p.nodes, v)
	}
	return p
}

// split is a node that goes on as those targets do that are productive.
func (p *Program) split(g *graph, targets []int32, reach func(int32) int32) node {
	first := int32(len(p.targets))
	for _, to := range targets {
		if g.productive[to] {
			p.targets = append(p.targets, reach(to))
		}
	}
	return node{kindSplit, first, int32(len(p.targets))}
}
