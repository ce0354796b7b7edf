package host

import (
	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// attentionItem is a piece of attention work: rows of one chunk for one KV head.
type attentionItem struct {
	blocks        []int32
	kvHead        int // local
	head, heads   int // local query heads
	row, rows     int
	oneRowPerHead bool
}

// attentionRows is how many rows of a query head one item takes.
const attentionRows = 48

// maxGroup is how many query heads of a token share one call of the attention kernel.
const maxGroup = 16

// attentionItems cuts the attention of a chunk into pieces: of one row all query heads of a KV head together, else each query
// head's rows by themselves.
func (b *Backend) attentionItems(chunk *chunkRows) {
	rows := chunk.to - chunk.from
	if rows == 1 {
		for kv := range b.part.KVHeads.Size() {
			from, to := b.queryHeads(kv)
			b.items = append(b.items, attentionItem{blocks: chunk.blocks, kvHead: kv, head: from, heads: to - from, row: chunk.from,
				rows: 1, oneRowPerHead: true})
		}
		return
	}
	for at := 0; at < rows; at += attentionRows { // rows outermost: they are the workers' (workers.Team.Share)
		for kv := range b.part.KVHeads.Size() {
			from, to := b.queryHeads(kv)
			for head := from; head < to; head++ {
				b.items = append(b.items, attentionItem{blocks: chunk.blocks, kvHead: kv, head: head, heads: 1, row: chunk.from + at,
					rows: min(attentionRows, rows-at)})
			}
		}
	}
}

// queryHeads returns the local query heads [from, to) of a local KV head.
func (b *Backend) queryHeads(kv int) (from, to int) {
	group, global := b.config.Heads/b.config.KVHeads, b.part.KVHeads.From+kv
	return max(global*group, b.part.Heads.From) - b.part.Heads.From, min((global+1)*group, b.part.Heads.To) - b.part.Heads.From
}

// see notes what the rows see in a layer of this window.
func (b *Backend) see(window int) {
	for i, r := range b.rows {
		b.first[i] = 0
		if window > 0 {
			b.first[i] = int32(max(0, r.position+1-window))
		}
	}
}

// compute computes the attention of all rows from the cache.
func (s *attend) compute(b *Backend, _ func(model.Scores)) error {
	b.see(s.Window)
	dim, valueDim, stride := b.config.HeadDim, b.config.ValueDims(), b.qkvColumns()
	dstStride := b.part.AttentionColumns.Size()
	pad := b.part.Heads.From*valueDim - b.part.AttentionColumns.From
	cache, headFloats, keyFloats := b.layerCache(s.Layer), b.headFloats(), cpu.KeyBlockFloats(dim)
	b.team.Share(len(b.items), 1, func(worker, from, to int) {
		var first, end [maxGroup]int32
		var repeated [attentionRows]float32 // the sink of one head for all its rows
		for i := from; i < to; i++ {
			item := &b.items[i]
			query, dst := b.qkv[item.row*stride+item.head*dim:], b.attention[item.row*dstStride+pad+item.head*valueDim:]
			keys := item.kvHead * headFloats
			head := cpu.HeadCache{Data: cache, Stride: b.blockStride(), Keys: keys, Values: keys + keyFloats, HeadDim: dim,
				ValueDim: valueDim, Blocks: item.blocks}
			softmax := cpu.Softmax{Scale: s.Scale, Cap: s.Cap}
			if !item.oneRowPerHead {
				if s.Sinks != nil {
					softmax.Sinks = repeated[:item.rows]
					for j := range softmax.Sinks {
						softmax.Sinks[j] = s.Sinks[item.head]
					}
				}
				b.kernels.Attention(cpu.Rows{Data: dst, Stride: dstStride, N: item.rows},
					cpu.Rows{Data: query, Stride: stride, N: item.rows},
					cpu.Spans{First: b.first[item.row:][:item.rows], End: b.end[item.row:][:item.rows]}, head, softmax, b.scratch[worker])
				continue
			}
			for at := 0; at < item.heads; at += maxGroup { // the rows are the query heads of one token
				count := min(maxGroup, item.heads-at)
				for j := range count {
					first[j], end[j] = b.first[item.row], b.end[item.row]
				}
				if s.Sinks != nil {
					softmax.Sinks = s.Sinks[item.head+at:][:count]
				}
				b.kernels.Attention(cpu.Rows{Data: dst[at*valueDim:], Stride: valueDim, N: count},
					cpu.Rows{Data: query[at*dim:], Stride: dim, N: count},
					cpu.Spans{First: first[:count], End: end[:count]}, head, softmax, b.scratch[worker])
			}
		}
	})
	return nil
}
