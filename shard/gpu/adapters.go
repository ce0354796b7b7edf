package gpu

import "lockstep/shard/model"

// lowRank is what adapters add to a linear operation: scale x b (a x).
type lowRank struct {
	a, b          matrix  // of all adapters that have a part in it, behind one another
	slots, scales Address // by adapter: which of these is its, -1: none; and by slot
	outputs       int
}

// users are the rows that use adapters, numbered by kind: an adapter, or an adapter's part in an expert.
type users struct {
	count, kinds          int
	starts, rowOf, kindOf Address
	target                Address // the row of the result that is a user's
}

// adapted is what adapters need of the working memory.
type adapted struct {
	users                              // of whole layers; target is rowOf
	ofRow                      Address // [row]: the adapter; -1: none
	sums, sum, lowered, raised Address
	pairs, pairNumbers         Address // [choice]: see kernels/adapters.cu
	paired                     users   // of experts
}

// packLow uploads the adapters' parts in a linear operation whose input lies as in says; nil: none has any.
func (b *Backend) packLow(l *model.Linear, in input) (*lowRank, error) {
	b.adapters = len(l.Low)
	return b.packKinds(l.Low, in, l.Rows.Size(), 1)
}

// packKinds uploads parts by kind; nil is none. There are so many users for each row of a step that uses an adapter.
func (b *Backend) packKinds(kinds []*model.LowRank, in input, outputs, users int) (*lowRank, error) {
	low := &lowRank{outputs: outputs}
	var slots []int32
	var scales []float32
	var as, bs []*model.Linear
	rank := 0
	for _, planned := range kinds {
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
	b.need.parts = max(b.need.parts, 1)
	b.need.lowSums = max(b.need.lowSums, users*low.a.chunks*low.a.outputs())
	b.need.lowRanks = max(b.need.lowRanks, users*low.a.outputs())
	b.need.lowOutputs = max(b.need.lowOutputs, users*low.b.outputs())
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

// uploadAdapted says which rows use adapters: those of the step have these numbers, counted from 1; 0: none.
func (b *Backend) uploadAdapted(adapterOfRow []int32) error {
	a := &b.adapted
	var starts, rowOf, adapterOf, ofRow []int32
	for adapter := range b.adapters {
		starts = append(starts, int32(len(rowOf)))
		for row, of := range adapterOfRow {
			if int(of) == adapter+1 {
				rowOf, adapterOf = append(rowOf, int32(row)), append(adapterOf, int32(adapter))
			}
		}
	}
	if a.count, a.kinds = len(rowOf), b.adapters; a.count == 0 {
		return nil
	}
	for _, of := range adapterOfRow {
		ofRow = append(ofRow, of-1)
	}
	a.target = a.rowOf
	for _, u := range []struct {
		to     Address
		values []int32
	}{{a.starts, append(starts, int32(len(rowOf)))}, {a.rowOf, rowOf}, {a.kindOf, adapterOf}, {a.ofRow, ofRow}} {
		if err := b.device.Upload(u.to, bytesOf(u.values)); err != nil {
			return err
		}
	}
	return nil
}

// reduce computes the first halves of what adapters add, and sums them over the ranks where inputs are shared out. rows are those of x,
// and rowOf tells which is a user's.
func (b *Backend) reduce(u *users, low *lowRank, x, rowOf Address, rows int, shared bool) error {
	a := &b.adapted
	sums, chunks, n := a.sums, low.a.chunks, low.a.outputs()
	if err := b.multiplyLow(u, sums, &low.a, low, x, rowOf, rows); err != nil {
		return err
	}
	if shared && b.part.Ranks > 1 {
		if low.a.data == 0 { // no input is this rank's
			chunks = 0
		}
		if err := b.launch("fold_low", [3]int{u.count, 1, 1}, rowThreads, 0, a.sum, sums, u.kindOf, low.slots, int32(chunks),
			int32(n)); err != nil {
			return err
		}
		if err := b.exchange(a.sum, u.count, n); err != nil {
			return err
		}
		sums, chunks = a.sum, 1
	}
	return b.launch("lower", [3]int{u.count, 1, 1}, rowThreads, 0, a.lowered, sums, u.kindOf, low.slots, low.scales, int32(chunks),
		int32(low.b.steps), int32(b.terms))
}

// addLow adds what adapters give, from the first halves on, to rows of y, which are so many floats apart.
func (b *Backend) addLow(u *users, y Address, stride int, low *lowRank) error {
	a := &b.adapted
	if err := b.multiplyLow(u, a.raised, &low.b, low, a.lowered, 0, u.count); err != nil {
		return err
	}
	return b.launch("add_low", [3]int{u.count, 1, 1}, rowThreads, 0, y, a.raised, u.kindOf, u.target, low.slots, int32(low.outputs),
		int32(stride), int32(low.b.outputs()))
}

// lowered adds what adapters give to the sums of a row-parallel product, [row][hidden].
func (b *Backend) lowered(u *users, low *lowRank, x, rowOf Address, rows int, y Address) error {
	if err := b.reduce(u, low, x, rowOf, rows, true); err != nil {
		return err
	}
	return b.addLow(u, y, b.config.Hidden, low)
}

// multiplyLow computes a half of all kinds; without rowOf a row of x is a user's.
func (b *Backend) multiplyLow(u *users, y Address, m *matrix, low *lowRank, x, rowOf Address, rows int) error {
	if m.data == 0 {
		return nil
	}
	const warps = 4
	return b.launch("linear_experts_8", [3]int{(u.kinds*m.tiles*m.chunks + warps - 1) / warps, 1, 1}, 32*warps, 0, y, m.data, x,
		u.starts, rowOf, low.slots, int32(u.kinds), int32(m.tiles), int32(m.taken), int32(m.chunks), int32(u.count),
		int32(rows), int32(m.terms), int32(b.terms))
}

// pairUp numbers the choices of experts by the adapters' parts in them, where rows use adapters.
func (s *experts) pairUp(b *Backend) error {
	a, c := &b.adapted, &b.choice
	rows, count, chosen := b.shape.rows, len(s.Experts.Experts), s.Routing.Chosen
	u := &a.paired
	u.count, u.kinds = a.count*chosen, b.adapters*count
	if u.count == 0 || !s.adapted() {
		return nil
	}
	grid := [3]int{(rows*chosen + rowThreads - 1) / rowThreads, 1, 1}
	if err := b.launch("pair", grid, rowThreads, 0, a.pairs, a.ofRow, c.experts, int32(rows*chosen), int32(chosen),
		int32(count)); err != nil {
		return err
	}
	if err := b.launch("number", [3]int{1, 1, 1}, rowThreads, 4*u.kinds, u.starts, a.pairNumbers, u.rowOf, u.kindOf, a.pairs,
		int32(rows*chosen), int32(u.kinds), int32(chosen)); err != nil {
		return err
	}
	return b.launch("target", grid, rowThreads, 0, u.target, a.pairs, a.pairNumbers, c.numbers, int32(rows*chosen))
}

// adapted reports whether adapters have parts in experts.
func (s *experts) adapted() bool { return s.gate.low != nil || s.up.low != nil || s.down.low != nil }
