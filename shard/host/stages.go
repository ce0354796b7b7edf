package host

import (
	"fmt"

	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// stage is one of model's stages with its matrices packed. compute reads and writes the backend's working memory.
type stage interface {
	compute(b *Backend, consume func(model.Scores)) error
}

type (
	embed   struct{ *model.Embed }
	project struct {
		*model.Project
		query, key, value *cpu.Matrix
	}
	attend struct{ *model.Attend }
	gate   struct {
		*model.Gate
		gate, up *cpu.Matrix
	}
	join struct {
		*model.Join
		weight *cpu.Matrix
		ofMLP  bool // else of the attention
	}
	head struct {
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
	pack := func(l *model.Linear) (matrix *cpu.Matrix) {
		if err == nil {
			matrix, err = b.pack(l)
		}
		return matrix
	}
	switch p := planned.(type) {
	case *model.Embed:
		s = &embed{p}
	case *model.Project:
		s = &project{p, pack(&p.Query), pack(&p.Key), pack(&p.Value)}
	case *model.Attend:
		s = &attend{p}
	case *model.Gate:
		if p.Activation != model.SiLU {
			return nil, fmt.Errorf("the CPU backend has no activation %q", p.Activation)
		}
		b.mlp = max(b.mlp, p.Gate.Rows.Size())
		s = &gate{p, pack(&p.Gate), pack(&p.Up)}
	case *model.Join:
		_, behind := b.stages[len(b.stages)-1].(*gate)
		s = &join{p, pack(&p.Weight), behind}
	case *model.Head:
		s = &head{p, pack(&p.Weight)}
	case *model.Score:
		packed := &score{Score: p, outer: pack(&p.Outer)}
		if p.Inner != nil {
			packed.inner = pack(p.Inner)
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
		for i := from; i < to; i++ {
			r, x := b.rows[i], b.hidden[i*hidden:][:hidden]
			s.Table.Decode(x, int(r.token))
			if s.Scale != 0 {
				for j := range x {
					x[j] *= s.Scale
				}
			}
			for kind, rotation := range b.part.Rotations {
				at := (kind*b.maxRows + i) * half
				rotation.Fill(b.cos[at:][:half], b.sin[at:][:half], r.position, r.promptTokens)
			}
			b.norm(b.normed[i*hidden:][:hidden], x, &s.Norm)
		}
	})
	return nil
}

// compute leaves rotated queries in qkv and stores keys and values in the cache.
func (s *project) compute(b *Backend, _ func(model.Scores)) error {
	n, dim, half, stride := len(b.rows), b.config.HeadDim, b.config.HeadDim/2, b.qkvColumns()
	heads, kvHeads := b.part.Heads.Size(), b.part.KVHeads.Size()
	queries, keys := heads*dim, kvHeads*dim
	b.linear(cpu.Rows{Data: b.normed, Stride: b.config.Hidden, N: n},
		product{s.query, b.qkv, stride}, product{s.key, b.qkv[queries:], stride}, product{s.value, b.qkv[queries+keys:], stride})
	keyFloats, headFloats := cpu.KeyBlockFloats(dim), b.headFloats()
	cache, rotations := b.layerCache(s.Layer), s.Rotation*b.maxRows*half
	b.team.Share(n, 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			qkv := b.qkv[r*stride:][:stride]
			query, key, value := qkv[:queries], qkv[queries:][:keys], qkv[queries+keys:]
			b.add(query, s.Query.Bias)
			b.add(key, s.Key.Bias)
			b.add(value, s.Value.Bias)
			cos, sin := b.cos[rotations+r*half:][:half], b.sin[rotations+r*half:][:half]
			for h := range heads {
				b.turn(query[h*dim:][:dim], &s.QueryNorm, cos, sin)
			}
			block, slot := int(b.rows[r].block)*b.blockStride(), b.rows[r].position%blockTokens
			for h := range kvHeads {
				b.turn(key[h*dim:][:dim], &s.KeyNorm, cos, sin)
				base := block + h*headFloats
				b.kernels.StoreKV(cache, base, base+keyFloats, slot, key[h*dim:][:dim], value[h*dim:][:dim])
			}
		}
	})
	return nil
}

// turn norms one head's query or key, if there is a norm, and rotates it.
func (b *Backend) turn(head []float32, norm *model.Norm, cos, sin []float32) {
	if norm.Weight != nil {
		b.norm(head, head, norm)
	}
	b.kernels.RoPE(head, cos, sin)
}

func (s *gate) compute(b *Backend, _ func(model.Scores)) error {
	n, columns := len(b.rows), s.Gate.Gate.Rows.Size()
	b.linear(cpu.Rows{Data: b.normed, Stride: b.config.Hidden, N: n}, product{s.gate, b.gate, columns}, product{s.up, b.up, columns})
	b.team.Share(n, 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			gate, up := b.gate[r*columns:][:columns], b.up[r*columns:][:columns]
			b.add(gate, s.Gate.Gate.Bias)
			b.add(up, s.Up.Bias)
			b.kernels.SiLUMul(gate, gate, up)
		}
	})
	return nil
}

// compute adds the sum of all ranks' parts, and the bias, to the residual stream, and norms it for what comes next.
func (s *join) compute(b *Backend, _ func(model.Scores)) error {
	n, hidden, input := len(b.rows), b.config.Hidden, b.attention
	if s.ofMLP {
		input = b.gate
	}
	b.linear(cpu.Rows{Data: input, Stride: s.Weight.Columns.Size(), N: n}, product{s.weight, b.group.Partial(), hidden})
	parts, err := b.group.Exchange()
	if err != nil {
		return err
	}
	b.team.Share(n, 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			x, sum := b.hidden[r*hidden:][:hidden], b.normed[r*hidden:][:hidden]
			b.sumParts(sum, parts, r*hidden)
			b.add(sum, s.Weight.Bias)
			if s.PartNorm.Weight != nil {
				b.norm(sum, sum, &s.PartNorm)
			}
			b.kernels.Add(x, x, sum)
			b.norm(sum, x, &s.Norm)
		}
	})
	return nil
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
		b.linear(cpu.Rows{Data: b.hidden, Stride: hidden, N: len(wanted)}, product{s.weight, area[s.Weight.Rows.From:], vocabulary})
		if err := b.group.Gather(); err != nil {
			return err
		}
		if b.part.Rank == 0 {
			consume(scores{area[:len(wanted)*vocabulary], vocabulary})
			b.group.Release()
		}
	}
	return nil
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
	x := b.hidden
	if s.inner != nil {
		x = b.normed
		b.linear(cpu.Rows{Data: b.hidden, Stride: hidden, N: count}, product{s.inner, x, hidden})
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
	b.linear(cpu.Rows{Data: x, Stride: hidden, N: count}, product{s.outer, b.scored, 1})
	scored := b.scored[:count]
	if s.Outer.Bias != nil {
		for i := range scored {
			scored[i] += s.Outer.Bias[0]
		}
	}
	consume(scores{scored, 1})
	return nil
}
