// Package cpu holds the CPU kernels of a shard: matrix products over packed
// weights, attention over a paged cache, and the element-wise operations
// between them.
//
// # One result
//
// Every implementation (plain Go, AVX2, AVX-512) gives the same bits for the
// same inputs, and a row's bits do not depend on the other rows of the call:
//
//   - An output of a matrix product is one chain of fused multiply-adds over
//     the summed dimension, in order, from zero. One SIMD lane is one output,
//     so the width of a register does not show.
//   - A sum over a row (RMSNorm, softmax) has 16 virtual lanes, lane = index
//     modulo 16, and one fixed tree over them (8 apart, then 4, 2, 1).
//   - exp is a polynomial of this package. Divisions and square roots are the
//     correctly rounded ones of IEEE 754.
//
// The only bits left open are the payloads of NaNs.
//
// # Packed weights
//
// A Matrix stores panels of 16 outputs, each panel ordered by the summed
// dimension, so that one load fetches the same column of 16 (or 8) outputs.
// The exact layout is described at Matrix and, for codes with scales of any
// kind (package codes), at coded.
package cpu

import "fmt"

// lanes is the number of outputs in a panel, of positions in a cache block,
// and of virtual lanes in a row sum.
const lanes = 16

// Format is the storage type of a weight matrix.
type Format int

// The formats. Q8_0, Q4_0 and Q4_1 are the block formats of GGUF; what is
// quantised otherwise is Coded.
const (
	F32 Format = iota
	F16
	BF16
	Q8_0
	Q4_0
	Q4_1
	BF16Dot // BF16 whose products are those of numerics bf16.1, see dot.go

	formats = iota
)

// String returns the usual name of f.
func (f Format) String() string {
	switch f {
	case F32:
		return "F32"
	case F16:
		return "F16"
	case BF16:
		return "BF16"
	case Q8_0:
		return "Q8_0"
	case Q4_0:
		return "Q4_0"
	case Q4_1:
		return "Q4_1"
	case BF16Dot:
		return "BF16Dot"
	case Coded:
		return "Coded"
	case Integers:
		return "Integers"
	}
	return fmt.Sprintf("Format(%d)", int(f))
}

// BlockColumns returns how many columns share one scale: 32 for the quantised
// formats and 1 for the others.
func (f Format) BlockColumns() int {
	switch f {
	case Q8_0, Q4_0, Q4_1:
		return 32
	}
	return 1
}

// blockBytes returns the source bytes of BlockColumns columns of one row.
func (f Format) blockBytes() int {
	switch f {
	case F32:
		return 4
	case F16, BF16, BF16Dot:
		return 2
	case Q8_0:
		return 34
	case Q4_0:
		return 18
	case Q4_1:
		return 20
	}
	panic("cpu: unknown format " + f.String())
}

// RowBytes returns the bytes of one row of cols columns in the source layout:
// row-major little-endian numbers (safetensors), or GGUF blocks of 32 columns
// (Q8_0: f16 d, 32 int8; Q4_0: f16 d, 16 bytes with elements 0..15 in the low
// nibbles; Q4_1: f16 d, f16 m, 16 bytes). cols is a multiple of BlockColumns.
func (f Format) RowBytes(cols int) int {
	return cols / f.BlockColumns() * f.blockBytes()
}

// paired reports whether f has 16 bits a number.
func (f Format) paired() bool { return f == F16 || f == BF16 || f == BF16Dot }

// panelBytes returns the packed bytes of one panel. It exceeds the source
// bytes of 16 rows only by one column where a 16-bit format has an odd count.
func (f Format) panelBytes(columns int) int {
	if f.paired() {
		columns = (columns + 1) &^ 1
	}
	return f.RowBytes(columns) * lanes
}

// PackedBytes returns the size of the packed storage of a matrix, whose rows
// are rounded up to a multiple of 16.
func PackedBytes(f Format, rows, columns int) int {
	return (rows + lanes - 1) / lanes * f.panelBytes(columns)
}
