package model

import (
	"errors"
	"fmt"

	"lockstep/shard/weights"
)

// Config is the shape of a model, as far as all families have it; what is peculiar to one is in its recipe. Model.Fingerprint
// covers it as JSON, so a further field is left out there while it is zero.
type Config struct {
	Architecture string
	Hidden       int
	Intermediate int
	Layers       int
	Heads        int // query heads
	KVHeads      int
	HeadDim      int
	Vocabulary   int
	NormEpsilon  float32
	MaxPositions int
	Rope         Rope
	EOSTokenIDs  []int32
	Embedding    string // the name of its tensor
	Reward       bool   `json:",omitempty"` // it has a score for a prompt, and no text
}

// Rope says how positions turn queries and keys.
type Rope struct {
	Type                 string // "default", "linear", "dynamic", "llama3", "yarn"
	Theta                float64
	Factor               float64 `json:",omitempty"`
	LowFreqFactor        float64 `json:",omitempty"`
	HighFreqFactor       float64 `json:",omitempty"`
	OriginalMaxPositions int     `json:",omitempty"`
	AttentionFactor      float64 `json:",omitempty"` // 0: from Factor, as YaRN's paper says
	BetaFast, BetaSlow   float64 `json:",omitempty"`
	// Divisors divide each frequency (GGUF's rope_freqs.weight); nil means none.
	Divisors []float32 `json:",omitempty"`
}

func (c *Config) validate() error {
	for name, value := range map[string]int{"hidden size": c.Hidden, "intermediate size": c.Intermediate, "layer count": c.Layers,
		"head count": c.Heads, "KV head count": c.KVHeads, "head dimension": c.HeadDim, "vocabulary size": c.Vocabulary,
		"maximum position": c.MaxPositions} {
		if value < 1 || value > weights.MaxDimension {
			return fmt.Errorf("%s is %d, want 1 to %d", name, value, weights.MaxDimension)
		}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("%d query heads do not share %d KV heads evenly", c.Heads, c.KVHeads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("head dimension %d is odd", c.HeadDim)
	case !(c.NormEpsilon > 0) || !(c.Rope.Theta > 0):
		return errors.New("norm epsilon and rope theta must be positive")
	}
	return nil
}

// fill sets what follows from the rest where files do not say it.
func (c *Config) fill() {
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
}

// EvenlySplit reports whether this number of ranks computes the bits of a single one (law 3 in docs/architecture.md).
func (c *Config) EvenlySplit(ranks int) bool {
	return ranks&(ranks-1) == 0 && ranks <= maxChunks && c.Heads%maxChunks == 0 && c.Intermediate%maxChunks == 0
}

// KeysDependOnPrompt reports whether keys in the cache are those of a prompt of this length only ("dynamic" rotations
// beyond the trained positions), so that no sequence with another prompt may use them.
func (c *Config) KeysDependOnPrompt(promptTokens int) bool {
	return c.Rope.Type == "dynamic" && promptTokens > c.MaxPositions
}
