//go:build !cuda || !linux

package main

import (
	"io"
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
		"--numerics two-term":                        "--numerics chooses how cards compute",
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
