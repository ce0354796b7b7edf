package model

import (
	"fmt"

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
}

func (r *recipe) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *recipe) add(stages ...Stage) { r.Stages = append(r.Stages, stages...) }

// split shares the model over the ranks. down is the name of the first MLP's down matrix: its encoding's blocks stay whole.
func (r *recipe) split(down string) {
	c := &r.Config
	tensor, err := r.files.Tensor(down, c.Hidden, c.Intermediate)
	if err != nil {
		r.fail(err)
		return
	}
	if r.quantiser != nil {
		tensor = r.quantised(tensor, down, r.quantiser.layers)
	}
	unit := max(chunkUnit(tensor.Encoding), chunkUnit(weights.BF16))
	if c.Intermediate/maxChunks%unit == 0 && c.Intermediate%maxChunks == 0 && r.Ranks <= maxChunks && maxChunks%r.Ranks == 0 {
		unit = c.Intermediate / maxChunks
	}
	if r.Partition, err = Split(c, r.Rank, r.Ranks, unit); err != nil {
		r.fail(err)
	}
}

// rotations sets the kinds of rotations.
func (r *recipe) rotations(ropes []Rope) {
	r.used[ropeDivisors] = true
	for _, rope := range ropes {
		r.Rotations = append(r.Rotations, NewRotation(rope, r.Config.HeadDim, r.Config.MaxPositions))
	}
}

// attentionColumns notes which columns of the attention's output matrix the rank computes.
func (r *recipe) attentionColumns(layer int, columns Span) {
	if layer > 0 && columns != r.AttentionColumns {
		// Layers of unlike encodings: the buffer must suit all of them.
		r.fail(fmt.Errorf("layer %d: o_proj has another format than layer 0; such mixtures cannot be split at head %d yet", layer,
			r.Heads.From))
	}
	r.AttentionColumns = columns
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

// matrix finds a tensor of so many rows, or, where order says that it holds others too, of as many as that makes.
func (r *recipe) matrix(name string, rows, columns int, order Order) Matrix {
	r.used[name] = true
	if r.err != nil {
		return Matrix{}
	}
	if order.Stride > 0 {
		rows = rows / order.Group * order.Stride
	}
	tensor, err := r.files.Tensor(name, rows, columns)
	if err != nil {
		r.fail(err)
	}
	return Matrix{Tensor: tensor, Name: name, Order: order}
}

// bias reads those elements of a projection's bias that belong to local outputs.
func (r *recipe) bias(l *Linear, projection string, outputs int) {
	l.BiasName = projection + ".bias"
	all := r.vector(l.BiasName, outputs)
	if all == nil {
		return
	}
	l.Bias = make([]float32, l.Rows.Size())
	for i := range l.Bias {
		l.Bias[i] = all[l.Order.stored(l.Rows.From+i)]
	}
}

// outputs is a projection [outputs][inputs] of which the rank computes the outputs local: column-parallel, as the literature
// calls it.
func (r *recipe) outputs(projection string, biased bool, outputs, inputs int, local Span, order Order) Linear {
	l := Linear{Matrix: r.weight(projection+".weight", outputs, inputs, order), Rows: local, Columns: Span{0, inputs}, Chunks: 1}
	if biased {
		r.bias(&l, projection, outputs)
	}
	return l
}

// inputs is a projection of whose inputs, which come in units that stay whole, the rank has local: row-parallel. The range is
// widened so that it cuts no block of the encoding.
func (r *recipe) inputs(projection string, biased bool, outputs, inputs, units int, local Span) Linear {
	l := Linear{Matrix: r.weight(projection+".weight", outputs, inputs, Order{}), Rows: Span{0, outputs}}
	l.Columns = widened(local, l.Encoding)
	l.Columns.To = min(l.Columns.To, inputs) // the last unit may be cut
	l.Chunks = localChunks(l.Columns, inputs, chunkCount(inputs, units, l.Encoding))
	if biased {
		r.bias(&l, projection, outputs)
	}
	return l
}

// whole is a projection that a rank has whole, its inputs summed as one chain. It is small, and never brought into another
// encoding.
func (r *recipe) whole(projection string, biased bool, outputs, inputs int) Linear {
	quantiser := r.quantiser
	r.quantiser = nil
	defer func() { r.quantiser = quantiser }()
	return r.outputs(projection, biased, outputs, inputs, Span{0, outputs}, Order{})
}

// score writes a score head, which rank 0 alone has.
func (r *recipe) score(head *Score) {
	if r.Rank == 0 {
		r.add(head)
	}
}
