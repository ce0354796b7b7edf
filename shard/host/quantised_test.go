package host_test

import (
	"path/filepath"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// Every reference case of quantised checkpoints and of whole GGUF models, on every kernel path and, with the best one, on two
// shards. Their weights are exact: the tolerances are those of float32.
func TestGoldenQuantised(t *testing.T) {
	for path, cases := range backendtest.Quantised(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			source, err := model.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			all := cases(t)
			for _, kernels := range cpu.Available() {
				for ranks := 1; ranks <= 2; ranks++ {
					if ranks > 1 && kernels != cpu.Best() || kernels.Name() == "go" && !outside.All() {
						continue
					}
					g := newGroup(t, source, ranks, 1, kernels)
					worst := 0.0
					for _, c := range all {
						worst = max(worst, backendtest.Check(t, g, c, backendtest.Exact))
					}
					t.Logf("%s, %d shards: largest error of a logit: %.1e standard deviations", kernels.Name(), ranks, worst)
				}
			}
		})
	}
}
