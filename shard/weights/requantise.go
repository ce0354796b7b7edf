package weights

import (
	"encoding/binary"
	"math"

	"lockstep/shard/half"
)

// gridsTried are the grids in the search for a block of Q4_1, a quarter of a step apart in how far the numbers reach over the 16
// codes.
const gridsTried = 9

// requantise holds blocks that are made of a tensor's numbers when they are asked for.
type requantise struct {
	source Tensor
	block  func(block []byte, values []float32)
}

// As returns a tensor of plain numbers, whose columns are a multiple of 32, as one in Q8_0 or Q4_1, which is made of them while it
// is packed. Its blocks depend on their own numbers alone.
func (t Tensor) As(e Encoding) Tensor {
	block := quantise8
	if e == Q4_1 {
		block = quantise4
	}
	return Tensor{Encoding: e, Rows: t.Rows, Columns: t.Columns, made: &requantise{t, block}}
}

// bytes returns the columns [from, to), whole blocks, of a row.
func (r *requantise) bytes(buffer *[]byte, e Encoding, row, from, to int) []byte {
	values := make([]float32, to-from)
	r.source.Encoding.Decode(values, r.source.Bytes(nil, row, from, to))
	size := e.RowBytes(to - from)
	if cap(*buffer) < size {
		*buffer = make([]byte, size)
	}
	out := (*buffer)[:size]
	for i := 0; i < len(values); i += 32 {
		r.block(out[e.RowBytes(i):], values[i:i+32])
	}
	return out
}

// quantise8 writes a block of Q8_0: its scale is the largest magnitude / 127, and codes are the nearest, of two the even ones.
func quantise8(block []byte, values []float32) {
	largest := float32(0)
	for _, v := range values {
		largest = max(largest, v, -v) // NaN if one is
	}
	bits := half.Bits(largest / 127)
	binary.LittleEndian.PutUint16(block, bits)
	scale := half.Float32(bits)
	for i, v := range values {
		block[2+i] = byte(int8(nearest(v, scale, -127, 127)))
	}
}

// nearest is v / scale, rounded to an integer between two; 0 for 0/0.
func nearest(v, scale float32, low, high float64) int {
	n := math.RoundToEven(float64(v) / float64(scale))
	if n != n {
		return 0
	}
	return int(max(low, min(n, high)))
}

// quantise4 writes a block of Q4_1, of which the sum of squared errors is the least of a few: of grids that span the numbers a
// little less or more, each with the scale and the minimum that fit its codes best, the best one is taken, as llama.cpp does for
// its K quants, unless the plain grid from the least to the largest number is better.
func quantise4(block []byte, values []float32) {
	low, high := values[0], values[0]
	var of moments
	for _, v := range values {
		low, high = min(low, v), max(high, v)
		of.sum += float64(v)
		of.squares += float64(float64(v) * float64(v))
	}
	plain := block4{scale: half.Bits((high - low) / 15), minimum: half.Bits(low)}
	best, bestError := plain, plain.fill(values)
	least, fitted := math.Inf(1), plain
	for grid := range gridsTried {
		steps := (15 + float64(grid-gridsTried/2)/4) / (float64(high) - float64(low))
		if scale, minimum, off := of.fit(values, float64(low), steps); off < least {
			least, fitted.scale, fitted.minimum = off, half.Bits(scale), half.Bits(minimum)
		}
	}
	if off := fitted.fill(values); off < bestError {
		best = fitted
	}
	binary.LittleEndian.PutUint16(block, best.scale)
	binary.LittleEndian.PutUint16(block[2:], best.minimum)
	for i := range 16 {
		block[4+i] = best.codes[i] | best.codes[16+i]<<4
	}
}

// block4 is a block of Q4_1; scale and minimum are in half precision.
type block4 struct {
	scale, minimum uint16
	codes          [32]byte
}

// fill sets the codes to the nearest ones, and returns the sum of the squared errors.
func (b *block4) fill(values []float32) (sum float64) {
	scale, minimum := half.Float32(b.scale), half.Float32(b.minimum)
	for i, v := range values {
		code := nearest(v-minimum, scale, 0, 15)
		b.codes[i] = byte(code)
		off := float64(v) - float64(float32(scale*float32(code))+minimum)
		sum += float64(off * off)
	}
	return sum
}

// moments are sums over the numbers of a block.
type moments struct{ sum, squares float64 }

// fit returns the scale and the minimum that give the least sum of squared errors with the codes of a grid of so many steps a
// unit, and that sum; infinity where one code stands for all. Conversions keep products from being fused with sums, so that all
// machines get the same.
func (m moments) fit(values []float32, low, steps float64) (scale, minimum float32, off float64) {
	var total, count int
	var products float64
	for _, v := range values {
		code := max(0, min(15, int(float64((float64(v)-low)*steps)+0.5)))
		total, count = total+code, count+code*code
		products += float64(float64(code) * float64(v))
	}
	sum, squares := m.sum, m.squares
	n, codes, codeSquares := float64(len(values)), float64(total), float64(count)
	determinant := float64(n*codeSquares) - float64(codes*codes)
	if !(determinant > 0) {
		return 0, 0, math.Inf(1)
	}
	slope := (float64(n*products) - float64(sum*codes)) / determinant
	start := (float64(codeSquares*sum) - float64(codes*products)) / determinant
	return float32(slope), float32(start), squares - float64(slope*products) - float64(start*sum)
}
