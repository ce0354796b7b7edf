package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"lockstep/shard/codes"
	"lockstep/shard/half"
)

// The numerics q8.1. Of every 32 activations, counted from the start of their chunk, a is the largest magnitude. They become
//
//	d = a / 127, q = x * (127 / a) rounded to the nearest integer, of two to the even one
//
// each operation rounded to float32; where a is below 2^-100, d and all q are 0, and where one of them is no finite number, d is
// NaN and all q are 0. An output is a chain over the groups of its weights, of 16 or 32 columns in order, from zero:
//
//	c = fma(sum of level * q, scale * d, c)
//	c = fma(offset, d * sum of q, c)          if there are offsets
//
// with exact sums of integers and each operation rounded once. The level is what the code stands for, and bias. Chunks are added
// as everywhere.

// Integers is the format of a matrix whose products are those of q8.1, see NewIntegers. It has no source layout.
const Integers = Coded + 1

// integerColumns is how many columns make a block of weights, and how many activations have one scale.
const integerColumns = 32

// scaleForm is how a block has the scales of its groups, for each of 16 lanes.
type scaleForm int

const (
	halfScale  scaleForm = iota // [16] float16
	halfPair                    // and offsets alike
	nestedOne                   // [16] float16, [group][16] uint8, and the form's bias is added to these before they are multiplied
	nestedPair                  // [16] float16 of scales, then of offsets, [group][16] uint8 of scales, then of offsets
	wideScale                   // [group][16] float32
	widePair                    // and offsets alike
)

// pair reports whether there are offsets.
func (f scaleForm) pair() bool { return f == halfPair || f == nestedPair || f == widePair }

// bytes is the size of the scales of so many groups.
func (f scaleForm) bytes(groups int) int {
	switch f {
	case halfScale:
		return 2 * lanes
	case halfPair:
		return 4 * lanes
	case nestedOne:
		return (2 + groups) * lanes
	case nestedPair:
		return (4 + 2*groups) * lanes
	case wideScale:
		return 4 * groups * lanes
	}
	return 8 * groups * lanes
}

// integerForm is the layout of a panel: blocks of 32 columns, each with its scales and behind them the planes of the codes'
// bits, the lowest bits first. A plane of n bits is [n][16] uint32. Byte b of a word has columns 4i+b, one in every n bits: i is
// the word's number times 8/n for the lowest, and one more for each of the next.
type integerForm struct {
	kind   codes.Kind
	group  int // columns: 16 or 32
	scales scaleForm
	bias   int // of nestedOne
}

// integerForms are those that there are. What a model has none of is left out. The first ones are what all others are widened to,
// with levels that have 128 added or, where there are offsets, as they are. The generator of assembly has the same list.
var integerForms = [...]integerForm{
	{codes.Bits8, 32, wideScale, 0},
	{codes.Bits8, 32, widePair, 0},
	{codes.Bits8, 16, wideScale, 0},
	{codes.Bits8, 16, widePair, 0},
	{codes.Bits8, 32, halfScale, 0},        // Q8_0
	{codes.Bits4, 32, halfScale, 0},        // Q4_0
	{codes.Bits4, 32, halfPair, 0},         // Q4_1
	{codes.Bits4, 32, nestedPair, 0},       // Q4_K
	{codes.Bits5, 32, nestedPair, 0},       // Q5_K
	{codes.Bits6, 16, nestedOne, -128},     // Q6_K
	{codes.Bits2, 16, nestedPair, 0},       // Q2_K
	{codes.Bits3, 16, nestedOne, -32},      // Q3_K
	{codes.Bits5, 32, halfScale, 0},        // Q5_0
	{codes.Bits5, 32, halfPair, 0},         // Q5_1
	{codes.NonLinear4, 32, halfScale, 0},   // IQ4_NL
	{codes.NonLinear4, 32, nestedOne, -32}, // IQ4_XS
	{codes.FP4, 32, wideScale, 0},          // MXFP4
	{codes.Bits2, 32, widePair, 0},         // GPTQ and AWQ, whose offsets are zero points
	{codes.Bits3, 32, widePair, 0},
	{codes.Bits4, 32, widePair, 0},
}

// wide is the form that one is widened to.
func (f integerForm) wide() (number int) {
	if f.group == 16 {
		number += 2
	}
	if f.scales.pair() {
		number++
	}
	return number
}

