package shard

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"lockstep/protocol"
	"lockstep/shard/collective"
	"lockstep/shard/gpu"
	"lockstep/shard/host"
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
	// NoModelDefaults leaves the sampling parameters that the model's files recommend out of the model card.
	NoModelDefaults bool `json:"no_model_defaults,omitempty"`
	// Adapters are those that requests may name. model.Chunk.Adapter counts them from 1.
	Adapters []Adapter `json:"adapters,omitempty"`
	// NATSURLs are the servers that rank 0 connects to; other ranks need none.
	NATSURLs []string `json:"nats_urls,omitempty"`
	// NATSIdentity is what rank 0 proves to be to them.
	NATSIdentity protocol.Identity `json:"nats_identity"`
	// Threads that compute, at least 1. More than cores costs speed, not correctness.
	Threads int `json:"threads"`
	// CPUs that the threads may run on, at least one for each; empty: any.
	CPUs []int `json:"cpus,omitempty"`
	// Crowded says that the group has more threads than it may use cores.
	Crowded bool `json:"crowded,omitempty"`
	// Backend is what computes, one of Backends. Sim is what "sim" is to be like.
	Backend string     `json:"backend,omitempty"`
	Sim     sim.Config `json:"sim,omitzero"`
	// Kernels forces a kernel path of the CPU (package cpu); empty takes the best that it has.
	Kernels string `json:"kernels,omitempty"`
	// Numerics is the arithmetic, one of the backend's; empty: its default one.
	Numerics string `json:"numerics,omitempty"`
	// Graphs are gpu.Options'; empty: gpu.DefaultGraphs. A 0 among them means none.
	Graphs []int `json:"graphs,omitempty"`
	// Devices are the cards that ranks compute on, by rank, for a backend of cards: UUIDs as package driver shows them. Ranks may share
	// one.
	Devices []string `json:"devices,omitempty"`
	// CUDALibrary is the library of the cards' driver; empty: driver.DefaultLibrary.
	CUDALibrary string `json:"cuda_library,omitempty"`
	// KVCache is the type of numbers in the KV cache, one of KVCaches; empty: that of the numerics.
	KVCache string `json:"kv_cache,omitempty"`
	// Quantize is what weights are quantised to while they are loaded, one of model.QuantiseNames; empty: they stay as they are.
	Quantize string `json:"quantize,omitempty"`
	Limits
	// Speculate is how many tokens a step guesses of a sequence at most; 0: none. Guesses change no token.
	Speculate int `json:"speculate,omitempty"`
	// DisablePrefixCache computes every prompt whole.
	DisablePrefixCache bool `json:"disable_prefix_cache,omitempty"`
	// Restarted says that an earlier incarnation has served here, so that a short canary will do.
	Restarted bool `json:"restarted,omitempty"`
	// PriorCacheTokens is the size of the KV cache with which that incarnation served: sequences that it held must find room again.
	PriorCacheTokens int `json:"prior_cache_tokens,omitempty"`
	// StepLog is a file to which rank 0 appends a line of JSON for each step (StepRecord); empty: none.
	StepLog string `json:"step_log,omitempty"`
}

// MaxSpeculate bounds Config.Speculate: with the token before them a sequence's guesses make a small step.
const MaxSpeculate = draftRows - 1

// MaxThreads bounds Config.Threads.
const MaxThreads = 1024

// rows is how many tokens a step has at most.
func (c Config) rows() int { return c.PrefillTokens + c.MaxSequences }

// Validate refuses what cannot run. It changes nothing.
func (c Config) Validate() error {
	switch {
	case !protocol.ValidToken(c.Group.Group):
		return fmt.Errorf("group name %q: want 1 to 64 letters, digits, '-' or '_'", c.Group.Group)
	case c.Shards < 1 || c.Shards > collective.MaxRanks:
		return fmt.Errorf("%d shards: want 1 to %d", c.Shards, collective.MaxRanks)
	case c.Rank < 0 || c.Rank >= c.Shards:
		return fmt.Errorf("rank %d of %d shards", c.Rank, c.Shards)
	case c.Threads < 1 || c.Threads > MaxThreads:
		return fmt.Errorf("%d threads: want 1 to %d", c.Threads, MaxThreads)
	case len(c.CPUs) > 0 && len(c.CPUs) < c.Threads:
		return fmt.Errorf("%d CPUs for %d threads", len(c.CPUs), c.Threads)
	}
	if err := c.Limits.Validate(); err != nil {
		return err
	}
	if _, err := backendNamed(c.Backend); err != nil {
		return err
	}
	if TraitsOf(c.Backend).Devices && len(c.Devices) != c.Shards {
		return fmt.Errorf("%d devices for %d shards", len(c.Devices), c.Shards)
	}
	if all := TraitsOf(c.Backend).Numerics; c.Numerics != "" && !slices.Contains(all, c.Numerics) {
		return fmt.Errorf("numerics %q: want one of %s", c.Numerics, strings.Join(all, ", "))
	}
	if c.KVCache != "" && !slices.Contains(KVCaches(), c.KVCache) {
		return fmt.Errorf("KV cache of %q: want one of %s", c.KVCache, strings.Join(KVCaches(), ", "))
	}
	if c.Speculate < 0 || c.Speculate > MaxSpeculate {
		return fmt.Errorf("%d guessed tokens: want 0 to %d", c.Speculate, MaxSpeculate)
	}
	if c.Speculate > 0 && TraitsOf(c.Backend).Cards {
		return fmt.Errorf("guessed tokens on a card: its steps are planned before the tokens of the step before are known")
	}
	for _, a := range c.Adapters {
		if a.Name == c.ModelID {
			return fmt.Errorf("an adapter is called as the model is, %.200q: give it a name of its own (--lora-adapters NAME=PATH)", a.Name)
		}
	}
	return CheckAdapters(c.Adapters, c.Backend)
}

// Status is what a rank tells its launcher, one JSON object a line, over its status pipe.
type Status struct {
	// Phase is what a start is at, and Progress the share of it that is done, 0 to 1, as far as that is known.
	Phase    string  `json:"phase,omitempty"`
	Progress float64 `json:"progress,omitempty"`
	// Ready says that the rank computes: for rank 0 also that the group serves. Text describes the group for people.
	Ready bool   `json:"ready,omitempty"`
	Text  string `json:"text,omitempty"`
	// CacheTokens is the size of the KV cache of a group that serves.
	CacheTokens int `json:"cache_tokens,omitempty"`
	// Error is why the rank ends.
	Error string `json:"error,omitempty"`
}

// CardNumerics are the arithmetics of cards.
func CardNumerics() []string { return slices.Sorted(maps.Keys(gpu.Numerics)) }

// Numerics are the arithmetics of all backends.
func Numerics() (names []string) {
	for _, b := range backends {
		names = append(names, b.Numerics...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// CardGraphs are the numbers of rows that cards keep graphs for, where nobody asks for others.
func CardGraphs() []int { return slices.Clone(gpu.DefaultGraphs) }

// KVCaches are the types of numbers that a KV cache may hold.
func KVCaches() []string { return slices.Sorted(maps.Keys(host.CacheTypes)) }
