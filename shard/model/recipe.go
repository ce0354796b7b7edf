package model

import (
	"bytes"
	"fmt"
	"strings"

	"lockstep/shard/weights"
)

// recipe writes a rank's stages: families say what they compute, and it finds the tensors and the rank's share of them. After
// the first error, which err keeps, what it gives is of no use and does no harm.
type recipe struct {
	*Part
	files *weights.Files
	used  map[string]bool // the tensors that were asked for
	// quantiser, if there is one, makes other encodings of plain weights.
	quantiser *quantiser
	err       error

	experts  int // of the layers so far
	adapters []*Adapter
	adapted  []map[string]bool // by adapter: the projections that it was asked for
}

func (r *recipe) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// checkNumbers refuses what no number can be computed with.
func (r *recipe) checkNumbers(d *decoder) {
	numbers := map[string]float64{"scale of attention": float64(d.attentionScale), "cap of attention": float64(d.attentionCap),
		"cap of logits": float64(d.headCap), "norm epsilon": float64(r.Config.NormEpsilon)}
	if d.experts != nil {
		numbers["scale of experts"] = float64(d.experts.routing.Scale)
	}
	for i := range d.ropes {
		rope := &d.ropes[i]
		for _, value := range append([]float64{rope.Theta, rope.Factor, rope.LowFreqFactor, rope.HighFreqFactor, rope.AttentionFactor,
			rope.BetaFast, rope.BetaSlow, rope.MScale, rope.MScaleAllDim, rope.Sharpening},
			widened64(rope.Divisors, rope.LongDivisors)...) {
			if value-value != 0 {
				numbers["number of the rotation"] = value
			}
		}
	}
	for name, value := range numbers {
		if value-value != 0 {
			r.fail(fmt.Errorf("a %s is %v: see whether all files are of one model, or fetch it anew", name, value))
		}
	}
}

func widened64(lists ...[]float32) (all []float64) {
	for _, list := range lists {
		for _, v := range list {
			all = append(all, float64(v))
		}
	}
	return all
}

func (r *recipe) add(stages ...Stage) { r.Stages = append(r.Stages, stages...) }

// split shares the model over the ranks. outputs are the attentions' output matrices, of all layers: the blocks of each stay
// whole.
func (r *recipe) split(outputs []string) {
	c := &r.Config
	var err error
	if r.Partition, err = Split(c, r.Rank, r.Ranks); err != nil {
		r.fail(err)
		return
	}
	r.AttentionColumns = widened(r.Heads.times(c.ValueDims()), r.unit(c.Heads*c.ValueDims(), outputs))
	r.AttentionColumns.To = min(r.AttentionColumns.To, c.Heads*c.ValueDims()) // the last unit may be cut
}

// unit is what a cut through so many columns of all these matrices must be a multiple of.
func (r *recipe) unit(columns int, names []string) int {
	unit := 1
	for _, name := range names {
		unit = max(unit, r.encoding(name, columns).CutColumns())
	}
	return unit
}

// columns shares the columns of an MLP over the ranks; down is its down matrix, whose blocks stay whole.
func (r *recipe) columns(intermediate int, down string) Span {
	unit := max(chunkUnit(r.encoding(down, intermediate)), chunkUnit(weights.BF16))
	if intermediate/maxChunks%unit == 0 && intermediate%maxChunks == 0 && r.Ranks <= maxChunks && maxChunks%r.Ranks == 0 {
		unit = intermediate / maxChunks
	}
	if r.Ranks > intermediate/unit {
		r.fail(fmt.Errorf("%d shards are too many for %d MLP columns in units of %d: lower --num-shard", r.Ranks, intermediate, unit))
		return Span{}
	}
	units := share(intermediate/unit, r.Rank, r.Ranks)
	columns := Span{units.From * unit, units.To * unit}
	if r.Rank == r.Ranks-1 {
		columns.To = intermediate
	}
	return columns
}

// rotations sets the kinds of rotations.
func (r *recipe) rotations(ropes []Rope) {
	for _, name := range []string{ropeDivisors, ropeShortDivisors, ropeLongDivisors} {
		r.used[name] = true
	}
	for _, rope := range ropes {
		dims := rope.Dims
		if dims == 0 {
			dims = r.Config.HeadDim
		}
		for _, divisors := range [][]float32{rope.Divisors, rope.LongDivisors} {
			if len(divisors) != 0 && len(divisors) != dims/2 {
				r.fail(fmt.Errorf("the rotation has %d factors for %d dimensions, and wants %d", len(divisors), dims, dims/2))
				return
			}
		}
		rotation := NewRotation(rope, r.Config.HeadDim, r.Config.MaxPositions)
		if !rotation.finite() {
			r.fail(fmt.Errorf("rope type %q turns by what is no number: see whether its factors and lengths are the model's", rope.Type))
			return
		}
		r.Rotations = append(r.Rotations, rotation)
	}
}

// vector reads a tensor of one row.
func (r *recipe) vector(name string, columns int) []float32 {
	r.used[name] = true
	if r.err != nil {
		return nil
	}
	v, err := r.files.Vector(name, columns)
	if err != nil {
		r.fail(err)
	}
	return v
}

// norm is a norm over so many columns, with the model's epsilon.
func (r *recipe) norm(name string, columns int) Norm {
	return Norm{Tensor: name, Epsilon: r.Config.NormEpsilon, Weight: r.vector(name, columns)}
}

