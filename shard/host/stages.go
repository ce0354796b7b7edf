package host

import (
	"fmt"

	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/sample"
)

// stage is one of model's stages with its matrices packed. compute reads and writes the backend's working memory.
type stage interface {
	compute(b *Backend, consume func(model.Scores)) error
}

type (
	embed   struct{ *model.Embed }
	project struct {
		*model.Project
		query, key, value matrix
	}
	projectLatent struct {
		*model.ProjectLatent
		queryLatent, query, latent, key, value matrix // queryLatent may be none
	}
	attend struct{ *model.Attend }
	gate   struct {
		*model.Gate
		gate, up matrix // gate may be none
	}
	join struct {
		*model.Join
		weight matrix
		ofMLP  bool // else of the attention
	}
	experts struct {
		*model.Experts
		router  matrix
		experts []expert
		shared  *expert // nil: none
	}
	expert struct{ gate, up, down matrix }
	head   struct {
		*model.Head
		weight *cpu.Matrix
	}
	score struct {
		*model.Score
		inner, outer *cpu.Matrix // inner nil: none
	}
)

// load packs a stage.
func (b *Backend) load(planned model.Stage) (s stage, err error) {
	packFor := func(l *model.Linear, most numerics) (m matrix) {
		if err == nil {
			m, err = b.packAll(l, most)
		}
		return m
	}
	pack := func(l *model.Linear) matrix { return packFor(l, b.most) }
	packWhole := func(l *model.Linear) *cpu.Matrix { return pack(l).weight } // heads, which no adapter changes
	switch p := planned.(type) {
	case *model.Embed:
		s = &embed{p}
	case *model.Project:
		s = &project{p, pack(&p.Query), pack(&p.Key), pack(&p.Value)}
	case *model.ProjectLatent:
		packed := &projectLatent{p, matrix{}, pack(&p.Query), pack(&p.Latent), pack(&p.Key), pack(&p.Value)}
		if p.QueryLatent != nil {
			packed.queryLatent = pack(p.QueryLatent)
		}
		s = packed
	case *model.Attend:
		s = &attend{p}
	case *model.Gate:
		packed := &gate{Gate: p, up: pack(&p.Up)}
		if p.Gate != nil {
			packed.gate = pack(p.Gate)
		}
		s = packed
	case *model.Experts:
		packed := &experts{Experts: p, router: packFor(&p.Router, exact)} // a choice is no matter of rounding
		mlp := func(e *model.Expert) expert { return expert{pack(&e.Gate), pack(&e.Up), pack(&e.Down)} }
		for i := range p.Experts {
			packed.experts = append(packed.experts, mlp(&p.Experts[i]))
		}
		if p.Shared != nil {
			shared := mlp(p.Shared)
			packed.shared = &shared
		}
		s = packed
	case *model.Join:
		_, behind := b.stages[len(b.stages)-1].(*gate)
		s = &join{p, pack(&p.Weight), behind}
	case *model.Head:
		s = &head{p, packWhole(&p.Weight)}
	case *model.Score:
		packed := &score{Score: p, outer: packWhole(&p.Outer)}
		if p.Inner != nil {
			packed.inner = packWhole(p.Inner)
		}
		s = packed
	default:
		return nil, fmt.Errorf("the CPU backend does not compute %T", planned)
	}
	return s, err
}

// compute looks the embeddings up, and fills the rotations of the rows' positions.
func (s *embed) compute(b *Backend, _ func(model.Scores)) error {
	half, hidden := b.config.HeadDim/2, b.config.Hidden
	b.team.Share(len(b.rows), 1, func(_, from, to int) {
		var place []float32
		if s.Positions != nil {
			place = make([]float32, hidden)
		}
		for i := from; i < to; i++ {
			r, x := b.rows[i], b.hidden[i*hidden:][:hidden]
			s.LookUp(x, place, r.token, r.position)
			for kind, rotation := range b.part.Rotations {
				at := (kind*b.maxRows + i) * half
				rotation.Fill(b.cos[at:][:half], b.sin[at:][:half], r.position, r.promptTokens)
			}
			b.norm(b.normed[i*hidden:][:hidden], x, &s.Norm)
			b.putAside(i, x, &s.AsideNorm)
		}
	})
	return nil
}

// putAside norms a row of the stream for a later stage, if there is a norm.
func (b *Backend) putAside(row int, x []float32, norm *model.Norm) {
	if norm.Weight != nil {
		b.norm(b.aside[row*len(x):][:len(x)], x, norm)
	}
}

