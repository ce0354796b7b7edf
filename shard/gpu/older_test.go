package gpu_test

import (
	"runtime"
	"testing"

	"lockstep/shard/backendtest"
	"lockstep/shard/gpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// Cards of compute capability 8.0 compute the same kernels but those that need 9.0, with their own sums: a row has the same bits alone and
// beside others there too, and they meet the reference as well.
func TestOlderCards(t *testing.T) {
	source, files := modeltest.Open(t, "llama_gqa_9q3kv")
	cases := modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data)
	for numerics, allowed := range numericsAllowed {
		t.Run(numerics, func(t *testing.T) {
			g := backendtest.New(t, source, 1, func(part *model.Part) (backendtest.Backend, error) {
				device, err := gpu.NewEmulatedOf(80, runtime.GOMAXPROCS(0), func() (int64, string, error) { return 1 << 30, "the test", nil })
				if err != nil {
					return nil, err
				}
				return gpu.Load(part, device, numerics, func(float64) {})
			})
			backendtest.Check(t, g, cases[0], allowed)
			backendtest.Pieces(t, g, backendtest.LongPrompts(t, cases))
		})
	}
}
