package shard

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/outside"
	"lockstep/shard/model/modeltest"
)

// On an emulated card too a request's tokens are the same alone and in company, in pieces, with few blocks and parking, resumed in the
// middle, and on one and two shards.
func TestEmulatedCardInvariance(t *testing.T) {
	outside.Slow(t)
	files := modeltest.Files(t, "qwen3_moe")
	var requests []protocol.Request
	for _, r := range workload(8, 1) {
		r.MaxNewTokens = min(r.MaxNewTokens, 8)
		r.Prompt = r.Prompt[:min(len(r.Prompt), 40)]
		for i := range r.Prompt {
			r.Prompt[i] %= 300
		}
		requests = append(requests, r)
	}
	for _, numerics := range CardNumerics() {
		var want map[uint64]*result
		for _, shards := range []int{1, 2} {
			for _, stepTokens := range []int{64, 7} {
				t.Run(fmt.Sprintf("%s/%d shards/%d tokens a step", numerics, shards, stepTokens), func(t *testing.T) {
					blocks := 200
					if stepTokens == 7 {
						blocks = 5 // parking
					}
					g := startGroup(t, Config{Backend: "ptx", Numerics: numerics, Shards: shards, Threads: 2,
						Limits: Limits{PrefillTokens: stepTokens, MaxSequences: 8}}, files, blocks)
					random := rand.New(rand.NewPCG(3, uint64(stepTokens)))
					if want == nil {
						want = g.run(t, requests, 1, nil, random)
					}
					compareResults(t, "together", g.run(t, requests, len(requests), nil, random), want)
					for _, request := range requests {
						whole := want[request.ID]
						cut := len(whole.tokens) / 2
						if cut < 1 {
							continue
						}
						request.Generated, request.PromptLogprobsKnown = whole.tokens[:cut], len(whole.prompt)
						got := g.run(t, []protocol.Request{request}, 1, nil, nil)[request.ID]
						if !slices.Equal(got.tokens, whole.tokens[cut:]) || !slices.Equal(got.logprob, whole.logprob[cut:]) {
							t.Errorf("request %d resumed behind %d tokens: got %v, want %v", request.ID, cut, got.tokens,
								whole.tokens[cut:])
						}
					}
				})
			}
		}
	}
}

// Steps that are planned before the tokens of the step before are known, on the emulated card, yield what others do: with sequences that
// end by a stop, join, are cancelled, and are parked.
func TestEmulatedCardPlansAhead(t *testing.T) {
	outside.Slow(t)
	files := modeltest.Files(t, "llama_tied_1kv_f32")
	var requests, noise []protocol.Request
	for i, r := range workload(14, 3) {
		r.MaxNewTokens, r.PromptLogprobs, r.Sampling = 6+i, false, protocol.Sampling{IgnoreEOS: true}
		r.Prompt = r.Prompt[:min(len(r.Prompt), 30)]
		for j := range r.Prompt {
			r.Prompt[j] %= 300
		}
		if i%3 == 0 {
			r.StopTokens = [][]int32{{7}, {19}, {int32(i)}, {111}, {205}}
		}
		if i < 10 {
			requests = append(requests, r)
		} else {
			noise = append(noise, r)
		}
	}
	for _, shards := range []int{1, 2} {
		for _, blocks := range []int{200, 7} {
			t.Run(fmt.Sprintf("%d shards/%d blocks", shards, blocks), func(t *testing.T) {
				start := func() *testGroup {
					return startGroup(t, Config{Backend: "ptx", Numerics: "bf16", Shards: shards, Threads: 2,
						Limits: Limits{PrefillTokens: 32, MaxSequences: 8}}, files, blocks)
				}
				g := start()
				g.engine.backend = &inOrder{backend: g.engine.backend}
				want := g.run(t, requests, 1, nil, nil)
				g = start()
				compareResults(t, "alone", g.run(t, requests, 1, nil, nil), want)
				compareResults(t, "together", g.run(t, requests, len(requests), noise, rand.New(rand.NewPCG(1, 2))), want)
				if g.ahead < 50 {
					t.Errorf("only %d steps were planned ahead", g.ahead)
				}
			})
		}
	}
}
