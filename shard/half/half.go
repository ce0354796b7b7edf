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

// Bits returns the number that is nearest to v, of two the even one; what is too large becomes an infinity.
func Bits(v float32) uint16 {
	bits := math.Float32bits(v)
	sign, magnitude := uint16(bits>>16&0x8000), bits&0x7fffffff
	switch {
	case magnitude > 0x7f800000:
		return sign | 0x7e00
	case magnitude >= 0x477ff000: // half a unit beyond the largest
		return sign | 0x7c00
	case magnitude < 0x38800000: // zero or subnormal: a multiple of 2^-24, to which adding 0.5 rounds
		return sign | uint16(math.Float32bits(math.Float32frombits(magnitude)+0.5)-math.Float32bits(0.5))
	}
	return sign | uint16((magnitude+0xfff+magnitude>>13&1)>>13-112<<10)
}
