package shard

import (
	"fmt"

	"lockstep/protocol"
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
	// CacheTokens is the size of the KV cache in tokens; 0: as many as CacheMemoryFraction allows.
	CacheTokens int `json:"max_batch_total_tokens"`
	// CacheMemoryFraction is the share of the memory that is free once the weights are there that the KV caches of all
	// ranks take together, at once. It is the sibling of --cuda-memory-fraction.
	CacheMemoryFraction float64 `json:"cpu_memory_fraction"`
	// MaxSequenceTokens bounds prompt and output together; 0: what the model's positions allow.
	MaxSequenceTokens int `json:"max_total_tokens"`
}

// DefaultLimits are those of a group unless it is told otherwise.
func DefaultLimits() Limits {
	return Limits{MaxSequences: 128, MaxRequests: 1024, PrefillTokens: protocol.DefaultPrefillTokens, CacheMemoryFraction: 0.25}
}

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
	case !(l.CacheMemoryFraction > 0 && l.CacheMemoryFraction <= 1):
		return &LimitError{"cpu_memory_fraction", fmt.Sprintf("must be above 0 and at most 1, got %v", l.CacheMemoryFraction)}
	case l.CacheTokens != 0 && l.MaxSequenceTokens > l.CacheTokens:
		return &LimitError{"max_total_tokens",
			fmt.Sprintf("(%d) must be <= --max-batch-total-tokens (%d)", l.MaxSequenceTokens, l.CacheTokens)}
	}
	return nil
}
