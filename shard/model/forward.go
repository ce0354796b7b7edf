// Package model is the forward pass of Llama-family models on one rank of a tensor-parallel group: column-parallel
// query, key, value, gate and up matrices, row-parallel output and down matrices whose parts are summed over the ranks, a
// head split by vocabulary, and a paged KV cache.
//
// A row (one token of one sequence) computes the same bits whatever else is in the step (design, law 3): every operation
// here works on rows alone, kernels sum in one order, and sums over ranks continue the kernels' tree.
package model

import (
	"math"
	"sync/atomic"

	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/weights"
)

// BlockTokens is the number of positions in a KV block; the attention kernel is built for it.
const BlockTokens = 16

// LogitRows is how many rows of logits the ranks gather at a time.
const LogitRows = 64

// Logits says for which tokens of a chunk logits are wanted.
type Logits uint8

const (
	LogitsNone Logits = iota // the prompt goes on in a later step
	LogitsLast
	LogitsAll // prompt log-probabilities are wanted
)

// Chunk is a run of tokens of one sequence that a step computes.
type Chunk struct {
	Start        int     // position of Tokens[0]
	PromptTokens int     // length of the sequence's prompt, without what was generated
	Tokens       []int32 // at least one
	Blocks       []int32 // the sequence's block table, covering Start+len(Tokens) positions
	Logits       Logits
}

// run is the working memory of Forward.
type run struct {
	group   *collective.Group
	scratch []*cpu.Scratch
	blocks  int
	cache   []float32 // [layer][block][KV head][keys, values]
	maxRows int

	rows      []row
	hidden    []float32 // [row][hidden]: the residual stream
	normed    []float32 // [row][hidden]
	qkv       []float32 // [row][query heads, KV heads, KV heads][head dimension]
	attention []float32 // [row][attentionColumns]
	gate, up  []float32 // [row][MLP columns]
	cos, sin  []float32 // [row][half a head]
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
	block        int32 // where its key and value go
}

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

// Sizes returns what the group's shared memory must hold for steps of maxRows tokens.
func (m *Model) Sizes(maxRows, planBytes int) collective.Sizes {
	sizes := collective.Sizes{Ranks: m.part.Ranks, ReduceFloats: maxRows * m.config.Hidden, PlanBytes: planBytes}
	if m.config.Score == weights.NoScore {
		sizes.GatherFloats = min(LogitRows, maxRows) * m.config.Vocabulary
	}
	return sizes
}

func (m *Model) headFloats() int {
	return cpu.KeyBlockFloats(m.config.HeadDim) + cpu.ValueBlockFloats(m.config.HeadDim)
}

// blockStride is the distance of two blocks of one layer in the cache.
func (m *Model) blockStride() int { return m.part.kvHeads.size() * m.headFloats() }

// BlockBytes is the memory that one KV block takes on all ranks together.
func (m *Model) BlockBytes() int {
	total := 0
	for rank := range m.part.Ranks {
		part, err := Split(m.config, rank, m.part.Ranks, 1)
		if err == nil {
			total += part.kvHeads.size()
		}
	}
	return 4 * total * m.headFloats() * m.config.Layers
}

// Attach gives the model its group and allocates a cache of so many blocks and the buffers for steps of maxRows tokens.
func (m *Model) Attach(group *collective.Group, blocks, maxRows int) error {
	m.group, m.blocks, m.maxRows = group, blocks, maxRows
	for range m.team.Size() {
		m.scratch = append(m.scratch, cpu.NewScratch())
	}
	c := m.config
	for _, buffer := range []struct {
		floats *[]float32
		count  int
	}{
		{&m.cache, c.Layers * blocks * m.blockStride()},
		{&m.hidden, maxRows * c.Hidden},
		{&m.normed, maxRows * c.Hidden},
		{&m.qkv, maxRows * m.qkvColumns()},
		{&m.attention, maxRows * m.attentionColumns.size()},
		{&m.gate, maxRows * m.part.columns.size()},
		{&m.up, maxRows * m.part.columns.size()},
		{&m.cos, maxRows * c.HeadDim / 2},
		{&m.sin, maxRows * c.HeadDim / 2},
		{&m.scored, maxRows},
	} {
		var err error
		if *buffer.floats, err = m.anonymousFloats(buffer.count); err != nil {
			return err
		}
	}
	poison(m.cache)
	m.rows = make([]row, 0, maxRows)
	m.first, m.end = make([]int32, maxRows), make([]int32, maxRows)
	return nil
}

