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
	ValueDim     int `json:",omitempty"` // of a head's values; 0: HeadDim
	Vocabulary   int
	NormEpsilon  float32
	MaxPositions int
	Rope         Rope
	EOSTokenIDs  []int32
	Embedding    string // the name of its tensor
	Reward       bool   `json:",omitempty"` // it has a score for a prompt, and no text
}

// Rope says how positions turn queries and keys; the zero value: they do not.
type Rope struct {
	Type                 string // "default", "linear", "dynamic", "llama3", "yarn", "longrope"
	Theta                float64
	Dims                 int     `json:",omitempty"` // the first dimensions of a head are rotated; 0: all
	Factor               float64 `json:",omitempty"`
	LowFreqFactor        float64 `json:",omitempty"`
	HighFreqFactor       float64 `json:",omitempty"`
	OriginalMaxPositions int     `json:",omitempty"`
	AttentionFactor      float64 `json:",omitempty"` // 0: from Factor, as YaRN's or LongRoPE's paper says
	BetaFast, BetaSlow   float64 `json:",omitempty"`
	// MScale and MScaleAllDim are DeepSeek's factors of YaRN's scale of attention.
	MScale, MScaleAllDim float64 `json:",omitempty"`
	Fractional           bool    `json:",omitempty"` // YaRN's bounds are not rounded to whole dimensions
	// Sharpening is by how much queries grow with the logarithm of how often their position holds the original ones (Llama 4's and
	// Ministral 3's scaling of attention); 0: they do not.
	Sharpening float64 `json:",omitempty"`
	// Divisors divide each frequency (GGUF's rope_freqs.weight, LongRoPE's short factors); nil means none. LongDivisors do so in
	// place of them beyond OriginalMaxPositions.
	Divisors     []float32 `json:",omitempty"`
	LongDivisors []float32 `json:",omitempty"`
}

// check refuses what cannot be.
func (r *Rope) check() error {
	switch r.Type {
	case "default":
		return nil
	case "linear", "dynamic", "yarn", "llama3":
		if !(r.Factor >= 1) {
			return fmt.Errorf("rope type %q has factor %v", r.Type, r.Factor)
		}
		if r.Type == "llama3" && !(r.HighFreqFactor > r.LowFreqFactor && r.LowFreqFactor > 0) {
			return errors.New("rope type llama3: high_freq_factor must exceed low_freq_factor")
		}
		return nil
	case "longrope":
		if len(r.Divisors) == 0 || len(r.Divisors) != len(r.LongDivisors) {
			return fmt.Errorf("rope type longrope has %d short and %d long factors", len(r.Divisors), len(r.LongDivisors))
		}
		return nil
	}
	return fmt.Errorf("rope type %q is not served; default, linear, dynamic, llama3, yarn and longrope are", r.Type)
}

// extendPositions makes MaxPositions, so far the trained ones, those that the rotation is made for, as vLLM derives them.
func (c *Config) extendPositions() {
	trained := c.MaxPositions
	switch r := &c.Rope; r.Type {
	case "linear", "dynamic":
		c.MaxPositions = int(float64(trained) * r.Factor)
	case "yarn":
		c.MaxPositions = max(trained, int(float64(r.OriginalMaxPositions)*r.Factor))
	}
	if trained <= weights.MaxDimension { // else it is told
		c.MaxPositions = min(c.MaxPositions, weights.MaxDimension)
	}
}

// maxLayers and maxHeadDim bound what is believed where recipes and rotations are as long as that.
const (
	maxLayers  = 4096
	maxHeadDim = 1 << 16
)

func (c *Config) validate() error {
	most := func(name string) int {
		switch name {
		case "layer count":
			return maxLayers
		case "head dimension":
			return maxHeadDim
		}
		return weights.MaxDimension
	}
	for name, value := range map[string]int{"hidden size": c.Hidden, "intermediate size": c.Intermediate, "layer count": c.Layers,
		"head count": c.Heads, "KV head count": c.KVHeads, "head dimension": c.HeadDim, "vocabulary size": c.Vocabulary,
		"maximum position": c.MaxPositions} {
		if value < 1 || value > most(name) {
			return fmt.Errorf("%s is %d, want 1 to %d", name, value, most(name))
		}
	}
	switch {
	case c.Heads%c.KVHeads != 0:
		return fmt.Errorf("%d query heads do not share %d KV heads evenly", c.Heads, c.KVHeads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("head dimension %d is odd", c.HeadDim)
	case c.Rope.Dims < 0 || c.Rope.Dims > c.HeadDim || c.Rope.Dims%2 != 0:
		return fmt.Errorf("%d of %d dimensions cannot be rotated", c.Rope.Dims, c.HeadDim)
	case !(c.NormEpsilon > 0):
		return fmt.Errorf("norm epsilon is %v, and must be positive", c.NormEpsilon)
	case c.Rope.Type != "" && !(c.Rope.Theta > 0):
		return fmt.Errorf("rope theta is %v, and must be positive", c.Rope.Theta)
	}
	return nil
}

// ValueDims is the size of a head's values.
func (c *Config) ValueDims() int {
	if c.ValueDim > 0 {
		return c.ValueDim
	}
	return c.HeadDim
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

// KeysDependOnPrompt reports whether keys in the cache are those of a prompt of this length only ("dynamic" and "longrope"
// rotations beyond the original positions), so that no sequence with another prompt may use them.
func (c *Config) KeysDependOnPrompt(promptTokens int) bool {
	return c.Rope.DependsOnLength() && promptTokens > c.Rope.OriginalMaxPositions
}

// DependsOnLength reports whether a position turns otherwise in a longer sequence.
func (r *Rope) DependsOnLength() bool { return r.Type == "dynamic" || r.Type == "longrope" }
