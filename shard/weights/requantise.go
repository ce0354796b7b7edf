package weights

import (
	"encoding/binary"
	"math"

	"lockstep/shard/half"
)

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

// The search for a block of Q4_1: as many grids as this are tried, a quarter of a step apart in how far the numbers reach over the
// 16 codes.
const gridsTried = 9

// quantise4 writes a block of Q4_1, of which the sum of squared errors is the least of a few: for grids that span the numbers a
// little less or more, those scale and minimum are taken that fit the codes best, as llama.cpp does for its K quants.
func quantise4(block []byte, values []float32) {
	low, high := values[0], values[0]
	for _, v := range values {
		low, high = min(low, v), max(high, v)
	}
	best := math.Inf(1)
	var codes [32]byte
	try := func(scale, minimum float32) {
		scaleBits, minimumBits := half.Bits(scale), half.Bits(minimum)
		scale, minimum = half.Float32(scaleBits), half.Float32(minimumBits)
		sum := 0.0
		for i, v := range values {
			code := nearest(v-minimum, scale, 0, 15)
			codes[i] = byte(code)
			off := float64(v) - float64(float32(scale*float32(code))+minimum)
			sum += float64(off * off)
		}
		if !(sum < best) && best < math.Inf(1) {
			return
		}
		best = sum
		binary.LittleEndian.PutUint16(block, scaleBits)
		binary.LittleEndian.PutUint16(block[2:], minimumBits)
		for i := range 16 {
			block[4+i] = codes[i] | codes[16+i]<<4
		}
	}
	try((high-low)/15, low)
	for grid := range gridsTried {
		step := (float64(high) - float64(low)) / (15 + float64(grid-gridsTried/2)/4)
		if scale, minimum, ok := fitted(values, float64(low), step); ok {
			try(scale, minimum)
		}
	}
}

// fitted returns the scale and the minimum that give the least squared error with the codes of a grid; ok is false where one
// code stands for all. Conversions keep products from being fused with sums, so that all machines get the same.
func fitted(values []float32, low, step float64) (scale, minimum float32, ok bool) {
	var codes, squares, sum, products float64
	for _, v := range values {
		code := max(0, min(15, math.RoundToEven((float64(v)-low)/step)))
		codes += code
		squares += float64(code * code)
		sum += float64(v)
		products += float64(code * float64(v))
	}
	n := float64(len(values))
	determinant := float64(n*squares) - float64(codes*codes)
	if !(determinant > 0) {
		return 0, 0, false
	}
	scale = float32((float64(n*products) - float64(sum*codes)) / determinant)
	minimum = float32((float64(squares*sum) - float64(codes*products)) / determinant)
	return scale, minimum, true
}
