package host

import "lockstep/shard/cpu"

// lowRank is what an adapter adds to a product: scale x b (a x).
type lowRank struct {
	a, b          *cpu.Matrix
	rank, outputs int
	scale         float32
}

// adapterRun is a run of rows that name the same adapter, counted from 0.
type adapterRun struct{ adapter, from, to int }

// addition is what an adapter adds to a run of rows of one product.
type addition struct {
	*lowRank
	reduced []float32 // [row][rank]: a x
	raised  []float32 // [row][outputs]: b of that
	rows    int
	// Of a column-parallel product it is added to dst at once; of a row-parallel one it belongs to the rows from row on of what the
	// ranks exchange.
	dst         []float32
	stride, row int
}

// lowWork is the working memory of adapters. Steps without one leave it empty.
type lowWork struct {
	runs      []adapterRun // of the step's rows
	products  []product
	additions []addition
	rows      int         // of all additions
	added     [][]float32 // to a row that the ranks have exchanged; nil: nothing
	memory    []float32   // of additions: need.low for each row of the largest step
	used      int
}

// begin forgets the products before.
func (w *lowWork) begin() {
	w.products, w.additions, w.added, w.rows, w.used = w.products[:0], w.additions[:0], w.added[:0], 0, 0
}

// take returns memory until begin.
func (w *lowWork) take(floats int) []float32 {
	w.used += floats
	return w.memory[w.used-floats : w.used : w.used]
}

// add notes that an adapter will add to a run; where to is for the caller to say, before the next one.
func (w *lowWork) add(low *lowRank, run adapterRun) *addition {
	rows := run.to - run.from
	w.additions = append(w.additions, addition{lowRank: low, rows: rows, reduced: w.take(rows * low.rank),
		raised: w.take(rows * low.outputs)})
	w.rows += rows
	return &w.additions[len(w.additions)-1]
}

// of is an adapter's part in a matrix, nil if it has none.
func (m *matrix) of(adapter int) *lowRank {
	if m.low == nil {
		return nil
	}
	return m.low[adapter]
}

// raise computes the second halves of all additions from the first.
func (b *Backend) raise() {
	w := &b.low
	if len(w.additions) == 0 {
		return
	}
	w.products = w.products[:0]
	for _, a := range w.additions {
		for i, v := range a.reduced {
			a.reduced[i] = v * a.scale
		}
		w.products = append(w.products, product{a.b, cpu.Rows{Data: a.reduced, Stride: a.rank, N: a.rows}, a.raised, a.outputs})
	}
	b.multiply(w.products...)
}
