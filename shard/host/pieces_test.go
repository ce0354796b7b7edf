package host_test

import (
	"fmt"
	"math"
	"testing"

	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// Windows by layer, norms of heads, latents and narrow caches hold to law 3 too: a prompt in pieces of 7 tokens beside another one
// gets the logits that it gets whole and alone.
func TestPieces(t *testing.T) {
	for i, name := range []string{"internlm2", "qwen2_untied_sliding", "qwen3_5q1kv", "gemma3", "deepseek_v2_mla"} {
		cache := cpu.CacheType(i % 3)
		source, files := modeltest.Open(t, name)
		var prompts [][]int32
		for _, c := range modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data) {
			if len(c.Prompt) > 60 && len(prompts) < 2 {
				prompts = append(prompts, c.Prompt[:60+len(prompts)])
			}
		}
		if len(prompts) != 2 {
			t.Fatalf("%s: got %d long prompts, want 2", name, len(prompts))
		}
		for _, ranks := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%d", name, ranks), func(t *testing.T) {
				g := newGroupCaching(t, cache, source, ranks, 1, cpu.Best())
				var want, got [2][][]float32
				var pieces [2]*backendtest.Sequence
				for i, prompt := range prompts {
					want[i] = g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
					pieces[i] = g.Sequence(len(prompt))
				}
				for at := 0; at < len(prompts[1]); at += 7 {
					var chunks []model.Chunk
					for i, prompt := range prompts {
						if part := prompt[min(at, len(prompt)):min(at+7, len(prompt))]; len(part) > 0 {
							chunks = append(chunks, pieces[i].Chunk(part, model.LogitsAll))
						}
					}
					rows := g.Step(chunks)
					for i := range chunks {
						count := len(chunks[i].Tokens)
						got[i] = append(got[i], rows[:count]...)
						rows = rows[count:]
					}
				}
				for i := range want {
					if row := firstDifference(got[i], want[i]); row >= 0 {
						t.Errorf("prompt %d: other logits behind token %d", i, row)
					}
				}
			})
		}
	}
}

// firstDifference returns the first row that differs in any bit, -1 if none does.
func firstDifference(got, want [][]float32) int {
	if len(got) != len(want) {
		return min(len(got), len(want))
	}
	for row := range want {
		for i, v := range want[row] {
			if math.Float32bits(got[row][i]) != math.Float32bits(v) {
				return row
			}
		}
	}
	return -1
}
