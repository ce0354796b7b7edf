package weights

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"lockstep/shard/codes"
)

// packed makes a matrix of compressed-tensors' pack-quantized: codes [rows][columns/codes a word] in words of 32 bits, the first
// in the lowest, scales [rows][groups] or one for all, where they are not symmetric zero points [rows/codes a word][groups], and with
// actorder the group of every column. Codes and zero points are stored with half their range added, but zero points of older files,
// which have the scales' shape.
func (q *quantisation) packed(part func(suffix string) (*stored, error)) (Tensor, error) {
	found, err := parts(part, ".weight_packed", ".weight_scale", ".weight_shape")
	if err != nil {
		return Tensor{}, err
	}
	words, scales, shape := found[0], found[1], found[2]
	zeros, _ := part("?.weight_zero_point")
	order, _ := part("?.weight_g_idx")
	if !shape.has(1, 2, "I64") {
		return Tensor{}, errors.New("weight_shape is no pair of I64: fetch the model anew")
	}
	rows, columns := shape.size(0), shape.size(1)
	bits := 4
	if words.columns == (columns+3)/4 && columns > 4 {
		bits = 8
	}
	each, groups := 32/bits, scales.columns
	scaleRows := rows
	if scales.rows == 1 && groups == 1 {
		scaleRows = 1
	}
	if !words.has(rows, (columns+each-1)/each, "I32") || !scales.has(scaleRows, groups, "F16", "BF16", "F32") ||
		zeros != nil && !zeros.has((rows+each-1)/each, groups, "I32") && !zeros.has(scaleRows, groups, "I8") ||
		order != nil && !order.has(1, columns, "I32") {
		return Tensor{}, fmt.Errorf("its parts do not fit weight_shape, [%d, %d], in 4 or 8 bits", rows, columns)
	}
	m := &quantised{scheme: &codes.Scheme{Kind: kindOfBits(bits), Scale: &codes.Scheme{Kind: kinds[scales.dataType]},
		Bias: -float32(int(1) << (bits - 1))}, parts: []stored{*words, *scales}}
	if m.scheme.Group, err = q.groupSizeOrEven(columns, groups); err != nil && order == nil {
		return Tensor{}, err
	}
	if order != nil {
		m.parts = append(m.parts, *order)
		if err := m.order(order, columns, groups); err != nil {
			return Tensor{}, err
		}
	}
	mask := uint32(1<<bits - 1)
	if zeros != nil {
		m.parts = append(m.parts, *zeros)
		m.zeroPoints(rows, groups, func(row, group int) int {
			if zeros.dataType == "I8" {
				return int(int8(zeros.data[min(row, zeros.rows-1)*groups+group])) + 1<<(bits-1)
			}
			return int(zeros.word(row/each, group) >> (row % each * bits) & mask)
		})
	}
	m.scale = func(row, group int) uint32 { return scales.number(min(row, scales.rows-1), group) }
	m.codes = func(to []byte, row, from, end int) []byte {
		for column := from; column < end; column++ {
			to = append(to, byte(words.word(row, column/each)>>(column%each*bits)&mask))
		}
		return to
	}
	return m.matrix(rows, columns)
}

// size returns a number of type I64, 0 if it is no size of a matrix.
func (s *stored) size(i int) int {
	n := binary.LittleEndian.Uint64(s.data[i*8:])
	if n > MaxDimension {
		return 0
	}
	return int(n)
}

// groupSizeOrEven is groupSize for configurations that may leave it out: groups are equal then.
func (q *quantisation) groupSizeOrEven(columns, groups int) (int, error) {
	switch {
	case groups == 1:
		return columns, nil
	case slices.Max(append(q.groupSizes(), 0)) > 0:
		return q.groupSize(columns, groups)
	case columns%groups == 0:
		return columns / groups, nil
	}
	return 0, fmt.Errorf("%d columns are not shared evenly by %d scales", columns, groups)
}

// kindOfScaled is the kind of the codes that lie in one byte each beside scales; 0: it is none of them.
func kindOfScaled(s *stored) codes.Kind {
	switch s.dataType {
	case "F8_E4M3":
		return codes.E4M3
	case "I8":
		return codes.Bits8
	}
	return 0
}

