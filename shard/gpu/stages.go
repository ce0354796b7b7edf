package gpu

import (
	"fmt"

	"lockstep/shard/model"
	"lockstep/shard/sample"
)

// stage is one of model's stages with its matrices on the device. compute reads and writes the backend's working memory.
type stage interface{ compute(b *Backend) error }

// output is the last of model's stages.
type output interface {
	// launch computes the scores of wanted rows, from the from-th on.
	launch(b *Backend, from, count int) error
	// hand gives what launch has computed to consume, on rank 0.
	hand(b *Backend, f *flight, from, count int, consume func(model.Scores)) error
}

// settler is a stage that tells kernels where its numbers are, once all memory is taken.
type settler interface{ settle(b *Backend) error }

// need is what stages need of the working memory.
type need struct {
	aside    int // 1: a norm is put aside
	inner    int // bytes of a row of inputs of row-parallel products
	products int // floats of a row of results
	// of what adapters give: chunks' sums, their sum, and outputs
	lowSums, lowRanks, lowOutputs int
	ordered                       int // bytes of a row of inputs in another order
	choices                       int // experts of a row; 0: there are none
	experts                       int // of a layer
	parts                         int // of a row that the ranks exchange, each [hidden]
}

type (
	embed struct {
		*model.Embed
		table, places   table
		norm, asideNorm norm
	}
	gate struct {
		*model.Gate
		gate, up matrix
		to       input // what the next product takes
	}
	join struct {
		*model.Join
		weight                    matrix
		partNorm, norm, asideNorm norm
	}
	score struct {
		*model.Score
		inner, outer matrix
	}
)

// loader packs what stages have, up to the first error.
type loader struct {
	*Backend
	err error
}

func (l *loader) linear(linear *model.Linear) (m matrix) {
	if l.err == nil && linear != nil {
		m, l.err = l.pack(linear)
		l.need.inner = max(l.need.inner, m.bytes(1, l.terms))
		l.need.ordered = max(l.need.ordered, m.orderedBytes(l.terms))
	}
	return m
}

func (l *loader) norm(n *model.Norm) (packed norm) {
	if l.err == nil {
		packed, l.err = l.packNorm(n)
	}
	return packed
}

// products notes how many floats a row of results of these take at once.
func (l *loader) products(matrices ...matrix) {
	floats := 0
	for _, m := range matrices {
		floats += m.chunks * m.outputs()
	}
	l.need.products = max(l.need.products, floats)
}

// load packs a stage.
func (b *Backend) load(planned model.Stage) error {
	l := &loader{Backend: b}
	var s stage
	switch p := planned.(type) {
	case *model.Embed:
		s = l.embed(p)
		l.putsAside(&p.AsideNorm)
	case *model.Project:
		s = l.project(p)
	case *model.ProjectLatent:
		s = l.projectLatent(p)
	case *model.Experts:
		s = l.experts(p)
	case *model.Attend:
		s = l.attend(p)
	case *model.Gate:
		packed := &gate{Gate: p, gate: l.linear(p.Gate), up: l.linear(&p.Up)}
		l.products(packed.gate, packed.up)
		s = packed
	case *model.Join:
		packed := &join{p, l.linear(&p.Weight), l.norm(&p.PartNorm), l.norm(&p.Norm), l.norm(&p.AsideNorm)}
		l.products(packed.weight)
		l.putsAside(&p.AsideNorm)
		b.feeds(packed.weight.input)
		s = packed
	case *model.Head:
		packed := &head{p, l.linear(&p.Weight)}
		l.products(packed.weight)
		b.output = packed
	case *model.Score:
		packed := &score{p, l.linear(p.Inner), l.linear(&p.Outer)}
		l.products(packed.inner)
		l.products(packed.outer)
		b.output = packed
	default:
		return fmt.Errorf("stage %T is not computed on cards yet", planned)
	}
	if s != nil {
		b.stages = append(b.stages, s)
	}
	return l.err
}

func (l *loader) putsAside(n *model.Norm) {
	if n.Weight != nil {
		l.need.aside = 1
	}
}

// feeds tells the stage before how the next product takes what it leaves.
func (b *Backend) feeds(in input) {
	switch s := b.stages[len(b.stages)-1].(type) {
	case *gate:
		s.to = in
	case *attend:
		s.to = in
	}
}

// rowThreads is the number of threads of blocks that work on a row.
const rowThreads = 256

// join adds parts of sums, which are so many floats apart, with rows of stride, to the residual stream, and norms it.
func (b *Backend) join(sums Address, apart, stride, parts int, bias Address, part, next, aside norm) error {
	n := b.config.Hidden
	return b.launch("join", [3]int{b.shape.rows, 1, 1}, rowThreads, 8*n, b.hidden, sums, uint64(apart), int32(stride), int32(parts), bias,
		part.weight, part.bias, b.normed, next.weight, next.bias, b.aside, aside.weight, aside.bias, int32(n), int32(steps(n)),
		int32(b.terms), b.config.NormEpsilon)
}

// outputs computes column-parallel products of the step's rows and the same x, with what adapters add.
func (b *Backend) outputs(x Address, results ...result) error {
	if err := b.multiplyAll(x, b.shape.rows, results...); err != nil {
		return err
	}
	for _, r := range results {
		if r.m.low == nil || b.adapted.count == 0 {
			continue
		}
		if err := b.reduce(&b.adapted.users, r.m.low, x, b.adapted.rowOf, b.shape.rows, false); err != nil {
			return err
		}
		if err := b.addLow(&b.adapted.users, r.y, r.m.outputs(), r.m.low); err != nil {
			return err
		}
	}
	return nil
}

