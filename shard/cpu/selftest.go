package cpu

import (
	"math"
	"unsafe"

	"lockstep/shard/codes"
)

// selfTest reports whether k gives the bits of plain Go on small products of
// every format and tile height and on a small attention. It takes a few
// milliseconds.
func selfTest(k *Kernels) bool {
	s := NewScratch()
	seed := uint32(1)
	for f := range Format(formats) {
		if !selfTestMatrix(k, f, 1, 80, 64, &seed, s) || !selfTestMatrix(k, f, 3, 32, 64, &seed, s) {
			return false
		}
	}
	for i := range testSchemes {
		if !selfTestCodes(k, &testSchemes[i], 1, 48, 64, &seed, s) || !selfTestCodes(k, &testSchemes[i], 3, 16, 32, &seed, s) {
			return false
		}
	}
	for _, form := range integerForms {
		for _, rows := range []int{1, 2, 3, 5, 6} {
			if !selfTestIntegers(k, form, rows, 80, 64, &seed, s) {
				return false
			}
		}
	}
	for rows := 2; rows <= k.tileRows; rows++ {
		if !selfTestMatrix(k, F32, rows, 40, 11, &seed, s) || !selfTestMatrix(k, BF16, rows, 16, 9, &seed, s) ||
			!selfTestMatrix(k, BF16Dot, rows, 80, 21, &seed, s) {
			return false
		}
	}
	for rows := 1; rows <= k.tileRows; rows++ {
		for t := range CacheType(cacheTypes) {
			if !selfTestAttention(k, t, rows, &seed, s) {
				return false
			}
		}
	}
	return true
}

// noise fills x with numbers in [-1, 1) of a linear congruential sequence.
func noise(x []float32, seed *uint32) []float32 {
	for i := range x {
		*seed = *seed*1664525 + 1013904223
		x[i] = float32(int32(*seed)) * 0x1p-31
	}
	return x
}

// aligned returns n bytes at a multiple of 64.
func aligned(n int) []byte {
	raw := make([]byte, n+63)
	skip := -int(uintptr(unsafe.Pointer(&raw[0]))) & 63
	return raw[skip : skip+n]
}

func selfTestMatrix(k *Kernels, f Format, rows, outputs, columns int, seed *uint32, s *Scratch) bool {
	w, err := NewMatrix(f, outputs, columns, 1, aligned(PackedBytes(f, outputs, columns)))
	return err == nil && selfTestProduct(k, w, rows, seed, s)
}

// testSchemes have every kind of codes, as weights or as scales, and every kind of offset.
var testSchemes = func() (all []codes.Scheme) {
	half, upper := codes.Scheme{Kind: codes.F16}, codes.Scheme{Kind: codes.BF16}
	nested := codes.Scheme{Kind: codes.Bits8, Group: 8, Scale: &half, Bias: -32}
	nibbles := codes.Scheme{Kind: codes.Bits4, Group: 16, Scale: &half}
	for kind := codes.Bits2; kind <= codes.E4M3; kind++ {
		all = append(all, codes.Scheme{Kind: kind, Group: 16, Scale: &nested, Bias: -4})
	}
	return append(all, codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: &upper, Offset: &half, Zero: true},
		codes.Scheme{Kind: codes.Bits5, Group: 32, Scale: &half, Offset: &nibbles},
		codes.Scheme{Kind: codes.Bits8, Group: 40, Scale: &codes.Scheme{Kind: codes.F32}},
		codes.Scheme{Kind: codes.Bits8, Group: 36, Scale: &half}, codes.Scheme{Kind: codes.Bits4, Group: 20, Scale: &half},
		codes.Scheme{Kind: codes.E4M3, Group: 100, Scale: &half})
}()

func selfTestCodes(k *Kernels, scheme *codes.Scheme, rows, outputs, columns int, seed *uint32, s *Scratch) bool {
	w, err := NewCoded(scheme, 32, outputs, columns, 1, aligned(CodedBytes(scheme, 32, outputs, columns)))
	return err == nil && selfTestProduct(k, w, rows, seed, s)
}

