package cpu

import "unsafe"

// Scratch is the working memory of one worker thread. It grows to what the
// largest call needs and is then reused; it is not safe for concurrent use.
type Scratch struct {
	packed  []float32 // rows of x in tile order
	weights []float32 // widened weights of one step
	sums    []float32 // accumulators
	scores  []float32 // attention scores, then probabilities
}

// NewScratch returns an empty Scratch.
func NewScratch() *Scratch { return &Scratch{} }

// grow returns a 64-byte aligned slice of n floats, reusing *buffer if it is
// large enough. The contents are arbitrary.
func grow(buffer *[]float32, n int) []float32 {
	if len(*buffer) < n {
		raw := make([]float32, n+n/4+lanes)
		skip := -int(uintptr(unsafe.Pointer(&raw[0]))/4) & (lanes - 1)
		*buffer = raw[skip : skip+n+n/4]
	}
	return (*buffer)[:n]
}

// packRows lays rows of x out for a tile: [k/8][row][8], so that one pointer
// with constant offsets reaches all rows, however far apart they were. dst
// holds rows*round8(k) floats; the columns past k are left as they are.
func packRows(dst, x []float32, stride, rows, k int) {
	for r := range rows {
		src := x[r*stride:][:k]
		out := dst[r*8:]
		for len(src) >= 8 {
			*(*[8]float32)(out) = *(*[8]float32)(src)
			src = src[8:]
			if len(out) < rows*8 {
				break
			}
			out = out[rows*8:]
		}
		copy(out, src)
	}
}

func round8(n int) int { return (n + 7) &^ 7 }

// at returns a pointer n floats behind p.
func at(p *float32, n int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), n*4)) }