// normPlusOne is a norm that multiplies by 1 + its weight.
func (r *recipe) normPlusOne(name string, columns int) Norm {
	norm := r.norm(name, columns)
	norm.PlusOne = true
	for i := range norm.Weight {
		norm.Weight[i]++
	}
	return norm
}

// normCentred is a norm that subtracts the mean, and has a bias.
func (r *recipe) normCentred(name string, columns int) Norm {
	norm := r.norm(name, columns)
	norm.Centred = true
	norm.Bias = r.vector(strings.TrimSuffix(name, ".weight")+".bias", columns)
	return norm
}

// matrix finds a tensor of so many rows, or, where order says that it holds others too, of as many as that makes.
func (r *recipe) matrix(name string, rows, columns int, order Order) Matrix {
	r.used[name] = true
	if r.err != nil {
		return Matrix{}
	}
	var tensor weights.Tensor
	var err error
	if order.Transposed {
		tensor, err = r.files.Transposed(name, max(order.TransposedParts, 1), order.all(rows), columns)
	} else {
		tensor, err = r.files.Tensor(name, order.all(rows), columns)
	}
	if err != nil {
		r.fail(err)
	}
	return Matrix{Tensor: tensor, Name: name, Order: order}
}

// nameOf is the name of a projection's tensor: experts that are stacked in Hugging Face's format are parameters without an end.
func (r *recipe) nameOf(projection string) string {
	if name := projection + ".weight"; r.files.Has(name) || !r.files.Has(projection) {
		return name
	}
	return projection
}

// differs reports whether the files have a matrix of so many rows under a name, and it is not the same as another.
func (r *recipe) differs(name, other string, rows, columns int) bool {
	if r.err != nil || !r.files.Has(name) {
		return false
	}
	a, err := r.files.Tensor(name, rows, columns)
	if err != nil {
		return false
	}
	b, err := r.files.Tensor(other, rows, columns)
	if err != nil || a.Encoding != b.Encoding || !a.Encoding.Plain() {
		return err == nil
	}
	defer a.Release()
	defer b.Release()
	for row := range rows {
		if !bytes.Equal(a.Row(row), b.Row(row)) {
			return true
		}
	}
	return false
}

// bias reads those elements of a projection's bias that belong to local outputs.
func (r *recipe) bias(l *Linear, projection string, outputs int) {
	if l.BiasName = projection + ".bias"; !r.files.Has(l.BiasName) && r.files.Has(projection+"_bias") {
		l.BiasName = projection + "_bias" // of stacked experts
	}
	r.used[l.BiasName] = true
	if r.err != nil {
		return
	}
	rows := max(l.Order.Stacked, 1)
	all, err := r.files.Tensor(l.BiasName, rows, l.Order.all(outputs)/rows)
	if err != nil {
		r.fail(err)
		return
	}
	l.Bias = make([]float32, l.Rows.Size())
	var row []float32
	for i := range l.Bias {
		at := l.Order.stored(l.Rows.From + i)
		if i == 0 { // the others lie in the same row
			row = all.Floats(at/all.Columns, nil)
		}
		l.Bias[i] = row[at%all.Columns]
	}
}

// outputs is a projection [outputs][inputs] of which the rank computes the outputs local: column-parallel, as the literature
// calls it.
func (r *recipe) outputs(projection string, biased bool, outputs, inputs int, local Span, order Order) Linear {
	l := Linear{Matrix: r.weight(r.nameOf(projection), outputs, inputs, order), Rows: local, Columns: Span{0, inputs}, Chunks: 1}
	if biased {
		r.bias(&l, projection, outputs)
	}
	r.adapt(&l, projection, outputs, inputs, 0)
	return l
}

// inputs is a projection of whose inputs, which come in units that stay whole, the rank has local: row-parallel. The range cuts
// no block of the encoding.
func (r *recipe) inputs(projection string, biased bool, outputs, inputs, units int, local Span, order Order) Linear {
	l := Linear{Matrix: r.weight(r.nameOf(projection), outputs, inputs, order), Rows: Span{0, outputs}, Columns: local}
	r.chunk(&l, inputs, units)
	if biased {
		r.bias(&l, projection, outputs)
	}
	r.adapt(&l, projection, outputs, inputs, units)
	return l
}

// chunk cuts the part of a row-parallel projection's inputs that the rank has into chunks.
func (r *recipe) chunk(l *Linear, inputs, units int) {
	all := chunkCount(inputs, units, l.Encoding)
	l.Chunks = localChunks(l.Columns, inputs, all)
	r.Uneven = r.Uneven || l.Chunks*r.Ranks != all || l.Columns.Size()*r.Ranks != inputs
}

// whole is a projection that a rank has whole, its inputs summed as one chain. It is small, and never brought into another
// encoding.
func (r *recipe) whole(projection string, biased bool, outputs, inputs int) Linear {
	quantiser := r.quantiser
	r.quantiser = nil
	defer func() { r.quantiser = quantiser }()
	return r.outputs(projection, biased, outputs, inputs, Span{0, outputs}, Order{})
}

// unadapted is whole for what no adapter changes.
func (r *recipe) unadapted(projection string, biased bool, outputs, inputs int) Linear {
	adapters := r.adapters
	r.adapters = nil
	defer func() { r.adapters = adapters }()
	return r.whole(projection, biased, outputs, inputs)
}

// score writes a score head, which rank 0 alone has.
func (r *recipe) score(head *Score) {
	if r.Rank == 0 {
		r.add(head)
	}
}
