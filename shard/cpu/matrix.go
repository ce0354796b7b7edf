package cpu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unsafe"

	"lockstep/shard/half"
)

// ErrShape is wrapped by the errors of NewMatrix.
var ErrShape = errors.New("cpu: matrix shape")

// Matrix is a packed weight matrix: Rows outputs (n) by Columns inputs (k).
// It is immutable once every panel is packed, and then safe for concurrent use.
//
// Chunks is 1, 2, 4 or 8. The columns are cut into that many equal parts, each
// part is summed as a chain of its own from zero, and the results are added as
// a binary tree, ((0+1)+(2+3))+((4+5)+(6+7)). A matrix whose columns are split
// over ranks gives the same bits as the whole one if the ranks hold whole
// subtrees.
//
// Layout of one panel, which holds outputs 16p..16p+15 as lanes:
//
//   - F32: [column][16] float32.
//   - F16: [column][16] float16, columns padded to an even count.
//   - BF16: [column pair][16] uint32, the even column in the low half.
//   - Quantised: per block of 32 columns [16] float16 d, for Q4_1 [16] float16
//     m, then [group][16] uint32. A word of Q8_0 holds four bytes, byte j of
//     group g (of 8) being column 8j+g with 128 added. A word of Q4_0 and Q4_1
//     holds eight nibbles, nibble j of group g (of 4) being column 4j+g. This
//     order lets a kernel mask all of the groups in place with one mask and
//     one scale before it goes to the next j.
type Matrix struct {
	Format        Format
	Rows, Columns int
	Chunks        int
	Data          []byte // 64-byte aligned, owned by the caller

	coded    *coded    // of Coded
	integers *integers // of Integers
}

// NewMatrix describes a matrix over data, which must be 64-byte aligned and at
// least PackedBytes long. It checks the shape, and does not touch data: the
// caller fills it with PackPanel. A chunk must be a multiple of 32 columns in
// the quantised formats and, where there is more than one, of 2 in the 16-bit
// ones.
func NewMatrix(f Format, rows, columns, chunks int, data []byte) (*Matrix, error) {
	if f < 0 || f >= formats {
		return nil, fmt.Errorf("%w: unknown format %d", ErrShape, int(f))
	}
	m := &Matrix{Format: f, Rows: rows, Columns: columns, Chunks: chunks, Data: data}
	unit := f.BlockColumns()
	if f.paired() {
		unit = 2
	}
	if err := m.check(unit, f.BlockColumns()); err != nil {
		return nil, err
	}
	return m, m.checkData()
}

// check checks the shape: columns are a multiple of unit or, if they are one chunk, of whole.
func (m *Matrix) check(unit, whole int) error {
	if m.Rows < 1 || m.Columns < 1 {
		return fmt.Errorf("%w: %d rows, %d columns", ErrShape, m.Rows, m.Columns)
	}
	switch m.Chunks {
	case 1:
		unit = whole
	case 2, 4, 8:
	default:
		return fmt.Errorf("%w: %d chunks, want 1, 2, 4 or 8", ErrShape, m.Chunks)
	}
	if m.Columns%(m.Chunks*unit) != 0 {
		return fmt.Errorf("%w: %d columns of %v are not %d chunks of a multiple of %d", ErrShape, m.Columns, m.Format, m.Chunks, unit)
	}
	return nil
}

// checkData checks the storage.
func (m *Matrix) checkData() error {
	if need := m.Panels() * m.panelBytes(); len(m.Data) < need {
		return fmt.Errorf("%w: %d bytes of storage, want %d", ErrShape, len(m.Data), need)
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(m.Data)))%64 != 0 {
		return fmt.Errorf("%w: storage is not 64-byte aligned", ErrShape)
	}
	return nil
}

// Panels returns the number of panels, ceil(Rows/16).
func (m *Matrix) Panels() int { return (m.Rows + lanes - 1) / lanes }

// panel returns the packed bytes of one panel.
func (m *Matrix) panel(panel int) []byte {
	size := m.panelBytes()
	return m.Data[panel*size : (panel+1)*size]
}

// panelBytes returns the packed bytes of one panel.
func (m *Matrix) panelBytes() int {
	switch {
	case m.coded != nil:
		return m.coded.bytes
	case m.integers != nil:
		return m.columnBytes(m.Columns)
	}
	return m.Format.panelBytes(m.Columns)
}

// columnBytes returns where column starts in a panel. column is a multiple of
// 32 in the quantised formats and even in the 16-bit ones.
func (m *Matrix) columnBytes(column int) int {
	switch {
	case m.coded != nil:
		return m.coded.codeBytes(column)
	case m.integers != nil:
		return column / integerColumns * integerForms[m.integers.form].bytes()
	}
	return m.Format.RowBytes(column) * lanes
}

