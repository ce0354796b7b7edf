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
						if request.PromptLogprobs || cut < 1 {
							continue
						}
						request.Generated = whole.tokens[:cut]
						got := g.run(t, []protocol.Request{request}, 1, nil, nil)[request.ID]
						if !slices.Equal(got.tokens, whole.tokens[cut:]) {
							t.Errorf("request %d resumed behind %d tokens: got %v, want %v", request.ID, cut, got.tokens,
								whole.tokens[cut:])
						}
					}
				})
			}
		}
	}
}
