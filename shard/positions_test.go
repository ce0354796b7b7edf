package shard

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/fstest"

	"lockstep/protocol"
	"lockstep/shard/model/modeltest"
)

// A model whose rotation stretches with the sequence serves all positions that its factor gives it, and what a request gets beyond
// the trained ones depends on it alone: not on chunks, company, parking, the prefix cache, or where it was resumed.
func TestBeyondTrainedPositions(t *testing.T) {
	const all = 192 // llama_rope_dynamic is trained on 96, and its factor is 2
	files := modeltest.Files(t, "llama_rope_dynamic")
	random := rand.New(rand.NewPCG(11, 13))
	var common []int32
	for range all {
		common = append(common, random.Int32N(439))
	}
	var requests []protocol.Request
	for i, length := range []int{1, 20, 64, 80, 95, 96, 97, 112, 150, 191} { // prefixes of each other
		requests = append(requests, protocol.Request{ID: uint64(i), Prompt: common[:length], MaxNewTokens: all - length,
			Sampling: protocol.Sampling{IgnoreEOS: true, Sample: i%2 == 0, Seed: uint64(i), Temperature: 1}})
	}
	start := func(t *testing.T, config Config, blocks int) *testGroup {
		config.Shards, config.MaxSequences = 1, 16
		return startGroup(t, config, files, blocks)
	}
	reference := start(t, Config{DisablePrefixCache: true}, 400)
	want := reference.run(t, requests, 1, nil, random)
	for id, w := range want {
		if got := len(requests[id].Prompt) + len(w.tokens); got != all {
			t.Errorf("a prompt of %d tokens ends with %d, want %d", len(requests[id].Prompt), got, all)
		}
	}
	compare := func(t *testing.T, what string, got map[uint64]*result) {
		t.Helper()
		for id, w := range want {
			if difference := got[id].difference(w); difference != "" {
				t.Errorf("%s: a prompt of %d tokens: %s", what, len(requests[id].Prompt), difference)
			}
		}
	}
	for _, c := range []struct{ chunk, blocks int }{{512, 400}, {7, 400}, {16, 20}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			g := start(t, Config{Limits: Limits{PrefillTokens: c.chunk}}, c.blocks)
			compare(t, "first", g.run(t, requests, 4, nil, random))
			again := slices.Clone(requests)
			slices.Reverse(again)
			compare(t, "from the cache", g.run(t, again, len(again), nil, random))
			if g.cachedTokens == 0 || c.blocks < 400 && g.schedule.Counts().Parked == 0 {
				t.Errorf("%d tokens came from the cache, %d sequences were parked", g.cachedTokens, g.schedule.Counts().Parked)
			}
		})
	}
	for _, request := range requests {
		whole := want[request.ID].tokens
		cut := len(whole) / 2
		request.Generated = whole[:cut]
		if got := reference.run(t, []protocol.Request{request}, 1, nil, random)[request.ID].tokens; !slices.Equal(got, whole[cut:]) {
			t.Errorf("a prompt of %d tokens, resumed behind %d: got %v, want %v", len(request.Prompt), cut, got, whole[cut:])
		}
	}
}

// The card tells the window of layers that do not see all positions, and the defaults that the model's files recommend unless they
// are not wanted.
func TestCardTellsTheModel(t *testing.T) {
	for name, want := range map[string]int{"mistral_sliding24": 24, "llama_rope_linear": 0} {
		files := modeltest.Files(t, name)
		files["generation_config.json"] = &fstest.MapFile{Data: []byte(`{"top_k":5}`)}
		for _, without := range []bool{false, true} {
			g := startGroup(t, Config{Shards: 1, NoModelDefaults: without}, files, 40)
			data, digest, err := g.leader.card()
			var card protocol.ModelCard
			if err == nil {
				err = json.Unmarshal(data, &card)
			}
			if err != nil || len(digest) == 0 || card.Validate() != nil || card.SlidingWindow != want ||
				(card.Defaults == protocol.SamplingDefaults{}) != without || !without && *card.Defaults.TopK != 5 {
				t.Errorf("%s: got %s, %v", name, data, err)
			}
		}
	}
}
