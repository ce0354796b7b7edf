package host

import (
	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// compute leaves rotated queries in qkv and stores keys and values in the cache.
func (s *projectLatent) compute(b *Backend, _ func(model.Scores)) error {
	n, dim, stride := len(b.rows), b.config.HeadDim, b.qkvColumns()
	heads, kvHeads := b.part.Heads.Size(), b.part.KVHeads.Size()
	queries, keys := heads*dim, kvHeads*dim
	rank, columns := len(s.LatentNorm.Weight), latentColumns(s.ProjectLatent)
	wide := s.Latent.Rows.Size()
	plain := b.latent[wide:] // of the first row; likewise the queries' latent
	queryLatent := b.latent[wide+s.Key.Rows.Size():]
	rows := func(data []float32) cpu.Rows { return cpu.Rows{Data: data, Stride: columns, N: n} }

	x := b.hiddenRows(b.normed)
	latent, query := b.ofStep(s.latent, x, b.latent, columns), b.ofStep(s.query, x, b.qkv, stride)
	if s.QueryLatent == nil {
		b.linear(latent, query)
	} else {
		b.linear(latent, b.ofStep(s.queryLatent, x, queryLatent, columns))
		query.x = rows(queryLatent)
	}
	b.team.Share(n, 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			row := b.latent[r*columns:][:columns]
			b.add(row[:wide], s.Latent.Bias)
			b.norm(row[:rank], row[:rank], &s.LatentNorm)
			if s.QueryLatent != nil {
				own := row[wide+s.Key.Rows.Size():]
				b.add(own, s.QueryLatent.Bias)
				b.norm(own, own, &s.QueryLatentNorm)
			}
		}
	})
	key, value := b.ofStep(s.key, rows(b.latent), plain, columns), b.ofStep(s.value, rows(b.latent), b.qkv[queries+keys:], stride)
	if s.QueryLatent == nil {
		b.linear(key, value)
	} else {
		b.linear(query, key, value)
	}
	b.team.Share(n, 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			row, qkv := b.latent[r*columns:][:columns], b.qkv[r*stride:][:stride]
			cos, sin := b.turns(s.Rotation, r)
			for h := range heads {
				b.kernels.RoPE(qkv[h*dim+s.Plain:][:2*len(cos)], cos, sin)
			}
			rotated := row[rank:wide]
			b.kernels.RoPE(rotated, cos, sin)
			for h := range kvHeads {
				head := qkv[queries+h*dim:][:dim]
				copy(head, row[wide+h*s.Plain:][:s.Plain])
				copy(head[s.Plain:], rotated)
			}
			b.store(s.Layer, r, qkv[queries:][:keys], qkv[queries+keys:])
		}
	})
	return nil
}