func (m *Model) qkvColumns() int {
	return (m.part.heads.size() + 2*m.part.kvHeads.size()) * m.config.HeadDim
}

// KeysDependOnPrompt reports whether keys in the cache are those of a prompt of this length only ("dynamic" rotations
// beyond the trained positions), so that no sequence with another prompt may use them.
func (m *Model) KeysDependOnPrompt(promptTokens int) bool {
	return m.config.Rope.Type == "dynamic" && promptTokens > m.config.MaxPositions
}

// ZeroBlocks clears blocks that a sequence takes, so that nothing of their former owner, not even a NaN, can reach it.
func (m *Model) ZeroBlocks(blocks []int32) {
	stride := m.blockStride()
	m.team.Share(len(blocks)*m.config.Layers, 8, func(_, from, to int) {
		for i := from; i < to; i++ {
			block, layer := int(blocks[i/m.config.Layers]), i%m.config.Layers
			clear(m.cache[(layer*m.blocks+block)*stride:][:stride])
		}
	})
}

// Forward computes one step, of at most maxRows tokens. On rank 0 it calls consume with the logits that are wanted, in the
// order of the chunks and their tokens, up to LogitRows rows of the vocabulary's size at a time; they are valid during the
// call. On other ranks consume is not called. A reward model has one logit for each wanted row, the score, and gives all of
// a step's at once.
func (m *Model) Forward(chunks []Chunk, consume func(logits []float32, rows int)) error {
	m.begin(chunks)
	for i := range m.layers {
		if err := m.layer(i); err != nil {
			return err
		}
	}
	if m.config.Score != weights.NoScore {
		m.scores(consume)
		return nil
	}
	return m.logits(consume)
}

// begin lays the rows out and looks their embeddings up.
func (m *Model) begin(chunks []Chunk) {
	m.rows, m.items, m.wanted = m.rows[:0], m.items[:0], m.wanted[:0]
	for _, chunk := range chunks {
		first := len(m.rows)
		for i, token := range chunk.Tokens {
			position := chunk.Start + i
			at := len(m.rows)
			m.end[at] = int32(position + 1)
			m.rows = append(m.rows, row{token: token, position: position, promptTokens: chunk.PromptTokens, block: chunk.Blocks[position/BlockTokens]})
			if chunk.Logits == LogitsAll || chunk.Logits == LogitsLast && i == len(chunk.Tokens)-1 {
				m.wanted = append(m.wanted, int32(at))
			}
		}
		m.attentionItems(chunk, first)
	}
	half, hidden := m.config.HeadDim/2, m.config.Hidden
	m.team.Share(len(m.rows), 1, func(_, from, to int) {
		for i := from; i < to; i++ {
			r := m.rows[i]
			m.embedding.Encoding.Decode(m.hidden[i*hidden:][:hidden], m.embedding.Row(int(r.token)))
			m.rotary.fill(m.cos[i*half:][:half], m.sin[i*half:][:half], r.position, r.promptTokens)
			m.kernels.RMSNorm(m.normed[i*hidden:][:hidden], m.hidden[i*hidden:][:hidden], m.layers[0].attentionNorm, m.config.NormEpsilon)
		}
	})
}

func (m *Model) attentionItems(chunk Chunk, first int) {
	group := m.config.Heads / m.config.KVHeads
	for kv := range m.part.kvHeads.size() {
		global := m.part.kvHeads.from + kv
		from := max(global*group, m.part.heads.from) - m.part.heads.from
		to := min((global+1)*group, m.part.heads.to) - m.part.heads.from
		item := attentionItem{blocks: chunk.Blocks, kvHead: kv}
		if len(chunk.Tokens) == 1 {
			item.head, item.heads, item.row, item.rows, item.oneRowPerHead = from, to-from, first, 1, true
			m.items = append(m.items, item)
			continue
		}
		for head := from; head < to; head++ {
			for at := 0; at < len(chunk.Tokens); at += attentionRows {
				item.head, item.heads, item.row, item.rows = head, 1, first+at, min(attentionRows, len(chunk.Tokens)-at)
				m.items = append(m.items, item)
			}
		}
	}
}

