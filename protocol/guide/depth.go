package guide

import "slices"

// never is what needs says of nodes from which the end of the rule cannot be reached.
const never = 1 << 30

func (g *graph) productive(n int32) bool { return g.needs[n] != never }

// findNeeds finds the nodes that need no call, then those that need calls of these, and so on. A machine goes to no node that needs more
// calls than it may still make: so what it has begun it can complete.
func (g *graph) findNeeds() {
	g.needs = make([]int32, len(g.nodes))
	queue := make([]int32, len(g.nodes))
	for n := range g.nodes {
		g.needs[n], queue[n] = never, int32(n)
	}
	for depth := int32(0); len(queue) > 0; depth++ {
		var found []int32
		for len(queue) > 0 {
			n := queue[len(queue)-1]
			queue = queue[:len(queue)-1]
			if g.needs[n] == never && g.needsAtMost(&g.nodes[n], depth) {
				g.needs[n] = depth
				found = append(found, n)
				queue = append(queue, g.usersOf(n)...)
			}
		}
		for _, n := range found {
			queue = append(queue, g.usersOf(n)...) // which may need a call more
		}
	}
}

// needsAtMost reports whether a node needs so many calls at most, by what is known of those that it refers to.
func (g *graph) needsAtMost(v *node, depth int32) bool {
	switch v.kind {
	case kindBytes:
		return slices.ContainsFunc(g.edges[v.first:v.last], func(e edge) bool { return g.needs[e.to] <= depth })
	case kindSplit:
		return slices.ContainsFunc(g.targets[v.first:v.last], func(to int32) bool { return g.needs[to] <= depth })
	case kindCall:
		if v.last == endNode { // it becomes a step
			return g.needs[v.first] <= depth
		}
		return g.needs[v.first] < depth && g.needs[v.last] <= depth
	case kindLoop:
		l := &g.loops[v.first]
		return (l.min == 0 || g.needs[l.entry] < depth) && g.needs[l.then] <= depth
	}
	return true
}

// countPushes is how many calls within one another a byte can lead to at most. Nodes of one component make no call that leads back to
// it, and components that a node leads to have lower numbers.
func (g *graph) countPushes() int {
	order := make([]int32, len(g.nodes))
	for n := range order {
		order[n] = int32(n)
	}
	slices.SortFunc(order, func(a, b int32) int { return int(g.component[a] - g.component[b]) })
	pushes := make([]int32, len(g.nodes)+1) // by component
	for _, n := range order {
		own := &pushes[g.component[n]]
		lead := func(to, calls int32) { *own = max(*own, pushes[g.component[to]]+calls) }
		g.without(n, func(to int32) { lead(to, 0) })
		switch v := &g.nodes[n]; v.kind {
		case kindCall:
			calls := int32(1)
			if v.last == endNode { // it becomes a step
				calls = 0
			}
			lead(v.first, calls)
		case kindLoop:
			lead(g.loops[v.first].entry, 1)
		}
	}
	return int(slices.Max(pushes))
}
