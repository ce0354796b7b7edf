package gpu

import (
	"errors"

	"lockstep/shard/collective"
	"lockstep/shard/model"
)

// run is what steps compute with: the device's memory, and the step that is under way.
type run struct {
	group   *collective.Group
	memory  []Address
	blocks  int
	maxRows int

	cache      Address // kernels/attention.cu says how it lies
	hidden     Address // [row][hidden]: the residual stream
	normed     Address // its norm, an input
	aside      Address // a norm for a later stage
	inner      Address // the input of a row-parallel product
	products   Address // results
	ordered    Address // an input in another order
	folded     Address // [row][hidden], or of choices: sums over chunks, and then over ranks
	choice     choiceMemory
	adapted    adapted
	peers      peers
	queries    Address // [term][row][head][dimension]
	wantedRows Address // the rows of normed that are wanted
	logits     Address // [wanted row][this rank's part of the vocabulary]
	positions  Address // [row]
	rowBlocks  Address // [row]: the block that its keys and values go to
	wantedAt   Address // rows
	fresh      Address // blocks
	tables     Address // of blocks, of all chunks
	turns      Address // [rotation][cosine, sine][row][half]
	scales     Address // [rotation][row]: of queries
	results    Address // of parts of attention
	items      Address // [layout]: of attention
	attention  attentionRoom

	rows   []row
	wanted []int32
	chunks []chunk
}

// row says which token of a step a row is.
type row struct {
	token                  int32
	position, promptTokens int
	block                  int32
}

// chunk is a run of rows of one sequence.
type chunk struct{ first, rows, table int }

// Forward computes one step, of at most maxRows tokens. On rank 0 it calls consume with the scores that are wanted, in the order of the
// chunks and their tokens, up to model.LogitRows at a time, those of a reward model all at once.
func (b *Backend) Forward(chunks []model.Chunk, consume func(model.Scores)) error {
	if err := b.begin(chunks); err != nil {
		return err
	}
	for _, s := range b.stages {
		if err := s.compute(b, consume); err != nil {
			return err
		}
	}
	return b.checkExchange()
}

// begin lays the rows out, uploads what is said of them, and clears fresh blocks.
func (b *Backend) begin(chunks []model.Chunk) error {
	b.rows, b.wanted, b.chunks = b.rows[:0], b.wanted[:0], b.chunks[:0]
	for i := range b.layouts {
		b.layouts[i].from, b.layouts[i].to = 0, 0
	}
	var tables, fresh, adapters []int32
	for i := range chunks {
		c := &chunks[i]
		b.chunks = append(b.chunks, chunk{len(b.rows), len(c.Tokens), len(tables)})
		tables, fresh = append(tables, c.Blocks...), append(fresh, c.FreshBlocks()...)
		for j, token := range c.Tokens {
			position := c.Start + j
			if c.Logits == model.LogitsAll || c.Logits == model.LogitsLast && j == len(c.Tokens)-1 {
				b.wanted = append(b.wanted, int32(len(b.rows)))
			}
			adapters = append(adapters, int32(c.Adapter))
			b.rows = append(b.rows, row{token, position, c.PromptTokens, c.Blocks[position/blockTokens]})
		}
	}
	if err := b.uploadRows(tables, fresh); err != nil {
		return err
	}
	if err := b.uploadAdapted(adapters); err != nil {
		return err
	}
	if len(fresh) == 0 || b.part.KVHeads.Size() == 0 {
		return nil
	}
	layer := b.blocks * b.blockBytes() / 16
	return b.launch("clear", [3]int{len(fresh), b.config.Layers, 1}, 256, 0, b.cache, b.fresh, uint64(layer), int32(b.blockBytes()/16))
}

func (b *Backend) uploadRows(tables, fresh []int32) error {
	positions, blocks := make([]int32, len(b.rows)), make([]int32, len(b.rows))
	for i, r := range b.rows {
		positions[i], blocks[i] = int32(r.position), r.block
	}
	for _, u := range []struct {
		to     Address
		values []int32
	}{{b.positions, positions}, {b.rowBlocks, blocks}, {b.tables, tables}, {b.fresh, fresh}, {b.wantedAt, b.wanted}} {
		if len(u.values) > 0 {
			if err := b.device.Upload(u.to, bytesOf(u.values)); err != nil {
				return err
			}
		}
	}
	for kind := range b.part.Rotations {
		if err := b.uploadRotation(kind); err != nil {
			return err
		}
	}
	return nil
}

// uploadRotation uploads how a kind of rotation turns the rows.
func (b *Backend) uploadRotation(kind int) error {
	rotation := b.part.Rotations[kind]
	half, rows := rotation.Half(), len(b.rows)
	turns, scales := make([]float32, 2*rows*half), make([]float32, rows)
	for i, r := range b.rows {
		rotation.Fill(turns[i*half:][:half], turns[(rows+i)*half:][:half], r.position, r.promptTokens)
		scales[i] = rotation.QueryScale(r.position)
	}
	cos, sin, queryScales := b.turnsOf(kind)
	return errors.Join(b.device.Upload(cos, bytesOf(turns[:rows*half])), b.device.Upload(sin, bytesOf(turns[rows*half:])),
		b.device.Upload(queryScales, bytesOf(scales)))
}

// turnsOf are where the cosines and sines of a kind of rotation lie, and its scales of queries.
func (b *Backend) turnsOf(kind int) (cos, sin, scales Address) {
	size := 4 * b.maxRows * b.config.HeadDim / 2
	return b.turns + Address(2*kind*size), b.turns + Address((2*kind+1)*size), b.scales + Address(4*kind*b.maxRows)
}

// launch runs a kernel with blocks of so many threads.
func (b *Backend) launch(kernel string, grid [3]int, threads, shared int, args ...any) error {
	return b.device.Launch(&Launch{Kernel: kernel, Grid: grid, Threads: [3]int{threads, 1, 1}, Shared: shared, Args: args})
}
