package guide

// Program is a compiled guide. It is immutable, and safe for concurrent use; what runs it is a Machine.
type Program struct {
	nodes   []node
	edges   []edge
	targets []int32
	loops   []loop
	start   int32
	shared  int32 // nodes before this one are the same in all programs

	pushes int // most calls within one another that a byte leads to
	most   int // of needs

	// of each node
	needs   []int32 // how many calls within one another it takes to reach the end of its rule
	plain   []uint8 // how many plain characters it takes at least within its rule, whichever they are
	oneChar []bool  // its rule takes one character more, which may be any plain one
}

// Bytes is about what the program takes of memory.
func (p *Program) Bytes() int {
	return 18*len(p.nodes) + 8*len(p.edges) + 4*len(p.targets) + 16*len(p.loops)
}
