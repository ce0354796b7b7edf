package guide

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Bounds of a compilation.
const (
	// MaxWork counts what it does: edges looked at, states made. It takes some tens of nanoseconds each.
	MaxWork = 10 << 20
	// maxNodes and maxEdges bound the automaton, some ten bytes each.
	maxNodes = 1 << 20
	maxEdges = 2 << 20
)

type nodeKind uint8

const (
	kindEnd   nodeKind = iota // of a rule
	kindBytes                 // goes on by a byte: by edges first to last
	kindSplit                 // goes on by any of the targets first to last
	kindCall                  // goes on by the rule that begins at first, and behind it at last
	kindLoop                  // goes on by loops[first]
)

// node of an automaton. first and last are a range of a list, or nodes.
type node struct {
	kind        nodeKind
	first, last int32
}

// edge goes on at a node by a byte from low to high.
type edge struct {
	low, high byte
	to        int32
}

// loop is a rule that is called so many times, one after another, and what follows. The rule takes a byte at least.
type loop struct {
	entry, then int32
	min, max    int32 // max -1: without end
}

// endNode is the node at which all rules end.
const endNode int32 = 0

// What begins in all programs alike.
const (
	stringStart  int32 = 1 // the rest of a plain string behind its quotation mark
	charStart    int32 = 2 // a character of one
	integerStart int32 = 3
	numberStart  int32 = 4
	firstFree    int32 = 5
)

// compiler builds an automaton from its ends: whatever it builds is given the node that follows, and returns the node that it begins
// with. The first error stays; behind it nothing that is built is of worth.
type compiler struct {
	source  Source
	nodes   []node
	edges   []edge
	targets []int32
	loops   []loop
	entries []int32 // of rules; calls name rules until finish
	shared  int32   // nodes before this one are the same in all programs
	work    int
	most    int // that work may be
	err     *Error

	tails   map[string]int32
	escaped map[int32]int32
	wide    map[int32][]edge
	meaning *meaning // of all schemas; nil: there was none yet
}

// fail notes an error, and returns a node that stands for nothing.
func (c *compiler) fail(reason Reason, format string, values ...any) int32 {
	return c.failAt("", reason, format, values...)
}

func (c *compiler) failAt(pointer string, reason Reason, format string, values ...any) int32 {
	if c.err == nil {
		c.err = &Error{reason, pointer, fmt.Sprintf(format, values...)}
	}
	return endNode
}

// spend counts work, and reports whether there may be more.
func (c *compiler) spend(work int) bool {
	if c.work += work; c.work > c.most || len(c.nodes) > maxNodes || len(c.edges)+len(c.targets) > maxEdges {
		c.fail(TooLarge, "it takes more work or memory than a guide may")
	}
	return c.err == nil
}

// newCompiler begins with what all programs begin with: the end, strings and numbers that nothing is said of. What is found out about these
// nodes holds for all programs.
func newCompiler(s Source) *compiler {
	c := &compiler{source: s, most: MaxWork, tails: make(map[string]int32), escaped: make(map[int32]int32), wide: make(map[int32][]edge)}
	begin := prelude()
	c.nodes = append(make([]node, 0, 4*len(begin.nodes)), begin.nodes...)
	c.edges = append(make([]edge, 0, 4*len(begin.edges)), begin.edges...)
	c.targets = slices.Clone(begin.targets)
	c.shared = int32(len(c.nodes))
	return c
}

// prelude is a compiler that has built that.
var prelude = sync.OnceValue(func() *compiler {
	c := &compiler{most: MaxWork, tails: make(map[string]int32), escaped: make(map[int32]int32), wide: make(map[int32][]edge)}
	c.nodes = make([]node, firstFree)
	c.nodes[endNode] = node{kind: kindEnd}
	c.stringTail(stringStart)
	c.setBytes(charStart, c.stringChar(endNode))
	c.setSplit(integerStart, c.spell(c.pattern(anyInteger, false), rawSpelling, endNode))
	c.setSplit(numberStart, c.spell(c.pattern(anyNumber, false), rawSpelling, endNode))
	return c
})

func (c *compiler) add(n node) int32 {
	c.spend(1)
	c.nodes = append(c.nodes, n)
	return int32(len(c.nodes) - 1)
}

// dead is a node that nothing follows.
func (c *compiler) dead() int32 { return c.add(node{kind: kindBytes}) }

// bytes is a node that goes on by its edges.
func (c *compiler) bytes(edges ...edge) int32 {
	n := c.add(node{kind: kindBytes})
	c.setBytes(n, edges)
	return n
}

func (c *compiler) setBytes(n int32, edges []edge) {
	c.spend(len(edges))
	first := int32(len(c.edges))
	c.edges = append(c.edges, edges...)
	c.nodes[n] = node{kindBytes, first, int32(len(c.edges))}
}

