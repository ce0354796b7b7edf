package host_test

import (
	"fmt"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/model/modeltest"
)

// Every reference case of a model that writes, on every kernel path that this CPU has and, with the best one, on one to four shards.
func TestGoldenModels(t *testing.T) {
	models := 0
	for _, name := range modeltest.Names(t) {
		source, files := modeltest.Open(t, name)
		if files["golden.jsonl"] == nil {
			continue
		}
		models++
		all := modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data)
		for _, kernels := range cpu.Available() {
			for ranks := 1; ranks <= 4; ranks++ {
				slow := kernels != cpu.Best() && ranks > 1 || ranks > 2 || kernels != cpu.Best() && models%4 > 0
				if slow && !outside.All() {
					continue // the kernels' bits are compared in shard/cpu
				}
				t.Run(fmt.Sprintf("%s/%s/%d", name, kernels.Name(), ranks), func(t *testing.T) {
					g := newGroup(t, source, ranks, 1, kernels)
					worst := 0.0
					for _, c := range all {
						worst = max(worst, backendtest.Check(t, g, c, backendtest.Exact))
					}
					t.Logf("largest error of a logit: %.1e standard deviations", worst)
				})
			}
		}
	}
	if models < 21 {
		t.Errorf("got %d models with cases", models)
	}
}
