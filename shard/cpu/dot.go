package cpu

import "math"

// The numerics bf16.1. Activations are rounded to bfloat16, and an output is a chain over pairs of columns,
//
//	c = fma(odd x, odd w, c)
//	c = fma(even x, even w, c)
//
// from zero, each step rounded once to float32. A last column without a partner has one of zeros. Numbers below the normal ones
// count as zero, of x and of w, and so do results: those that would be below with an exponent of any size. This is what
// VDPBF16PS does, and so do FMA instructions that flush (FTZ and DAZ in MXCSR). Chunks are added as everywhere.

// smallestNormal is that of float32 and of bfloat16.
const smallestNormal = 0x1p-126

// bfloat returns the bits of the bfloat16 that is nearest to v, of two the even one, and 0 for what is below the normal ones.
func bfloat(v float32) uint16 {
	bits := math.Float32bits(v)
	switch {
	case v != v:
		return uint16(bits>>16) | 0x40
	case bits&0x7fffffff < math.Float32bits(smallestNormal):
		return uint16(bits >> 16 & 0x8000)
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

// flushed is a bfloat16, or 0 where it is below the normal ones.
func flushed(bits uint16) float32 {
	if bits&0x7f80 == 0 {
		bits &= 0x8000
	}
	return math.Float32frombits(uint32(bits) << 16)
}

// fmaFlush is fma32, or 0 if the result is below the normal numbers when it is rounded with an exponent of any size: then it is
// below the middle between the smallest normal one and what is next below.
func fmaFlush(a, b, c float32) float32 {
	v := fma32(a, b, c)
	if v > smallestNormal || v < -smallestNormal || v == 0 || v != v {
		return v
	}
	exact := float64(a)*float64(b) + float64(c) // near the smallest normal number: rounded far below what counts here
	if math.Abs(exact) < smallestNormal-0x1p-151 {
		return float32(math.Copysign(0, exact))
	}
	return v
}

// dotGo is a tileFunc of one panel in plain Go, for pairs.
func dotGo(rows int, c, x *float32, w *byte, k, stride int) {
	weights := words(w, (k+1)/2*lanes)
	for pair := range (k + 1) / 2 {
		for r := range rows {
			sums, v := lanesAt(at(c, r*stride/4), 0), math.Float32bits(*at(x, pair/4*rows*4+r*4+pair%4))
			for lane := range sums {
				bits := weights[pair*lanes+lane]
				sum := fmaFlush(flushed(uint16(v>>16)), flushed(uint16(bits>>16)), sums[lane])
				sums[lane] = fmaFlush(flushed(uint16(v)), flushed(uint16(bits)), sum)
			}
		}
	}
}

// roundPairsGo writes n columns of x rounded to pairs, the even one below, four words after each stride bytes.
func roundPairsGo(dst, x *float32, n, stride int) {
	for i := 0; i < n; i += 8 {
		for j := range 4 {
			low, high := bfloat(*at(x, i+2*j)), bfloat(*at(x, i+2*j+1))
			*at(dst, i/8*stride/4+j) = math.Float32frombits(uint32(high)<<16 | uint32(low))
		}
	}
}

// roundFloatsGo writes n columns of x rounded, four after each stride bytes.
func roundFloatsGo(dst, x *float32, n, stride int) {
	for i := range n {
		*at(dst, i/4*stride/4+i%4) = math.Float32frombits(uint32(bfloat(*at(x, i))) << 16)
	}
}
