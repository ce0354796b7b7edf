// Package gpu is the backend that computes on cards: kernels of our own (package kernels) for the stages of package model, on a Device.
//
// A row computes the same bits whatever else is in the step (law 3 in docs/architecture.md): tensor cores add 16 products at a time,
// in the order of columns, for any number of rows; row-parallel products are cut into the model's chunks, which are added as a binary
// tree that the sum over ranks continues; attention goes by parts of 256 positions. What differs between cards is how their cores cut
// off the sums of 16 (Description.Class), which is part of the numerics id.
package gpu

import (
	"fmt"

	"lockstep/shard/collective"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

// blockTokens is the number of positions in a KV block, partTokens that of a part of attention (kernels/common.cuh).
const (
	blockTokens = 16
	partTokens  = 256
)

// Numerics are the arithmetics that Load takes, by their names, with the terms that inputs of products and the KV cache have: bfloat16
// numbers whose sum they are.
var Numerics = map[string]int{"bf16": 1, "two-term": 2}

// DefaultNumerics is what is computed with unless somebody asks for another.
const DefaultNumerics = "bf16"

// Backend computes one rank's part of a model. One goroutine owns it.
type Backend struct {
	config model.Config
	part   *model.Part
	device Device
	team   *workers.Team
	terms  int
	piece  []byte // of a matrix that goes up
	need   need
	// adapters is how many there are.
	adapters int
	unread   bool // see Options
	warn     func(error)
	hosted   *embed // whose table is the host's; nil: the device has it
	stages   []stage
	output   output
	layouts  []itemLayout // of attention, by windows
	turns    []turns      // by rotation; of some each step is told
	graphs   graphs
	run
}

// Options are how a backend computes.
type Options struct {
	Numerics string // one of Numerics
	// Graphs are the numbers of rows that decode steps are filled up to, see DefaultGraphs; none: all is launched one by one.
	Graphs []int
	// Unread says that the weights of matrices are not looked at: zeros of their size go up. It is for measuring the shape of a model
	// that nobody has, with a device that makes something of them.
	Unread bool
	// Progress gets the share of the weights that is loaded, from 0 to 1; Warn what does not go as it should and can be done without.
	// Either may be nil.
	Progress func(done float64)
	Warn     func(err error)
}

// Load uploads this rank's part of the weights, which the team packs. The backend owns the device.
func Load(part *model.Part, device Device, team *workers.Team, options Options) (*Backend, error) {
	b := &Backend{config: part.Config, part: part, device: device, team: team, terms: Numerics[options.Numerics], unread: options.Unread,
		warn: options.Warn}
	if b.warn == nil {
		b.warn = func(error) {}
	}
	b.need.parts = min(part.Ranks-1, 1)
	for i, planned := range part.Stages {
		if err := b.load(planned); err != nil {
			b.Close()
			return nil, err
		}
		if options.Progress != nil {
			options.Progress(float64(i+1) / float64(len(part.Stages)))
		}
	}
	b.piece = nil
	b.useGraphs(options.Graphs)
	return b, nil
}

// Describe says what computes here.
func (b *Backend) Describe() model.Device {
	d := b.device.Describe()
	numerics := "bf16" + d.Class + ".1"
	if b.terms > 1 {
		numerics = "bf16x2" + d.Class + ".1"
	}
	return model.Device{Type: d.Type, Name: d.Name, Numerics: numerics, Uneven: b.part.Uneven, BlockTokens: blockTokens,
		BlockBytes: b.part.AllKVHeads() * b.headBytes() * b.config.Layers}
}

// ExchangeFloats returns what the ranks exchange through the group's memory: sums of rows, and logits.
func (b *Backend) ExchangeFloats(maxRows int) (reduce, gather int) {
	if !b.config.Reward {
		gather = b.handedFloats(min(model.LogitRows, maxRows))
	}
	if b.part.Ranks > 1 {
		reduce = maxRows * max(b.need.parts*b.config.Hidden, b.need.lowRanks, 2*b.part.Ranks)
	}
	return reduce, gather
}

// FreeBytes is the memory that is left for a KV cache, of all ranks together.
func (b *Backend) FreeBytes() (bytes int64, of string, err error) {
	if bytes, of, err = b.device.FreeBytes(); b.device.Describe().OwnMemory {
		bytes *= int64(b.part.Ranks)
	}
	return bytes, of, err
}

// headBytes is the size of a KV head's part of a block.
func (b *Backend) headBytes() int {
	return (steps(b.config.HeadDim) + steps(b.config.ValueDims())) * b.terms * tileNumbers * 2
}

func (b *Backend) blockBytes() int { return b.part.KVHeads.Size() * b.headBytes() }

// layerCache is where the cache of a layer begins.
func (b *Backend) layerCache(layer int) Address {
	return b.cache + Address(layer*b.blocks*b.blockBytes())
}

// Attach gives the backend its group, and takes the memory of a cache of so many blocks and of the buffers for steps of maxRows tokens.
func (b *Backend) Attach(group *collective.Group, blocks, maxRows int) error {
	b.group, b.blocks, b.maxRows = group, blocks, maxRows
	logitRows := b.logitRows()
	b.attention = b.roomForAttention()
	hidden, choices := inputOf(b.config.Hidden, 1), maxRows*b.need.choices
	for _, buffer := range []struct {
		at    *Address
		bytes int
	}{
		{&b.hidden, 4 * maxRows * b.config.Hidden},
		{&b.normed, hidden.bytes(maxRows, b.terms)},
		{&b.aside, b.need.aside * hidden.bytes(maxRows, b.terms)},
		{&b.wantedRows, hidden.bytes(logitRows, b.terms)},
		{&b.inner, b.need.inner * maxRows},
		{&b.ordered, b.need.ordered * maxRows},
		{&b.products, 4 * b.need.products * maxRows},
		{&b.folded, 4 * b.need.parts * maxRows * b.config.Hidden},
		{&b.adapted.starts, 4 * (b.adapters + 1)},
		{&b.adapted.rowOf, 4 * maxRows},
		{&b.adapted.kindOf, 4 * maxRows},
		{&b.adapted.ofRow, 4 * maxRows},
		{&b.adapted.pairs, 4 * choices},
		{&b.adapted.pairNumbers, 4 * choices},
		{&b.adapted.paired.starts, 4 * (b.adapters*b.need.experts + 1)},
		{&b.adapted.paired.rowOf, 4 * choices},
		{&b.adapted.paired.kindOf, 4 * choices},
		{&b.adapted.paired.target, 4 * choices},
		{&b.adapted.sums, 4 * b.need.lowSums * maxRows},
		{&b.adapted.sum, 4 * b.need.lowRanks * maxRows},
		{&b.adapted.lowered, 2 * b.terms * b.need.lowRanks * maxRows},
		{&b.adapted.raised, 4 * b.need.lowOutputs * maxRows},
		{&b.choice.experts, 4 * choices},
		{&b.choice.weights, 4 * choices},
		{&b.choice.numbers, 4 * choices},
		{&b.choice.rowOf, 4 * choices},
		{&b.choice.expertOf, 4 * choices},
		{&b.choice.starts, 4 * min(b.need.choices, 1) * (b.need.experts + 1)},
		{&b.choice.mixed, 4 * min(b.need.choices, 1) * maxRows * b.config.Hidden},
		{&b.queries, 2 * b.part.Heads.Size() * steps(b.config.HeadDim) * step * b.terms * maxRows},
		{&b.logits, 4 * logitRows * max(b.part.Vocabulary.Size(), 1)},
		{&b.summaries, 4 * summaryFloats * logitRows * b.summaryParts()},
		{&b.nominated, 4 * 2 * b.part.Ranks * logitRows},
		{&b.chosen, 4 * logitRows},
		{&b.said, b.saidBytes()},
		{&b.results, b.attention.resultBytes},
		{&b.items, len(b.layouts) * b.attention.items * itemBytes},
		{&b.cache, b.config.Layers * blocks * b.blockBytes()},
	} {
		var err error
		if *buffer.at, err = b.alloc(buffer.bytes); err != nil {
			return fmt.Errorf("a KV cache of %d blocks: %w: lower --max-batch-total-tokens", blocks, err)
		}
	}
	if err := b.layTurns(); err != nil {
		return err
	}
	if err := b.meetPeers(); err != nil {
		return err
	}
	for _, planned := range b.stages {
		if s, ok := planned.(settler); ok {
			if err := s.settle(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// alloc takes memory of the device until Close; none has no address.
func (b *Backend) alloc(bytes int) (Address, error) {
	if bytes == 0 {
		return 0, nil
	}
	at, err := b.device.Alloc(bytes)
	if err == nil {
		b.memory = append(b.memory, at)
	}
	return at, err
}

// tell uploads what stands until Close.
func (b *Backend) tell(data []byte) (Address, error) {
	at, err := b.alloc(len(data))
	if err != nil {
		return 0, err
	}
	return at, b.device.Upload(at, data)
}

// Close gives the device back with all that is on it. The backend must not be used afterwards.
func (b *Backend) Close() {
	for _, at := range b.memory {
		b.device.Free(at)
	}
	b.memory = nil
	b.device.Close() //nolint:errcheck // there is nobody to tell
}
