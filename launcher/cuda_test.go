//go:build cuda && linux

package main_test

import (
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"lockstep/shard/gpu/driver/drivertest"
)

func init() { tags = "cuda" }

// uuids are those that the imitation of the driver gives its cards.
var uuids = []string{"GPU-10101010-1010-1010-1010-101010101010", "GPU-11111111-1111-1111-1111-111111111111"}

// imitate scripts the driver as its imitation says, by NAME=VALUE, for servers that are started afterwards, and returns how to see
// what it was told.
func imitate(t *testing.T, script ...string) (log func() string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "log")
	t.Setenv("LOCKSTEP_CUDA_LIBRARY", drivertest.Library(t))
	t.Setenv("CUDA_FAKE_LOG", path)
	for _, pair := range script {
		name, value, _ := strings.Cut(pair, "=")
		t.Setenv(name, value)
	}
	return func() string {
		text, _ := os.ReadFile(path)
		return string(text)
	}
}

func serveArguments(t *testing.T, more ...string) []string {
	return append([]string{"serve", "--hostname", "127.0.0.1", "--port", strconv.Itoa(freePort(t)), "--max-batch-size", "2",
		"--max-batch-prefill-tokens", "32"}, more...)
}

const twoCards = "CUDA_FAKE_CARDS=One:9.0:512:0;Two:9.0:512:0"

// Each shard takes a card: all that there are, or those that are named, or visible.
func TestShardsTakeCards(t *testing.T) {
	for _, c := range []struct {
		name      string
		script    []string
		arguments []string
		want      []string
	}{
		{"all", []string{twoCards}, nil, uuids},
		{"as many as shards", []string{twoCards}, []string{"--kernels", "cuda", "--num-shard", "1"}, uuids[:1]},
		{"named", []string{twoCards}, []string{"--devices", "1"}, uuids[1:]},
		{"named twice", []string{twoCards}, []string{"--devices", "1," + uuids[1]}, []string{uuids[1], uuids[1]}},
		{"visible", []string{twoCards, "CUDA_VISIBLE_DEVICES=" + uuids[1]}, nil, uuids[1:]},
		{"forbidden", []string{twoCards}, []string{"--kernels", "cpu", "--num-shard", "1"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			log := imitate(t, c.script...)
			s := serve(t, serveArguments(t, c.arguments...)...)
			device := "cpu"
			if c.want != nil {
				device = "cuda"
			}
			if got := s.info()["model_device_type"]; got != device {
				t.Errorf("the device's type is %v, want %s", got, device)
			}
			if _, err := s.generate("Once upon a time", 3); err != nil {
				t.Error(err)
			}
			for _, uuid := range uuids {
				want := 0
				for _, wanted := range c.want {
					if wanted == uuid {
						want++
					}
				}
				if got := strings.Count(log(), "context on "+uuid+"\n"); got != want {
					t.Errorf("%d shards on %s, want %d", got, uuid, want)
				}
			}
			if c.want != nil && !strings.Contains(log(), "launch ring") {
				t.Errorf("no product was computed: %s", log())
			}
		})
	}
}

// A group whose card fails starts again, and says which kernel was the last.
func TestCardFails(t *testing.T) {
	log := imitate(t, twoCards, "CUDA_FAKE_FAIL=kernel:5000:700")
	s := serve(t, serveArguments(t, "--num-shard", "2")...)
	eventually(t, "a card fails and the group comes back", func() bool {
		_, err := s.generate("Once upon a time", 20)
		return err == nil && strings.Contains(s.logged(), "has failed") && strings.Count(log(), "context on ") >= 4
	})
	if want := "CUDA_ERROR_ILLEGAL_ADDRESS (700), an illegal memory access was encountered; the last launch was "; !strings.Contains(
		s.logged(), want) {
		t.Errorf("%q is not in the log", want)
	}
}

// What is wrong with cards ends the start with one sentence.
func TestCardsThatCannot(t *testing.T) {
	for _, c := range []struct {
		script, arguments, want string
		code                    int
	}{
		{"LOCKSTEP_CUDA_LIBRARY=/nowhere/libcuda.so.1", "--kernels cuda", "--kernels cuda: --cuda-library cannot be opened: /nowhere", 2},
		{"CUDA_FAKE_VERSION=11040", "--kernels cuda", "the NVIDIA driver is too old", 2},
		{"CUDA_VISIBLE_DEVICES=", "--kernels cuda", "the NVIDIA driver shows no card", 2},
		{"CUDA_FAKE_CARDS=Old:7.5:64:0", "--kernels cuda", "compute capability 7.5", 2},
		{twoCards, "--devices 2", "there is no card 2; the driver shows 0: One", 2},
		{twoCards, "--num-shard 3", "for 3 shards there are card 0 (One), card 1 (Two)", 2},
		{twoCards, "--devices 0,1 --num-shard 1", "--devices names 2 cards, and there are 1 shards", 2},
		{twoCards, "--kv-cache-dtype f16", "--kv-cache-dtype is of the CPU's KV cache", 2},
		{"CUDA_FAKE_CARDS=Small:9.0:4:0", "--kernels cuda", "the weights of this shard: card 0 (Small) has no", 1},
		{twoCards, "--devices 0 --max-batch-total-tokens 1000000", "a KV cache of 62500 blocks: card 0 (One) has no", 1},
		{"CUDA_FAKE_CARDS=Own:9.0:512:3 CUDA_FAKE_FAIL=cuDevicePrimaryCtxRetain:0:46", "--kernels cuda", "another process has it", 1},
		{"CUDA_FAKE_FAIL=kernel:3:999", "--kernels cuda", "card 0 (Fake H100) has failed: cuEventQuery: CUDA_ERROR_UNKNOWN (999)", 1},
	} {
		t.Run(c.arguments+" "+c.script, func(t *testing.T) {
			imitate(t, strings.Fields(c.script)...)
			s, output := launch(t, serveArguments(t, strings.Fields(c.arguments)...)...)
			go io.Copy(io.Discard, output)
			go func() { s.done <- s.command.Wait() }()
			if got := s.exit(); got != c.code {
				t.Errorf("exit code %d, want %d", got, c.code)
			}
			if !strings.Contains(s.logged(), c.want) {
				t.Errorf("%q is not in %s", c.want, s.logged())
			}
		})
	}
}

// Where nobody asks for cards and there are none, the CPU computes, and the log says why.
func TestWithoutCardsTheCPUComputes(t *testing.T) {
	imitate(t, "LOCKSTEP_CUDA_LIBRARY=/nowhere/libcuda.so.1")
	s := serve(t, serveArguments(t, "--num-shard", "1")...)
	if got := s.info()["model_device_type"]; got != "cpu" {
		t.Errorf("the device's type is %v", got)
	}
	if !strings.Contains(s.logged(), "the CPU computes (--kernels cpu chooses it without this warning): ") {
		t.Errorf("the log does not say why: %s", s.logged())
	}
}
