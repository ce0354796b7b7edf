package shard

import (
	"fmt"

	"lockstep/protocol"
	"lockstep/shard/model"
)

// Limits bound what a group takes and computes at once. Each setting is defined here alone: the launcher's flags have their
// defaults and checks from here, under the names that these have in JSON.
type Limits struct {
	// MaxSequences bounds the sequences that run at once.
	MaxSequences int `json:"max_batch_size"`
	// MaxRequests bounds accepted requests, running and waiting; more are refused as full.
	MaxRequests int `json:"max_requests"`
	// PrefillTokens is how many tokens of prompts a step computes at most, beside one token of each other sequence: large
	// values favour throughput, small ones the time between tokens.
	PrefillTokens int `json:"max_batch_prefill_tokens"`
	// CacheTokens is the size of the KV cache in tokens, rounded up to whole blocks; 0: as many as CacheMemoryFraction allows.
	CacheTokens int `json:"max_batch_total_tokens"`
	// CacheMemoryFraction is the share of the memory that is free once the weights are there that the KV caches of all
	// ranks take together, at once. It is the sibling of --cuda-memory-fraction. 0: what MaxSequences of a usual length need, and
	// DefaultMemoryFraction at most.
	CacheMemoryFraction float64 `json:"cpu_memory_fraction"`
	// MaxSequenceTokens bounds prompt and output together; 0: what the model's positions and the cache allow.
	MaxSequenceTokens int `json:"max_total_tokens"`
	// MaxPromptTokens is the longest prompt that routers are to take; 0: one token less than MaxSequenceTokens. A group only finds
	// out that it can be.
	MaxPromptTokens int `json:"max_input_length,omitempty"`
}

// DefaultLimits are those of a group unless it is told otherwise.
func DefaultLimits() Limits {
	return Limits{MaxSequences: 128, MaxRequests: 1024, PrefillTokens: protocol.DefaultPrefillTokens}
}

// DefaultMemoryFraction bounds the share of the free memory that a KV cache takes which nobody has asked for.
const DefaultMemoryFraction = 0.25

// MinCacheTokens is the smallest KV cache that every backend can have: no backend's block is larger.
const MinCacheTokens = 16

// LimitError says that a limit makes no sense.
type LimitError struct {
	Setting string // the limit's name in JSON
	Why     string // what of it
}

func (e *LimitError) Error() string { return e.Setting + " " + e.Why }

// Validate refuses what makes no sense, by a *LimitError. It changes nothing.
func (l *Limits) Validate() error {
	for _, limit := range []struct {
		setting            string
		value, least, most int
		zero               bool // 0 is a value too
		because            string
	}{
		{"max_batch_size", l.MaxSequences, 1, 4096, false, ""},
		{"max_requests", l.MaxRequests, 1, 1 << 20, false, ""},
		{"max_batch_prefill_tokens", l.PrefillTokens, 1, protocol.MaxPrefillTokens, false, ""},
		{"max_batch_total_tokens", l.CacheTokens, MinCacheTokens, 1<<31 - 1, true, ", a block of the KV cache"},
		{"max_input_length", l.MaxPromptTokens, 1, 1<<31 - 1, true, ""},
		{"max_total_tokens", l.MaxSequenceTokens, 2, 1<<31 - 1, true, ", a token of the prompt and one of the answer"},
	} {
		if limit.zero && limit.value == 0 {
			continue
		}
		switch {
		case limit.value < 0 && limit.zero:
			return &LimitError{limit.setting, fmt.Sprintf("must not be negative, got %d", limit.value)}
		case limit.value < limit.least && limit.least == 1:
			return &LimitError{limit.setting, fmt.Sprintf("must be > 0, got %d", limit.value)}
		case limit.value < limit.least:
			return &LimitError{limit.setting, fmt.Sprintf("must be at least %d%s, got %d", limit.least, limit.because, limit.value)}
		case limit.value > limit.most:
			return &LimitError{limit.setting, fmt.Sprintf("must be at most %d, got %d", limit.most, limit.value)}
		}
	}
	switch {
	case !(l.CacheMemoryFraction >= 0 && l.CacheMemoryFraction <= 1):
		return &LimitError{"cpu_memory_fraction", fmt.Sprintf("must be above 0 and at most 1, got %v", l.CacheMemoryFraction)}
	case l.CacheTokens != 0 && l.MaxSequenceTokens > l.CacheTokens:
		return &LimitError{"max_total_tokens",
			fmt.Sprintf("(%d) must be <= --max-batch-total-tokens (%d)", l.MaxSequenceTokens, l.CacheTokens)}
	}
	return nil
}

// checkPositions refuses limits that a model of this shape cannot keep.
func (l *Limits) checkPositions(shape model.Config) error {
	positions := fmt.Sprintf("the model has %d positions", shape.MaxPositions)
	switch rope := shape.Rope; rope.Type {
	case "linear", "dynamic", "yarn":
		positions += fmt.Sprintf(", those that its rope scaling (%s, factor %v) adds among them", rope.Type, rope.Factor)
	}
	switch {
	case l.MaxSequenceTokens > shape.MaxPositions:
		return fmt.Errorf("--max-total-tokens %d: %s: give %d or less, or leave it out", l.MaxSequenceTokens, positions, shape.MaxPositions)
	case l.MaxPromptTokens >= shape.MaxPositions:
		return fmt.Errorf("--max-input-length %d: %s, and a prompt needs one of them for its answer: give %d or less, or leave it out",
			l.MaxPromptTokens, positions, shape.MaxPositions-1)
	}
	return nil
}

// checkCapacity refuses limits that a KV cache of so many tokens, which is so large for a reason, cannot keep.
func (l *Limits) checkCapacity(tokens int, reason string) error {
	for _, asked := range []struct {
		flag            string
		value, sequence int
	}{{"--max-total-tokens", l.MaxSequenceTokens, l.MaxSequenceTokens}, {"--max-input-length", l.MaxPromptTokens, l.MaxPromptTokens + 1}} {
		if asked.value > 0 && asked.sequence > tokens {
			return fmt.Errorf("%s %d: the KV cache has room for %d tokens (%s): lower it, or give the cache more with "+
				"--max-batch-total-tokens, --cpu-memory-fraction or free memory", asked.flag, asked.value, tokens, reason)
		}
	}
	return nil
}