// selfTestIntegers makes a scheme that has this form.
func selfTestIntegers(k *Kernels, f integerForm, rows, outputs, columns int, seed *uint32, s *Scratch) bool {
	half, whole := &codes.Scheme{Kind: codes.F16}, &codes.Scheme{Kind: codes.F32}
	nested := &codes.Scheme{Kind: codes.Bits8, Group: 8, Scale: half}
	scheme := &codes.Scheme{Kind: f.kind, Group: f.group}
	switch f.scales {
	case halfScale, halfPair:
		scheme.Scale, scheme.Offset = half, half
	case nestedOne:
		scheme.Scale = &codes.Scheme{Kind: codes.Bits8, Group: 8, Scale: half, Bias: float32(f.bias)}
	case nestedPair:
		scheme.Scale, scheme.Offset = nested, nested
	case wideScale, widePair:
		scheme.Scale, scheme.Offset = whole, whole
	}
	if !f.scales.pair() {
		scheme.Offset = nil
		if f.kind.Integer() {
			scheme.Bias = -float32(f.base())
		}
	}
	w, err := NewIntegers(scheme, 0, outputs, columns, 1, aligned(IntegerBytes(scheme, 0, outputs, columns, 1)))
	return err == nil && integerForms[w.integers.form] == f && selfTestProduct(k, w, rows, seed, s)
}

// selfTestProduct compares the products of rows with a matrix of arbitrary bytes.
func selfTestProduct(k *Kernels, w *Matrix, rows int, seed *uint32, s *Scratch) bool {
	outputs, columns := w.Rows, w.Columns
	for i := range w.Data { // exponents are kept small enough to be finite
		*seed = *seed*1664525 + 1013904223
		w.Data[i] = byte(*seed>>24) & 0xbf
	}
	x := noise(make([]float32, rows*columns), seed)
	got, want := make([]float32, rows*outputs), make([]float32, rows*outputs)
	k.MatMul(Rows{got, outputs, rows}, Rows{x, columns, rows}, w, 0, w.Panels(), s)
	plain.MatMul(Rows{want, outputs, rows}, Rows{x, columns, rows}, w, 0, w.Panels(), s)
	return sameBits(got, want)
}

func selfTestAttention(k *Kernels, t CacheType, rows int, seed *uint32, s *Scratch) bool {
	const headDim, count = 36, 3
	stride := KeyBlockFloats(headDim) + ValueBlockFloats(headDim)
	cache := Cache{t, aligned(count * stride * t.Bytes())}
	for b := range count {
		for slot := range lanes {
			k.StoreKV(cache, b*stride, b*stride+KeyBlockFloats(headDim), slot, noise(make([]float32, headDim), seed),
				noise(make([]float32, headDim), seed))
		}
	}
	q := noise(make([]float32, rows*headDim), seed)
	first, end := make([]int32, rows), make([]int32, rows)
	for r := range end {
		first[r], end[r] = int32(r), int32(20+2*r)
	}
	blocks := []int32{2, 0, 1}
	got, want := make([]float32, len(q)), make([]float32, len(q))
	k.Attention(Rows{got, headDim, rows}, Rows{q, headDim, rows}, Spans{first, end},
		HeadCache{cache, stride, 0, KeyBlockFloats(headDim), headDim, headDim, blocks}, Softmax{Scale: 0.5}, s)
	plain.Attention(Rows{want, headDim, rows}, Rows{q, headDim, rows}, Spans{first, end},
		HeadCache{cache, stride, 0, KeyBlockFloats(headDim), headDim, headDim, blocks}, Softmax{Scale: 0.5}, s)
	return sameBits(got, want)
}

func sameBits(a, b []float32) bool {
	for i, v := range a {
		if math.Float32bits(v) != math.Float32bits(b[i]) && (v == v || b[i] == b[i]) {
			return false
		}
	}
	return true
}
