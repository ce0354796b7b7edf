package sim_test

import (
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lockstep/protocol"
	"lockstep/shard/collective"
	"lockstep/shard/model"
	"lockstep/shard/sample"
	"lockstep/shard/sim"
)

var shape = model.Config{Vocabulary: 50, Layers: 2, KVHeads: 1, HeadDim: 8, MaxPositions: 256, EOSTokenIDs: []int32{3, 7}}

func start(t *testing.T, shape model.Config, config sim.Config) *sim.Backend {
	t.Helper()
	b := sim.New(shape, 0, config, []string{"x", "y"})
	group, err := collective.Open(nil, 0, collective.Sizes{Ranks: 1, PlanBytes: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { group.Close() })
	if err := b.Attach(group, 8, 64); err != nil {
		t.Fatal(err)
	}
	return b
}

// rows computes chunks and returns copies of the logits that they want.
func rows(t *testing.T, b *sim.Backend, chunks ...model.Chunk) (rows [][]float32) {
	t.Helper()
	if err := b.Forward(chunks, func(s model.Scores) {
		for row := range s.Rows() {
			rows = append(rows, slices.Clone(s.Row(row)))
		}
	}); err != nil {
		t.Fatal(err)
	}
	return rows
}

func prompt(count int) (tokens []int32) {
	for i := range count {
		tokens = append(tokens, int32(i*i%40))
	}
	return tokens
}

// However a prompt is cut into steps, and in whichever blocks it lies, its logits are the same; in wrong blocks they are not.
func TestLogitsFollowTheTokens(t *testing.T) {
	b, tokens := start(t, shape, sim.Config{}), prompt(40)
	whole := rows(t, b, model.Chunk{Tokens: tokens, PromptTokens: 40, Blocks: []int32{0, 1, 2}, Fresh: 3, Logits: model.LogitsAll})
	if len(whole) != 40 {
		t.Fatalf("got %d rows", len(whole))
	}
	var pieces [][]float32
	for at := 0; at < 40; at += 7 {
		blocks := []int32{5, 3, 4}[:(min(at+7, 40)+15)/16]
		pieces = append(pieces, rows(t, b, model.Chunk{Start: at, Tokens: tokens[at:min(at+7, 40)], PromptTokens: 40, Blocks: blocks,
			Logits: model.LogitsAll})...)
	}
	if !slices.EqualFunc(whole, pieces, slices.Equal) {
		t.Error("in pieces the logits differ")
	}
	next := func(blocks ...int32) []float32 {
		return rows(t, b, model.Chunk{Start: 40, Tokens: []int32{1}, PromptTokens: 40, Blocks: blocks, Logits: model.LogitsLast})[0]
	}
	for adapter := 1; adapter <= 2; adapter++ {
		other := rows(t, b, model.Chunk{Tokens: tokens, PromptTokens: 40, Blocks: []int32{6, 7, 2}, Fresh: 3, Adapter: adapter,
			Logits: model.LogitsAll})
		for row := range other {
			if slices.Equal(other[row], whole[row]) {
				t.Errorf("adapter %d changes nothing at %d", adapter, row)
			}
		}
	}
	rows(t, b, model.Chunk{Tokens: tokens, PromptTokens: 40, Blocks: []int32{0, 1, 2}, Fresh: 3})
	if want := next(0, 1, 2); !slices.Equal(next(5, 3, 4), want) {
		t.Error("the same tokens in other blocks give other logits")
	} else if slices.Equal(next(0, 1, 6), want) {
		t.Error("a wrong block does not show")
	}
}

// A block that another sequence has left is cleared for its next one; where the plan forgets to say so, it shows. The same
// tokens computed once more, as a prefix is, change nothing.
func TestBlocksAreCleared(t *testing.T) {
	b := start(t, shape, sim.Config{})
	answer := func(tokens []int32, block int32, fresh int) []float32 {
		return rows(t, b, model.Chunk{Tokens: tokens, PromptTokens: len(tokens), Blocks: []int32{block}, Fresh: fresh,
			Logits: model.LogitsLast})[0]
	}
	want := answer(prompt(9), 0, 1)
	if !slices.Equal(answer(prompt(9), 0, 0), want) {
		t.Error("computed once more, the logits differ")
	}
	answer([]int32{9, 8, 7}, 1, 1)
	if slices.Equal(answer(prompt(9), 1, 0), want) {
		t.Error("a block that was not cleared does not show")
	}
	if !slices.Equal(answer(prompt(9), 1, 1), want) {
		t.Error("a cleared block gives other logits")
	}
}

// Best is what the sampler chooses from Row, never an end of a sequence; sampling has a choice of several tokens.
func TestBestIsTheSamplersChoice(t *testing.T) {
	b := start(t, shape, sim.Config{})
	chosen := map[int32]bool{}
	if err := b.Forward([]model.Chunk{{Tokens: prompt(60), PromptTokens: 60, Blocks: []int32{0, 1, 2, 3}, Logits: model.LogitsAll}},
		func(s model.Scores) {
			var sampler sample.Sampler
			for row := range s.Rows() {
				token, logprob := s.Best(row)
				want, wantLogprob, _ := sampler.Choose(s.Row(row), sample.Context{Tokens: []int32{1}, Prompt: 1}, &protocol.Sampling{}, 0,
					nil)
				if token != want || math.Float32bits(logprob) != math.Float32bits(wantLogprob) ||
					slices.Contains(shape.EOSTokenIDs, token) {
					t.Errorf("row %d: got token %d, %v, want %d, %v", row, token, logprob, want, wantLogprob)
				}
				if row == 0 {
					for seed := range uint64(50) {
						token, _, _ := sampler.Choose(s.Row(row), sample.Context{Tokens: []int32{1}, Prompt: 1},
							&protocol.Sampling{Sample: true, Seed: seed}, 0, nil)
						chosen[token] = true
					}
				}
			}
		}); err != nil {
		t.Fatal(err)
	}
	if len(chosen) < 2 {
		t.Errorf("50 seeds chose %v", chosen)
	}
}

// A vocabulary of nothing but ends, and a reward model's single score, are answered too.
func TestOddShapes(t *testing.T) {
	ends := shape
	ends.Vocabulary, ends.EOSTokenIDs = 2, []int32{0, 1}
	reward := shape
	reward.Reward = true
	for name, c := range map[string]struct {
		shape model.Config
		width int
	}{"only ends": {ends, 2}, "reward": {reward, 1}} {
		got := rows(t, start(t, c.shape, sim.Config{}),
			model.Chunk{Tokens: prompt(3), PromptTokens: 3, Blocks: []int32{0}, Logits: model.LogitsLast})
		if len(got) != 1 || len(got[0]) != c.width {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

// A step takes what the model says, in virtual time, and long ones show that they live.
func TestStepsTakeTheirTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := start(t, shape, sim.Config{StepModel: sim.StepModel{Base: 1, PrefillToken: 0.1, Decode: 0.5}})
		for _, c := range []struct {
			chunks []model.Chunk
			want   time.Duration
		}{
			{[]model.Chunk{{Tokens: prompt(5), PromptTokens: 5, Blocks: []int32{0}}}, 1500 * time.Millisecond},
			{[]model.Chunk{{Start: 5, Tokens: prompt(1), PromptTokens: 5, Blocks: []int32{0}},
				{Tokens: prompt(1), PromptTokens: 1, Blocks: []int32{1}}}, 2 * time.Second},
		} {
			began := time.Now()
			rows(t, b, c.chunks...)
			if took := time.Since(began); took.Round(time.Millisecond) != c.want {
				t.Errorf("%d chunks: took %v, want %v", len(c.chunks), took, c.want)
			}
		}
	})
}

// A cache that the device could not hold is refused before its memory is taken.
func TestCacheBeyondTheDevice(t *testing.T) {
	b := sim.New(shape, 0, sim.Config{}, nil)
	if err := b.Attach(nil, 1<<40, 64); err == nil {
		t.Error("it was taken")
	}
}

func TestParseStepModel(t *testing.T) {
	for text, want := range map[string]float64{"": sim.DefaultStepModel.Base, "10ms": 0.01, "0s": 0} {
		if got, err := sim.ParseStepModel(text); err != nil || got.Base != want {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"-1s", "2h", "no-such-file", "sim_test.go"} {
		if got, err := sim.ParseStepModel(text); err == nil {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}
