package gpu_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/gpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/workers"
)

// numericsAllowed are the arithmetics, and how far from the reference, which computes in float32, they may be. Where a row's experts are
// nearly a tie it gets others, and in these small models of random weights another token.
var numericsAllowed = map[string]backendtest.Tolerance{
	"bf16":     {Logit: 0.1, Logprob: 0.1, Margin: 0.2, Outliers: 0.2},
	"two-term": backendtest.Exact,
}

// alone hides that a device's memory can be reached by others.
type alone struct{ gpu.Device }

func newGroup(t testing.TB, source *model.Model, ranks int, numerics string, adapters ...*model.Adapter) *backendtest.Group {
	return groupOn(t, source, ranks, numerics, func(_ int, device gpu.Device) gpu.Device { return device }, adapters...)
}

// groupOn is a group of emulated cards, each as a function makes it of a rank's.
func groupOn(t testing.TB, source *model.Model, ranks int, numerics string, as func(rank int, device gpu.Device) gpu.Device,
	adapters ...*model.Adapter) *backendtest.Group {
	return backendtest.New(t, source, ranks, func(part *model.Part) (backendtest.Backend, error) {
		device, err := gpu.NewEmulated(runtime.GOMAXPROCS(0), func() (int64, string, error) { return 1 << 30, "the test", nil })
		if err != nil {
			return nil, err
		}
		return backendtest.WithTeam(2, func(team *workers.Team) (backendtest.Backend, error) {
			return gpu.Load(part, as(part.Rank, device), team, gpu.Options{Numerics: numerics, Graphs: gpu.DefaultGraphs})
		})
	}, adapters...)
}

// Every reference case of a model that writes, on the emulated card.
func TestGoldenModels(t *testing.T) {
	few := map[string]string{"mixtral": "two-term"}
	for _, name := range modeltest.Names(t) {
		source, files := modeltest.Open(t, name)
		if files["golden.jsonl"] == nil {
			continue
		}
		all := modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data)
		for numerics, allowed := range numericsAllowed {
			for _, ranks := range []int{1, 2} {
				if (ranks > 1 || few[name] != numerics) && !outside.All() || ranks > 1 && numerics == "bf16" {
					continue
				}
				t.Run(fmt.Sprintf("%s/%s/%d", name, numerics, ranks), func(t *testing.T) {
					g := newGroup(t, source, ranks, numerics)
					worst := 0.0
					for _, c := range all {
						if len(c.Prompt) > 20 && (ranks > 1 || !outside.All()) || len(c.Prompt) > 64 && numerics == "bf16" {
							continue // slow
						}
						worst = max(worst, backendtest.Check(t, g, c, allowed))
					}
					t.Logf("largest error of a logit: %.1e standard deviations", worst)
				})
			}
		}
	}
}

// Quantised weights are computed from their own bits: with two terms to an input they meet the tolerances of float32.
func TestGoldenQuantised(t *testing.T) {
	few := []string{"gptq4_llama_g32_desc_asym"}
	for path, cases := range backendtest.Quantised(t) {
		if name := filepath.Base(path); !slices.Contains(few, name) && !outside.All() {
			continue
		}
		t.Run(filepath.Base(path), func(t *testing.T) {
			source, err := model.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			g := newGroup(t, source, 1, "two-term")
			worst := 0.0
			for _, c := range cases(t) {
				if len(c.Prompt) > 20 && !outside.All() {
					continue
				}
				worst = max(worst, backendtest.Check(t, g, c, backendtest.Exact))
			}
			t.Logf("largest error of a logit: %.1e standard deviations", worst)
		})
	}
}

// Every reference case of adapters; and all of a model's adapters and the base in one step have the bits that each has alone.
func TestGoldenAdapters(t *testing.T) {
	for _, name := range []string{"gpt_oss", "llama_gqa_9q3kv", "qwen2_untied_sliding"} {
		source, _ := modeltest.Open(t, name)
		adapters, cases := backendtest.Adapters(t, filepath.Join("..", "host", "testdata", "lora", name))
		for _, ranks := range []int{1, 2} {
			if (ranks == 1 || name != "qwen2_untied_sliding") && !outside.All() {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", name, ranks), func(t *testing.T) {
				g := newGroup(t, source, ranks, "two-term", adapters...)
				prompt := cases[0][len(cases[0])-1].Prompt[:12]
				var want, got [][][]float32
				var together []model.Chunk
				for i := range len(cases) + 1 {
					if g.Adapter = i; i > 0 {
						for j, c := range cases[i-1] {
							if j > 0 && !outside.All() {
								break
							}
							backendtest.Check(t, g, c, backendtest.Exact)
						}
					}
					want = append(want, g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll))
					together = append(together, g.Sequence(len(prompt)).Chunk(prompt, model.LogitsAll))
				}
				rows := g.Step(together)
				for range together {
					got, rows = append(got, rows[:len(prompt)]), rows[len(prompt):]
				}
				for i := range want {
					if row := backendtest.FirstDifference(got[i], want[i]); row >= 0 {
						t.Errorf("adapter %d: other logits beside others, behind token %d", i, row)
					}
					if i > 0 && backendtest.FirstDifference(got[i], want[0]) < 0 {
						t.Errorf("adapter %d changes nothing", i)
					}
				}
			})
		}
	}
}
