// Package half reads IEEE 754's half precision (binary16), in which weights and scales are stored.
package half

import "math"

// Float32 returns the exact value of the number with these bits; a NaN keeps its payload.
func Float32(bits uint16) float32 {
	sign, exponent, fraction := uint32(bits&0x8000)<<16, uint32(bits>>10&31), uint32(bits&0x3ff)
	switch exponent {
	case 0: // zero or subnormal: fraction * 2^-24, exact
		return math.Float32frombits(math.Float32bits(float32(fraction)*0x1p-24) | sign)
	case 31:
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