// groups are those of a block.
func (f integerForm) groups() int { return integerColumns / f.group }

// bytes is the size of a block.
func (f integerForm) bytes() int {
	return f.scales.bytes(f.groups()) + f.kind.Bits()*lanes*integerColumns/8
}

// base is what is added to levels without offsets, so that none is negative.
func (f integerForm) base() int {
	switch {
	case f.scales.pair():
		return 0
	case f.kind == codes.NonLinear4:
		return 128
	case f.kind == codes.FP4:
		return 16
	}
	return 1 << (f.kind.Bits() - 1)
}

// integers are what a matrix of Integers has beside its form.
type integers struct {
	form   int
	scheme *codes.Scheme
	first  int // column of a whole row
}

// formOf returns the form for columns from first on of rows of a scheme, which are so many chunks.
func formOf(s *codes.Scheme, first, columns, chunks int) (form int, ok bool) {
	if s.Kind.Plain() || s.Index != nil || s.Scale == nil || first%integerColumns != 0 || columns%(chunks*integerColumns) != 0 {
		return 0, false
	}
	f := integerForm{kind: s.Kind, group: integerColumns}
	switch {
	case s.Group == 16:
		f.group = 16
	case s.Group%integerColumns != 0:
		return 0, false
	}
	if f.scales = scalesOf(s); f.scales == nestedOne {
		f.bias = int(s.Scale.Bias)
	}
	if !f.scales.pair() && s.Kind.Integer() && float32(f.base()) != -s.Bias {
		return 0, false
	}
	if form = slices.Index(integerForms[:], f); form >= 0 {
		return form, true
	}
	if f.scales, f.bias = wideScale, 0; s.Offset != nil {
		f.scales = widePair
	}
	form = slices.Index(integerForms[:], f)
	return max(form, 0), form >= 0
}

// scalesOf is the smallest form of a scheme's scales.
func scalesOf(s *codes.Scheme) scaleForm {
	nested := func(s *codes.Scheme) bool {
		return s.Kind.Integer() && s.Scale.Kind == codes.F16 && s.Offset == nil && s.Group%2 == 0
	}
	switch {
	case s.Offset == nil && s.Scale.Kind == codes.F16 && s.Group != 16:
		return halfScale
	case s.Offset == nil && nested(s.Scale):
		return nestedOne
	case s.Offset == nil:
		return wideScale
	case s.Scale.Kind == codes.F16 && s.Offset.Kind == codes.F16 && !s.Zero && s.Group != 16:
		return halfPair
	case nested(s.Scale) && nested(s.Offset) && s.Scale.Bias == 0 && s.Offset.Bias == 0 && !s.Zero:
		return nestedPair
	}
	return widePair
}

// NewIntegers describes a matrix of codes as NewCoded does, whose products are those of q8.1. The caller fills data, of
// IntegerBytes, with PackCoded.
func NewIntegers(s *codes.Scheme, first, rows, columns, chunks int, data []byte) (*Matrix, error) {
	m := &Matrix{Format: Integers, Rows: rows, Columns: columns, Chunks: chunks, Data: data}
	if err := m.check(integerColumns, integerColumns); err != nil {
		return nil, err
	}
	form, ok := formOf(s, first, columns, chunks)
	if !ok {
		return nil, fmt.Errorf("%w: codes of kind %d have no products of integers", ErrShape, s.Kind)
	}
	m.integers = &integers{form, s, first}
	return m, m.checkData()
}

// IntegerBytes returns the size of the packed storage of a matrix of Integers; 0: NewIntegers refuses it.
func IntegerBytes(s *codes.Scheme, first, rows, columns, chunks int) int {
	form, ok := formOf(s, first, columns, chunks)
	if !ok || rows < 1 {
		return 0
	}
	return (rows + lanes - 1) / lanes * (columns / integerColumns) * integerForms[form].bytes()
}

// level returns what the code of a column of a block stands for, with base added.
func (f integerForm) level(block []byte, lane, column int) int {
	data, code := block[f.scales.bytes(f.groups()):], byte(0)
	for _, p := range planes(f.kind) {
		fields, i := 8/p.bits, column/4
		code |= data[(i/fields*lanes+lane)*4+column%4] >> (i % fields * p.bits) & (1<<p.bits - 1) << p.shift
		data = data[p.bits*lanes*4:]
	}
	if f.kind.Integer() {
		return int(code)
	}
	return int(f.kind.Level(code)) + f.base()
}

