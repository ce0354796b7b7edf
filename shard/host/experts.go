package host

import (
	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// choices are the experts that a step's rows have chosen. A choice is one row's of one expert; they are numbered by expert, and
// by row within it, so that an expert's rows lie together.
type choices struct {
	router  []float32 // [row][experts]: logits
	experts []int32   // [row][chosen]
	weights []float32 // [row][chosen]
	numbers []int32   // [row][chosen]: of the choices
	starts  []int32   // [expert + 1]: its first choice
	work    []linear
	// Where adapters are in use, adapters has them by choice, and runs [expert] those of its choices.
	adapters []int
	runs     [][]adapterRun
	workers  []expertWorker
}

// expertWorker is one thread's working memory.
type expertWorker struct {
	router router
	one    []float32 // [hidden]: what one expert gives
}

// compute computes each expert for the rows that chose it.
//
// The ranks exchange what each choice gives, and each row's are weighted and summed behind that, in the order of its choice: so
// the sums over an expert's columns continue the same tree on any number of ranks. Behind the choices' rows lie those of the
// shared expert, in all buffers.
func (s *experts) compute(b *Backend, _ func(model.Scores)) error {
	s.choose(b)
	s.gather(b)
	s.raise(b)
	s.activateAll(b)
	parts, err := s.lower(b)
	if err != nil {
		return err
	}
	b.team.Share(len(b.rows), 1, func(worker, from, to int) {
		one := b.choices.workers[worker].one
		for r := from; r < to; r++ {
			b.join(r, s.sum(b, r, parts, one), &s.PartNorm, &s.Norm, &model.Norm{})
		}
	})
	return nil
}

// gather copies the norm's rows to their choices, and finds the choices' adapters.
func (s *experts) gather(b *Backend) {
	hidden, chosen, c := b.config.Hidden, s.Routing.Chosen, &b.choices
	c.runs = sized(c.runs, len(s.experts))
	if len(b.low.runs) > 0 {
		c.adapters = sized(c.adapters, len(c.numbers))
		for i, number := range c.numbers {
			c.adapters[number] = b.rows[i/chosen].adapter
		}
	}
	for expert := range c.runs {
		if c.runs[expert] = c.runs[expert][:0]; len(b.low.runs) > 0 {
			c.runs[expert] = appendRuns(c.runs[expert], c.adapters[c.starts[expert]:c.starts[expert+1]])
		}
	}
	b.team.Share(len(b.rows), 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			for _, number := range b.choices.numbers[r*chosen:][:chosen] {
				copy(b.gathered[int(number)*hidden:][:hidden], b.normed[r*hidden:][:hidden])
			}
		}
	})
}

// columns is this rank's share of an expert's intermediate size.
func (s *experts) columns() int { return s.Experts.Experts[0].Up.Rows.Size() }

// sharedRows are the shared expert's rows in gate and up.
func (s *experts) sharedRows(b *Backend) (gate, up []float32, columns int) {
	from := len(b.choices.numbers) * s.columns()
	return b.gate[from:], b.up[from:], s.Shared.Up.Rows.Size()
}

// raise multiplies with all gates and ups.
func (s *experts) raise(b *Backend) {
	columns, work := s.columns(), b.choices.work[:0]
	for i, e := range s.experts {
		if from, x := s.rows(b, i, b.gathered, b.config.Hidden); x.N > 0 {
			runs := b.choices.runs[i]
			work = append(work, linear{matrix: e.gate, x: x, dst: b.gate[from*columns:], stride: columns, runs: runs},
				linear{matrix: e.up, x: x, dst: b.up[from*columns:], stride: columns, runs: runs})
		}
	}
	if s.shared != nil {
		x := b.hiddenRows(b.normed)
		gate, up, columns := s.sharedRows(b)
		work = append(work, b.ofStep(s.shared.gate, x, gate, columns), b.ofStep(s.shared.up, x, up, columns))
	}
	b.linear(work...)
	b.choices.work = work
}

// activateAll leaves activated columns in gate.
func (s *experts) activateAll(b *Backend) {
	c, columns := &b.choices, s.columns()
	b.team.Share(len(c.numbers), 1, func(_, from, to int) {
		expert := 0
		for i := from; i < to; i++ {
			for int(c.starts[expert+1]) <= i {
				expert++
			}
			e := &s.Experts.Experts[expert]
			gate, up := b.gate[i*columns:][:columns], b.up[i*columns:][:columns]
			b.add(gate, e.Gate.Bias)
			b.add(up, e.Up.Bias)
			b.activateGate(s.Activation, gate, up)
		}
	})
	if s.shared == nil {
		return
	}
	gate, up, columns := s.sharedRows(b)
	b.team.Share(len(b.rows), 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			b.activateGate(s.Activation, gate[r*columns:][:columns], up[r*columns:][:columns])
		}
	})
}

