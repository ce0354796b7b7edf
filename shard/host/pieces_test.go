package host_test

import (
	"fmt"
	"testing"

	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model/modeltest"
)

// Windows by layer, norms of heads, latents, parallel layers, experts and narrow caches hold to law 3 too: a prompt in pieces of 7
// tokens beside another one gets the logits that it gets whole and alone.
func TestPieces(t *testing.T) {
	for i, name := range []string{"internlm2", "qwen2_untied_sliding", "qwen3_5q1kv", "gemma3", "deepseek_v2_mla", "gpt_neox",
		"qwen3_moe"} {
		options := host.Options{Kernels: cpu.Best(), Cache: []string{"f32", "f16", "bf16"}[i%3], Numerics: host.Numerics[i%3]}
		source, files := modeltest.Open(t, name)
		prompts := backendtest.LongPrompts(t, modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data))
		for _, ranks := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s/%d", name, ranks), func(t *testing.T) {
				backendtest.Pieces(t, newGroupOf(t, options, source, ranks, 1), prompts)
			})
		}
	}
}
