package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
)

// Config is the shape of a Llama-family model, whichever file it comes from.
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
	// Windows says of each layer how many positions a position sees there, itself among them; 0: all before it. nil: 0 for
	// all layers.
	Windows  []int
	HeadNorm bool // each head's queries and keys are normed before they are turned
	TiedHead bool
	// Biased are the projections that have biases whatever the files say: "self_attn.q_proj", ...
	Biased      []string
	Score       ScoreHead
	Rope        Rope
	EOSTokenIDs []int32
}

// ScoreHead is what a reward model has where others have a head over the vocabulary.
type ScoreHead uint8

const (
	NoScore     ScoreHead = iota
	ScoreLinear           // v_head.weight, of one row
	ScoreLayers           // score.0, ReLU, score.2; both with biases
)

// Rope says how positions turn queries and keys.
type Rope struct {
	Type                 string // "default", "linear", "dynamic", "llama3", "yarn"
	Theta                float64
	Factor               float64
	LowFreqFactor        float64
	HighFreqFactor       float64
	OriginalMaxPositions int
	AttentionFactor      float64 // 0: from Factor, as YaRN's paper says
	BetaFast, BetaSlow   float64
	// Divisors divide each frequency (GGUF's rope_freqs.weight); nil means none.
	Divisors []float32
}

// maximum of any dimension of a model that is believed; larger values are damage or attack.
const maxDimension = 1 << 24