// lower multiplies with all downs, and gives what all ranks have of that.
func (s *experts) lower(b *Backend) (parts [][]float32, err error) {
	work, rows := b.choices.work[:0], len(b.choices.numbers)
	for i, e := range s.experts {
		if from, x := s.rows(b, i, b.gate, s.columns()); x.N > 0 {
			work = append(work, linear{matrix: e.down, x: x, runs: b.choices.runs[i], row: from})
		}
	}
	if s.shared != nil {
		gate, _, columns := s.sharedRows(b)
		shared := b.ofStep(s.shared.down, cpu.Rows{Data: gate, Stride: columns, N: len(b.rows)}, nil, 0)
		shared.row = rows
		work, rows = append(work, shared), rows+len(b.rows)
	}
	b.choices.work = work
	return b.exchange(rows, work...)
}

// appendRuns appends the runs of rows with these adapters.
func appendRuns(runs []adapterRun, adapters []int) []adapterRun {
	for at := 0; at < len(adapters); {
		from := at
		for at < len(adapters) && adapters[at] == adapters[from] {
			at++
		}
		if adapters[from] > 0 {
			runs = append(runs, adapterRun{adapters[from] - 1, from, at})
		}
	}
	return runs
}

// sum leaves in the norm's row what all experts give for it; one is working memory of a row.
func (s *experts) sum(b *Backend, row int, parts [][]float32, one []float32) []float32 {
	c, hidden, chosen := &b.choices, b.config.Hidden, s.Routing.Chosen
	sum := b.normed[row*hidden:][:hidden]
	clear(sum)
	if s.shared != nil {
		b.sumRow(sum, parts, len(c.numbers)+row)
	}
	for at := row * chosen; at < (row+1)*chosen; at++ {
		b.sumRow(one, parts, int(c.numbers[at]))
		b.add(one, s.Experts.Experts[c.experts[at]].Down.Bias)
		weight := c.weights[at]
		for i, v := range one {
			sum[i] += float32(weight * v)
		}
	}
	return sum
}

// rows gives the rows of a buffer by choice that belong to an expert, and its first choice.
func (s *experts) rows(b *Backend, expert int, data []float32, columns int) (from int, x cpu.Rows) {
	from = int(b.choices.starts[expert])
	return from, cpu.Rows{Data: data[from*columns:], Stride: columns, N: int(b.choices.starts[expert+1]) - from}
}

// choose routes the rows and numbers the choices.
func (s *experts) choose(b *Backend) {
	n, count, chosen := len(b.rows), len(s.experts), s.Routing.Chosen
	c := &b.choices
	c.router = sized(c.router, n*count)
	c.experts, c.numbers, c.starts = sized(c.experts, n*chosen), sized(c.numbers, n*chosen), sized(c.starts, count+1)
	c.weights = sized(c.weights, n*chosen)
	if c.workers == nil {
		for range b.team.Size() {
			c.workers = append(c.workers, expertWorker{router{kernels: b.kernels}, make([]float32, b.config.Hidden)})
		}
	}
	b.linear(b.ofStep(s.router, b.hiddenRows(b.normed), c.router, count))
	b.team.Share(n, 4, func(worker, from, to int) {
		for r := from; r < to; r++ {
			logits := c.router[r*count:][:count]
			b.add(logits, s.Router.Bias)
			c.workers[worker].router.choose(&s.Routing, logits, c.experts[r*chosen:][:chosen], c.weights[r*chosen:][:chosen])
		}
	})
	clear(c.starts)
	for _, expert := range c.experts {
		c.starts[expert+1]++
	}
	for i := range count {
		c.starts[i+1] += c.starts[i]
	}
	for i, expert := range c.experts { // in the order of rows; starts move to their ends
		c.numbers[i] = c.starts[expert]
		c.starts[expert]++
	}
	copy(c.starts[1:], c.starts)
	c.starts[0] = 0
}

// sized returns a slice of n elements, reusing the one given if it is large enough.
func sized[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