func (m *Model) layer(i int) error {
	l, n, hidden := &m.layers[i], len(m.rows), m.config.Hidden
	stride := m.qkvColumns()
	queries, keys := m.part.heads.size()*m.config.HeadDim, m.part.kvHeads.size()*m.config.HeadDim
	m.linear(m.normed, hidden, product{l.query, m.qkv, stride}, product{l.key, m.qkv[queries:], stride}, product{l.value, m.qkv[queries+keys:], stride})
	m.rotate(i)
	m.attend(i)
	m.linear(m.attention, m.attentionColumns.size(), product{l.output, m.group.Partial(), hidden})
	if err := m.reduce(l.outputBias, l.mlpNorm); err != nil {
		return err
	}
	columns := m.part.columns.size()
	m.linear(m.normed, hidden, product{l.gate, m.gate, columns}, product{l.up, m.up, columns})
	m.team.Share(n, 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			gate, up := m.gate[r*columns:][:columns], m.up[r*columns:][:columns]
			m.add(gate, l.gateBias)
			m.add(up, l.upBias)
			m.kernels.SiLUMul(gate, gate, up)
		}
	})
	m.linear(m.gate, columns, product{l.down, m.group.Partial(), hidden})
	next := m.finalNorm
	if i+1 < len(m.layers) {
		next = m.layers[i+1].attentionNorm
	}
	return m.reduce(l.downBias, next)
}

// product is one matrix of a linear operation and where its result goes.
type product struct {
	weight *cpu.Matrix
	dst    []float32
	stride int
}

// panelUnit is how many panels one call takes at least: the kernels of one row read four at once, the others two.
func panelUnit(rows int) int {
	if rows == 1 {
		return 4
	}
	return 2
}

// linear multiplies all rows of x by one or more matrices.
func (m *Model) linear(x []float32, xStride int, products ...product) {
	m.linearRows(x, xStride, len(m.rows), products...)
}

func (m *Model) linearRows(x []float32, xStride, rows int, products ...product) {
	total, unit := 0, panelUnit(rows)
	for _, p := range products {
		total += (p.weight.Panels() + unit - 1) / unit
	}
	for _, scratch := range m.scratch {
		scratch.Hold()
		defer scratch.Release()
	}
	m.team.Share(total, 1, func(worker, from, to int) {
		for _, p := range products {
			units := (p.weight.Panels() + unit - 1) / unit
			if first, end := max(from, 0), min(to, units); first < end {
				m.kernels.MatMul(p.dst, p.stride, x, xStride, rows, p.weight, first*unit, min(end*unit, p.weight.Panels()), m.scratch[worker])
			}
			from, to = from-units, to-units
		}
	})
}

// rotate turns queries and keys and stores keys and values in the cache.
func (m *Model) rotate(layer int) {
	l, dim, half, stride := &m.layers[layer], m.config.HeadDim, m.config.HeadDim/2, m.qkvColumns()
	heads, kvHeads := m.part.heads.size(), m.part.kvHeads.size()
	keyFloats, headFloats := cpu.KeyBlockFloats(dim), m.headFloats()
	cache := m.layerCache(layer)
	m.team.Share(len(m.rows), 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			qkv := m.qkv[r*stride:][:stride]
			query, key, value := qkv[:heads*dim], qkv[heads*dim:][:kvHeads*dim], qkv[(heads+kvHeads)*dim:]
			m.add(query, l.queryBias)
			m.add(key, l.keyBias)
			m.add(value, l.valueBias)
			cos, sin := m.cos[r*half:][:half], m.sin[r*half:][:half]
			for h := range heads {
				m.turn(query[h*dim:][:dim], l.queryNorm, cos, sin)
			}
			block, slot := int(m.rows[r].block)*m.blockStride(), m.rows[r].position%BlockTokens
			for h := range kvHeads {
				m.turn(key[h*dim:][:dim], l.keyNorm, cos, sin)
				base := block + h*headFloats
				m.kernels.StoreKV(cache, base, base+keyFloats, slot, key[h*dim:][:dim], value[h*dim:][:dim])
			}
		}
	})
}

// add adds a bias to a row, if there is one: each matrix of a layer has its own, or none.
func (m *Model) add(row, bias []float32) {
	if bias != nil {
		m.kernels.Add(row, row, bias)
	}
}

// turn norms one head's query or key, if there is a norm, and rotates it.
func (m *Model) turn(head, norm, cos, sin []float32) {
	if norm != nil {
		m.kernels.RMSNorm(head, head, norm, m.config.NormEpsilon)
	}
	m.kernels.RoPE(head, cos, sin)
}

func (m *Model) layerCache(layer int) []float32 {
	size := m.blocks * m.blockStride()
	return m.cache[layer*size:][:size]
}

// see notes what the rows see in a layer of this window.
func (m *Model) see(window int) {
	for i, r := range m.rows {
		m.first[i] = 0
		if window > 0 {
			m.first[i] = int32(max(0, r.position+1-window))
		}
	}
}

