package gpu

import (
	"encoding/binary"
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
	order Address // of the input's columns in these steps, one behind the other of several experts; 0: as they lie
	tiles int
	terms int
	bias  Address  // float32 of all outputs; 0: none
	low   *lowRank // nil: nothing
}

// outputs is the distance of two rows of its results.
func (m *matrix) outputs() int { return m.tiles * step }

// pack uploads a rank's part of a linear operation, with what adapters add.
func (b *Backend) pack(l *model.Linear) (m matrix, err error) {
	if inCodes(l) {
		var codes *codedMatrix
		if codes, err = describeCodes(l); err == nil {
			m, err = b.packCodes([]*codedMatrix{codes})
		}
	} else {
		m, err = b.packPlain([]*model.Linear{l})
	}
	if err != nil {
		return m, err
	}
	if m.bias, err = b.vector(l.Bias); err == nil && len(l.Low) > 0 {
		m.low, err = b.packLow(l, m.input)
	}
	return m, err
}

// inCodes reports whether a rank has a part of a linear operation, and that in codes.
func inCodes(l *model.Linear) bool {
	return l.Scheme() != nil && l.Columns.Size() > 0 && l.Rows.Size() > 0
}

// packPlain uploads a rank's part of the same linear operation of several experts, or of one alone, behind one another. Their biases are
// the caller's.
func (b *Backend) packPlain(linears []*model.Linear) (m matrix, err error) {
	first := linears[0]
	m = matrix{input: inputOf(first.Columns.Size(), first.Chunks), tiles: steps(first.Rows.Size()), terms: 1}
	m.taken = m.steps
	for _, l := range linears {
		if l.Encoding != weights.BF16 { // which one term holds
			m.terms = b.terms
		}
	}
	if m.columns == 0 || m.tiles == 0 {
		return m, nil
	}
	size := m.terms * m.tiles * m.tileBytes()
	if m.data, err = b.alloc(size * len(linears)); err != nil {
		return m, err
	}
	for i, l := range linears {
		if err := b.packAt(&m, m.data+Address(i*size), l); err != nil {
			return m, err
		}
	}
	return m, nil
}

// orderedBytes is the size of a row of the input in another order, 0 where there is none.
func (m *matrix) orderedBytes(terms int) int {
	if m.order == 0 {
		return 0
	}
	return m.taken * step * terms * 2
}

// tileBytes is the size of a tile in one term.
func (m *matrix) tileBytes() int { return m.taken * tileNumbers * 2 }

// packAt uploads plain weights to an address.
func (b *Backend) packAt(m *matrix, at Address, l *model.Linear) error {
	layout := &tileLayout{tiles: m.tiles, release: l.Release}
	for term := range m.terms {
		layout.parts = append(layout.parts, tilePart{at + Address(term*m.tiles*m.tileBytes()), m.tileBytes()})
	}
	if l.Encoding == weights.BF16 && m.terms == 1 {
		buffers := make([][16][]byte, b.team.Size())
		layout.pack = func(worker, tile int, parts [][]byte) {
			var rows [16][]byte
			for i := range min(step, l.Rows.Size()-tile*step) {
				rows[i] = l.Bytes(&buffers[worker][i], l.Rows.From+tile*step+i, l.Columns.From, l.Columns.To)
			}
			m.packBF16(parts[0], &rows)
		}
		return b.uploadTiles(layout)
	}
	rows := make([][]float32, b.team.Size())
	layout.pack = func(worker, tile int, parts [][]byte) {
		if rows[worker] == nil {
			rows[worker] = make([]float32, l.Matrix.Columns)
		}
		for i := range min(step, l.Rows.Size()-tile*step) {
			l.Decode(rows[worker], l.Rows.From+tile*step+i)
			m.packRow(parts, i, rows[worker][l.Columns.From:l.Columns.To])
		}
	}
	return b.uploadTiles(layout)
}

// columnsOf are the columns that a step takes.
func (in input) columnsOf(step int) (from, to int) {
	chunkColumns, chunkSteps := in.columns/in.chunks, in.steps/in.chunks
	chunk := step / chunkSteps
	from = chunk*chunkColumns + step%chunkSteps*16
	return from, min(from+16, (chunk+1)*chunkColumns)
}

// packBF16 lays a tile out, from the bytes of its rows; nil: there is none. A lane has 4 columns of two rows.
func (m *matrix) packBF16(tile []byte, rows *[16][]byte) {
	le := binary.LittleEndian
	for s := range m.taken {
		from, to := m.columnsOf(s)
		out := tile[s*2*tileNumbers:][:2*tileNumbers]
		for g := range 8 {
			for t := range 4 {
				low, high := fourNumbers(rows[g], from+4*t, to), fourNumbers(rows[g+8], from+4*t, to)
				lane := out[(g*4+t)*16:][:16]
				le.PutUint64(lane, low&(1<<32-1)|high<<32)
				le.PutUint64(lane[8:], low>>32|high>>32<<32)
			}
		}
	}
}

// fourNumbers are four of 16 bits from a column on; those from the column to on, and of no row, are zero.
func fourNumbers(row []byte, column, to int) (four uint64) {
	if row == nil || column >= to {
		return 0
	}
	if column+4 <= to {
		return binary.LittleEndian.Uint64(row[2*column:])
	}
	for i := range to - column {
		four |= uint64(binary.LittleEndian.Uint16(row[2*(column+i):])) << (16 * i)
	}
	return four
}

// packRow puts an output's weights into its tile, a term into each part.
func (m *matrix) packRow(parts [][]byte, output int, row []float32) {
	le := binary.LittleEndian
	for s := range m.taken {
		from, to := m.columnsOf(s)
		for i, v := range row[min(from, to):to] {
			at := 2 * (s*tileNumbers + slot(output, i))
			first := bf16(v)
			le.PutUint16(parts[0][at:], first)
			if len(parts) > 1 {
				le.PutUint16(parts[1][at:], bf16(v-widen(first)))
			}
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