// hiddenRows are the rows of a step in a buffer of [row][hidden].
func (b *Backend) hiddenRows(data []float32) cpu.Rows {
	return cpu.Rows{Data: data, Stride: b.config.Hidden, N: len(b.rows)}
}

// turns gives a row's cosines and sines of a rotation; none if the model has no such.
func (b *Backend) turns(rotation, row int) (cos, sin []float32) {
	if rotation < 0 {
		return nil, nil
	}
	at, half := (rotation*b.maxRows+row)*(b.config.HeadDim/2), b.part.Rotations[rotation].Half()
	return b.cos[at:][:half], b.sin[at:][:half]
}

// compute leaves rotated queries in qkv and stores keys and values in the cache.
func (s *project) compute(b *Backend, _ func(model.Scores)) error {
	dim, stride := b.config.HeadDim, b.qkvColumns()
	heads, kvHeads := b.part.Heads.Size(), b.part.KVHeads.Size()
	queries, keys := heads*dim, kvHeads*dim
	x := b.hiddenRows(b.normed)
	b.linear(b.ofStep(s.query, x, b.qkv, stride), b.ofStep(s.key, x, b.qkv[queries:], stride),
		b.ofStep(s.value, x, b.qkv[queries+keys:], stride))
	b.team.Share(len(b.rows), 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			qkv := b.qkv[r*stride:][:stride]
			query, key, value := qkv[:queries], qkv[queries:][:keys], qkv[queries+keys:]
			b.add(query, s.Query.Bias)
			b.add(key, s.Key.Bias)
			b.add(value, s.Value.Bias)
			cos, sin := b.turns(s.Rotation, r)
			for h := range heads {
				b.turn(query[h*dim:][:dim], &s.QueryNorm, cos, sin)
			}
			b.sharpen(query, s.Rotation, r)
			for h := range kvHeads {
				b.turn(key[h*dim:][:dim], &s.KeyNorm, cos, sin)
			}
			b.store(s.Layer, r, key, value)
		}
	})
	return nil
}

// turn norms one head's query or key, if there is a norm, and rotates its first dimensions.
func (b *Backend) turn(head []float32, norm *model.Norm, cos, sin []float32) {
	b.norm(head, head, norm)
	b.kernels.RoPE(head[:2*len(cos)], cos, sin)
}

// sharpen scales a row's rotated queries as the rotation says.
func (b *Backend) sharpen(query []float32, rotation, row int) {
	if rotation < 0 {
		return
	}
	if scale := b.part.Rotations[rotation].QueryScale(b.rows[row].position); scale != 1 {
		for i := range query {
			query[i] *= scale
		}
	}
}

// store puts a row's keys and values of all KV heads into the cache of a layer.
func (b *Backend) store(layer, row int, key, value []float32) {
	dim, valueDim := b.config.HeadDim, b.config.ValueDims()
	block, slot := int(b.rows[row].block)*b.blockStride(), b.rows[row].position%blockTokens
	cache, keyFloats, headFloats := b.layerCache(layer), cpu.KeyBlockFloats(dim), b.headFloats()
	for h := range b.part.KVHeads.Size() {
		base := block + h*headFloats
		b.kernels.StoreKV(cache, base, base+keyFloats, slot, key[h*dim:][:dim], value[h*valueDim:][:valueDim])
	}
}

// compute leaves activated columns in gate.
func (s *gate) compute(b *Backend, _ func(model.Scores)) error {
	columns, x := s.Up.Rows.Size(), b.hiddenRows(b.normed)
	if s.Aside {
		x.Data = b.aside
	}
	if s.Gate.Gate == nil {
		b.linear(b.ofStep(s.up, x, b.gate, columns))
	} else {
		b.linear(b.ofStep(s.gate, x, b.gate, columns), b.ofStep(s.up, x, b.up, columns))
	}
	b.team.Share(len(b.rows), 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			gate, up := b.gate[r*columns:][:columns], b.up[r*columns:][:columns]
			if s.Gate.Gate == nil {
				b.add(gate, s.Up.Bias)
				b.activate(s.Activation, gate)
				continue
			}
			b.add(gate, s.Gate.Gate.Bias)
			b.add(up, s.Up.Bias)
			b.activateGate(s.Activation, gate, up)
		}
	})
	return nil
}

