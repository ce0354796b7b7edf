// Package backendtest runs the ranks of a model as goroutines of a test, over whichever backend, and holds what they compute to
// reference cases.
package backendtest

import (
	"os"
	"slices"
	"testing"

	"lockstep/shard/collective"
	"lockstep/shard/model"
)

// Backend is what groups need of one.
type Backend interface {
	ExchangeFloats(maxRows int) (reduce, gather int)
	Attach(group *collective.Group, blocks, maxRows int) error
	Forward(chunks []model.Chunk, consume func(model.Scores)) error
	Close()
}

// Load loads one rank's part.
type Load func(part *model.Part) (Backend, error)

// Group is a group whose ranks are goroutines, each with memory mapping and weights of its own.
type Group struct {
	t         testing.TB
	steps     []chan []model.Chunk
	logits    chan [][]float32 // of rank 0, after each step
	finished  chan error
	free      []int32
	MaxTokens int
	Adapter   int // of the sequences that begin
}

// MaxRows is how many tokens a step has at most.
const MaxRows = 512

const cacheBlocks = 256

// New starts a group, which ends with the test.
func New(t testing.TB, source *model.Model, ranks int, load Load, adapters ...*model.Adapter) *Group {
	t.Helper()
	memory, err := collective.NewMemory("test")
	if err != nil {
		t.Fatal(err)
	}
	g := &Group{t: t, logits: make(chan [][]float32, 1), finished: make(chan error, ranks), MaxTokens: source.Config.MaxPositions}
	for i := range cacheBlocks {
		g.free = append(g.free, int32(i))
	}
	for range ranks {
		g.steps = append(g.steps, make(chan []model.Chunk))
	}
	for rank := range ranks {
		go g.rank(source, memory, rank, ranks, load, adapters)
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

func (g *Group) rank(source *model.Model, memory *os.File, rank, ranks int, load Load, adapters []*model.Adapter) {
	g.finished <- func() error {
		part, err := source.Part(rank, ranks, adapters...)
		if err != nil {
			return err
		}
		b, err := load(part)
		if err != nil {
			return err
		}
		reduce, gather := b.ExchangeFloats(MaxRows)
		shared, err := collective.Open(memory, rank,
			collective.Sizes{Ranks: ranks, ReduceFloats: reduce, GatherFloats: gather, PlanBytes: 64})
		if err != nil {
			b.Close()
			return err
		}
		defer shared.Close()
		defer b.Close() // before the group, whose memory it fills
		if err := b.Attach(shared, cacheBlocks, MaxRows); err != nil {
			return err
		}
		for step := range g.steps[rank] {
			out, only := [][]float32{}, onlyBest(step)
			if err := b.Forward(step, func(scores model.Scores) {
				for row := range scores.Rows() {
					if only[len(out)] {
						token, logprob := scores.Best(row)
						out = append(out, []float32{float32(token), logprob})
						continue
					}
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

// onlyBest says which wanted rows of a step are of model.LogitsBest.
func onlyBest(step []model.Chunk) (only []bool) {
	for i := range step {
		for j := range step[i].Tokens {
			if step[i].Wants(j) {
				only = append(only, step[i].Logits == model.LogitsBest)
			}
		}
	}
	return only
}

// Step computes one step on all ranks and returns the wanted rows of logits; those of model.LogitsBest are the likeliest token and its
// log-probability.
func (g *Group) Step(chunks []model.Chunk) [][]float32 {
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

// Sequence is one request of a test.
type Sequence struct {
	g       *Group
	adapter int
	prompt  int
	Tokens  []int32 // so far
	blocks  []int32
}

// Sequence begins one with a prompt of so many tokens.
func (g *Group) Sequence(promptTokens int) *Sequence {
	return &Sequence{g: g, adapter: g.Adapter, prompt: promptTokens}
}

// Chunk appends tokens, taking blocks as needed, and returns what a step must compute.
func (s *Sequence) Chunk(tokens []int32, logits model.Logits) model.Chunk {
	const blockTokens = 16
	start, fresh := len(s.Tokens), 0
	s.Tokens = append(s.Tokens, tokens...)
	for ; len(s.blocks)*blockTokens < len(s.Tokens); fresh++ {
		s.blocks = append(s.blocks, s.g.free[len(s.g.free)-1])
		s.g.free = s.g.free[:len(s.g.free)-1]
	}
	return model.Chunk{Start: start, PromptTokens: s.prompt, Adapter: s.adapter, Tokens: tokens,
		Blocks: s.blocks, Fresh: fresh, Logits: logits}
}

// Compute computes tokens in a step of their own.
func (s *Sequence) Compute(tokens []int32, logits model.Logits) [][]float32 {
	s.g.t.Helper()
	return s.g.Step([]model.Chunk{s.Chunk(tokens, logits)})
}

// Release gives the blocks back.
func (s *Sequence) Release() { s.g.free = append(s.g.free, s.blocks...) }
