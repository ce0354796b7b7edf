package host

import (
	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// matrix is a packed part of a linear operation, and what adapters add to it.
type matrix struct {
	weight *cpu.Matrix // nil: none of it is this rank's
	low    []*lowRank  // by adapter; nil, or nil for one: nothing
}

// packAll packs a linear operation with its adapters' parts.
func (b *Backend) packAll(l *model.Linear, most numerics) (m matrix, err error) {
	if m.weight, err = b.pack(l, most); err != nil || l.Low == nil {
		return m, err
	}
	m.low = make([]*lowRank, len(l.Low))
	for i, planned := range l.Low {
		if planned == nil {
			continue
		}
		low := &lowRank{rank: planned.A.Rows.Size(), outputs: planned.B.Rows.Size(), scale: planned.Scale}
		if low.a, err = b.pack(&planned.A, most); err == nil {
			low.b, err = b.pack(&planned.B, most)
		}
		if err != nil {
			return m, err
		}
		m.low[i] = low
	}
	return m, nil
}

// product is a matrix, the rows that it multiplies and where its result goes. Without a matrix there is no result.
type product struct {
	weight *cpu.Matrix
	x      cpu.Rows
	dst    []float32
	stride int
}

// unit is how many panels one call takes at least.
const unit = 2

// units is the number of calls.
func (p *product) units() int {
	if p.weight == nil {
		return 0
	}
	return (p.weight.Panels() + unit - 1) / unit
}

// inlineFloats is how many floats of inputs one worker lays out alone: the others would come too late.
const inlineFloats = 8 << 10

// multiply computes products. Rows that several of them take are laid out once, for all workers.
func (b *Backend) multiply(products ...product) {
	rows := b.inputs.begin(b.kernels, products)
	fill := func(_, from, to int) { b.inputs.fill(b.kernels, from, to) }
	if b.inputs.floats <= inlineFloats {
		fill(0, 0, rows)
	} else {
		b.team.Share(rows, 1, fill)
	}
	total := 0
	for i := range products {
		total += products[i].units()
	}
	parts := b.rowParts(products)
	b.team.Share(total*parts, 1, func(worker, from, to int) {
		for part := range parts {
			for i := range products {
				p := &products[i]
				units := p.units()
				if first, end := max(from, 0), min(to, units); first < end {
					x := b.inputs.of(i).Part(part, parts)
					b.kernels.Multiply(cpu.Rows{Data: p.dst, Stride: p.stride, N: p.x.N}, &x, p.weight,
						first*unit, min(end*unit, p.weight.Panels()), b.scratch[worker])
				}
				from, to = from-units, to-units
			}
		}
	})
}

// partRows is how many rows a part has at least, for each worker. All weights are read for each part, and all workers share the
// memory: this bounds what they read to about 18 GB/s, at 210 GFLOP/s of bfloat16 each.
const partRows = 12

// rowParts returns in how many parts rows are multiplied: one for each worker where there are many rows for few workers, so that what
// a worker has computed of a row, and what it computes from that in the next stage, stays in its caches.
func (b *Backend) rowParts(products []product) int {
	rows := products[0].x.N
	for i := range products {
		if products[i].x.N != rows {
			return 1
		}
	}
	workers := b.team.Size()
	return max(1, min(rows/(partRows*workers), workers))
}

// inputs are the rows that a list of products multiplies, laid out.
type inputs struct {
	each   []input
	count  int
	number []int // [product]
	floats int   // of all, as they are laid out
	memory []float32
}

type input struct {
	cpu.Input
	x      cpu.Rows
	weight *cpu.Matrix
	first  int // row, counted over all inputs
}

// begin finds the different inputs and returns how many rows they have.
func (in *inputs) begin(kernels *cpu.Kernels, products []product) (rows int) {
	in.count, in.floats, in.number = 0, 0, in.number[:0]
	for i := range products {
		p := &products[i]
		if p.units() == 0 || p.x.N == 0 {
			in.number = append(in.number, 0)
			continue
		}
		n := in.find(kernels, p)
		if n == in.count {
			if in.count++; in.count > len(in.each) {
				in.each = append(in.each, input{})
			}
			e := &in.each[n]
			e.x, e.weight, e.first = p.x, p.weight, rows
			rows += p.x.N
			in.floats += kernels.InputFloats(p.x.N, p.weight)
		}
		in.number = append(in.number, n)
	}
	memory := cpu.Grow(&in.memory, in.floats)
	for n := range in.each[:in.count] {
		e := &in.each[n]
		size := kernels.InputFloats(e.x.N, e.weight)
		kernels.Begin(&e.Input, e.x.N, e.weight, memory[:size])
		memory = memory[size:]
	}
	return rows
}

// find returns the number of a product's input, the next one if it is new: products of the same rows follow one another.
func (in *inputs) find(kernels *cpu.Kernels, p *product) int {
	for n := in.count - 1; n >= max(0, in.count-4); n-- {
		e := &in.each[n]
		if &e.x.Data[0] == &p.x.Data[0] && e.x.Stride == p.x.Stride && e.x.N == p.x.N && kernels.Alike(e.weight, p.weight) {
			return n
		}
	}
	return in.count
}

// fill lays rows out, counted over all inputs.
func (in *inputs) fill(kernels *cpu.Kernels, from, to int) {
	for n := range in.each[:in.count] {
		e := &in.each[n]
		for row := max(from, e.first); row < min(to, e.first+e.x.N); row++ {
			kernels.Fill(&e.Input, row-e.first, e.x.Data[(row-e.first)*e.x.Stride:][:e.weight.Columns])
		}
	}
}

// of is a product's input.
func (in *inputs) of(product int) *cpu.Input { return &in.each[in.number[product]].Input }

// linear is a product with what adapters add to it.
type linear struct {
	matrix
	x      cpu.Rows
	dst    []float32
	stride int
	runs   []adapterRun // of the rows of x
	row    int          // of a row-parallel one: where its rows begin in what the ranks exchange
}

// ofStep is a linear of a step's rows.
func (b *Backend) ofStep(m matrix, x cpu.Rows, dst []float32, stride int) linear {
	return linear{matrix: m, x: x, dst: dst, stride: stride, runs: b.low.runs}
}

// linear computes column-parallel products.
func (b *Backend) linear(linears ...linear) {
	w := &b.low
	w.begin()
	for i := range linears { // in one piece: products of the same rows lay them out once
		l := &linears[i]
		w.products = append(w.products, product{l.weight, l.x, l.dst, l.stride})
	}
	for i := range linears {
		l := &linears[i]
		for _, run := range l.runs {
			if low := l.of(run.adapter); low != nil {
				a := w.add(low, run)
				a.dst, a.stride = l.dst[run.from*l.stride:], l.stride
				w.products = append(w.products, product{low.a, l.rows(run), a.reduced, low.rank})
			}
		}
	}
	b.multiply(w.products...)
	b.raise()
	b.team.Share(w.rows, 4, func(_, from, to int) {
		for _, a := range w.additions {
			for row := max(from, 0); row < min(to, a.rows); row++ {
				sum := a.dst[row*a.stride:][:a.outputs]
				b.kernels.Add(sum, sum, a.raised[row*a.outputs:][:a.outputs])
			}
			from, to = from-a.rows, to-a.rows
		}
	})
}

// rows are those of a run.
func (l *linear) rows(run adapterRun) cpu.Rows {
	return cpu.Rows{Data: l.x.Data[run.from*l.x.Stride:], Stride: l.x.Stride, N: run.to - run.from}
}

// exchange computes row-parallel products of so many rows in all into the ranks' area and returns what all ranks have there, row
// by row. What adapters add is left in lowWork.added: of their first halves, behind the rows, the ranks' parts are summed here,
// in the order of every sum over ranks.
func (b *Backend) exchange(rows int, linears ...linear) (parts [][]float32, err error) {
	w, partial, hidden := &b.low, b.group.Partial(), b.config.Hidden
	w.begin()
	at := rows * hidden
	for i := range linears {
		l := &linears[i]
		w.products = append(w.products, product{l.weight, l.x, partial[l.row*hidden:], hidden})
		if l.weight == nil { // no input is this rank's
			clear(partial[l.row*hidden:][:l.x.N*hidden])
		}
		for _, run := range l.runs {
			low := l.of(run.adapter)
			if low == nil {
				continue
			}
			size := (run.to - run.from) * low.rank
			if low.a == nil {
				clear(partial[at:][:size])
			}
			w.products = append(w.products, product{low.a, l.rows(run), partial[at:], low.rank})
			w.add(low, run).row = l.row + run.from
			at += size
		}
	}
	b.multiply(w.products...)
	if parts, err = b.group.Exchange(); err != nil || len(w.additions) == 0 {
		return parts, err
	}
	at = rows * hidden
	for _, a := range w.additions {
		collective.Sum(a.reduced, parts, at, b.kernels.Add)
		at += len(a.reduced)
	}
	b.raise()
	w.added = sized(w.added, rows)
	clear(w.added)
	for _, a := range w.additions {
		for row := range a.rows {
			w.added[a.row+row] = a.raised[row*a.outputs:][:a.outputs]
		}
	}
	return parts, nil
}

// sumRow sums the ranks' parts of a row that they have exchanged, and adds what its adapter adds.
func (b *Backend) sumRow(dst []float32, parts [][]float32, row int) {
	collective.Sum(dst, parts, row*len(dst), b.kernels.Add)
	if len(b.low.added) > 0 && b.low.added[row] != nil {
		b.kernels.Add(dst, dst, b.low.added[row])
	}
}
