// Package host is the backend that computes on the CPU: package cpu's kernels on the threads of a team, float32 activations
// and KV cache.
//
// A row (one token of one sequence) computes the same bits whatever else is in the step (law 3 in docs/architecture.md): every
// operation here works on rows alone, kernels sum in one order, and sums over ranks continue the kernels' tree.
package host

import (
	"slices"

	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/machine"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

// blockTokens is the number of positions in a KV block; the attention kernel is built for it.
const blockTokens = 16

// Backend computes one rank's part of a model. One goroutine owns it.
type Backend struct {
	config  model.Config
	part    *model.Part
	team    *workers.Team
	kernels *cpu.Kernels
	stages  []stage
	memory  [][]byte // of weights that are not kept, cache and buffers
	need    need
	kind    cpu.CacheType // of the KV cache
	most    numerics      // that products may have
	used    numerics      // that they have
	unseen  int           // bytes that were packed since the last look at the memory
	// free says what memory is left, and of what.
	free   func() (bytes int64, of string, err error)
	fill   fill
	keeper *keeper // of packed weights; nil: they end with this process

	run
}

// CacheTypes are the types of numbers that a KV cache may hold, by their names.
var CacheTypes = map[string]cpu.CacheType{"f32": cpu.CacheF32, "f16": cpu.CacheF16, "bf16": cpu.CacheBF16}

// Load packs this rank's part of the weights.
func Load(part *model.Part, team *workers.Team, options Options) (*Backend, error) {
	b := &Backend{config: part.Config, part: part, team: team, kernels: options.Kernels, need: need{parts: 1}, most: options.numerics(),
		free: machine.FreeMemory}
	if err := b.loadStages(options); err != nil {
		b.Close()
		return nil, err
	}
	b.kind = b.used.cache()
	if options.Cache != "" {
		b.kind = CacheTypes[options.Cache]
	}
	return b, nil
}

func (b *Backend) loadStages(options Options) (err error) {
	if options.Kept != nil {
		if b.keeper, err = openKept(*options.Kept); err != nil {
			return err
		}
	}
	for i, planned := range b.part.Stages {
		s, err := b.load(planned)
		if err != nil {
			return err
		}
		b.stages = append(b.stages, s)
		b.need.grow(planned)
		options.Progress(float64(i+1) / float64(len(b.part.Stages)))
	}
	b.stages = slices.Insert(b.stages, b.keysEnd(), stage(narrow{}))
	if b.keeper != nil {
		return b.keeper.finish()
	}
	return nil
}

// keysEnd is the number of stages up to the last one that stores keys and values.
func (b *Backend) keysEnd() int {
	end := 0
	for i, s := range b.stages {
		switch s.(type) {
		case *project, *projectLatent:
			end = i + 1
		}
	}
	return end
}

// Describe says what computes here.
func (b *Backend) Describe() model.Device {
	return model.Device{Type: "cpu", Name: b.kernels.Name() + " kernels", Numerics: b.used.id(b.kind), Uneven: b.part.Uneven,
		BlockTokens: blockTokens,
		BlockBytes:  b.kind.Bytes() * b.part.AllKVHeads() * b.headFloats() * b.config.Layers}
}

// ExchangeFloats returns what the ranks exchange through shared memory in steps of maxRows tokens: the largest all-reduce, and
// the area of the logits.
func (b *Backend) ExchangeFloats(maxRows int) (reduce, gather int) {
	if !b.config.Reward {
		gather = min(model.LogitRows, maxRows) * b.config.Vocabulary
	}
	return maxRows * (b.need.parts*b.config.Hidden + b.need.reduced), gather
}

// FreeBytes is the memory that is left for a KV cache, of all ranks together, and whose it is, less what this one's will still
// take.
func (b *Backend) FreeBytes() (bytes int64, of string, err error) {
	bytes, of, err = b.free()
	return bytes - b.fill.rest.Load()*int64(b.part.Ranks), of, err
}

// Attach gives the backend its group, takes the memory of a cache of so many blocks and of the buffers for steps of maxRows
// tokens, and has the kernel give that of the first blocks now. That of buffers and of the other blocks follows while it
// computes (see fill), and the group must stay open until the backend is closed. Others may have taken what was free when the number of
// blocks was chosen: then it fails.
func (b *Backend) Attach(group *collective.Group, blocks, maxRows int) error {
	b.group, b.blocks, b.maxRows = group, blocks, maxRows
	weights := len(b.memory)
	for range b.team.Size() {
		b.scratch = append(b.scratch, cpu.NewScratch())
	}
	c := b.config
	for _, buffer := range []struct {
		floats *[]float32
		count  int
	}{
		{&b.hidden, maxRows * c.Hidden},
		{&b.normed, maxRows * c.Hidden},
		{&b.qkv, maxRows * b.qkvColumns()},
		{&b.attention, maxRows * b.part.AttentionColumns.Size()},
		{&b.gate, maxRows * b.need.gate},
		{&b.up, maxRows * b.need.gate},
		{&b.latent, maxRows * b.need.latent},
		{&b.gathered, maxRows * b.need.choices * c.Hidden},
		{&b.cos, len(b.part.Rotations) * maxRows * c.HeadDim / 2},
		{&b.sin, len(b.part.Rotations) * maxRows * c.HeadDim / 2},
		{&b.scored, maxRows},
		{&b.low.memory, maxRows * b.need.low},
	} {
		var err error
		if *buffer.floats, err = b.anonymousFloats(buffer.count); err != nil {
			return err
		}
	}
	if b.need.aside {
		var err error
		if b.aside, err = b.anonymousFloats(maxRows * c.Hidden); err != nil {
			return err
		}
	}
	b.rows = make([]row, 0, maxRows)
	b.first, b.end = make([]int32, maxRows), make([]int32, maxRows)
	buffers := append(slices.Clone(b.memory[weights:]), group.Memory())
	data, err := b.anonymous(c.Layers * blocks * b.blockStride() * b.kind.Bytes())
	if err != nil {
		return err
	}
	b.cache = cpu.Cache{Type: b.kind, Data: data}
	poison(data)
	return b.startFill(buffers)
}
