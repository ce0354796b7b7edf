package gpu_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"unsafe"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/gpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/sample"
)

// The likeliest token that the card finds is that of its logits, with their log-probability; both are the same on any number of ranks,
// and beside rows whose logits are wanted.
func TestBest(t *testing.T) {
	for i, name := range []string{"llama_tied_1kv_f32", "gemma3", "gpt2"} {
		source, files := modeltest.Open(t, name)
		prompt := backendtest.LongPrompts(t, modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data))[0][:20]
		var alone [][]float32
		for _, ranks := range []int{1, 2, 4} {
			if (i > 0 || ranks == 4) && !outside.All() {
				continue
			}
			t.Run(fmt.Sprintf("%s/%d", name, ranks), func(t *testing.T) {
				g := newGroup(t, source, ranks, "bf16")
				all := g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
				var best [][]float32
				a, b, c := g.Sequence(len(prompt)), g.Sequence(len(prompt)), g.Sequence(len(prompt))
				for row, token := range prompt {
					kinds := []model.Logits{model.LogitsBest, model.LogitsLast, model.LogitsBest}
					got := g.Step([]model.Chunk{a.Chunk([]int32{token}, kinds[row%2]), b.Chunk([]int32{token}, kinds[row%2+1]),
						c.Chunk([]int32{token}, kinds[row%2])})
					one, other, logits := got[0], got[2], got[1]
					if row%2 == 1 {
						one, other, logits = got[1], got[1], got[0]
					}
					if row := backendtest.FirstDifference([][]float32{one, logits}, [][]float32{other, all[row]}); row >= 0 {
						t.Fatalf("other results beside others: %v, %v", one, other)
					}
					token, logprob := sample.Best(all[row])
					if one[0] != float32(token) || math.Abs(float64(one[1]-logprob)) > 1e-6 {
						t.Errorf("row %d: got %v, want %d, %v", row, one, token, logprob)
					}
					best = append(best, one)
				}
				part, err := source.Part(0, ranks)
				if err != nil {
					t.Fatal(err)
				}
				if ranks == 1 {
					alone = best
				} else if row := backendtest.FirstDifference(best, alone); row >= 0 && !part.Uneven {
					t.Errorf("row %d: got %v, want %v as on one rank", row, best[row], alone[row])
				}
			})
		}
	}
}

// Kernel summarise leaves what package sample says, whichever parts a row is cut into.
func TestSummarise(t *testing.T) {
	device, err := gpu.NewEmulated(1, func() (int64, string, error) { return 1 << 30, "the test", nil })
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	summary := func(logits []float32, first int) sample.Summary {
		const summarised = 4096
		parts := make([]sample.Summary, (len(logits)+summarised-1)/summarised)
		bytes := unsafe.Slice((*byte)(unsafe.Pointer(&parts[0])), len(parts)*int(unsafe.Sizeof(parts[0])))
		from, err := device.Alloc(4 * len(logits))
		if err != nil {
			t.Fatal(err)
		}
		to, err := device.Alloc(len(bytes))
		if err != nil {
			t.Fatal(err)
		}
		defer device.Free(from)
		defer device.Free(to)
		if err := errors.Join(device.Upload(from, unsafe.Slice((*byte)(unsafe.Pointer(&logits[0])), 4*len(logits))),
			device.Launch(&gpu.Launch{Kernel: "summarise", Grid: [3]int{len(parts), 1, 1}, Threads: [3]int{256, 1, 1},
				Args: []any{to, from, int32(len(logits)), int32(first)}}), device.Download(bytes, to)); err != nil {
			t.Fatal(err)
		}
		sum := sample.NoSummary()
		for i := range parts {
			sum.Add(&parts[i])
		}
		return sum
	}
	random := rand.New(rand.NewPCG(7, 8))
	for _, spread := range []float64{0.01, 1, 10, 100, 3000} {
		logits := make([]float32, 9001)
		for i := range logits {
			logits[i] = float32(random.NormFloat64() * spread)
		}
		for range 20 {
			logits[random.IntN(len(logits))] = float32(math.NaN())
			logits[random.IntN(len(logits))] = float32(math.Inf(-1))
			logits[random.IntN(len(logits))] = logits[random.IntN(len(logits))]
		}
		whole, cut := summary(logits, 0), 1+random.IntN(8000)
		parts := summary(logits[cut:], cut)
		first := summary(logits[:cut], 0)
		if parts.Add(&first); parts != whole {
			t.Errorf("spread %v, cut at %d: %+v, whole %+v", spread, cut, parts, whole)
		}
		token, logprob := whole.Best(len(logits))
		want, wantLogprob := sample.Best(logits)
		if token != want || math.Abs(float64(logprob-wantLogprob)) > 1e-6*math.Max(1, math.Abs(float64(wantLogprob))) {
			t.Errorf("spread %v: got %d, %v, want %d, %v", spread, token, logprob, want, wantLogprob)
		}
	}
	nothing := summary([]float32{float32(math.NaN())}, 5)
	if token, logprob := nothing.Best(7); token != 0 || math.Abs(float64(logprob)+math.Log(7)) > 1e-6 {
		t.Errorf("of nothing: got %d, %v", token, logprob)
	}
}
