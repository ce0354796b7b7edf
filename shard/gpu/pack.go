package gpu

import (
	"math"

	"lockstep/shard/model"
	"lockstep/shard/weights"
)

// step is the columns of a step of a product, and the outputs of a tile (kernels/common.cuh).
const step = 16

// tileNumbers is the number of weights of a tile in a step.
const tileNumbers = step * step

// input is how the columns that a product sums lie in steps: each chunk begins one of its own.
type input struct{ columns, chunks, steps int }

func inputOf(columns, chunks int) input {
	return input{columns, chunks, chunks * steps(columns/chunks)}
}

// steps is how many steps so many columns take.
func steps(columns int) int { return (columns + step - 1) / step }

// bytes is the size of an input of so many rows in so many terms.
func (in input) bytes(rows, terms int) int { return in.steps * step * rows * terms * 2 }

// matrix is a packed part of a linear operation.
type matrix struct {
	input
	data  Address // weights, or codedSettings; 0: none of it is this rank's
	coded bool
	taken int     // steps that the product takes
	order Address // of the input's columns in these steps; 0: as they lie
	tiles int
	terms int
	bias  Address  // float32 of all outputs; 0: none
	low   *lowRank // nil: nothing
}

// outputs is the distance of two rows of its results.
func (m *matrix) outputs() int { return m.tiles * step }

// pack uploads a rank's part of a linear operation, with what adapters add.
func (b *Backend) pack(l *model.Linear) (m matrix, err error) {
	if scheme := schemeOf(l); scheme != nil && l.Columns.Size() > 0 && l.Rows.Size() > 0 {
		var packed *codedMatrix
		if packed, err = b.packCodes(l, scheme); err == nil {
			m, err = b.uploadCodes([]*codedMatrix{packed})
		}
	} else {
		var words []uint16
		if m, words, err = b.packed(l); err == nil && len(words) > 0 {
			m.data, err = b.tell(bytesOf(words))
		}
	}
	if err == nil {
		m.bias, err = b.vector(l.Bias)
	}
	if err == nil && len(l.Low) > 0 {
		m.low, err = b.packLow(l, m.input)
	}
	return m, err
}

// packed lays a rank's part of a linear operation out. Without inputs or outputs there is nothing.
func (b *Backend) packed(l *model.Linear) (m matrix, words []uint16, err error) {
	m.input, m.tiles, m.terms = inputOf(l.Columns.Size(), l.Chunks), steps(l.Rows.Size()), 1
	m.taken = m.steps
	if m.columns == 0 || m.tiles == 0 {
		return m, nil, nil
	}
	if l.Encoding != weights.BF16 { // which one term holds
		m.terms = b.terms
	}
	term := m.tiles * m.steps * tileNumbers
	words = make([]uint16, m.terms*term)
	if b.unread {
		return m, words, nil
	}
	row := make([]float32, l.Matrix.Columns)
	for i := range l.Rows.Size() {
		l.Decode(row, l.Rows.From+i)
		m.packRow(words, i, row[l.Columns.From:l.Columns.To], term)
	}
	l.Release()
	return m, words, nil
}

// packRow puts an output's weights into its tile, a term as many numbers apart from the next.
func (m *matrix) packRow(packed []uint16, output int, row []float32, apart int) {
	chunkColumns, chunkSteps := m.columns/m.chunks, m.steps/m.chunks
	for column, v := range row {
		chunk, in := column/chunkColumns, column%chunkColumns
		at := ((output/step*m.steps)+chunk*chunkSteps+in/step)*tileNumbers + slot(output%step, in%step)
		first := bf16(v)
		packed[at] = first
		if m.terms > 1 {
			packed[apart+at] = bf16(v - widen(first))
		}
	}
}

// slot is where a row and column of a 16x16 fragment lie in it (kernels/attention.cu).
func slot(row, column int) int {
	return ((row&7)*4+column>>2)*8 + column>>1&1*4 + row>>3*2 + column&1
}

// bf16 rounds to the nearest bfloat16, of two equally near ones the even.
func bf16(f float32) uint16 {
	bits := math.Float32bits(f)
	if f != f {
		return 0x7fff
	}
	return uint16((bits + 0x7fff + bits>>16&1) >> 16)
}

func widen(bits uint16) float32 { return math.Float32frombits(uint32(bits) << 16) }

// vector uploads numbers; none have no address.
func (b *Backend) vector(values []float32) (Address, error) {
	if len(values) == 0 {
		return 0, nil
	}
	return b.tell(bytesOf(values))
}

// norm is a norm's weight and bias on the device; without a weight it norms nothing.
type norm struct{ weight, bias Address }

func (b *Backend) packNorm(n *model.Norm) (packed norm, err error) {
	if packed.weight, err = b.vector(n.Weight); err == nil {
		packed.bias, err = b.vector(n.Bias)
	}
	return packed, err
}
