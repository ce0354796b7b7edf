package shard

import (
	"errors"
	"fmt"
	"runtime"

	"lockstep/protocol"
	"lockstep/shard/sim"
)

// Config is everything that one rank of a group needs to know. The launcher writes it as JSON to the rank's inherited
// file; all ranks of a group get the same values but for Rank and CPUs.
type Config struct {
	// Group names this incarnation of the group.
	Group protocol.GroupRef `json:"group"`
	// Node is the name of the node, for announcements and logs.
	Node string `json:"node"`
	// Rank counts from 0; rank 0 leads. Shards is the number of ranks.
	Rank   int `json:"rank"`
	Shards int `json:"shards"`
	// ModelPath is a directory in Hugging Face format or a .gguf file; empty means the embedded demo model.
	ModelPath string `json:"model_path,omitempty"`
	// ModelID is what the operator calls the model.
	ModelID string `json:"model_id"`
	// ChatTemplate is the Jinja text of the chat template, in place of the model's own; empty: that.
	ChatTemplate string `json:"chat_template,omitempty"`
	// NATSURLs are the servers that rank 0 connects to; other ranks need none.
	NATSURLs []string `json:"nats_urls,omitempty"`
	// NATSIdentity is what rank 0 proves to be to them.
	NATSIdentity protocol.Identity `json:"nats_identity"`
	// Threads that compute, at least 1. More than cores costs speed, not correctness.
	Threads int `json:"threads"`
	// CPUs to pin the threads to, one each; empty means no pinning.
	CPUs []int `json:"cpus,omitempty"`
	// Backend is what computes: one of Backends; empty: DefaultBackend. Sim is what "sim" is to be like.
	Backend string     `json:"backend,omitempty"`
	Sim     sim.Config `json:"sim,omitzero"`
	// Kernels forces a kernel path ("avx512", "avx2", "go"); empty takes the best that the CPU has.
	Kernels string `json:"kernels,omitempty"`
	// MaxSequences bounds the sequences that run at once; 0 means 128.
	MaxSequences int `json:"max_sequences,omitempty"`
	// MaxRequests bounds accepted requests, running and waiting; more are refused as full. 0 means 1024.
	MaxRequests int `json:"max_requests,omitempty"`
	// PrefillTokens is how many tokens of prompts a step computes at most, beside one token of each other sequence: large
	// values favour throughput, small ones the time between tokens. 0 means 512.
	PrefillTokens int `json:"prefill_tokens,omitempty"`
	// CacheTokens is the size of the KV cache in tokens; 0 means as many as CacheMemoryFraction allows.
	CacheTokens int `json:"cache_tokens,omitempty"`
	// CacheMemoryFraction is the share of the memory that is free once the weights are there that the KV caches of all
	// ranks take together, at once; 0 means 0.25. It is the sibling of --cuda-memory-fraction.
	CacheMemoryFraction float64 `json:"cache_memory_fraction,omitempty"`
	// MaxSequenceTokens bounds prompt and output together; 0 means what the model's positions allow.
	MaxSequenceTokens int `json:"max_sequence_tokens,omitempty"`
	// DisablePrefixCache computes every prompt whole.
	DisablePrefixCache bool `json:"disable_prefix_cache,omitempty"`
	// Restarted says that an earlier incarnation has computed the largest steps here, so that a short canary will do.
	Restarted bool `json:"restarted,omitempty"`
	// StepLog is a file to which rank 0 appends a line of JSON for each step (StepRecord); empty: none.
	StepLog string `json:"step_log,omitempty"`
}

// rows is how many tokens a step has at most.
func (c Config) rows() int { return c.PrefillTokens + c.MaxSequences }

// WithDefaults returns the configuration with every zero replaced by what it means.
func (c Config) WithDefaults() Config {
	set := func(field *int, value int) {
		if *field == 0 {
			*field = value
		}
	}
	if c.Backend == "" {
		c.Backend = DefaultBackend
	}
	set(&c.Threads, max(1, runtime.NumCPU()/max(1, c.Shards)))
	set(&c.MaxSequences, 128)
	set(&c.MaxRequests, 1024)
	set(&c.PrefillTokens, 512)
	if c.CacheMemoryFraction == 0 {
		c.CacheMemoryFraction = 0.25
	}
	return c
}

// Validate refuses what cannot run. It expects defaults to be filled in.
func (c Config) Validate() error {
	switch {
	case !protocol.ValidToken(c.Group.Group):
		return fmt.Errorf("group name %q: want 1 to 64 letters, digits, '-' or '_'", c.Group.Group)
	case c.Shards < 1 || c.Shards > 64:
		return fmt.Errorf("%d shards: want 1 to 64", c.Shards)
	case c.Rank < 0 || c.Rank >= c.Shards:
		return fmt.Errorf("rank %d of %d shards", c.Rank, c.Shards)
	case c.Threads < 1 || c.Threads > 1024:
		return fmt.Errorf("%d threads: want 1 to 1024", c.Threads)
	case len(c.CPUs) > 0 && len(c.CPUs) != c.Threads:
		return fmt.Errorf("%d CPUs for %d threads", len(c.CPUs), c.Threads)
	case c.PrefillTokens < 1 || c.PrefillTokens > 1<<16:
		return fmt.Errorf("%d prompt tokens a step: want 1 to 65536", c.PrefillTokens)
	case c.MaxSequences < 1 || c.MaxSequences > 4096:
		return fmt.Errorf("%d sequences at once: want 1 to 4096", c.MaxSequences)
	case c.CacheMemoryFraction < 0 || c.CacheMemoryFraction > 1:
		return errors.New("the cache's memory fraction must lie between 0 and 1")
	case c.CacheTokens < 0 || c.MaxSequenceTokens < 0 || c.MaxRequests < 0:
		return errors.New("limits must not be negative")
	}
	_, err := backendNamed(c.Backend)
	return err
}

// Status is what a rank tells its launcher, one JSON object a line, over its status pipe.
type Status struct {
	// Progress is the share of the weights that is loaded, 0 to 1.
	Progress float64 `json:"progress,omitempty"`
	// Ready says that the rank computes: for rank 0 also that the group serves. Text describes the group for people.
	Ready bool   `json:"ready,omitempty"`
	Text  string `json:"text,omitempty"`
	// Error is why the rank ends.
	Error string `json:"error,omitempty"`
}
