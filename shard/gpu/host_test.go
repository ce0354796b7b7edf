package gpu_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/workers"
)

// onHost computes a prompt whole, on one shard of the backend that computes on CPUs.
func onHost(t testing.TB, source *model.Model, prompt []int32, adapter int, adapters ...*model.Adapter) [][]float32 {
	t.Helper()
	g := backendtest.New(t, source, 1, func(part *model.Part) (backendtest.Backend, error) {
		return backendtest.WithTeam(1, func(team *workers.Team) (backendtest.Backend, error) {
			return host.Load(part, team, host.Options{Kernels: cpu.Best(), Numerics: "f32", Progress: func(float64) {}})
		})
	}, adapters...)
	g.Adapter = adapter
	return g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
}

func randomPrompt(source *model.Model, tokens int) (prompt []int32) {
	random := rand.New(rand.NewPCG(5, 6))
	for range tokens {
		prompt = append(prompt, random.Int32N(int32(source.Config.Vocabulary)))
	}
	return prompt
}

// Prompts of several parts of attention have the host's logits: where some layers begin at a later part than others, as windows have it,
// whole and in pieces whose first rows do not see the first part.
func TestPartsOfWindows(t *testing.T) {
	for i, name := range []string{"gemma3", "llama_gqa_9q3kv", "gpt_oss", "starcoder2_sliding40"} {
		if i > 0 && !outside.All() {
			continue
		}
		source, _ := modeltest.Open(t, name)
		prompt := randomPrompt(source, 300)
		want := onHost(t, source, prompt, 0)
		g := newGroup(t, source, 1, "two-term")
		s := g.Sequence(len(prompt))
		s.Compute(prompt[:len(prompt)-3], model.LogitsNone)
		got := s.Compute(prompt[len(prompt)-3:], model.LogitsAll)
		if d := backendtest.Distance(got, want[len(want)-3:]); !(d < backendtest.Exact.Logit) {
			t.Errorf("%s: the last logits are %.2g standard deviations off the host's", name, d)
		}
		if !outside.All() {
			continue
		}
		whole := g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
		if d := backendtest.Distance(whole, want); !(d < backendtest.Exact.Logit) {
			t.Errorf("%s: logits are %.2g standard deviations off the host's", name, d)
		}
		if row := backendtest.FirstDifference(got, whole[len(whole)-3:]); row >= 0 {
			t.Errorf("%s: other logits in pieces behind token %d", name, row)
		}
	}
}

// Adapters of all projections, of routed and shared experts and latents too, give the host's logits.
func TestAdaptersOfAllProjections(t *testing.T) {
	for i, name := range []string{"deepseek_v2_mla", "mixtral", "phi3", "gpt2", "gpt_neox"} {
		for _, ranks := range []int{1, 2} {
			if (i > 0 || ranks > 1) && !outside.All() {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", name, ranks), func(t *testing.T) {
				source, dir := modeltest.Open(t, name)
				files := backendtest.RandomAdapter(t, dir, 5, "", rand.New(rand.NewPCG(3, 4)))
				adapter, err := model.OpenAdapterFS("random", files)
				if err != nil {
					t.Fatal(err)
				}
				defer adapter.Close()
				prompt := randomPrompt(source, 12)
				g := newGroup(t, source, ranks, "two-term", adapter)
				g.Adapter = 1
				got := g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
				if d := backendtest.Distance(got, onHost(t, source, prompt, 1, adapter)); !(d < backendtest.Exact.Logit) {
					t.Errorf("logits are %.2g standard deviations off the host's", d)
				}
			})
		}
	}
}
