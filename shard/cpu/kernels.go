package cpu

import (
	"errors"
	"fmt"
	"sync"

	"lockstep/shard/codes"
)

// ErrUnavailable is wrapped by Named for an implementation that this build or
// this CPU lacks.
var ErrUnavailable = errors.New("cpu: kernels not available")

// The shapes of the primitives that an implementation supplies. Strides and
// panelBytes are in bytes, everything else counts elements.
type (
	// gemvFunc continues the chain of out[p*16+lane] over k columns of panel p,
	// which lies at w + p*panelBytes, for as many panels as the kernel is made
	// for.
	gemvFunc func(out, x *float32, w *byte, panelBytes, k int)

	// dequantFunc writes k columns of one panel as [k][16] float32. A 16-bit
	// format with odd k may write one more row.
	dequantFunc func(dst *float32, w *byte, k int)

	// codesFunc writes k columns of codes as [k][16] float32, k being a multiple of the kind's unit: fma(level, scale, offset),
	// of whose scales and offsets, [group][16], those of column i lie index[i] - base bytes behind the start. One that is not for
	// mixed groups looks at index only where i is a multiple of run(kind).
	codesFunc func(dst *float32, w *byte, scales, offsets *float32, index *int32, base, k int)

	// gemvCodesFunc continues the chains of out[p*16+lane] over k columns of codes of panel p, a multiple of the kind's unit: as
	// codesFunc would widen them, from w + p*panelBytes, scales and offsets being those of panel 0 + p*scaleStride.
	gemvCodesFunc func(out, x *float32, w *byte, panelBytes int, scales, offsets *float32, scaleStride int, index *int32, base, k int)

	// tileFunc continues R x 16P chains over k columns, from zero if fresh is not
	// 0. c is R rows of 16P numbers, cStride apart; x is of an Input; w is P panels, wStride apart, of a format,
	// of floats also of some that were widened. Meanwhile it prefetches as much
	// from ahead, P panels, aheadStride apart, as it reads; of floats half as
	// much of one panel; one of a single row what it reads itself next. ahead
	// need not be memory of the process.
	tileFunc func(c, x *float32, w *byte, k, cStride, wStride, fresh int, ahead *byte, aheadStride int)

	// widenFunc writes k columns of a panel of one of integerForms in the form that it is widened to.
	widenFunc func(dst, w *byte, k int)

	// scoresFunc writes, for each listed block, the [R][16] dot products of R
	// packed rows with the block's [k][16] keys, blocks at keys + block*stride.
	// It may fetch as much, beside bytes behind each block's keys, for later.
	scoresFunc func(dst, q *float32, keys *byte, blocks *int32, count, stride, k, beside int)

	// valuesFunc continues P times [R][16] chains over the 16 positions of each
	// listed block: p is [count][R][16], a block's values are P times [16
	// positions][16] at values + block*stride.
	valuesFunc func(c, p *float32, values *byte, blocks *int32, count, stride int)
)

// maxTileRows is the tallest tile of any implementation.
const maxTileRows = 12

// maxPanels is the most panels that a gemvFunc takes.
const maxPanels = 4