// compute adds the sum of all ranks' parts, and the bias, to the residual stream, and norms it for what comes next.
func (s *join) compute(b *Backend, _ func(model.Scores)) error {
	hidden, input := b.config.Hidden, b.attention
	if s.ofMLP {
		input = b.gate
	}
	x := cpu.Rows{Data: input, Stride: s.Weight.Columns.Size(), N: len(b.rows)}
	parts, err := b.exchange(len(b.rows), b.ofStep(s.weight, x, nil, 0))
	if err != nil {
		return err
	}
	b.team.Share(len(b.rows), 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			sum := b.normed[r*hidden:][:hidden]
			b.sumRow(sum, parts, r)
			b.add(sum, s.Weight.Bias)
			b.join(r, sum, &s.PartNorm, &s.Norm, &s.AsideNorm)
		}
	})
	return nil
}

// join adds a row, which is of normed, to the residual stream, and norms that.
func (b *Backend) join(row int, sum []float32, part, norm, aside *model.Norm) {
	x := b.hidden[row*len(sum):][:len(sum)]
	b.norm(sum, sum, part)
	b.kernels.Add(x, x, sum)
	b.norm(sum, x, norm)
	b.putAside(row, x, aside)
}

// compute computes the wanted rows of logits and hands them to rank 0.
func (s *head) compute(b *Backend, consume func(model.Scores)) error {
	hidden, vocabulary := b.config.Hidden, b.config.Vocabulary
	limit := min(model.LogitRows, b.maxRows)
	for from := 0; from < len(b.wanted); from += limit {
		wanted := b.wanted[from:min(from+limit, len(b.wanted))]
		for i, r := range wanted {
			copy(b.hidden[i*hidden:][:hidden], b.normed[int(r)*hidden:][:hidden]) // wanted grows: i <= r, and hidden is not needed any more
		}
		if err := b.group.AwaitRelease(); err != nil {
			return err
		}
		area := b.group.GatherArea()
		rows := cpu.Rows{Data: b.hidden, Stride: hidden, N: len(wanted)}
		b.multiply(product{s.weight, rows, area[s.Weight.Rows.From:], vocabulary})
		if s.Cap != 0 {
			b.team.Share(len(wanted), 1, func(_, from, to int) {
				for r := from; r < to; r++ {
					b.kernels.SoftCap(area[r*vocabulary+s.Weight.Rows.From:][:s.Weight.Rows.Size()], s.Cap)
				}
			})
		}
		if err := b.group.Gather(); err != nil {
			return err
		}
		if b.part.Rank == 0 {
			consume(logits{sample.Rows{Values: area[:len(wanted)*vocabulary], Width: vocabulary}, b.kernels})
			b.group.Release()
		}
	}
	return nil
}

// logits are rows of which the likeliest token is found by kernels.
type logits struct {
	rows    sample.Rows
	kernels *cpu.Kernels
}

func (l logits) Rows() int             { return l.rows.Rows() }
func (l logits) Row(row int) []float32 { return l.rows.Row(row) }

// Best is that of model.Scores.
func (l logits) Best(row int) (token int32, logprob float32) {
	return l.BestOf(l.Row(row))
}

func (l logits) BestOf(values []float32) (token int32, logprob float32) {
	best, highest := l.kernels.Largest(values)
	sum := l.kernels.ExpSum(values, highest)
	if sum-sum != 0 { // some are no finite numbers
		return l.rows.BestOf(values)
	}
	return int32(best), sample.BestLogprob(sum)
}

// compute computes the scores of the wanted rows.
func (s *score) compute(b *Backend, consume func(model.Scores)) error {
	count, hidden := len(b.wanted), b.config.Hidden
	if count == 0 {
		return nil
	}
	for i, r := range b.wanted {
		copy(b.hidden[i*hidden:][:hidden], b.normed[int(r)*hidden:][:hidden]) // hidden is not needed any more
	}
	rows := cpu.Rows{Data: b.hidden, Stride: hidden, N: count}
	if s.inner != nil {
		x := b.normed
		b.multiply(product{s.inner, rows, x, hidden})
		rows.Data = x
		b.team.Share(count, 1, func(_, from, to int) {
			for i := from; i < to; i++ {
				row := x[i*hidden:][:hidden]
				b.add(row, s.Inner.Bias)
				for j, v := range row {
					row[j] = max(v, 0)
				}
			}
		})
	}
	b.multiply(product{s.outer, rows, b.scored, 1})
	scored := b.scored[:count]
	if s.Outer.Bias != nil {
		for i := range scored {
			scored[i] += s.Outer.Bias[0]
		}
	}
	consume(sample.Rows{Values: scored, Width: 1})
	return nil
}
