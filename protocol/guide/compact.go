package guide

import (
	"cmp"
	"slices"
)

// maxMerged bounds the alternatives that are made one.
const maxMerged = 16

// compaction makes a program of a graph: the shared nodes as they are, then what is reached. A call behind which its rule ends is a step:
// it returns to where its own rule returns to. Alternatives that differ in their first byte are one node, so that the machine has fewer
// threads.
type compaction struct {
	from  *graph
	to    *Program
	place []int32 // of the graph's nodes in the program, from 1
	order []int32 // nodes of the graph by place
}

func (g *graph) compact(entry int32) *Program {
	c := compaction{from: g, to: &Program{shared: g.shared}, place: make([]int32, len(g.nodes))}
	for n := range g.shared {
		c.reach(n)
	}
	c.to.start = c.reach(entry)
	for at := 0; at < len(c.order); at++ {
		n := c.order[at]
		c.to.nodes = append(c.to.nodes, c.node(g.nodes[n]))
		c.to.needs = append(c.to.needs, g.needs[n])
	}
	return c.to
}

// reach is a node's place.
func (c *compaction) reach(n int32) int32 {
	if c.place[n] == 0 {
		c.order = append(c.order, n)
		c.place[n] = int32(len(c.order))
	}
	return c.place[n] - 1
}

func (c *compaction) node(v node) node {
	switch v.kind {
	case kindBytes:
		return c.bytes(c.from.edges[v.first:v.last])
	case kindSplit:
		return c.split(c.from.targets[v.first:v.last])
	case kindCall:
		if v.last == endNode {
			return c.split([]int32{v.first})
		}
		v.first, v.last = c.reach(v.first), c.reach(v.last)
	case kindLoop:
		l := c.from.loops[v.first]
		if !c.from.productive(l.entry) {
			return c.split([]int32{l.then})
		}
		l.entry, l.then = c.reach(l.entry), c.reach(l.then)
		v.first = int32(len(c.to.loops))
		c.to.loops = append(c.to.loops, l)
	}
	return v
}

// bytes is a node that goes on by the edges that can be completed.
func (c *compaction) bytes(edges []edge) node {
	first := int32(len(c.to.edges))
	for _, e := range edges {
		if c.from.productive(e.to) {
			c.to.edges = append(c.to.edges, edge{e.low, e.high, c.reach(e.to)})
		}
	}
	return node{kindBytes, first, int32(len(c.to.edges))}
}

// split is a node that goes on as those targets do that can be completed.
func (c *compaction) split(targets []int32) node {
	leaves, merged := c.merge(targets)
	if merged != nil && len(leaves) == 0 {
		return c.bytes(merged)
	}
	if merged != nil {
		first := int32(len(c.from.edges))
		c.from.edges = append(c.from.edges, merged...)
		leaves = append(leaves, c.from.add(node{kindBytes, first, int32(len(c.from.edges))}))
		c.place = append(c.place, 0)
		needs := int32(never)
		for _, e := range merged {
			needs = min(needs, c.from.needs[e.to])
		}
		c.from.needs = append(c.from.needs, needs)
	}
	first := int32(len(c.to.targets))
	for _, to := range leaves {
		if c.from.productive(to) {
			c.to.targets = append(c.to.targets, c.reach(to))
		}
	}
	return node{kindSplit, first, int32(len(c.to.targets))}
}

// merge takes the nodes that take a byte out of alternatives, and gives their edges, if no byte goes on from two of them. Alternatives of
// alternatives are looked into.
func (c *compaction) merge(targets []int32) (others []int32, edges []edge) {
	var bytes []int32
	looked := 0
	for queue := slices.Clone(targets); len(queue) > 0; looked++ {
		n := queue[0]
		queue = queue[1:]
		switch v := &c.from.nodes[n]; {
		case !c.from.productive(n) || slices.Contains(bytes, n) || slices.Contains(others, n):
		case looked+len(queue) >= maxMerged:
			return targets, nil
		case v.kind == kindSplit:
			queue = append(slices.Clone(c.from.targets[v.first:v.last]), queue...)
		case v.kind == kindBytes:
			bytes = append(bytes, n)
		default:
			others = append(others, n)
		}
	}
	if len(bytes) < 2 {
		return targets, nil
	}
	for _, n := range bytes {
		v := &c.from.nodes[n]
		for _, e := range c.from.edges[v.first:v.last] {
			if c.from.productive(e.to) {
				edges = append(edges, e)
			}
		}
	}
	slices.SortStableFunc(edges, func(a, b edge) int { return cmp.Compare(a.low, b.low) })
	for i := 1; i < len(edges); i++ {
		if edges[i].low <= edges[i-1].high {
			return targets, nil
		}
	}
	return others, edges
}
