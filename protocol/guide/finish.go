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
	g.findUsers()
	g.findNullable()
	g.findNeeds()
	switch {
	case g.callsItself():
		c.fail(Invalid, "a rule calls itself before it takes a character")
	case slices.ContainsFunc(c.loops, func(l loop) bool { return g.nullable[l.entry] }):
		c.fail(Unsupported, "what is repeated more than %d times, but a counted number, must not be empty", maxCopies)
	case !g.productive(entry):
		c.fail(Unsatisfiable, "nothing fits it")
	case g.needs[entry] > maxDepth:
		c.fail(TooLarge, "its rules call each other more than %d deep", maxDepth)
	}
	if c.err != nil {
		return nil, c.err
	}
	pushes := g.countPushes()
	p := g.compact(entry)
	p.pushes = pushes
	for _, needs := range p.needs {
		if needs != never {
			p.most = max(p.most, int(needs))
		}
	}
	p.findPlain()
	return p, nil
}

// graph is what is known of a compiler's nodes.
type graph struct {
	*compiler
	nullable  []bool  // the end of the rule can be reached without a byte
	needs     []int32 // how many calls within one another it takes to reach the end of the rule; never: it cannot be reached
	component []int32 // of steps without a byte and calls, from 1; what a component leads to has lower numbers

	users     []int32 // of all nodes, those that refer to them
	usersFrom []int32 // where those of each node begin
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
	g.grow(g.nullable, func(v *node) bool {
		switch v.kind {
		case kindSplit:
			return g.anyTarget(v, g.nullable)
		case kindCall:
			return g.nullable[v.first] && g.nullable[v.last]
		case kindLoop:
			l := &g.loops[v.first]
			return l.min == 0 && g.nullable[l.then]
		}
		return v.kind == kindEnd
	})
}

func (g *graph) anyTarget(v *node, set []bool) bool {
	return slices.ContainsFunc(g.targets[v.first:v.last], func(to int32) bool { return set[to] })
}

// findUsers lists for each node those that refer to it.
func (g *graph) findUsers() {
	g.usersFrom = make([]int32, len(g.nodes)+1)
	total := int32(0)
	for n := range g.nodes {
		g.references(int32(n), func(to int32) { g.usersFrom[to]++; total++ })
	}
	last := int32(0)
	for n, count := range g.usersFrom { // each is where the users of its node end, as they are filled from behind
		last += count
		g.usersFrom[n] = last
	}
	g.users = make([]int32, total)
	for n := range g.nodes {
		g.references(int32(n), func(to int32) {
			g.usersFrom[to]--
			g.users[g.usersFrom[to]] = int32(n)
		})
	}
}

func (g *graph) usersOf(n int32) []int32 { return g.users[g.usersFrom[n]:g.usersFrom[n+1]] }

// references calls each for every node that n refers to.
func (g *graph) references(n int32, each func(int32)) {
	switch v := &g.nodes[n]; v.kind {
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
}

// grow sets a node's entry if it holds by those of the nodes that it refers to, until no other does.
func (g *graph) grow(set []bool, holds func(*node) bool) {
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
		queue = append(queue, g.usersOf(n)...)
	}
}

// callsItself reports whether a call can come to itself without a byte, which would call without end: whether a call and the beginning of
// what it calls are in one cycle of steps without bytes. It looks for strongly connected components (Tarjan, Depth-First Search and Linear
// Graph Algorithms, 1972) by a stack of its own.
func (g *graph) callsItself() bool {
	g.component = g.components(func(n int32, each func(int32)) {
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
		case v.kind == kindCall && g.component[n] == g.component[v.first],
			v.kind == kindLoop && g.component[n] == g.component[g.loops[v.first].entry]:
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
		base int // of the nodes in pending that it leads to
	}
	var visits []visit
	var path, pending []int32
	seen, found := int32(0), int32(0)
	enter := func(n int32) {
		seen++
		order[n], low[n], onPath[n] = seen, seen, true
		path = append(path, n)
		visits = append(visits, visit{n, len(pending)})
		leads(n, func(to int32) { pending = append(pending, to) })
	}
	for root := range int32(count) {
		if order[root] != unseen {
			continue
		}
		for enter(root); len(visits) > 0; {
			v := &visits[len(visits)-1]
			n := v.n
			if last := len(pending) - 1; last >= v.base {
				to := pending[last]
				if pending = pending[:last]; order[to] == unseen {
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
