package gpu

import "lockstep/shard/model"

// lowRank is what adapters add to a linear operation: scale x b (a x).
type lowRank struct {
	a, b          matrix  // of all adapters that have a part in it, behind one another
	slots, scales Address // by adapter: which of these is its, -1: none; and by slot
	outputs       int
}

// adapted are the rows of a step that use adapters, numbered by adapter, and what these give.
type adapted struct {
	count                      int
	starts, rowOf, adapterOf   Address
	sums, sum, lowered, raised Address
}

// packLow uploads the adapters' parts in a linear operation whose input lies as in says; nil: none has any.
func (b *Backend) packLow(l *model.Linear, in input) (*lowRank, error) {
	low := &lowRank{outputs: l.Rows.Size()}
	var slots []int32
	var scales []float32
	var as, bs []*model.Linear
	rank := 0
	for _, planned := range l.Low {
		if planned == nil {
			slots = append(slots, -1)
			continue
		}
		slots, scales = append(slots, int32(len(scales))), append(scales, planned.Scale)
		as, bs = append(as, &planned.A), append(bs, &planned.B)
		rank = max(rank, planned.A.Rows.Size())
	}
	if len(as) == 0 {
		return nil, nil
	}
	var err error
	if low.a, err = b.packLowMatrices(as, in, steps(rank)); err != nil {
		return nil, err
	}
	if low.b, err = b.packLowMatrices(bs, input{rank, 1, steps(rank)}, steps(low.outputs)); err != nil {
		return nil, err
	}
	if low.slots, err = b.tell(bytesOf(slots)); err == nil {
		low.scales, err = b.tell(bytesOf(scales))
	}
	b.adapters, b.need.parts = len(l.Low), max(b.need.parts, 1)
	b.need.lowSums = max(b.need.lowSums, low.a.chunks*low.a.outputs())
	b.need.lowRanks = max(b.need.lowRanks, low.a.outputs())
	b.need.lowOutputs = max(b.need.lowOutputs, low.b.outputs())
	return low, err
}

// packLowMatrices uploads one half of several adapters in one form, which the largest rank gives: what others lack is zero.
func (b *Backend) packLowMatrices(linears []*model.Linear, in input, tiles int) (m matrix, err error) {
	m = matrix{input: in, taken: in.steps, tiles: tiles, terms: b.terms}
	if m.columns == 0 || tiles == 0 {
		return m, nil
	}
	size := m.terms * m.tiles * m.tileBytes()
	if m.data, err = b.alloc(size * len(linears)); err != nil {
		return m, err
	}
	for i, l := range linears {
		own := m
		own.columns = min(m.columns, l.Columns.Size()) // of a smaller rank
		if err := b.packAt(&own, m.data+Address(i*size), l); err != nil {
			return m, err
		}
	}
	return m, nil
}

// uploadAdapted says which rows use adapters.
func (b *Backend) uploadAdapted(adapterOfRow []int32, adapters int) error {
	a := &b.adapted
	var starts, rowOf, adapterOf []int32
	for adapter := range adapters {
		starts = append(starts, int32(len(rowOf)))
		for row, of := range adapterOfRow {
			if int(of) == adapter+1 {
				rowOf, adapterOf = append(rowOf, int32(row)), append(adapterOf, int32(adapter))
			}
		}
	}
	if a.count = len(rowOf); a.count == 0 {
		return nil
	}
	for _, u := range []struct {
		to     Address
		values []int32
	}{{a.starts, append(starts, int32(len(rowOf)))}, {a.rowOf, rowOf}, {a.adapterOf, adapterOf}} {
		if err := b.device.Upload(u.to, bytesOf(u.values)); err != nil {
			return err
		}
	}
	return nil
}

// reduce computes the first halves of what adapters add, and sums them over the ranks where inputs are shared out. rows are those of x.
func (b *Backend) reduce(low *lowRank, x Address, rows int, shared bool) error {
	a := &b.adapted
	sums, chunks, n := a.sums, low.a.chunks, low.a.outputs()
	if err := b.multiplyLow(sums, &low.a, low, x, a.rowOf, rows); err != nil {
		return err
	}
	if shared && b.part.Ranks > 1 {
		if low.a.data == 0 { // no input is this rank's
			chunks = 0
		}
		if err := b.launch("fold_low", [3]int{a.count, 1, 1}, rowThreads, 0, a.sum, sums, a.adapterOf, low.slots, int32(chunks),
			int32(n)); err != nil {
			return err
		}
		if err := b.exchange(a.sum, a.count, n); err != nil {
			return err
		}
		sums, chunks = a.sum, 1
	}
	return b.launch("lower", [3]int{a.count, 1, 1}, rowThreads, 0, a.lowered, sums, a.adapterOf, low.slots, low.scales, int32(chunks),
		int32(low.b.steps), int32(b.terms))
}

// addLow adds what adapters give, from the first halves on, to rows of y, which are so many floats apart.
func (b *Backend) addLow(y Address, stride int, low *lowRank) error {
	a := &b.adapted
	if err := b.multiplyLow(a.raised, &low.b, low, a.lowered, 0, a.count); err != nil {
		return err
	}
	return b.launch("add_low", [3]int{a.count, 1, 1}, rowThreads, 0, y, a.raised, a.adapterOf, a.rowOf, low.slots, int32(low.outputs),
		int32(stride), int32(low.b.outputs()))
}

// multiplyLow computes a half of all adapters; without rowOf a row of x is one that uses an adapter.
func (b *Backend) multiplyLow(y Address, m *matrix, low *lowRank, x, rowOf Address, rows int) error {
	if m.data == 0 {
		return nil
	}
	const warps = 4
	count := b.adapters
	return b.launch("linear_experts_8", [3]int{(count*m.tiles*m.chunks + warps - 1) / warps, 1, 1}, 32*warps, 0, y, m.data, x,
		b.adapted.starts, rowOf, low.slots, int32(count), int32(m.tiles), int32(m.taken), int32(m.chunks), int32(b.adapted.count),
		int32(rows), int32(m.terms), int32(b.terms))
}