func (c *Config) validate() error {
	for name, value := range map[string]int{"hidden size": c.Hidden, "intermediate size": c.Intermediate, "layer count": c.Layers,
		"head count": c.Heads, "KV head count": c.KVHeads, "head dimension": c.HeadDim, "vocabulary size": c.Vocabulary, "maximum position": c.MaxPositions} {
		if value < 1 || value > maxDimension {
			return fmt.Errorf("%s is %d, want 1 to %d", name, value, maxDimension)
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

// The keys of config.json that are read.
type hfConfig struct {
	Architectures    []string        `json:"architectures"`
	ModelType        string          `json:"model_type"`
	Hidden           int             `json:"hidden_size"`
	Intermediate     int             `json:"intermediate_size"`
	Layers           int             `json:"num_hidden_layers"`
	Heads            int             `json:"num_attention_heads"`
	KVHeads          int             `json:"num_key_value_heads"`
	HeadDim          int             `json:"head_dim"`
	Vocabulary       int             `json:"vocab_size"`
	NormEpsilon      float32         `json:"rms_norm_eps"`
	MaxPositions     int             `json:"max_position_embeddings"`
	SlidingWindow    *int            `json:"sliding_window"`
	UseSlidingWindow bool            `json:"use_sliding_window"`
	MaxWindowLayers  *int            `json:"max_window_layers"`
	LayerTypes       []string        `json:"layer_types"`
	Bias             bool            `json:"bias"`
	AttentionBias    bool            `json:"attention_bias"`
	MLPBias          bool            `json:"mlp_bias"`
	Tied             bool            `json:"tie_word_embeddings"` // absent means false for all modelTypes, though not for the reference's other ones
	Activation       string          `json:"hidden_act"`
	RopeTheta        float64         `json:"rope_theta"`
	RopeScaling      *hfRope         `json:"rope_scaling"`
	RopeParameters   *hfRope         `json:"rope_parameters"`
	EOS              json.RawMessage `json:"eos_token_id"`
	Quantization     json.RawMessage `json:"quantization_config"`
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

// readHFConfig reads config.json of a model directory, and returns its eos_token_id beside.
func readHFConfig(dir fs.FS) (Config, json.RawMessage, error) {
	var hf hfConfig
	found, err := readJSON(dir, "config.json", &hf)
	if err == nil && !found {
		err = errors.New("there is no config.json: a directory in Hugging Face format has one")
	}
	if err != nil {
		return Config{}, nil, err
	}
	c, err := hf.config()
	if err != nil {
		return Config{}, nil, fmt.Errorf("config.json: %w", err)
	}
	return c, hf.EOS, nil
}

func (hf *hfConfig) config() (Config, error) {
	if !slices.Contains(modelTypes, hf.ModelType) {
		return Config{}, fmt.Errorf("model type %q is not served yet; %s are (model_type)", hf.ModelType, strings.Join(modelTypes, ", "))
	}
	if len(hf.Quantization) > 0 && string(hf.Quantization) != "null" {
		return Config{}, errors.New("quantization_config: quantised safetensors are not served yet; GGUF Q8_0, Q4_0 and Q4_1 are")
	}
	if hf.Activation != "" && hf.Activation != "silu" {
		return Config{}, fmt.Errorf("activation %q is not served; silu is", hf.Activation)
	}
	if hf.ModelType == "internlm2" && hf.Bias {
		return Config{}, errors.New("internlm2 with bias is not served yet")
	}
	c := Config{Architecture: hf.ModelType, Hidden: hf.Hidden, Intermediate: hf.Intermediate, Layers: hf.Layers, Heads: hf.Heads, KVHeads: hf.KVHeads,
		HeadDim: hf.HeadDim, Vocabulary: hf.Vocabulary, NormEpsilon: hf.NormEpsilon, MaxPositions: hf.MaxPositions, TiedHead: hf.Tied,
		HeadNorm: hf.ModelType == "qwen3"}
	c.Biased = hf.biased()
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.Hidden / c.Heads
	}
	if c.NormEpsilon == 0 {
		c.NormEpsilon = 1e-6
	}
	var err error
	if c.Score, err = hf.scoreHead(); err != nil {
		return Config{}, err
	}
	if c.Rope, err = hf.rope(); err != nil {
		return Config{}, err
	}
	if err = c.validate(); err == nil {
		c.Windows, err = hf.windows()
	}
	return c, err
}

// modelTypes are the values of model_type that are served.
var modelTypes = []string{"internlm2", "llama", "mistral", "qwen2", "qwen3"}

// biased returns Config.Biased, by the configuration and the rules of the reference's model types.
func (hf *hfConfig) biased() (projections []string) {
	switch {
	case hf.ModelType == "qwen2":
		projections = []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"}
	case hf.AttentionBias && (hf.ModelType == "llama" || hf.ModelType == "qwen3"):
		projections = []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"}
	}
	if hf.MLPBias && hf.ModelType == "llama" {
		projections = append(projections, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
	}
	return projections
}

// scoreHead finds reward models as LightLLM does, by model type and architecture.
func (hf *hfConfig) scoreHead() (ScoreHead, error) {
	if len(hf.Architectures) == 0 || strings.HasSuffix(hf.Architectures[0], "ForCausalLM") {
		return NoScore, nil
	}
	name := hf.Architectures[0]
	if strings.Contains(name, "RewardModel") && !strings.Contains(name, "ProcessReward") { // those score every step of the text
		switch hf.ModelType {
		case "internlm2":
			return ScoreLinear, nil
		case "qwen2":
			return ScoreLayers, nil
		}
	}
	return NoScore, fmt.Errorf("architecture %q of model type %q is not served; those for causal language modelling are, and as reward models InternLM2ForRewardModel and Qwen2ForRewardModel",
		name, hf.ModelType)
}

// windows returns Config.Windows. Where the file does not list the layers' types, Qwen's layers from max_window_layers on
// have windows.
func (hf *hfConfig) windows() ([]int, error) {
	var slides func(layer int) bool
	switch {
	case hf.ModelType == "mistral":
		slides = func(int) bool { return true }
	case !hf.UseSlidingWindow:
		return nil, nil
	case !strings.HasPrefix(hf.ModelType, "qwen"):
		return nil, fmt.Errorf("use_sliding_window of model type %q is not served yet", hf.ModelType)
	case hf.LayerTypes != nil:
		if len(hf.LayerTypes) != hf.Layers {
			return nil, fmt.Errorf("layer_types has %d entries for %d layers", len(hf.LayerTypes), hf.Layers)
		}
		for _, kind := range hf.LayerTypes {
			if kind != "full_attention" && kind != "sliding_attention" {
				return nil, fmt.Errorf("layer type %q is not served", kind)
			}
		}
		slides = func(layer int) bool { return hf.LayerTypes[layer] == "sliding_attention" }
	default:
		first := 28 // the reference's default
		if hf.MaxWindowLayers != nil {
			first = *hf.MaxWindowLayers
		}
		slides = func(layer int) bool { return layer >= first }
	}
	if hf.SlidingWindow == nil || *hf.SlidingWindow < 1 {
		return nil, nil
	}
	windows := make([]int, hf.Layers)
	for layer := range windows {
		if slides(layer) {
			windows[layer] = *hf.SlidingWindow
		}
	}
	return windows, nil
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
