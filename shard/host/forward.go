package host

import (
	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// run is the working memory of Forward.
type run struct {
	group   *collective.Group
	scratch []*cpu.Scratch
	inputs  inputs
	blocks  int
	cache   cpu.Cache // [layer][block][KV head][keys, values]
	maxRows int

	rows      []row
	chunks    []chunkRows
	hidden    []float32 // [row][hidden]: the residual stream
	normed    []float32 // [row][hidden]
	aside     []float32 // [row][hidden]: a norm for a later stage
	qkv       []float32 // [row][query heads x head dimension, KV heads x head dimension, KV heads x value dimension]
	latent    []float32 // [row][latents and what keys have of them], of layers that have them
	attention []float32 // [row][part.AttentionColumns]
	gate, up  []float32 // [row][MLP columns], or [choice][an expert's columns] and behind them [row][the shared one's]
	gathered  []float32 // [choice][hidden]: the rows that experts compute
	choices   choices
	low       lowWork
	cos, sin  []float32 // [rotation][row][half a head]
	first     []int32   // [row]: first position that it sees in this layer
	end       []int32   // [row]: position behind the last
	items     []attentionItem
	wanted    []int32   // rows whose logits are wanted
	scored    []float32 // scores of the wanted rows
}

// row says which token of which chunk a row is.
type row struct {
	token        int32
	position     int
	promptTokens int
	adapter      int   // as model.Chunk has it
	block        int32 // where its key and value go
}

// chunkRows are rows [from, to), which are of one chunk.
type chunkRows struct {
	from, to int
	blocks   []int32
	adapter  int // as model.Chunk has it
}

func (b *Backend) headFloats() int {
	return cpu.KeyBlockFloats(b.config.HeadDim) + cpu.ValueBlockFloats(b.config.ValueDims())
}

// blockStride is the distance of two blocks of one layer in the cache.
func (b *Backend) blockStride() int { return b.part.KVHeads.Size() * b.headFloats() }

func (b *Backend) layerCache(layer int) cpu.Cache {
	size := b.blocks * b.blockStride()
	return b.cache.Part(layer*size, size)
}

func (b *Backend) qkvColumns() int {
	return (b.part.Heads.Size()+b.part.KVHeads.Size())*b.config.HeadDim + b.part.KVHeads.Size()*b.config.ValueDims()
}

// Forward computes one step, of at most maxRows tokens. On rank 0 it calls consume with the scores that are wanted, in the
// order of the chunks and their tokens, up to model.LogitRows at a time, those of a reward model all at once. On other
// ranks consume is not called.
func (b *Backend) Forward(chunks []model.Chunk, consume func(model.Scores)) error {
	if err := b.fill.failed(); err != nil {
		return err
	}
	b.begin(chunks)
	for _, s := range b.stages {
		if err := s.compute(b, consume); err != nil || len(b.rows) == 0 {
			return err
		}
	}
	return nil
}

// begin clears fresh blocks and lays the rows out.
func (b *Backend) begin(chunks []model.Chunk) {
	b.rows, b.chunks, b.wanted = b.rows[:0], b.chunks[:0], b.wanted[:0]
	for i := range chunks {
		chunk := &chunks[i]
		b.clearBlocks(chunk.FreshBlocks())
		first := len(b.rows)
		for j, token := range chunk.Tokens {
			position := chunk.Start + j
			at := len(b.rows)
			b.end[at] = int32(position + 1)
			b.rows = append(b.rows, row{token: token, position: position, promptTokens: chunk.PromptTokens, adapter: chunk.Adapter,
				block: chunk.Blocks[position/blockTokens]})
			if chunk.Wants(j) {
				b.wanted = append(b.wanted, int32(at))
			}
		}
		b.chunks = append(b.chunks, chunkRows{first, len(b.rows), chunk.Blocks, chunk.Adapter})
	}
	b.divide()
}

// divide lists the pieces of attention of the chunks' rows, and which rows have an adapter.
func (b *Backend) divide() {
	b.items, b.low.runs = b.items[:0], b.low.runs[:0]
	for i := range b.chunks {
		chunk := &b.chunks[i]
		b.attentionItems(chunk)
		if chunk.adapter > 0 && chunk.from < chunk.to {
			b.low.runs = append(b.low.runs, adapterRun{chunk.adapter - 1, chunk.from, chunk.to})
		}
	}
}

// narrow comes behind the last keys and values. It leaves the rows whose logits are wanted: nothing that others compute from here
// on is read by anyone.
type narrow struct{}

func (narrow) compute(b *Backend, _ func(model.Scores)) error {
	if len(b.wanted) == len(b.rows) {
		return nil
	}
	hidden, stride, kept := b.config.Hidden, b.qkvColumns(), 0
	for i := range b.chunks {
		chunk := &b.chunks[i]
		from := kept
		for ; kept < len(b.wanted) && int(b.wanted[kept]) < chunk.to; kept++ {
			r := int(b.wanted[kept]) // not before kept, since wanted grows
			copy(b.hidden[kept*hidden:][:hidden], b.hidden[r*hidden:][:hidden])
			copy(b.qkv[kept*stride:][:stride], b.qkv[r*stride:][:stride])
			if b.need.aside {
				copy(b.aside[kept*hidden:][:hidden], b.aside[r*hidden:][:hidden])
			}
			b.rows[kept], b.end[kept], b.wanted[kept] = b.rows[r], b.end[r], int32(kept)
		}
		chunk.from, chunk.to = from, kept
	}
	b.rows = b.rows[:kept]
	b.divide()
	return nil
}

func (b *Backend) clearBlocks(blocks []int32) {
	stride := b.blockStride()
	b.team.Share(len(blocks)*b.config.Layers, 8, func(_, from, to int) {
		for i := from; i < to; i++ {
			block, layer := int(blocks[i/b.config.Layers]), i%b.config.Layers
			clear(b.cache.Part((layer*b.blocks+block)*stride, stride).Data)
		}
	})
}

// add adds a bias to a row, if there is one: each matrix of a layer has its own, or none.
func (b *Backend) add(row, bias []float32) {
	if bias != nil {
		b.kernels.Add(row, row, bias)
	}
}

// norm norms a row, if there is a norm.
func (b *Backend) norm(dst, x []float32, n *model.Norm) {
	switch {
	case n.Weight == nil:
	case n.Centred:
		b.kernels.LayerNorm(dst, x, n.Weight, n.Bias, n.Epsilon)
	default:
		b.kernels.RMSNorm(dst, x, n.Weight, n.Epsilon)
	}
}