// attend computes the attention of all rows from the cache into m.attention.
func (m *Model) attend(layer int) {
	m.see(m.layers[layer].window)
	dim, stride := m.config.HeadDim, m.qkvColumns()
	dstStride := m.attentionColumns.size()
	pad := m.part.heads.from*dim - m.attentionColumns.from
	cache, headFloats, keyFloats := m.layerCache(layer), m.headFloats(), cpu.KeyBlockFloats(dim)
	scale := float32(1 / math.Sqrt(float64(dim)))
	var next atomic.Int64
	m.team.Run(func(worker int) {
		var first, end [maxGroup]int32
		for {
			i := int(next.Add(1)) - 1
			if i >= len(m.items) {
				return
			}
			item := &m.items[i]
			query, dst := m.qkv[item.row*stride+item.head*dim:], m.attention[item.row*dstStride+pad+item.head*dim:]
			key := item.kvHead * headFloats
			if !item.oneRowPerHead {
				m.kernels.Attention(dst, dstStride, query, stride, item.rows, m.first[item.row:][:item.rows], m.end[item.row:][:item.rows],
					cache, m.blockStride(), key, key+keyFloats, item.blocks, dim, scale, m.scratch[worker])
				continue
			}
			for head := 0; head < item.heads; head += maxGroup { // the rows are the query heads of one token
				count := min(maxGroup, item.heads-head)
				for j := range count {
					first[j], end[j] = m.first[item.row], m.end[item.row]
				}
				m.kernels.Attention(dst[head*dim:], dim, query[head*dim:], dim, count, first[:count], end[:count],
					cache, m.blockStride(), key, key+keyFloats, item.blocks, dim, scale, m.scratch[worker])
			}
		}
	})
}

// maxGroup is how many query heads of a token share one call of the attention kernel.
const maxGroup = 16

// reduce adds the sum of all ranks' parts, and the bias, to the residual stream, and norms it for what comes next.
func (m *Model) reduce(bias, norm []float32) error {
	parts, err := m.group.Exchange()
	if err != nil {
		return err
	}
	n, hidden := len(m.rows), m.config.Hidden
	m.team.Share(n, 1, func(_, from, to int) {
		for r := from; r < to; r++ {
			x, sum := m.hidden[r*hidden:][:hidden], m.normed[r*hidden:][:hidden]
			m.sumParts(sum, parts, r*hidden)
			m.add(sum, bias)
			m.kernels.Add(x, x, sum)
			m.kernels.RMSNorm(sum, x, norm, m.config.NormEpsilon)
		}
	})
	return nil
}

// sumParts adds the ranks' parts from offset on as a binary tree in rank order: the left half of a tree is the largest
// power of two below its size, so two, four and eight ranks continue the tree of the kernels' chunks.
func (m *Model) sumParts(dst []float32, parts [][]float32, offset int) {
	part := func(rank int) []float32 { return parts[rank][offset:][:len(dst)] }
	switch len(parts) {
	case 1:
		copy(dst, part(0))
	case 2:
		m.kernels.Add(dst, part(0), part(1))
	case 3:
		m.kernels.Add(dst, part(0), part(1))
		m.kernels.Add(dst, dst, part(2))
	default:
		left := 2
		for left*2 < len(parts) {
			left *= 2
		}
		m.sumParts(dst, parts[:left], offset)
		right := make([]float32, len(dst))
		m.sumParts(right, parts[left:], offset)
		m.kernels.Add(dst, dst, right)
	}
}

// logits computes the wanted rows of logits and hands them to rank 0.
func (m *Model) logits(consume func(logits []float32, rows int)) error {
	hidden, vocabulary := m.config.Hidden, m.config.Vocabulary
	limit := min(LogitRows, m.maxRows)
	for from := 0; from < len(m.wanted); from += limit {
		wanted := m.wanted[from:min(from+limit, len(m.wanted))]
		for i, r := range wanted {
			copy(m.hidden[i*hidden:][:hidden], m.normed[int(r)*hidden:][:hidden]) // wanted grows: i <= r, and hidden is not needed any more
		}
		if err := m.group.AwaitRelease(); err != nil {
			return err
		}
		area := m.group.GatherArea()
		m.linearRows(m.hidden, hidden, len(wanted), product{m.head, area[m.part.vocabulary.from:], vocabulary})
		if err := m.group.Gather(); err != nil {
			return err
		}
		if m.part.Rank == 0 {
			consume(area[:len(wanted)*vocabulary], len(wanted))
			m.group.Release()
		}
	}
	return nil
}
