package cpu

import "unsafe"

// Scratch is the working memory of one worker thread. It grows to what the
// largest call needs and is then reused; it is not safe for concurrent use.
type Scratch struct {
	own     Input
	packed  []float32 // queries, or rows of MatMul, in tile order
	weights []float32 // widened weights of one step
	sums    []float32 // accumulators
	scores  []float32 // attention scores, then probabilities

	scales, offsets [2][]float32 // widened, of the weights and of their scales
}

// NewScratch returns an empty Scratch.
func NewScratch() *Scratch { return &Scratch{} }

// Grow returns a 64-byte aligned slice of n floats, reusing *buffer if it is
// large enough. The contents are arbitrary.
func Grow(buffer *[]float32, n int) []float32 {
	if len(*buffer) < n {
		raw := make([]float32, n+n/4+lanes)
		skip := -int(uintptr(unsafe.Pointer(&raw[0]))/4) & (lanes - 1)
		*buffer = raw[skip : skip+n+n/4]
	}
	return (*buffer)[:n]
}

func round4(n int) int { return (n + 3) &^ 3 }

// at returns a pointer n floats behind p.
func at(p *float32, n int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), n*4)) }
