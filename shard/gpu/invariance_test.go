package gpu_test

import (
	"fmt"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/gpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// A row has the same bits alone and beside others, in pieces and whole, by the kernels for few rows and those for many (law 3), and,
// where the model divides, on any number of shards.
func TestRowInvariance(t *testing.T) {
	divided := 0
	for i, name := range []string{"llama_gqa_9q3kv", "llama_tied_1kv_f32", "gemma3", "mixtral", "deepseek_v2_mla", "starcoder2_sliding40",
		"qwen3_moe", "gpt2"} {
		if i != 1 && !outside.All() {
			continue
		}
		source, files := modeltest.Open(t, name)
		prompts := backendtest.LongPrompts(t, modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data))
		for numerics := range numericsAllowed {
			var alone [][]float32 // on one rank
			for _, ranks := range []int{1, 2, 4} {
				if (numerics == "bf16" || ranks > 2) && !outside.All() || numerics == "bf16" && ranks > 2 {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%d", name, numerics, ranks), func(t *testing.T) {
					logits := backendtest.Pieces(t, newGroup(t, source, ranks, numerics), prompts)
					part, err := source.Part(0, ranks)
					if err != nil {
						t.Fatal(err)
					}
					if ranks == 1 {
						alone = logits
					} else if !part.Uneven {
						divided++
						if row := backendtest.FirstDifference(logits, alone); row >= 0 {
							t.Errorf("other logits than on one rank behind token %d", row)
						}
					}
				})
			}
		}
	}
	if divided == 0 {
		t.Error("no model divides by the number of ranks")
	}
}

// Where one device cannot reach the others' memory, all exchange through the host, and compute the same.
func TestExchangeThroughTheHost(t *testing.T) {
	outside.Slow(t)
	source, files := modeltest.Open(t, "llama_tied_1kv_f32")
	prompts := backendtest.LongPrompts(t, modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data))
	of := func(g *backendtest.Group) [][]float32 {
		return g.Sequence(len(prompts[0])).Compute(prompts[0], model.LogitsAll)
	}
	want := of(newGroup(t, source, 3, "bf16"))
	got := of(groupOn(t, source, 3, "bf16", func(rank int, device gpu.Device) gpu.Device {
		if rank == 1 {
			return alone{device}
		}
		return device
	}))
	if row := backendtest.FirstDifference(got, want); row >= 0 {
		t.Errorf("other logits behind token %d", row)
	}
}

// Rows whose results of attention are not kept at once compute the same a few at a time.
func TestAttentionAFewRowsAtATime(t *testing.T) {
	source, files := modeltest.Open(t, "gemma3")
	prompt := backendtest.LongPrompts(t, modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data))[0]
	want := newGroup(t, source, 1, "bf16").Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
	gpu.BoundResults(t, 4000)
	got := newGroup(t, source, 1, "bf16").Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
	if row := backendtest.FirstDifference(got, want); row >= 0 {
		t.Errorf("other logits behind token %d", row)
	}
}
