package gpu

import (
	"slices"

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
	summaries  Address // [wanted row][part of these]
	nominated  Address // [wanted row][rank]: the likeliest token
	chosen     Address // [wanted row]
	flights    []flight
	said       Address // see inputs
	results    Address // of parts of attention
	items      Address // [layout]: of attention
	attention  attentionRoom

	rows   []row
	wanted []int32
	// onlyBest says of wanted rows that nothing but the likeliest token is.
	onlyBest []bool
	chunks   []chunk
	shape    stepShape
	inputs   inputs
	words    []byte // what goes to said
}

// inputs are where what is said of a step lies. All of it goes up in one copy, and its places follow from the step's shape.
type inputs struct {
	exchange  Address // the number of the step's first
	tokens    Address // [row]
	positions Address // [row]; -1: the row has no token
	rowBlocks Address // [row]: the block that its keys and values go to; -1 likewise
	wanted    Address // rows
	tables    Address // of blocks, of all chunks
	tableOf   Address // [row]: where in tables its table begins, if each sequence has one row
	turns     []turns // by rotation
	fresh     Address // blocks
}

// row says which token of a step a row is.
type row struct {
	token                  int32
	position, promptTokens int
	block                  int32
}

// chunk is a run of rows of one sequence.
type chunk struct{ first, rows, table int }

// begin lays the rows out, uploads what is said of them, and clears fresh blocks.
func (b *Backend) begin(chunks []model.Chunk, followed bool) error {
	b.rows, b.wanted, b.onlyBest, b.chunks = b.rows[:0], b.wanted[:0], b.onlyBest[:0], b.chunks[:0]
	exact := shapeOf(chunks)
	exact.followed = followed
	b.shape = b.fill(exact, chunks)
	for i := range b.layouts {
		b.layouts[i].ranges = b.layouts[i].ranges[:0]
	}
	var tables, fresh, adapters []int32
	for i := range chunks {
		c := &chunks[i]
		b.chunks = append(b.chunks, chunk{len(b.rows), len(c.Tokens), len(tables)})
		tables, fresh = append(tables, c.Blocks...), append(fresh, c.FreshBlocks()...)
		for j, token := range c.Tokens {
			position := c.Start + j
			if c.Wants(j) {
				b.wanted, b.onlyBest = append(b.wanted, int32(len(b.rows))), append(b.onlyBest, c.Logits == model.LogitsBest)
			}
			adapters = append(adapters, int32(c.Adapter))
			b.rows = append(b.rows, row{token, position, c.PromptTokens, c.Blocks[position/blockTokens]})
		}
	}
	if err := b.say(tables, fresh); err != nil {
		return err
	}
	if b.hosted != nil {
		if err := b.hosted.beginOnHost(b); err != nil {
			return err
		}
	}
	if err := b.uploadAdapted(adapters); err != nil {
		return err
	}
	if len(fresh) == 0 || b.part.KVHeads.Size() == 0 {
		return nil
	}
	layer := b.blocks * b.blockBytes() / 16
	return b.launch("clear", [3]int{len(fresh), b.config.Layers, 1}, 256, 0, b.cache, b.inputs.fresh, uint64(layer),
		int32(b.blockBytes()/16))
}

// say uploads what kernels are told of the step.
func (b *Backend) say(tables, fresh []int32) error {
	rows := b.shape.rows
	tokens, positions, blocks, tableOf := make([]int32, rows), make([]int32, rows), make([]int32, rows), make([]int32, rows)
	for i := range b.chunks {
		tableOf[b.chunks[i].first] = int32(b.chunks[i].table)
	}
	for i := range rows {
		if positions[i], blocks[i] = -1, -1; i < len(b.rows) {
			tokens[i], positions[i], blocks[i] = b.rows[i].token, int32(b.rows[i].position), b.rows[i].block
		}
	}
	wanted := b.wanted
	if b.shape.filled {
		wanted = append(slices.Clone(wanted), make([]int32, rows-len(wanted))...)
	}
	b.words = b.words[:0]
	in := inputs{exchange: put(b, []uint32{b.peers.number + 1}), tokens: put(b, tokens), positions: put(b, positions),
		rowBlocks: put(b, blocks), wanted: put(b, wanted), turns: b.inputs.turns[:0]}
	for kind := range b.part.Rotations {
		in.turns = append(in.turns, b.putTurns(kind))
	}
	if b.shape.single {
		in.tableOf = put(b, tableOf)
	}
	in.tables = put(b, tables)
	in.fresh = put(b, fresh)
	b.inputs, b.peers.place = in, 0
	return b.device.Upload(b.said, b.words)
}

// put adds to what goes up, and returns where that will lie.
func put[T int32 | uint32 | float32](b *Backend, values []T) Address {
	at := b.said + Address(len(b.words))
	b.words = append(b.words, bytesOf(values)...)
	return at
}

// saidBytes is the size of what is said of the largest steps.
func (b *Backend) saidBytes() int {
	words := 1 + 5*b.maxRows + b.maxRows*b.tableRoom() + len(b.part.Rotations)*b.maxRows*(b.config.HeadDim+1) + b.blocks
	return 4 * words
}

// tableRoom is how many blocks a chunk's table has at most.
func (b *Backend) tableRoom() int { return min(b.config.MaxPositions/blockTokens, b.blocks) + 1 }

// stepShape is what the launches of a step depend on: how many rows they compute, and how many parts the attention of one has at most.
// A filled one has more than there are, so that steps are of few shapes.
type stepShape struct {
	rows, parts int
	single      bool // each sequence has one row
	followed    bool // the next step takes the tokens that are chosen on the device
	filled      bool
}

func shapeOf(chunks []model.Chunk) (s stepShape) {
	s.single = true
	for i := range chunks {
		c := &chunks[i]
		s.rows, s.parts = s.rows+len(c.Tokens), max(s.parts, (c.Start+len(c.Tokens)-1)/partTokens+1)
		s.single = s.single && len(c.Tokens) == 1
	}
	return s
}

// launch runs a kernel with blocks of so many threads.
func (b *Backend) launch(kernel string, grid [3]int, threads, shared int, args ...any) error {
	return b.device.Launch(&Launch{Kernel: kernel, Grid: grid, Threads: [3]int{threads, 1, 1}, Shared: shared, Args: args})
}
