package shard

import (
	"testing"

	"lockstep/shard/model"
)

// deviceOf is a backend of so much free memory, with blocks of 16 tokens and 1 KiB.
type deviceOf struct {
	backend
	free int64
}

func (d deviceOf) Describe() model.Device { return model.Device{BlockTokens: 16, BlockBytes: 1 << 10} }
func (d deviceOf) FreeBytes() (int64, string, error) {
	return d.free, "the machine", nil
}

// What nobody has sized has room for as many sequences as may run, when they are of a usual length, and takes no more than a share
// of the memory. What is asked for counts.
func TestCacheBlocks(t *testing.T) {
	const gibi = 1 << 30
	for _, c := range []struct {
		limits  Limits
		backend string
		free    int64
		blocks  int
		reason  string
	}{
		{Limits{MaxSequences: 128, MaxSequenceTokens: 8192}, "cpu", gibi, 2048, "128 sequences of 256 tokens"},
		{Limits{MaxSequences: 128, MaxSequenceTokens: 100}, "cpu", gibi, 128 * 7, "all that the sequences that may run at once can use"},
		{Limits{MaxSequences: 1, MaxSequenceTokens: 8192}, "cpu", gibi, 512, "all that the sequences that may run at once can use"},
		{Limits{MaxSequences: 128, MaxSequenceTokens: 131072}, "cpu", gibi, 16384, "2 of the longest sequences"},
		{Limits{MaxSequences: 128, MaxSequenceTokens: 131072}, "cpu", 16 << 20, 4096, "25% of 0.0 GiB free memory of the machine"},
		{Limits{MaxSequences: 128, MaxSequenceTokens: 8192, CacheMemoryFraction: 0.5}, "cpu", 64 << 20, 32768,
			"50% of 0.1 GiB free memory of the machine"},
		{Limits{MaxSequences: 128, MaxSequenceTokens: 8192, CacheMemoryFraction: 0.5, CacheTokens: 33}, "cpu", gibi, 3, "as configured"},
		{Limits{MaxSequences: 128, MaxSequenceTokens: 131072}, "sim", gibi, 262144, "25% of 1.0 GiB free memory of the machine"},
		{Limits{MaxSequences: 128, MaxSequenceTokens: 131072}, "cuda", gibi, 838860, "80% of 1.0 GiB free memory of the machine"},
		{Limits{MaxSequences: 128, MaxSequenceTokens: 131072, CacheMemoryFraction: 0.5}, "cuda", gibi, 524288,
			"50% of 1.0 GiB free memory of the machine"},
	} {
		blocks, reason, err := cacheBlocks(Config{Backend: c.backend, Limits: c.limits}, deviceOf{free: c.free})
		if err != nil || blocks != c.blocks || reason != c.reason {
			t.Errorf("%+v: got %d blocks, %q, %v, want %d, %q", c.limits, blocks, reason, err, c.blocks, c.reason)
		}
	}
	restarted := Config{Backend: "cpu", Limits: Limits{MaxSequences: 128, MaxSequenceTokens: 8192}, Restarted: true, PriorCacheTokens: 1600}
	for free, want := range map[int64]int{200 << 10: 100, 100 << 10: 25} { // what there was, or where it has no room a share
		if blocks, reason, err := cacheBlocks(restarted, deviceOf{free: free}); err != nil || blocks != want {
			t.Errorf("after a restart with %d bytes: got %d blocks, %q, %v; want %d", free, blocks, reason, err, want)
		}
	}
	if _, _, err := cacheBlocks(Config{Backend: "cpu", Limits: DefaultLimits()}, deviceOf{free: 4095}); err == nil {
		t.Error("a block was found where there is no memory for one")
	}
}

// Limits that model or cache cannot keep are refused by a sentence that names the flag, what bounds it, and what would do.
func TestLimitsBeyondTheModel(t *testing.T) {
	plain := model.Config{MaxPositions: 96, Rope: model.Rope{Type: "default"}}
	stretched := model.Config{MaxPositions: 192, Rope: model.Rope{Type: "dynamic", Factor: 2}}
	for _, c := range []struct {
		limits Limits
		shape  model.Config
		want   string // empty: it is kept
	}{
		{Limits{MaxSequenceTokens: 96, MaxPromptTokens: 95}, plain, ""},
		{Limits{MaxSequenceTokens: 97}, plain, "--max-total-tokens 97: the model has 96 positions: give 96 or less, or leave it out"},
		{Limits{MaxPromptTokens: 96}, plain,
			"--max-input-length 96: the model has 96 positions, and a prompt needs one of them for its answer: " +
				"give 95 or less, or leave it out"},
		{Limits{MaxSequenceTokens: 192}, stretched, ""},
		{Limits{MaxSequenceTokens: 200}, stretched, "--max-total-tokens 200: the model has 192 positions, those that its rope scaling " +
			"(dynamic, factor 2) adds among them: give 192 or less, or leave it out"},
	} {
		got := ""
		if err := c.limits.checkPositions(c.shape); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: got %q, want %q", c.limits, got, c.want)
		}
	}
	const end = ": the KV cache has room for 64 tokens (a reason): lower it, or give the cache more with --max-batch-total-tokens, " +
		"--cpu-memory-fraction or free memory"
	for limits, want := range map[Limits]string{
		{}: "", {MaxSequenceTokens: 64, MaxPromptTokens: 63}: "", {MaxSequenceTokens: 65}: "--max-total-tokens 65" + end,
		{MaxPromptTokens: 64}: "--max-input-length 64" + end,
	} {
		got := ""
		if err := limits.checkCapacity(64, "a reason"); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: got %q, want %q", limits, got, want)
		}
	}
}
