package shard

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"lockstep/protocol"
)

func speculating(t *testing.T, speculate, blocks int) *testGroup {
	return startGroup(t, Config{Backend: "sim", Shards: 2, Speculate: speculate, Limits: Limits{PrefillTokens: 64, MaxSequences: 32}},
		os.DirFS("../launcher/demo/model"), blocks)
}

func freeRequest(id uint64, tokens int) protocol.Request {
	return protocol.Request{ID: id, Prompt: []int32{1, 2, 3, 4, 5}, MaxNewTokens: tokens, NoPrefixCache: true,
		Sampling: protocol.Sampling{Sample: true, Seed: id, IgnoreEOS: true}}
}

// always guesses what answers say.
func always(answers map[uint64]*result) func([]int32, *sequence, int) []int32 {
	return func(to []int32, s *sequence, count int) []int32 {
		rest := answers[s.request.ID].tokens[len(s.tokens)-len(s.request.Prompt):]
		return append(to, rest[:min(count, len(rest))]...)
	}
}

// Guesses that are right take no step of their own, and those that are wrong cost no step.
func TestSpeculatedSteps(t *testing.T) {
	g := speculating(t, 3, 50)
	requests := []protocol.Request{freeRequest(1, 21)}
	g.engine.propose = func(to []int32, _ *sequence, _ int) []int32 { return to }
	before := g.steps
	want := g.run(t, requests, 1, nil, nil)
	if took := g.steps - before; took != 21 {
		t.Errorf("21 tokens took %d steps", took)
	}
	for _, test := range []struct {
		name     string
		propose  func([]int32, *sequence, int) []int32
		steps    uint64
		accepted int
	}{
		{"right", always(want), 6, 15}, // one token of the prompt's step, then four of each
		{"wrong", func(to []int32, s *sequence, count int) []int32 { return append(to, make([]int32, count)...) }, 21, 0},
		{"none is left", lookUp, 21, 0},
	} {
		before, accepted := g.steps, g.speculation.Accepted
		g.engine.propose = test.propose
		compareResults(t, test.name, g.run(t, requests, 1, nil, nil), want)
		if took := g.steps - before; took != test.steps || g.speculation.Accepted-accepted != test.accepted {
			t.Errorf("%s: %d steps, %d guesses accepted, want %d and %d", test.name, took, g.speculation.Accepted-accepted, test.steps,
				test.accepted)
		}
	}
}

// A sequence ends with the token that ends it, be it guessed or not, and what was guessed behind it is not told.
func TestSpeculatedEnd(t *testing.T) {
	g := speculating(t, 7, 50)
	request := freeRequest(1, 30)
	long := g.run(t, []protocol.Request{request}, 1, nil, nil)
	tokens := long[1].tokens
	for end := range 12 {
		short := request
		short.StopTokens = [][]int32{tokens[end : end+2]}
		g.engine.propose = always(long)
		got := g.run(t, []protocol.Request{short}, 1, nil, nil)[1]
		if !slices.Equal(got.tokens, tokens[:end+2]) || got.finish != protocol.FinishStop {
			t.Errorf("it ended with %d tokens for reason %d, want %d", len(got.tokens), got.finish, end+2)
		}
		short = request
		short.MaxNewTokens = end + 1
		got = g.run(t, []protocol.Request{short}, 1, nil, nil)[1]
		if !slices.Equal(got.tokens, tokens[:end+1]) || got.finish != protocol.FinishLength {
			t.Errorf("it ended with %d tokens for reason %d, want %d", len(got.tokens), got.finish, end+1)
		}
	}
}

// A step is filled up to eight rows with guesses, fairly, and a larger one has none.
func TestSpeculatedRows(t *testing.T) {
	for _, test := range []struct{ sequences, drafted int }{{1, 7}, {2, 6}, {3, 5}, {5, 3}, {8, 0}, {9, 0}} {
		t.Run(fmt.Sprint(test.sequences, " sequences"), func(t *testing.T) {
			g := speculating(t, 7, 100)
			g.engine.propose = func(to []int32, _ *sequence, count int) []int32 { return append(to, make([]int32, count)...) }
			for i := range test.sequences {
				g.add("test", freeRequest(uint64(i), 30))
			}
			for range 3 {
				if _, err := g.step(); err != nil {
					t.Fatal(err)
				}
			}
			if got := g.engine.record.Drafted; got != test.drafted {
				t.Errorf("%d guesses, want %d", got, test.drafted)
			}
		})
	}
}

// Guesses take blocks that are free and park nobody; they fall short where none are.
func TestSpeculatedRoom(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var requests []protocol.Request
	for i := range 4 {
		requests = append(requests, freeRequest(uint64(i), 11)) // with the prompt a block each, to its last place
	}
	g := speculating(t, 7, 4)
	want := g.run(t, requests, 4, nil, random)
	g.engine.propose = always(want)
	compareResults(t, "right", g.run(t, requests, 4, nil, random), want)
	g.engine.propose = func(to []int32, _ *sequence, count int) []int32 { return append(to, make([]int32, count)...) }
	compareResults(t, "wrong", g.run(t, requests, 4, nil, random), want)
	if parked := g.schedule.Counts().Parked; parked != 0 || g.speculation.Accepted == 0 {
		t.Errorf("%d were parked, %d guesses accepted", parked, g.speculation.Accepted)
	}
}

// What frames say of guessed tokens is where they lie among the generated ones.
func TestSpeculatedFrames(t *testing.T) {
	g := speculating(t, 3, 50)
	request := freeRequest(1, 10)
	want := g.run(t, []protocol.Request{request}, 1, nil, nil)
	g.engine.propose = always(want)
	g.add("test", request)
	var frame protocol.Frame
	for len(g.sequences) > 0 {
		outputs, err := g.step()
		if err != nil {
			t.Fatal(err)
		}
		for i := range outputs {
			outputs[i].addTo(&frame)
		}
	}
	if !slices.Equal(frame.Token, want[1].tokens) || !slices.Equal(frame.Position, []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}) {
		t.Errorf("tokens %v at %v, want %v", frame.Token, frame.Position, want[1].tokens)
	}
}

// What a real model computes of guesses has the bits that it has alone, whatever the sampling.
func TestSpeculatedBits(t *testing.T) {
	requests := workload(8, 3)
	demo := os.DirFS("../launcher/demo/model")
	config := Config{Shards: 2, Limits: Limits{PrefillTokens: 64, MaxSequences: 32}}
	plain := startGroup(t, config, demo, 100)
	want := plain.run(t, requests, len(requests), nil, nil)
	config.Speculate = 4
	g := startGroup(t, config, demo, 100)
	random := rand.New(rand.NewPCG(4, 4))
	for _, together := range []int{1, 3} {
		g.engine.propose = oracle(want, random)
		compareResults(t, fmt.Sprint(together, " together"), g.run(t, requests, together, nil, random), want)
	}
	if s := g.speculation; s.Accepted == 0 || s.Accepted == s.Drafted {
		t.Errorf("%d of %d guesses were right: the test proves little", s.Accepted, s.Drafted)
	}
}
