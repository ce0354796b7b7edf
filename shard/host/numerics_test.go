package host

import (
	"testing"

	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/workers"
)

// loaded loads a model by what is asked for: a reference model, or the demo model, whose columns divide into groups.
func loaded(t *testing.T, name, quantise string, options Options) *Backend {
	t.Helper()
	var source *model.Model
	if name == "demo" {
		var err error
		if source, err = model.Open("../../launcher/demo/model"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(source.Close)
	} else {
		source, _ = modeltest.Open(t, name)
	}
	if quantise != "" {
		if _, err := source.Quantise(quantise); err != nil {
			t.Fatal(err)
		}
	}
	part, err := source.Part(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	team := workers.New(1, nil)
	t.Cleanup(team.Close)
	options.Kernels, options.Progress = cpu.Best(), func(float64) {}
	b, err := Load(part, team, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Close)
	return b
}

// A group tells the arithmetic that it comes to, which depends on its weights, and a KV cache that is not the usual one.
func TestNumericsAreDescribed(t *testing.T) {
	for _, c := range []struct {
		model, quantise string
		options         Options
		want            string
	}{
		{"mixtral", "", Options{}, "bf16.1"},
		{"mixtral", "", Options{Numerics: "bf16", Cache: "f32"}, "bf16.1+kv-f32"},
		{"mixtral", "", Options{Numerics: "f32"}, "f32.1"},
		{"demo", "int8", Options{}, "q8.1"},
		{"demo", "int4", Options{Numerics: "q8", Cache: "f16"}, "q8.1"},
		{"demo", "int8", Options{Numerics: "f32", Cache: "f16"}, "f32.1+kv-f16"},
		{"llama_tied_1kv_f32", "", Options{}, "f32.1"},
	} {
		if got := loaded(t, c.model, c.quantise, c.options).Describe().Numerics; got != c.want {
			t.Errorf("%+v: got %s, want %s", c, got, c.want)
		}
	}
}

// Which experts a row has is no matter of rounding: routers stay exact beside experts that round.
func TestRoutersStayExact(t *testing.T) {
	seen := 0
	for _, s := range loaded(t, "mixtral", "", Options{}).stages {
		if e, ok := s.(*experts); ok {
			seen++
			if router, expert := e.router.weight.Format, e.experts[0].up.weight.Format; router != cpu.BF16 || expert != cpu.BF16Dot {
				t.Errorf("a router is %v beside experts of %v", router, expert)
			}
		}
	}
	if seen == 0 {
		t.Error("the model has no experts")
	}
}
