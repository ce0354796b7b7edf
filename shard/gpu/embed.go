package gpu

import (
	"lockstep/shard/model"
	"lockstep/shard/weights"
)

// table is a matrix whose rows are looked up, as its file has it. Quantised ones are not on the device.
type table struct {
	data     Address
	encoding int32 // as kernels/rows.cu calls it
}

func (l *loader) embed(p *model.Embed) *embed {
	s := &embed{Embed: p, norm: l.norm(&p.Norm), asideNorm: l.norm(&p.AsideNorm)}
	if p.Table.Encoding > weights.BF16 || p.Positions != nil && p.Positions.Encoding > weights.BF16 {
		l.hosted = s
		return s
	}
	s.table = l.table(&p.Table)
	if p.Positions != nil {
		s.places = l.table(p.Positions)
	}
	return s
}

// table uploads a matrix as it lies in its file.
func (l *loader) table(m *model.Matrix) (t table) {
	if l.err != nil {
		return t
	}
	rowBytes := m.Encoding.RowBytes(m.Columns)
	t.encoding = int32(m.Encoding)
	if t.data, l.err = l.alloc(m.Tensor.Rows * rowBytes); l.err != nil {
		return t
	}
	layout := &tileLayout{tiles: m.Tensor.Rows, parts: []tilePart{{t.data, rowBytes}}, release: m.Release}
	buffers := make([][]byte, l.team.Size())
	layout.pack = func(worker, row int, parts [][]byte) { copy(parts[0], m.Bytes(&buffers[worker], row, 0, m.Columns)) }
	l.err = l.uploadTiles(layout)
	return t
}

// compute begins the stream with the embeddings, and norms it.
func (s *embed) compute(b *Backend) error {
	if b.hosted == nil {
		if err := b.launch("embed", [3]int{b.shape.rows, 1, 1}, rowThreads, 0, b.hidden, s.table.data, s.table.encoding,
			b.inputs.tokens, b.chosen, s.Scale, s.places.data, s.places.encoding, b.inputs.positions, int32(b.config.Hidden)); err != nil {
			return err
		}
	}
	return b.join(0, 0, 0, 0, 0, norm{}, s.norm, s.asideNorm)
}

// beginOnHost does what kernel embed does, before the stages are launched.
func (s *embed) beginOnHost(b *Backend) error {
	hidden := b.config.Hidden
	stream, place := make([]float32, b.shape.rows*hidden), make([]float32, hidden)
	for i, r := range b.rows {
		s.LookUp(stream[i*hidden:][:hidden], place, r.token, r.position)
	}
	return b.device.Upload(b.hidden, bytesOf(stream))
}
