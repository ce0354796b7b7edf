//go:build !cuda || !linux

package main

import (
	"io"
	"slices"
	"strings"
	"testing"
)

// A binary that was built without cuda says so where one asks for cards, and computes on the CPU where nobody does.
func TestBuiltWithoutCUDA(t *testing.T) {
	withoutEnvironment(t)
	for arguments, want := range map[string]string{
		"--kernels cuda":                             "--kernels cuda: this binary was built without cuda: take bin/lockstep-cuda",
		"--backend cuda":                             "built without cuda",
		"--devices 0":                                "--devices: this binary was built without cuda",
		"--devices 0 --kernels cpu":                  "--devices names cards, and cpu computes on none",
		"--kernels cuda --backend sim":               "--kernels cuda and --backend sim are two backends",
		"--kernels cpu --backend sim":                "--kernels cpu chooses how the CPU computes",
		"--kernels ptx --kv-cache-dtype f16":         "--kv-cache-dtype is of the CPU's KV cache",
		"--numerics two-term":                        "--numerics two-term is not for what computes here (cpu), which has f32, bf16, q8",
		"--numerics q8 --kernels ptx":                "--numerics q8 is not for what computes here (ptx)",
		"--numerics f32 --backend sim":               "--backend sim has none",
		"--cuda-graphs 1,2":                          "--cuda-graphs is of cards: give --kernels cuda or ptx",
		"--kernels ptx --cuda-graphs 0,1":            "--cuda-graphs: want batch sizes, as 1,2,4, or 0",
		"--kernels ptx --cuda-graphs=-1":             "--cuda-graphs: want batch sizes",
		"--kernels ptx --cuda-graphs many":           `got "many"`,
		"--kernels ptx --devices 0":                  "--devices names cards, and ptx computes on none",
		"--sharded true --num-shard 1 --kernels cpu": "--sharded true asks for several shards",
	} {
		if _, err := parse(strings.Fields(arguments), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", arguments, err, want)
		}
	}
	for arguments, want := range map[string]string{"": "cpu/", "--kernels cpu": "cpu/", "--kernels avx2": "cpu/avx2",
		"--kernels ptx": "ptx/", "--backend sim": "sim/"} {
		c, err := parse(strings.Fields(arguments), io.Discard)
		if got := c.Backend + "/" + c.Kernels; err != nil || got != want || len(c.cards) > 0 || len(c.warnings) > 0 {
			t.Errorf("%s: got %s, %v, %v, want %s", arguments, got, c.warnings, err, want)
		}
	}
}

func TestGraphsThatAreGiven(t *testing.T) {
	withoutEnvironment(t)
	cardsDevice = t.TempDir() // there is one
	t.Cleanup(func() { cardsDevice = "/dev/nvidiactl" })
	for _, c := range []struct {
		arguments, variable string
		want                []int
		warned              string
	}{
		{"--kernels ptx --cuda-graphs 1,2,16", "", []int{1, 2, 16}, ""},
		{"--kernels ptx", "1, 2, 4", []int{1, 2, 4}, ""},
		{"--kernels ptx --cuda-graphs 0", "", []int{0}, ""},
		{"--kernels cpu", "0", []int{0}, ""},
		{"--kernels cpu", "1,2", []int{1, 2}, "CUDA_GRAPHS in the environment is ignored"},
		{"", "", nil, "there are NVIDIA cards here: lockstep-cuda"},
	} {
		t.Setenv("CUDA_GRAPHS", c.variable)
		got, err := parse(strings.Fields(c.arguments), io.Discard)
		warned := strings.Join(got.warnings, "\n")
		if err != nil || !slices.Equal(got.graphs, c.want) || (warned == "") != (c.warned == "") || !strings.Contains(warned, c.warned) {
			t.Errorf("%s, CUDA_GRAPHS=%s: got %v, %q, %v", c.arguments, c.variable, got.graphs, warned, err)
		}
	}
}
