package weights

import (
	"errors"
	"fmt"

	"lockstep/shard/codes"
)

// gptq makes a matrix of AutoGPTQ's or GPTQModel's tensors: codes and zero points in words of 32 bits, the first in the lowest,
// [columns/codes a word][rows] and [groups][rows/codes a word], scales [groups][rows], and the group of every column, which
// desc_act has put in any order. Zero points are stored less one but in checkpoint_format gptq_v2. How many bits codes have may
// differ by module.
func (q *quantisation) gptq(part func(suffix string) (*stored, error)) (Tensor, error) {
	found, err := parts(part, ".qweight", ".qzeros", ".scales")
	if err != nil {
		return Tensor{}, err
	}
	words, zeros, scales := found[0], found[1], found[2]
	order, _ := part("?.g_idx")
	rows, groups := words.columns, scales.rows
	bits := zeros.columns * 32 / rows
	if bits != q.Bits && len(q.Modules) == 0 {
		bits = q.Bits
	}
	if bits != 4 && bits != 8 {
		return Tensor{}, fmt.Errorf("codes of %d bits are not served; of 4 and 8 are", bits)
	}
	each := 32 / bits
	columns := words.rows * each
	if !words.has(words.rows, rows, "I32") || !scales.has(groups, rows, "F16", "BF16", "F32") || rows%each != 0 ||
		!zeros.has(groups, rows/each, "I32") || order != nil && !order.has(1, columns, "I32") {
		return Tensor{}, errors.New("qweight, qzeros, scales and g_idx do not fit each other: fetch the model anew")
	}
	m := &quantised{scheme: &codes.Scheme{Kind: kindOfBits(bits), Scale: &codes.Scheme{Kind: kinds[scales.dataType]}},
		parts: []stored{*words, *zeros, *scales}}
	if m.scheme.Group, err = q.groupSize(columns, groups); err != nil && order == nil {
		return Tensor{}, err
	}
	if order != nil {
		m.parts = append(m.parts, *order)
		if err := m.order(order, columns, groups); err != nil {
			return Tensor{}, err
		}
	}
	mask, stored := uint32(1<<bits-1), 1
	if q.Format == "gptq_v2" {
		stored = 0
	}
	m.zeroPoints(rows, groups, func(row, group int) int {
		return int(zeros.word(group, row/each)>>(row%each*bits)&mask) + stored
	})
	m.scale = func(row, group int) uint32 { return scales.number(group, row) }
	m.codes = func(to []byte, row, from, end int) []byte {
		for column := from; column < end; {
			word := words.word(column/each, row) >> (column % each * bits)
			for last := min(end, column/each*each+each); column < last; column++ {
				to = append(to, byte(word&mask))
				word >>= bits
			}
		}
		return to
	}
	return m.matrix(rows, columns)
}

func kindOfBits(bits int) codes.Kind {
	if bits == 4 {
		return codes.Bits4
	}
	return codes.Bits8
}

// order takes the group of every column from g_idx: the size of groups where they lie in order.
func (q *quantised) order(order *stored, columns, groups int) error {
	index, size := make([]int32, columns), (columns-1)/groups+1
	if q.scheme.Group > 0 {
		size = q.scheme.Group
	}
	inOrder := true
	for column := range index {
		group := order.word(0, column)
		if group >= uint32(groups) {
			return fmt.Errorf("g_idx puts column %d into group %d, and there are scales of %d", column, int32(group), groups)
		}
		index[column] = int32(group)
		inOrder = inOrder && int(group) == column/size
	}
	if inOrder {
		q.scheme.Group = size
		return nil
	}
	q.scheme.Group, q.scheme.Index, q.scheme.Groups = 0, index, groups
	return nil
}

// awqNibble is where AutoAWQ's gemm version has each of 8 columns in a word.
var awqNibble = [8]int{0, 4, 1, 5, 2, 6, 3, 7}

// awq makes a matrix of AutoAWQ's tensors: codes [columns][rows/8] and zero points [groups][rows/8], eight in a word, scales
// [groups][rows].
func (q *quantisation) awq(part func(suffix string) (*stored, error)) (Tensor, error) {
	found, err := parts(part, ".qweight", ".qzeros", ".scales")
	if err != nil {
		return Tensor{}, err
	}
	words, zeros, scales := found[0], found[1], found[2]
	columns, rows, groups := words.rows, words.columns*8, scales.rows
	if !words.has(columns, rows/8, "I32") || !scales.has(groups, rows, "F16", "BF16", "F32") || !zeros.has(groups, rows/8, "I32") {
		return Tensor{}, errors.New("qweight, qzeros and scales do not fit each other: fetch the model anew")
	}
	m := &quantised{scheme: &codes.Scheme{Kind: codes.Bits4, Scale: &codes.Scheme{Kind: kinds[scales.dataType]}},
		parts: []stored{*words, *zeros, *scales}}
	if m.scheme.Group, err = q.groupSize(columns, groups); err != nil {
		return Tensor{}, err
	}
	nibble := func(words *stored, row, column int) byte {
		return byte(words.word(row, column/8)>>(4*awqNibble[column%8])) & 15
	}
	m.zeroPoints(rows, groups, func(row, group int) int { return int(nibble(zeros, group, row)) })
	m.scale = func(row, group int) uint32 { return scales.number(group, row) }
	m.codes = func(to []byte, row, from, end int) []byte {
		for column := from; column < end; column++ {
			to = append(to, nibble(words, column, row))
		}
		return to
	}
	return m.matrix(rows, columns)
}
