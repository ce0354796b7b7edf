package host_test

import (
	"os"
	"path/filepath"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// Every reference case of quantised checkpoints and of whole GGUF models, on every kernel path and, with the best one, on two
// shards. Their weights are exact: the tolerances are those of float32.
func TestGoldenQuantised(t *testing.T) {
	quantised := outside.Shared(t, "golden", "quant")
	entries, err := os.ReadDir(quantised)
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]string{} // to a model, the path of its cases
	for _, entry := range entries {
		if entry.IsDir() {
			paths[filepath.Join(quantised, entry.Name())] = filepath.Join(quantised, entry.Name(), "golden.jsonl")
		}
	}
	for _, name := range []string{"tiny_llama_q8_q4", "tiny_qwen2_kquants"} {
		path := outside.Shared(t, "golden", "gguf", name+".gguf")
		paths[path] = filepath.Join(filepath.Dir(path), name+".golden.jsonl")
	}
	if len(paths) < 22 {
		t.Errorf("got %d models", len(paths))
	}
	for path, cases := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			source, err := model.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer source.Close()
			data, err := os.ReadFile(cases)
			if err != nil {
				t.Fatal(err)
			}
			all := modeltest.Cases[backendtest.Golden](t, data)
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
