package host_test

import (
	"fmt"
	"testing"

	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// A part says whether its number of shards shows in the bits, and where it says that it does not, it does not.
func TestUneven(t *testing.T) {
	prompt := []int32{1, 20, 300, 4, 55, 66, 77, 88, 99, 100, 101, 102}
	even := 0
	for _, name := range []string{"llama_rope_llama3_f16", "mixtral", "deepseek_v2_mla", "gemma2", "qwen2_tied_7q1kv"} {
		source, _ := modeltest.Open(t, name)
		want := newGroup(t, source, 1, 1, cpu.Best()).Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
		for _, ranks := range []int{1, 2, 3, 4} {
			t.Run(fmt.Sprintf("%s/%d", name, ranks), func(t *testing.T) {
				part, err := source.Part(0, ranks)
				if err != nil {
					t.Fatal(err)
				}
				if part.Uneven {
					return
				}
				even++
				got := newGroup(t, source, ranks, 1, cpu.Best()).Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
				if row := backendtest.FirstDifference(got, want); row >= 0 {
					t.Errorf("other logits behind token %d", row)
				}
			})
		}
	}
	if even < 5+2 {
		t.Errorf("only %d of the splits are even", even)
	}
}
