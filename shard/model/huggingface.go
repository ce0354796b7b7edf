package model

import (
	"errors"
	"fmt"
	"strings"

	"lockstep/shard/weights"
)

// hfConfig are the keys of config.json that families share.
type hfConfig struct {
	Architectures    []string `json:"architectures"`
	ModelType        string   `json:"model_type"`
	Hidden           int      `json:"hidden_size"`
	Intermediate     int      `json:"intermediate_size"`
	Layers           int      `json:"num_hidden_layers"`
	Heads            int      `json:"num_attention_heads"`
	KVHeads          int      `json:"num_key_value_heads"`
	HeadDim          int      `json:"head_dim"`
	Vocabulary       int      `json:"vocab_size"`
	NormEpsilon      float32  `json:"rms_norm_eps"`
	MaxPositions     int      `json:"max_position_embeddings"`
	SlidingWindow    *int     `json:"sliding_window"`
	UseSlidingWindow bool     `json:"use_sliding_window"`
	MaxWindowLayers  *int     `json:"max_window_layers"`
	LayerTypes       []string `json:"layer_types"`
	Bias             bool     `json:"bias"`
	AttentionBias    bool     `json:"attention_bias"`
	MLPBias          bool     `json:"mlp_bias"`
	Tied             bool     `json:"tie_word_embeddings"` // absent means false for all modelTypes, though not for the reference's other ones
	Activation       string   `json:"hidden_act"`
	RopeTheta        float64  `json:"rope_theta"`
	RopeScaling      *hfRope  `json:"rope_scaling"`
	RopeParameters   *hfRope  `json:"rope_parameters"`
}

type hfRope struct {
	Type            string  `json:"type"`
	RopeType        string  `json:"rope_type"`
	Theta           float64 `json:"rope_theta"`
	Factor          float64 `json:"factor"`
	LowFreqFactor   float64 `json:"low_freq_factor"`
	HighFreqFactor  float64 `json:"high_freq_factor"`
	OriginalMax     int     `json:"original_max_position_embeddings"`
	AttentionFactor float64 `json:"attention_factor"`
	BetaFast        float64 `json:"beta_fast"`
	BetaSlow        float64 `json:"beta_slow"`
}

// huggingFace reads what families share of config.json.
func huggingFace(files *weights.Files) (*hfConfig, Config, error) {
	hf := &hfConfig{}
	if err := files.Config(hf); err != nil {
		return nil, Config{}, err
	}
	if hf.Activation != "" && hf.Activation != "silu" {
		return nil, Config{}, fmt.Errorf("activation %q is not served; silu is", hf.Activation)
	}
	c := Config{Architecture: hf.ModelType, Hidden: hf.Hidden, Intermediate: hf.Intermediate, Layers: hf.Layers, Heads: hf.Heads,
		KVHeads: hf.KVHeads, HeadDim: hf.HeadDim, Vocabulary: hf.Vocabulary, NormEpsilon: hf.NormEpsilon, MaxPositions: hf.MaxPositions}
	c.fill()
	if c.NormEpsilon == 0 {
		c.NormEpsilon = 1e-6
	}
	var err error
	c.Rope, err = hf.rope()
	return hf, c, err
}

// rewardHead reports whether the model has a score head, which LightLLM tells by model type and architecture; none: the
// family has no reward models.
func (hf *hfConfig) rewardHead(family bool) (bool, error) {
	if len(hf.Architectures) == 0 || strings.HasSuffix(hf.Architectures[0], "ForCausalLM") {
		return false, nil
	}
	name := hf.Architectures[0]
	if family && strings.Contains(name, "RewardModel") && !strings.Contains(name, "ProcessReward") { // those score every step of the text
		return true, nil
	}
	return false, fmt.Errorf("architecture %q of model type %q is not served; those for causal language modelling are, and as reward "+
		"models InternLM2ForRewardModel and Qwen2ForRewardModel",
		name, hf.ModelType)
}

func (hf *hfConfig) rope() (Rope, error) {
	r := Rope{Type: "default", Theta: hf.RopeTheta, OriginalMaxPositions: hf.MaxPositions}
	for _, scaling := range []*hfRope{hf.RopeScaling, hf.RopeParameters} {
		if scaling == nil {
			continue
		}
		if r.Type = scaling.RopeType; r.Type == "" {
			r.Type = scaling.Type
		}
		if scaling.Theta != 0 {
			r.Theta = scaling.Theta
		}
		r.Factor, r.LowFreqFactor, r.HighFreqFactor = scaling.Factor, scaling.LowFreqFactor, scaling.HighFreqFactor
		r.AttentionFactor, r.BetaFast, r.BetaSlow = scaling.AttentionFactor, scaling.BetaFast, scaling.BetaSlow
		if scaling.OriginalMax != 0 {
			r.OriginalMaxPositions = scaling.OriginalMax
		}
	}
	if r.Theta == 0 {
		r.Theta = 10000
	}
	switch r.Type {
	case "", "default":
		r.Type = "default"
		return r, nil
	case "linear", "dynamic", "yarn", "llama3":
		if !(r.Factor >= 1) {
			return r, fmt.Errorf("rope type %q has factor %v", r.Type, r.Factor)
		}
		if r.Type == "llama3" && !(r.HighFreqFactor > r.LowFreqFactor && r.LowFreqFactor > 0) {
			return r, errors.New("rope type llama3: high_freq_factor must exceed low_freq_factor")
		}
		return r, nil
	}
	return r, fmt.Errorf("rope type %q is not served yet", r.Type)
}

// windowsWhere gives the layers that slide the window of sliding_window; nil: there is none.
func (hf *hfConfig) windowsWhere(slides func(layer int) bool) []int {
	if hf.SlidingWindow == nil || *hf.SlidingWindow < 1 || hf.Layers < 0 || hf.Layers > weights.MaxDimension {
		return nil
	}
	windows := make([]int, hf.Layers)
	for layer := range windows {
		if slides(layer) {
			windows[layer] = *hf.SlidingWindow
		}
	}
	return windows
}

func (hf *hfConfig) noWindows() error {
	return fmt.Errorf("use_sliding_window of model type %q is not served yet", hf.ModelType)
}
