package gpu_test

import (
	"runtime"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/gpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// recorder is a card that notes which kernels it launches; chunks are added where "+" is behind a name.
type recorder struct {
	gpu.Device
	processors int // not 0: it has so few multiprocessors that small models have work for all
	launched   map[string]bool
}

func (r recorder) Describe() gpu.Description {
	d := r.Device.Describe()
	if r.processors > 0 {
		d.Processors = r.processors
	}
	return d
}

func (r recorder) Launch(l *gpu.Launch) error {
	name, _, _ := strings.Cut(l.Kernel, "_")
	if strings.HasPrefix(l.Kernel, "ring_gate") {
		name = "ring_gate"
	}
	if (name == "gemm" || name == "wgmma") && l.Args[len(l.Args)-1] == int32(1) {
		name += "+"
	}
	r.launched[name] = true
	return r.Device.Launch(l)
}

// Two prompts of 60 tokens and more have the same bits alone, in pieces, which go through the kernels for few rows, and in one step, which
// goes through those for many. Cards of compute capability 8.0 have other kernels for few, and sums of their own, and meet the reference
// as well.
func TestManyRows(t *testing.T) {
	for _, c := range []struct {
		name, model, numerics  string
		capability, processors int
		kernels                []string
	}{
		{"capability 8.0", "llama_gqa_9q3kv", "bf16", 80, 0, []string{"linear", "gemm"}},
		{"capability 9.0", "llama_gqa_9q3kv", "two-term", 90, 1, []string{"ring", "gemm", "gemm+"}},
		{"one multiprocessor", "llama_gqa_9q3kv", "bf16", 90, 1, []string{"ring", "wgmma", "wgmma+"}},
		{"columns that fill steps", "deepseek_v2_mla", "bf16", 90, 0, []string{"ring", "ring_gate", "gemm", "activate"}},
	} {
		if c.name != "one multiprocessor" && !outside.All() {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			source, files := modeltest.Open(t, c.model)
			cases := modeltest.Cases[backendtest.Golden](t, files["golden.jsonl"].Data)
			prompts, launched := backendtest.LongPrompts(t, cases), map[string]bool{}
			g := groupOn(t, source, 1, c.numerics, func(int, gpu.Device) gpu.Device {
				device, err := gpu.NewEmulatedOf(c.capability, runtime.GOMAXPROCS(0),
					func() (int64, string, error) { return 1 << 30, "", nil })
				if err != nil {
					t.Error(err)
				}
				return recorder{device, c.processors, launched}
			})
			if c.capability < 90 {
				backendtest.Check(t, g, cases[0], numericsAllowed[c.numerics])
			}
			first := backendtest.Pieces(t, g, prompts)
			second := g.Sequence(len(prompts[1])).Compute(prompts[1], model.LogitsAll)
			a, b := g.Sequence(len(prompts[0])), g.Sequence(len(prompts[1]))
			both := g.Step([]model.Chunk{a.Chunk(prompts[0], model.LogitsAll), b.Chunk(prompts[1], model.LogitsAll)})
			if row := backendtest.FirstDifference(both, append(first[:len(first):len(first)], second...)); row >= 0 {
				t.Errorf("row %d of %d in one step has other logits than alone", row, len(both))
			}
			for _, kernel := range c.kernels {
				if !launched[kernel] {
					t.Errorf("kernel %s was not launched, but %v", kernel, launched)
				}
			}
		})
	}
}