// multiply computes a product of rows into y, [chunk][row][outputs]. Without a matrix there is nothing.
func (b *Backend) multiply(y Address, m *matrix, x Address, rows int) error {
	if m.data == 0 || rows == 0 {
		return nil
	}
	const warps = 4
	blocks := (m.tiles*m.chunks + warps - 1) / warps
	if m.order != 0 {
		if err := b.launch("order", [3]int{rows, 1, 1}, rowThreads, 0, b.ordered, x, m.order, Address(0), Address(0), Address(0),
			int32(m.taken), int32(m.steps), int32(rows), int32(b.terms)); err != nil {
			return err
		}
		x = b.ordered
	}
	if m.coded {
		kernel, piece := "coded_8", 8
		if rows > 8 {
			kernel, piece = "coded_32", 32
		}
		return b.launch(kernel, [3]int{blocks, (rows + piece - 1) / piece, 1}, 32*warps, 0, y, m.data, x, int32(m.tiles), int32(m.taken),
			int32(m.chunks), int32(rows), int32(b.terms))
	}
	return b.multiplyTogether(x, rows, []result{{y, m}})
}

// activations are the kernels' numbers of activations.
var activations = map[model.Activation]int32{model.SiLU: 0, model.GELU: 1, model.GELUErf: 2, model.ClampedSwiGLU: 3,
	model.ReLU: 4}

// compute leaves activated columns in inner.
func (s *gate) compute(b *Backend) error {
	x, rows := b.normed, b.shape.rows
	if s.Aside {
		x = b.aside
	}
	if done, err := b.multiplyGate(b.inner, s, x, rows); done || err != nil {
		return err
	}
	up := b.products
	gate := up + Address(4*b.maxRows*s.up.outputs())
	if err := b.outputs(x, result{up, &s.up}, result{gate, &s.gate}); err != nil {
		return err
	}
	if s.gate.data == 0 {
		gate = 0
	}
	return b.activate(b.inner, gate, up, &s.gate, &s.up, 0, s.Activation, s.to, rows)
}

// activate writes the input of the product behind gates and ups. biasOf tells which of several biases are a row's; 0: there is one for all.
func (b *Backend) activate(x, gate, up Address, gates, ups *matrix, biasOf Address, activation model.Activation, to input, rows int) error {
	parts := max(1, (to.steps*step+4*rowThreads-1)/(4*rowThreads)) // so that a row's columns have many threads
	return b.launch("activate", [3]int{rows, parts, 1}, rowThreads, 0, x, gate, up, gates.bias, ups.bias, biasOf, activations[activation],
		int32(ups.outputs()), int32(to.columns), int32(to.chunks), int32(to.steps), int32(b.terms))
}

// compute adds the sum of all ranks' parts to the residual stream, and norms it for what comes next.
func (s *join) compute(b *Backend) error {
	m, rows := &s.weight, b.shape.rows
	parts, err := b.multiplyParts(b.products, m, b.inner, rows)
	if err != nil {
		return err
	}
	sums, apart, stride := b.products, rows*m.outputs(), m.outputs()
	if low := m.low != nil && b.adapted.count > 0; low || b.part.Ranks > 1 {
		if err := b.sum(m, rows, parts, low); err != nil {
			return err
		}
		sums, apart, stride, parts = b.folded, 0, b.config.Hidden, 1
	}
	return b.join(sums, apart, stride, parts, m.bias, s.partNorm, s.norm, s.asideNorm)
}

// sum leaves the sum of a row-parallel product over its parts and ranks in folded, with what adapters add where low is set.
func (b *Backend) sum(m *matrix, rows, parts int, low bool) error {
	if err := b.fold(b.folded, b.products, m, rows, parts); err != nil {
		return err
	}
	if b.part.Ranks > 1 {
		if err := b.exchange(b.folded, rows, b.config.Hidden); err != nil {
			return err
		}
	}
	if !low {
		return nil
	}
	return b.lowered(&b.adapted.users, m.low, b.inner, b.adapted.rowOf, rows, b.folded)
}

// gather copies wanted rows of normed, from the from-th on, to wantedRows.
func (b *Backend) gather(from, count int) error {
	return b.launch("gather", [3]int{count, 1, 1}, rowThreads, 0, b.wantedRows, b.normed, b.inputs.wanted+Address(4*from),
		int32(steps(b.config.Hidden)), int32(b.shape.rows), int32(b.terms))
}

// finish computes n outputs of wanted rows into logits.
func (b *Backend) finish(m *matrix, rows, n int, limit float32) error {
	if err := b.multiply(b.products, m, b.wantedRows, rows); err != nil {
		return err
	}
	return b.launch("finish", [3]int{(n + rowThreads - 1) / rowThreads, rows, 1}, rowThreads, 0, b.logits, b.products, m.bias, int32(n),
		int32(m.outputs()), limit)
}

// launch leaves the rows' scores in logits, on rank 0, which has all of a score head.
func (s *score) launch(b *Backend, from, count int) error {
	if err := b.gather(from, count); err != nil {
		return err
	}
	if s.inner.data != 0 {
		if err := b.multiply(b.products, &s.inner, b.wantedRows, count); err != nil {
			return err
		}
		n := s.inner.columns
		if err := b.launch("rectify", [3]int{count, 1, 1}, rowThreads, 0, b.wantedRows, b.products, s.inner.bias, int32(n),
			int32(s.inner.outputs()), int32(steps(n)), int32(b.terms)); err != nil {
			return err
		}
	}
	return b.finish(&s.outer, count, 1, 0)
}

func (s *score) hand(b *Backend, _ *flight, _, count int, consume func(model.Scores)) error {
	values := make([]float32, count)
	if err := b.device.Download(bytesOf(values), b.logits); err != nil {
		return err
	}
	consume(sample.Rows{Values: values, Width: 1})
	return nil
}
