package gpu_test

import (
	"fmt"
	"testing"

	"lockstep/shard/backendtest"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// Two prompts of 60 tokens and more have the same bits alone, in pieces, which go through the kernels for few rows, and in one step, which
// goes through those for many. Cards of compute capability 8.0 have other kernels for few, and sums of their own, and meet the reference as
// well.
func TestManyRows(t *testing.T) {
	source, files := modeltest.Open(t, "llama_gqa_9q3kv")
	cases := modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data)
	prompts := backendtest.LongPrompts(t, cases)
	for numerics, allowed := range numericsAllowed {
		for _, capability := range []int{80, 90} {
			t.Run(fmt.Sprintf("%s/%d", numerics, capability), func(t *testing.T) {
				g := newGroupOn(t, source, 1, numerics, capability)
				if capability < 90 {
					backendtest.Check(t, g, cases[0], allowed)
				}
				first := backendtest.Pieces(t, g, prompts)
				second := g.Sequence(len(prompts[1])).Compute(prompts[1], model.LogitsAll)
				a, b := g.Sequence(len(prompts[0])), g.Sequence(len(prompts[1]))
				both := g.Step([]model.Chunk{a.Chunk(prompts[0], model.LogitsAll), b.Chunk(prompts[1], model.LogitsAll)})
				if row := backendtest.FirstDifference(both, append(first[:len(first):len(first)], second...)); row >= 0 {
					t.Errorf("row %d of %d in one step has other logits than alone", row, len(both))
				}
			})
		}
	}
}
