package host_test

import (
	"path/filepath"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// rounded is how far from the references, which compute in float32, products that round may be. Where a row's experts are nearly a
// tie it gets others, and in these small models of random weights another token.
var rounded = backendtest.Tolerance{Logit: 0.15, Logprob: 0.15, Margin: 0.2, Outliers: 0.25}

// checkRounded computes all reference cases by the fastest numerics, on one shard and on two.
func checkRounded(t *testing.T, source *model.Model, all []backendtest.Golden) {
	t.Helper()
	for ranks := 1; ranks <= 2; ranks++ {
		if ranks > 1 && !outside.All() {
			continue
		}
		g := newGroupOf(t, host.Options{Kernels: cpu.Best()}, source, ranks, 1)
		worst := 0.0
		for _, c := range all {
			worst = max(worst, backendtest.Check(t, g, c, rounded))
		}
		t.Logf("%d shards: largest error of a logit: %.1e standard deviations", ranks, worst)
	}
}

// Every reference case of a model that writes, by products that round where its weights are bfloat16.
func TestGoldenModelsRounded(t *testing.T) {
	for i, name := range modeltest.Names(t) {
		source, files := modeltest.Open(t, name)
		if files["golden.jsonl"] == nil || i%3 > 0 && !outside.All() {
			continue
		}
		t.Run(name, func(t *testing.T) {
			checkRounded(t, source, modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data))
		})
	}
}

// Every reference case of quantised checkpoints and of whole GGUF models, by products of integers where their groups allow it.
func TestGoldenQuantisedRounded(t *testing.T) {
	outside.Slow(t)
	for path, cases := range backendtest.Quantised(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			source, err := model.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			checkRounded(t, source, cases(t))
		})
	}
}
