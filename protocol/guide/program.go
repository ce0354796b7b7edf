package guide

// Program is a compiled guide. It is immutable, and safe for concurrent use; what runs it is a Machine.
type Program struct {
	nodes   []node
	edges   []edge
	targets []int32
	loops   []loop
	start   int32
	shared  int32 // nodes before this one are the same in all programs
}

// Bytes is about what the program takes of memory.
func (p *Program) Bytes() int {
	return 12*len(p.nodes) + 8*len(p.edges) + 4*len(p.targets) + 16*len(p.loops)
}
