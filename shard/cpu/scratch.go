package cpu

import "unsafe"

// Scratch is the working memory of one worker thread. It grows to what the
// largest call needs and is then reused; it is not safe for concurrent use.
type Scratch struct {
	holding bool
	input   packedInput

	packed  []float32 // rows of x in tile order
	weights []float32 // widened weights of one step
	sums    []float32 // accumulators
	scores  []float32 // attention scores, then probabilities

	scales, offsets [2][]float32 // widened, of the weights and of their scales
}

// packedInput names what Scratch.packed holds.
type packedInput struct {
	x                             *float32
	stride, rows, columns, chunks int
}

// Hold promises that the inputs of the following calls of MatMul do not change until Release: a call with the input of
// the call before then need not lay it out again. A worker that takes a product in several panel ranges profits.
func (s *Scratch) Hold() { s.holding, s.input = true, packedInput{} }

// Release ends what Hold promised.
func (s *Scratch) Release() { s.holding = false }

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

// packRows lays rows of x out for a tile: [k/4][row][4], so that one pointer
// with constant offsets reaches all rows, however far apart they were. dst
// holds rows*round4(k) floats; the columns past k are left as they are.
func packRows(dst, x []float32, stride, rows, k int) {
	dst = dst[:rows*round4(k)]
	for r := range rows {
		src := x[r*stride:][:k]
		// In bounds: k/4 pieces of 4 floats, rows*4 floats apart in dst.
		from, to := unsafe.Pointer(&src[0]), unsafe.Pointer(&dst[r*4])
		for i := range k / 4 {
			*(*[4]float32)(unsafe.Add(to, i*rows*16)) = *(*[4]float32)(unsafe.Add(from, i*16))
		}
		if rest := k &^ 3; rest < k {
			copy(dst[rest*rows+r*4:], src[rest:])
		}
	}
}

func round4(n int) int { return (n + 3) &^ 3 }

// at returns a pointer n floats behind p.
func at(p *float32, n int) *float32 { return (*float32)(unsafe.Add(unsafe.Pointer(p), n*4)) }