// primitives is what one implementation supplies. The vector functions take
// any n that is a multiple of 16; the drivers finish the rest in plain Go.
type primitives struct {
	tileRows  int                                   // rows of the tallest tile
	wideK     int                                   // columns of a panel that are widened at a time
	gemv      [formats][maxPanels + 1]gemvFunc      // by panels, nil where missing
	dequant   [formats]dequantFunc                  // nil for F32
	codes     [codes.E4M3 + 1]codesFunc             // nil for plain numbers
	mixed     [codes.E4M3 + 1]codesFunc             // the same for mixed groups, of those kinds that may have them
	gemvCodes [codes.E4M3 + 1][3]gemvCodesFunc      // by panels, nil where missing
	gemvMixed [codes.E4M3 + 1][3]gemvCodesFunc      // the same for mixed groups
	tile      [formats][3][maxTileRows + 1]tileFunc // of 1, 2 and 4 panels, by rows; nil where missing
	// integerTile are tiles over blocks of integerForms, in the same order as tile, which integerRows rows at most have, and
	// widenIntegers bring blocks into wide ones.
	integerTile   [len(integerForms)][3][maxTileRows + 1]tileFunc
	widenIntegers [len(integerForms)]widenFunc
	integerRows   int
	pairs         bool // tiles over BF16Dot take words of two activations, else floats
	scores        [cacheTypes][maxTileRows + 1]scoresFunc
	values        [cacheTypes][2][maxTileRows + 1]valuesFunc // of one and two panels, nil where missing
	squares       func(x *float32, n int) [lanes]float32
	scale         func(dst, x, weight *float32, n int, factor float32)
	add           func(dst, a, b *float32, n int)
	siluMul       func(dst, gate, up *float32, n int)
	geluMul       func(dst, gate, up *float32, n int)
	exp           func(dst, x *float32, n int)
	rotate        func(x0, x1, cos, sin *float32, n int)
	rowMax        func(s *float32, stride, count int, scale float32) [lanes]float32
	rowExpSum     func(s *float32, stride, count int, max float32) [lanes]float32
	largest       func(x *float32, n int) [lanes]float32              // NaN not counted
	expSum        func(x *float32, n int, top float32) [lanes]float32 // of exp(x - top)
	// halves and halvesApart store a multiple of 16 numbers as CacheF16 does, side by side and each in a row of 16 of its own.
	halves, halvesApart func(dst *uint16, x *float32, n int)
	// roundPairs and roundFloats round n columns of x, a multiple of 8, to bfloat16, for tiles over BF16Dot: eight, or four, are 16
	// bytes, each stride bytes behind the ones before.
	roundPairs, roundFloats func(dst, x *float32, n, stride int)
	// quantise writes blocks of 32 columns of x for tiles over integers, each stride bytes behind the one before.
	quantise func(dst, x *float32, blocks, stride int)

	peak   func(iterations int) (flops int)
	stream func(data *byte, n int) uint64
}

// Kernels is one implementation of the operations. It is immutable and safe
// for concurrent use.
type Kernels struct {
	name string
	primitives
	untried bool // no test of this package may have run on a machine like this one
}

// Name returns "avx512", "avx512f" (without what came behind the first AVX-512
// machines), "avx2vnni", "avx2" or "go".
func (k *Kernels) Name() string { return k.name }

var plain = &Kernels{name: "go", primitives: genericPrimitives()}

// candidate is an implementation that this CPU can run. It works if it is tried, or gives the bits of plain Go in a self-test, which
// takes some milliseconds and is done when it is asked for.
type candidate struct {
	*Kernels
	works func() bool
}

// candidates are the implementations, fastest first.
var candidates = sync.OnceValue(func() (all []candidate) {
	for _, k := range append(detect(), plain) {
		all = append(all, candidate{k, sync.OnceValue(func() bool { return !k.untried || selfTest(k) })})
	}
	return all
})

// Available returns the implementations that this CPU can run, fastest first.
// The last one is plain Go. One that tests may never have run on a machine
// like this is in the list only if it gave the bits of plain Go in a self-test.
func Available() (all []*Kernels) {
	for _, c := range candidates() {
		if c.works() {
			all = append(all, c.Kernels)
		}
	}
	return all
}

// Best returns the first of Available.
func Best() *Kernels {
	for _, c := range candidates() {
		if c.works() {
			return c.Kernels
		}
	}
	panic("cpu: no kernels") // plain Go works
}

// Named returns the implementation of that name, or an error that wraps
// ErrUnavailable if the CPU lacks it or it failed its self-test.
func Named(name string) (*Kernels, error) {
	for _, c := range candidates() {
		if c.name == name && c.works() {
			return c.Kernels, nil
		}
	}
	return nil, fmt.Errorf("%w: %q", ErrUnavailable, name)
}

// PeakFMA runs register-only fused multiply-adds, the upper bound of any
// matrix product, and returns how many operations that were (two per FMA and
// lane). It is for benchmarks.
func (k *Kernels) PeakFMA(iterations int) (flops int) { return k.peak(iterations) }

// ReadStream reads data once in several streams, the upper bound of a product
// with one row, and returns a checksum of no meaning. It is for benchmarks. At
// most 1023 bytes at the end are left out.
func (k *Kernels) ReadStream(data []byte) uint64 {
	n := len(data) &^ 1023
	if n == 0 {
		return 0
	}
	return k.stream(&data[0], n)
}