// scaled makes a matrix of numbers of 8 bits, as compressed-tensors' int-quantized and float-quantized and fp8 have them: with one
// scale, one a row, one for equal groups of columns, or one for blocks of the configured size, of which the last ones may be cut.
func (q *quantisation) scaled(part func(suffix string) (*stored, error)) (Tensor, error) {
	numbers, err := part(".weight")
	if err != nil {
		return Tensor{}, err
	}
	scales, _ := part("?.weight_scale_inv") // multiplied by, despite its name
	if scales == nil {
		if scales, err = part(".weight_scale"); err != nil {
			return Tensor{}, err
		}
	}
	rows, columns := numbers.rows, numbers.columns
	scheme := &codes.Scheme{Kind: kindOfScaled(numbers), Group: columns, Scale: &codes.Scheme{Kind: kinds[scales.dataType]}}
	m := &quantised{scheme: scheme, parts: []stored{*numbers, *scales}}
	var at func(row, group int) (int, int) // where the scale and the zero point of a row's group lie
	block := q.block(rows, columns, scales)
	switch {
	case kinds[scales.dataType] == 0 && scales.dataType != "F32":
		return Tensor{}, fmt.Errorf("scales of type %s are not served; F32, F16 and BF16 are", scales.dataType)
	case scales.rows*scales.columns == 1:
		at = func(int, int) (int, int) { return 0, 0 }
	case block != [2]int{}:
		scheme.Group = block[1]
		at = func(row, group int) (int, int) { return row / block[0], group }
	case scales.rows == 1 && scales.columns == rows:
		at = func(row, _ int) (int, int) { return 0, row }
	case scales.rows == rows:
		if scheme.Group, err = q.groupSizeOrEven(columns, scales.columns); err != nil {
			return Tensor{}, err
		}
		at = func(row, group int) (int, int) { return row, group }
	default:
		return Tensor{}, fmt.Errorf("%d x %d scales do not fit its %d x %d numbers", scales.rows, scales.columns, rows, columns)
	}
	m.scale = func(row, group int) uint32 { return scales.number(at(row, group)) }
	flip := byte(0)
	if scheme.Kind == codes.Bits8 { // signed
		flip, scheme.Bias = 0x80, -128
		if zeros, _ := part("?.weight_zero_point"); zeros != nil {
			if !zeros.has(scales.rows, scales.columns, "I8") {
				return Tensor{}, errors.New("its zero points do not fit its scales")
			}
			m.parts = append(m.parts, *zeros)
			m.zeroPoints(rows, (columns-1)/scheme.Group+1, func(row, group int) int {
				row, column := at(row, group)
				return int(zeros.data[row*zeros.columns+column] ^ 0x80)
			})
		}
	}
	m.codes = func(to []byte, row, from, end int) []byte {
		for _, number := range numbers.data[row*columns+from : row*columns+end] {
			to = append(to, number^flip)
		}
		return to
	}
	return m.matrix(rows, columns)
}

// block is the size of the blocks that so many scales are of; zero: of none.
func (q *quantisation) block(rows, columns int, scales *stored) [2]int {
	for _, size := range q.blocks() {
		if scales.rows == (rows-1)/size[0]+1 && scales.columns == (columns-1)/size[1]+1 {
			return size
		}
	}
	return [2]int{}
}

// microscaled makes a matrix of gpt_oss's experts: blocks of 32 codes of 4 bits, [rows][blocks][16 bytes] and the even column in
// the low half, and their exponents [rows][blocks].
func (q *quantisation) microscaled(part func(suffix string) (*stored, error)) (Tensor, error) {
	found, err := parts(part, "_blocks", "_scales")
	if err != nil {
		return Tensor{}, err
	}
	blocks, exponents := found[0], found[1]
	rows, each := exponents.rows, exponents.columns
	if !blocks.has(rows*each, 16, "U8") || !exponents.has(rows, each, "U8") {
		return Tensor{}, errors.New("blocks and scales do not fit each other: fetch the model anew")
	}
	m := &quantised{scheme: encodings[MXFP4].scheme, parts: []stored{*blocks, *exponents}}
	m.scale = func(row, group int) uint32 { return halfPower(exponents.data[row*each+group]) }
	m.codes = func(to []byte, row, from, end int) []byte {
		for column := from; column < end; column++ {
			to = append(to, blocks.data[row*each*16+column/2]>>(column%2*4)&15)
		}
		return to
	}
	return m.matrix(rows, each*32)
}