// split is a node that goes on as any of its targets does.
func (c *compiler) split(targets ...int32) int32 {
	if len(targets) == 1 {
		return targets[0]
	}
	n := c.add(node{kind: kindSplit})
	c.setSplit(n, targets...)
	return n
}

func (c *compiler) setSplit(n int32, targets ...int32) {
	c.spend(len(targets))
	first := int32(len(c.targets))
	c.targets = append(c.targets, targets...)
	c.nodes[n] = node{kindSplit, first, int32(len(c.targets))}
}

// rule is a new one, which define gives its first node.
func (c *compiler) rule() int32 {
	c.spend(1)
	c.entries = append(c.entries, -1)
	return int32(len(c.entries) - 1)
}

func (c *compiler) define(rule, entry int32) { c.entries[rule] = entry }

func (c *compiler) call(rule, next int32) int32 { return c.add(node{kindCall, rule, next}) }

// loop calls a rule least to greatest times; greatest -1: without end.
func (c *compiler) loop(rule, least, greatest, next int32) int32 {
	c.loops = append(c.loops, loop{rule, next, least, greatest})
	return c.add(node{kind: kindLoop, first: int32(len(c.loops) - 1)})
}

// literal is a text as it is.
func (c *compiler) literal(text string, next int32) int32 {
	for i := len(text) - 1; i >= 0; i-- {
		next = c.bytes(edge{text[i], text[i], next})
	}
	return next
}

// words is one of several texts.
func (c *compiler) words(texts []string, next int32) int32 {
	sorted := slices.Compact(slices.Sorted(slices.Values(texts)))
	return c.wordsFrom(sorted, 0, next)
}

// wordsFrom is one of sorted texts of which the first so many bytes, in which they are equal, were said.
func (c *compiler) wordsFrom(sorted []string, said int, next int32) int32 {
	if len(sorted) == 1 {
		return c.literal(sorted[0][said:], next)
	}
	var edges []edge
	whole := len(sorted[0]) == said
	if whole {
		sorted = sorted[1:]
	}
	for len(sorted) > 0 && c.err == nil {
		b := sorted[0][said]
		same := 1
		for same < len(sorted) && sorted[same][said] == b {
			same++
		}
		edges = append(edges, edge{b, b, c.wordsFrom(sorted[:same], said+1, next)})
		sorted = sorted[same:]
	}
	n := c.bytes(edges...)
	if whole {
		n = c.split(next, n)
	}
	return n
}

// byteRange is from low to high.
type byteRange struct{ low, high byte }

// run is a sequence of ranges of bytes, and the node behind it.
type run struct {
	ranges []byteRange
	to     int32
}

// runs is a node that goes on by any of the sequences, none of which is empty. It is built byte by byte, so that what follows a byte is
// known as far as the sequences tell.
func (c *compiler) runs(all []run) int32 {
	return c.bytes(c.runEdges(all)...)
}

func (c *compiler) runEdges(all []run) (edges []edge) {
	var bounds []int // where ranges of first bytes begin, and behind their ends
	for _, r := range all {
		bounds = append(bounds, int(r.ranges[0].low), int(r.ranges[0].high)+1)
	}
	slices.Sort(bounds)
	bounds = slices.Compact(bounds)
	c.spend(len(bounds) * len(all))
	for i := 0; i+1 < len(bounds) && c.err == nil; i++ {
		low, high := byte(bounds[i]), byte(bounds[i+1]-1)
		var tails []run
		for _, r := range all {
			switch first := r.ranges[0]; {
			case first.low > low || first.high < high:
			case len(r.ranges) == 1:
				edges = join(edges, edge{low, high, r.to})
			default:
				tails = append(tails, run{r.ranges[1:], r.to})
			}
		}
		if len(tails) > 0 {
			edges = join(edges, edge{low, high, c.tail(tails)})
		}
	}
	return edges
}

// join adds an edge, and makes it one with the last if both go to one node.
func join(edges []edge, e edge) []edge {
	for i := len(edges) - 1; i >= 0 && i >= len(edges)-2; i-- {
		if edges[i].to == e.to && int(edges[i].high)+1 == int(e.low) {
			edges[i].high = e.high
			return edges
		}
	}
	return append(edges, e)
}

// tail is runs, the same node for the same sequences.
func (c *compiler) tail(all []run) int32 {
	var key strings.Builder
	for _, r := range all {
		for _, b := range r.ranges {
			key.Write([]byte{b.low, b.high})
		}
		key.Write(binary.LittleEndian.AppendUint32([]byte{byte(len(r.ranges))}, uint32(r.to)))
	}
	n, ok := c.tails[key.String()]
	if !ok {
		n = c.runs(all)
		c.tails[key.String()] = n
	}
	return n
}