// PackPanel fills one panel. source(i) returns row i in the source layout for
// exactly Columns columns (it may be a part of a longer row); it is called for
// the rows of this panel only, and its result is not kept. Panels may be
// packed in parallel.
func (m *Matrix) PackPanel(panel int, source func(row int) []byte) {
	out := m.panel(panel)
	clear(out)
	for lane := range lanes {
		row := panel*lanes + lane
		if row >= m.Rows {
			break
		}
		in := source(row)[:m.Format.RowBytes(m.Columns)]
		switch m.Format {
		case F32:
			packWords(out, in, lane)
		case F16:
			packHalves(out, in, lane)
		case BF16, BF16Dot:
			packWords(out, in, lane)
			if last := m.Columns - 1; last%2 == 0 { // it has no pair
				copy(out[bf16Offset(last, lane):], in[2*last:])
			}
		case Q8_0:
			packQ8(out, in, lane)
		case Q4_0:
			packQ4(out, in, lane, 2)
		case Q4_1:
			packQ4(out, in, lane, 4)
		}
	}
}

// bf16Offset returns where a column of one lane lies in a BF16 panel.
func bf16Offset(column, lane int) int { return (column/2*lanes+lane)*4 + column%2*2 }

// packWords spreads all whole words of 32 bits over their lane.
func packWords(out, in []byte, lane int) {
	out = out[lane*4:]
	for at := 0; at+4 <= len(in); at += 4 {
		binary.LittleEndian.PutUint32(out[at*lanes:], binary.LittleEndian.Uint32(in[at:]))
	}
}

// packHalves is packWords for words of 16 bits.
func packHalves(out, in []byte, lane int) {
	out = out[lane*2:]
	for at := 0; at+2 <= len(in); at += 2 {
		binary.LittleEndian.PutUint16(out[at*lanes:], binary.LittleEndian.Uint16(in[at:]))
	}
}

// packQ8 spreads one row of Q8_0 blocks over its lane.
func packQ8(out, in []byte, lane int) {
	little := binary.LittleEndian
	for ; len(in) > 0; in, out = in[34:], out[34*lanes:] {
		little.PutUint16(out[lane*2:], little.Uint16(in))
		a, b, c, d := little.Uint64(in[2:]), little.Uint64(in[10:]), little.Uint64(in[18:]), little.Uint64(in[26:])
		words := out[2*lanes+lane*4:][:7*lanes*4+4]
		for g := range 8 {
			word := uint32(a&255 | b&255<<8 | c&255<<16 | d&255<<24)
			little.PutUint32(words[g*lanes*4:], word^0x80808080)
			a, b, c, d = a>>8, b>>8, c>>8, d>>8
		}
	}
}

// packQ4 spreads one row of Q4_0 (header 2) or Q4_1 (header 4) blocks over its
// lane.
func packQ4(out, in []byte, lane, header int) {
	little := binary.LittleEndian
	for ; len(in) > 0; in, out = in[header+16:], out[(header+16)*lanes:] {
		for i := 0; i < header; i += 2 {
			little.PutUint16(out[i*lanes+lane*2:], little.Uint16(in[i:]))
		}
		quads, words := in[header:][:16], out[header*lanes+lane*4:][:3*lanes*4+4]
		a, b, c, d := little.Uint32(quads), little.Uint32(quads[4:]), little.Uint32(quads[8:]), little.Uint32(quads[12:])
		for g := range 4 {
			word := a&15 | b&15<<4 | c&15<<8 | d&15<<12 | (a&240|b&240<<4|c&240<<8|d&240<<12)<<12
			little.PutUint32(words[g*lanes*4:], word)
			a, b, c, d = a>>8, b>>8, c>>8, d>>8
		}
	}
}

// At returns the exact value of one weight. A quantised weight whose value is
// zero is +0, whatever the sign of its scale.
func (m *Matrix) At(row, column int) float32 {
	data, lane := m.panel(row/lanes), row%lanes
	switch m.Format {
	case Coded:
		return m.coded.at(data, lane, column)
	case Integers:
		return m.integers.at(data, lane, column)
	case F32:
		return math.Float32frombits(binary.LittleEndian.Uint32(data[(column*lanes+lane)*4:]))
	case F16:
		return halfAt(data[(column*lanes+lane)*2:])
	case BF16, BF16Dot:
		bits := binary.LittleEndian.Uint16(data[bf16Offset(column, lane):])
		return math.Float32frombits(uint32(bits) << 16)
	}
	data = data[m.columnBytes(column&^31):]
	d, k := halfAt(data[lane*2:]), column%32
	switch m.Format {
	case Q8_0:
		q := data[2*lanes+(k%8*lanes+lane)*4+k/8]
		return fma32(float32(q), d, -128*d)
	case Q4_0:
		return fma32(float32(nibbleAt(data[2*lanes:], lane, k)), d, -8*d)
	default:
		min := halfAt(data[2*lanes+lane*2:])
		return fma32(float32(nibbleAt(data[4*lanes:], lane, k)), d, min)
	}
}

// halfAt returns the float16 at the start of data.
func halfAt(data []byte) float32 { return half.Float32(binary.LittleEndian.Uint16(data)) }

// nibbleAt returns column k (of 32) of one lane of a packed Q4 block.
func nibbleAt(data []byte, lane, k int) byte {
	j, g := k/4, k%4
	return data[(g*lanes+lane)*4+j/2] >> (j % 2 * 4) & 15
}
