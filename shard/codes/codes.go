// Package codes describes rows of quantised numbers: small codes, one a column, and a scale for every group of columns, which
// may be codes with scales themselves. Every quantised encoding of a file is mapped onto such rows by package weights, and
// every backend packs its own layout from them, so that neither needs to know the other's.
package codes

import (
	"math"

	"lockstep/shard/half"
)

// Kind says what one number of a row is: a plain number, or the level that its code stands for.
type Kind uint8

const (
	F32 Kind = iota // plain numbers, without scales
	F16
	BF16
	Bits2 // an unsigned integer of so many bits
	Bits3
	Bits4
	Bits5
	Bits6
	Bits8
	NonLinear4 // one of the 16 levels of llama.cpp's IQ4
	FP4        // E2M1 of the OCP microscaling formats, doubled, so that levels are integers
	E4M3       // float8 without infinities
)

// Plain reports whether rows hold numbers and neither codes nor scales.
func (k Kind) Plain() bool { return k <= BF16 }

// Integer reports whether codes are unsigned integers.
func (k Kind) Integer() bool { return k >= Bits2 && k <= Bits8 }

// Bits is the size of a number or code.
func (k Kind) Bits() int { return [...]int{32, 16, 16, 2, 3, 4, 5, 6, 8, 4, 4, 8}[k] }

// Levels4 are the levels of the kinds of four bits that are no integers, by code: of NonLinear4 those of ggml's kvalues_iq4nl
// (https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h).
func (k Kind) Levels4() *[16]float32 {
	if k == NonLinear4 {
		return &[16]float32{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
	}
	return &[16]float32{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
}

// Level is the number that a code stands for.
func (k Kind) Level(code byte) float32 {
	switch k {
	case NonLinear4, FP4:
		return k.Levels4()[code&15]
	case E4M3:
		if code&0x7f == 0x7f {
			return float32(math.NaN())
		}
		// Exponent and fraction as float32 has them, but for its bias, also where the number is subnormal.
		return math.Float32frombits(uint32(code&0x80)<<24|uint32(code&0x7f)<<20) * 0x1p120
	}
	return float32(code)
}

// Number is the value of a plain number with these bits.
func (k Kind) Number(bits uint32) float32 {
	switch k {
	case F16:
		return half.Float32(uint16(bits))
	case BF16:
		return math.Float32frombits(bits << 16)
	}
	return math.Float32frombits(bits)
}

// Scheme says what the rows of a matrix mean. A plain kind has nothing else. Otherwise column c, of group g, is
//
//	(level(code) + Bias) * Scale[g] + offset, rounded once to float32
//
// where offset is Offset[g], with Zero -Offset[g] * Scale[g], or, and Bias is only there then, none.
type Scheme struct {
	Kind  Kind
	Group int // columns that share a scale; column c belongs to group c / Group
	// Index, if it is there, tells the group of every column of a whole row in place of Group, and Groups how many there are.
	Index  []int32
	Groups int
	Scale  *Scheme // a number for each group
	Bias   float32
	Offset *Scheme // a number for each group; nil: Bias instead
	Zero   bool
}

// GroupOf returns the group of a column.
func (s *Scheme) GroupOf(column int) int {
	if s.Index != nil {
		return int(s.Index[column])
	}
	return column / s.Group
}

// Span returns the range of groups that the columns [from, to), which are some, need.
func (s *Scheme) Span(from, to int) (first, end int) {
	if s.Index != nil {
		return 0, s.Groups
	}
	return from / s.Group, (to-1)/s.Group + 1
}

// Row is a part of a row: columns [from, to), and of scales and offsets the groups of Span(from, to).
type Row struct {
	Numbers       []uint32 // the bits, of a plain kind
	Codes         []byte   // of the others
	Scale, Offset *Row
}

// Reset empties a row of the scheme, for others to append to.
func (r *Row) Reset(s *Scheme) {
	r.Numbers, r.Codes = r.Numbers[:0], r.Codes[:0]
	for _, part := range []struct {
		row    **Row
		scheme *Scheme
	}{{&r.Scale, s.Scale}, {&r.Offset, s.Offset}} {
		if part.scheme == nil {
			continue
		}
		if *part.row == nil {
			*part.row = &Row{}
		}
		(*part.row).Reset(part.scheme)
	}
}

// Values sets values to the columns [from, from+len(values)), which row holds. A number whose value is zero is +0, whatever
// the sign of its scale, where Offset is none.
func (s *Scheme) Values(values []float32, row *Row, from int) {
	if s.Kind.Plain() {
		for i := range values {
			values[i] = s.Kind.Number(row.Numbers[i])
		}
		return
	}
	first, end := s.Span(from, from+len(values))
	scales, offsets := make([]float32, end-first), make([]float32, end-first)
	s.Scale.Values(scales, row.Scale, first)
	if s.Offset != nil {
		s.Offset.Values(offsets, row.Offset, first)
	}
	for i := range values {
		g := s.GroupOf(from+i) - first
		level, scale, offset := float64(s.Kind.Level(row.Codes[i])), float64(scales[g]), float64(offsets[g])
		switch {
		case s.Offset == nil:
			level += float64(s.Bias)
		case s.Zero:
			offset *= -scale
		}
		// In float64 products and sum are exact for all encodings: there is one rounding.
		values[i] = float32(level*scale + offset)
	}
}
