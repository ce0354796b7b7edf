package host_test

import (
	"os"
	"slices"
	"testing"

	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

// group runs the ranks of a model as goroutines of the test, each with threads, memory mapping and weights of its own.
type group struct {
	t         testing.TB
	steps     []chan []model.Chunk
	logits    chan [][]float32 // of rank 0, after each step
	finished  chan error
	free      []int32
	maxTokens int
	adapter   int // of the sequences that begin
	cache     cpu.CacheType
}

const (
	testBlocks  = 256
	testMaxRows = 512
)

func newGroup(t testing.TB, source *model.Model, ranks, threads int, kernels *cpu.Kernels, adapters ...*model.Adapter) *group {
	return newGroupCaching(t, cpu.CacheF32, source, ranks, threads, kernels, adapters...)
}

func newGroupCaching(t testing.TB, cache cpu.CacheType, source *model.Model, ranks, threads int, kernels *cpu.Kernels,
	adapters ...*model.Adapter) *group {
	t.Helper()
	memory, err := collective.NewMemory("test")
	if err != nil {
		t.Fatal(err)
	}
	g := &group{t: t, cache: cache,
		logits: make(chan [][]float32, 1), finished: make(chan error, ranks), maxTokens: source.Config.MaxPositions}
	for i := range testBlocks {
		g.free = append(g.free, int32(i))
	}
	for rank := range ranks {
		g.steps = append(g.steps, make(chan []model.Chunk))
		go g.rank(source, memory, rank, ranks, threads, kernels, adapters)
	}
	t.Cleanup(func() {
		for _, steps := range g.steps {
			close(steps)
		}
		for range g.steps {
			if err := <-g.finished; err != nil {
				t.Error(err)
			}
		}
		memory.Close()
	})
	return g
}

func (g *group) rank(source *model.Model, memory *os.File, rank, ranks, threads int, kernels *cpu.Kernels,
	adapters []*model.Adapter) {
	g.finished <- func() error {
		team := workers.New(threads, nil)
		defer team.Close()
		b, err := load(source, rank, ranks, team, kernels, g.cache, adapters)
		if err != nil {
			return err
		}
		defer b.Close()
		reduce, gather := b.ExchangeFloats(testMaxRows)
		shared, err := collective.Open(memory, rank,
			collective.Sizes{Ranks: ranks, ReduceFloats: reduce, GatherFloats: gather, PlanBytes: 64})
		if err != nil {
			return err
		}
		defer shared.Close()
		if err := b.Attach(shared, testBlocks, testMaxRows); err != nil {
			return err
		}
		for step := range g.steps[rank] {
			var out [][]float32
			if err := b.Forward(step, func(scores model.Scores) {
				for row := range scores.Rows() {
					out = append(out, slices.Clone(scores.Row(row)))
				}
			}); err != nil {
				return err
			}
			if rank == 0 {
				g.logits <- out
			}
		}
		return nil
	}()
}

// load packs one rank's part.
func load(source *model.Model, rank, ranks int, team *workers.Team, kernels *cpu.Kernels, cache cpu.CacheType,
	adapters []*model.Adapter) (*host.Backend, error) {
	part, err := source.Part(rank, ranks, adapters...)
	if err != nil {
		return nil, err
	}
	return host.Load(part, team, kernels, cache, func(float64) {})
}

// step computes one step on all ranks and returns the wanted rows of logits.
func (g *group) step(chunks []model.Chunk) [][]float32 {
	g.t.Helper()
	for _, steps := range g.steps {
		select {
		case steps <- chunks:
		case err := <-g.finished:
			g.finished <- err // the cleanup counts
			g.t.Fatalf("a rank ended: %v", err)
		}
	}
	select {
	case out := <-g.logits:
		return out
	case err := <-g.finished:
		g.finished <- err
		g.t.Fatalf("a rank ended: %v", err)
		return nil
	}
}

// sequence is one request of a test.
type sequence struct {
	g       *group
	adapter int
	prompt  int
	tokens  []int32
	blocks  []int32
}

func (g *group) sequence(promptTokens int) *sequence {
	return &sequence{g: g, adapter: g.adapter, prompt: promptTokens}
}

// chunk appends tokens, taking blocks as needed, and returns what a step must compute.
func (s *sequence) chunk(tokens []int32, logits model.Logits) model.Chunk {
	const blockTokens = 16
	start, fresh := len(s.tokens), 0
	s.tokens = append(s.tokens, tokens...)
	for ; len(s.blocks)*blockTokens < len(s.tokens); fresh++ {
		s.blocks = append(s.blocks, s.g.free[len(s.g.free)-1])
		s.g.free = s.g.free[:len(s.g.free)-1]
	}
	return model.Chunk{Start: start, PromptTokens: s.prompt, Adapter: s.adapter, Tokens: tokens,
		Blocks: s.blocks, Fresh: fresh, Logits: logits}
}

func (s *sequence) compute(tokens []int32, logits model.Logits) [][]float32 {
	s.g.t.Helper()
	return s.g.step([]model.Chunk{s.chunk(tokens, logits)})
}

func (s *sequence) release() { s.g.free = append(s.g.free, s.blocks...) }
