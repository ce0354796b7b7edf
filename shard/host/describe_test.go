package host_test

import (
	"testing"

	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/workers"
)

// Groups whose KV caches hold other numbers compute other bits: their numerics say so, and their blocks have the size that they take.
func TestCacheTypesAreDescribed(t *testing.T) {
	source, _ := modeltest.Open(t, "llama_gqa_9q3kv")
	team := workers.New(1, nil)
	defer team.Close()
	part, err := source.Part(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	seen, wide := map[string]bool{}, 0
	for _, name := range []string{"f32", "f16", "bf16"} {
		kind := host.CacheTypes[name]
		b, err := host.Load(part, team, host.Options{Kernels: cpu.Best(), Numerics: "f32", Cache: name, Progress: func(float64) {}})
		if err != nil {
			t.Fatal(err)
		}
		device := b.Describe()
		b.Close()
		if seen[device.Numerics] {
			t.Errorf("%s: the numerics are %s, those of another type", name, device.Numerics)
		}
		if seen[device.Numerics] = true; kind == cpu.CacheF32 {
			wide = device.BlockBytes
		} else if 2*device.BlockBytes != wide {
			t.Errorf("%s: a block has %d bytes, in float32 %d", name, device.BlockBytes, wide)
		}
	}
}