// scale returns the scale and the offset of a block's group.
func (f integerForm) scale(block []byte, lane, g int) (scale, offset float32) {
	float := func(at int) float32 { return math.Float32frombits(binary.LittleEndian.Uint32(block[at*lanes+lane*4:])) }
	short := func(at int) float32 { return half.Float32(binary.LittleEndian.Uint16(block[at*lanes+lane*2:])) }
	code := func(at int) byte { return block[(at+g)*lanes+lane] }
	switch f.scales {
	case halfScale:
		return short(0), 0
	case halfPair:
		return short(0), short(2)
	case nestedOne:
		return short(0) * float32(int(code(2))+f.bias), 0
	case nestedPair:
		return short(0) * float32(code(4)), short(2) * float32(code(4+f.groups()))
	case wideScale:
		return float(4 * g), 0
	}
	return float(4 * g), float(4 * (f.groups() + g))
}

// at returns the exact value of one weight.
func (n *integers) at(panel []byte, lane, column int) float32 {
	f := integerForms[n.form]
	block := panel[column/integerColumns*f.bytes():]
	column %= integerColumns
	scale, offset := f.scale(block, lane, column/f.group)
	if !f.scales.pair() {
		return float32(f.level(block, lane, column)-f.base()) * scale
	}
	return fma32(float32(f.level(block, lane, column)), scale, offset)
}

// The words of a block of activations of one row, behind the eight of q.
const (
	wordD      = 8  // float32: d
	wordSum    = 9  // int32: the negative sum of q; of groups of 16 two words from wordSums on
	wordZ      = 10 // float32: d * sum of q; likewise from wordZs on
	wordSums   = 11
	wordZs     = 13
	blockWords = 16
)

// quantiseGo writes blocks of 32 activations, each stride bytes behind the one before.
func quantiseGo(dst, x *float32, blocks, stride int) {
	for b := range blocks {
		in, out := unsafe.Slice(at(x, b*integerColumns), integerColumns), unsafe.Slice(at(dst, b*stride/4), blockWords)
		clear(out)
		largest, finite := float32(0), true
		for _, v := range in {
			largest = max(largest, float32(math.Abs(float64(v))))
			finite = finite && v-v == 0
		}
		switch {
		case !finite:
			d := float32(math.NaN())
			out[wordD], out[wordZ], out[wordZs], out[wordZs+1] = d, d, d, d
			continue
		case largest < 0x1p-100:
			continue
		}
		d, inverse := largest/127, 127/largest
		var sums [2]int32
		for i, v := range in {
			q := int32(math.RoundToEven(float64(float32(v * inverse))))
			sums[i/16] += q
			bits := math.Float32bits(out[i/4]) | uint32(uint8(q))<<(i%4*8)
			out[i/4] = math.Float32frombits(bits)
		}
		out[wordD] = d
		number := func(sum int32) float32 { return math.Float32frombits(uint32(-sum)) }
		out[wordSum], out[wordSums], out[wordSums+1] = number(sums[0]+sums[1]), number(sums[0]), number(sums[1])
		out[wordZ], out[wordZs], out[wordZs+1] = d*float32(sums[0]+sums[1]), d*float32(sums[0]), d*float32(sums[1])
	}
}

// integerTileGo is a tileFunc of one panel in plain Go.
func integerTileGo(f integerForm, rows int, c, x *float32, w *byte, k, stride int) {
	for b := range k / integerColumns {
		block := unsafe.Slice(bytesAt(w, b*f.bytes()), f.bytes())
		for r := range rows {
			words, sums := unsafe.Slice(at(x, (b*rows+r)*blockWords), blockWords), lanesAt(at(c, r*stride/4), 0)
			for lane := range sums {
				for g := range f.groups() {
					sum := 0
					for column := g * f.group; column < (g+1)*f.group; column++ {
						q := int8(math.Float32bits(words[column/4]) >> (column % 4 * 8))
						sum += (f.level(block, lane, column) - f.base()) * int(q)
					}
					z := words[wordZ]
					if f.group == 16 {
						z = words[wordZs+g]
					}
					scale, offset := f.scale(block, lane, g)
					sums[lane] = fma32(float32(sum), scale*words[wordD], sums[lane])
					if f.scales.pair() {
						sums[lane] = fma32(offset, z, sums[lane])
					}
				}
			}
		}
	}
}
