package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"lockstep/shard/weights"
)

// hfConfig are the keys of config.json that families share. Keys of old families' own names are theirs to read.
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
	Tied             *bool    `json:"tie_word_embeddings"` // absent: as is usual in the family
	Activation       string   `json:"hidden_act"`
	RopeTheta        float64  `json:"rope_theta"`
	RotatedShare     float64  `json:"partial_rotary_factor"` // of a head's dimensions; 0: all
	RopeScaling      *hfRope  `json:"rope_scaling"`
	RopeParameters   *hfRope  `json:"rope_parameters"`
	OriginalMax      int      `json:"original_max_position_embeddings"`
	// Text is the configuration of the text part of a model that reads more than text.
	Text   json.RawMessage `json:"text_config"`
	Vision json.RawMessage `json:"vision_config"`
}

type hfRope struct {
	Type            string    `json:"type"`
	RopeType        string    `json:"rope_type"`
	Theta           float64   `json:"rope_theta"`
	RotatedShare    float64   `json:"partial_rotary_factor"`
	Factor          float64   `json:"factor"`
	LowFreqFactor   float64   `json:"low_freq_factor"`
	HighFreqFactor  float64   `json:"high_freq_factor"`
	OriginalMax     int       `json:"original_max_position_embeddings"`
	AttentionFactor float64   `json:"attention_factor"`
	BetaFast        float64   `json:"beta_fast"`
	BetaSlow        float64   `json:"beta_slow"`
	Truncate        *bool     `json:"truncate"`
	MScale          float64   `json:"mscale"`
	MScaleAllDim    float64   `json:"mscale_all_dim"`
	Sharpening      float64   `json:"llama_4_scaling_beta"`
	ShortFactor     []float64 `json:"short_factor"`
	LongFactor      []float64 `json:"long_factor"`
	// Full and Sliding are those of a model with two kinds of layers.
	Full    *hfRope `json:"full_attention"`
	Sliding *hfRope `json:"sliding_attention"`
}

// huggingFace reads what families share of config.json.
func huggingFace(files *weights.Files) (*hfConfig, Config, error) {
	hf := usualConfig(files.Architecture)
	if err := files.Config(hf); err != nil {
		return nil, Config{}, err
	}
	if err := hf.readText(files); err != nil {
		return nil, Config{}, err
	}
	c := Config{Architecture: hf.ModelType, Hidden: hf.Hidden, Intermediate: hf.Intermediate, Layers: hf.Layers, Heads: hf.Heads,
		KVHeads: hf.KVHeads, HeadDim: hf.HeadDim, Vocabulary: hf.Vocabulary, NormEpsilon: hf.NormEpsilon, MaxPositions: hf.MaxPositions}
	c.fill()
	if c.NormEpsilon == 0 {
		c.NormEpsilon = 1e-6
	}
	var err error
	if c.Rope, err = hf.rope(c.HeadDim); err == nil {
		c.extendPositions()
	}
	return hf, c, err
}

// usualConfig is what keys say that are missing, where transformers has a default of the family's own that a file can rely on.
// Published files of most families say all; those of Gemma 3 that see leave out what is as in Gemma3TextConfig.
func usualConfig(modelType string) *hfConfig {
	hf := &hfConfig{}
	switch modelType {
	case "gpt_neox":
		hf.Activation = "gelu"
	case "mixtral":
		hf.RopeTheta, hf.NormEpsilon = 1e6, 1e-5
	case "starcoder2":
		hf.Activation = "gelu_pytorch_tanh"
	case "gemma3", "gemma3_text":
		window := 4096
		hf.Hidden, hf.Intermediate, hf.Layers, hf.Heads, hf.KVHeads, hf.HeadDim = 2304, 9216, 26, 8, 4, 256
		hf.Vocabulary, hf.MaxPositions, hf.RopeTheta, hf.SlidingWindow = 262208, 131072, 1e6, &window
	}
	return hf
}

// textPart reads the configuration of the text part, where there is one, over the rest.
func (hf *hfConfig) textPart(files *weights.Files, into any) error {
	if len(hf.Text) == 0 || string(hf.Text) == "null" {
		return nil
	}
	return files.ConfigPart("text_config", hf.Text, into)
}

// readText reads what the text part says over the rest.
func (hf *hfConfig) readText(files *weights.Files) error {
	whole := *hf
	hf.Tied = nil
	if err := hf.textPart(files, hf); err != nil {
		return err
	}
	switch {
	case hf.Tied == nil:
		hf.Tied = whole.Tied
	case whole.Tied != nil: // versions of transformers took the one or the other; what the files have decides
		hf.Tied = new(*whole.Tied || *hf.Tied)
	}
	if of := whole.ModelType; hf.ModelType != of && hf.ModelType != of+"_text" && !slices.Contains(textTypes[of], hf.ModelType) {
		return fmt.Errorf("text_config: model type %q within %q is not served", hf.ModelType, of)
	}
	return nil
}

// textTypes are the model types of text parts that are not called like the whole.
var textTypes = map[string][]string{"mistral3": {"mistral", "ministral3"}}

// sees reports whether the model reads more than text: its text part has a configuration of its own, or another part has.
func (hf *hfConfig) sees() bool { return len(hf.Text) > 0 || len(hf.Vision) > 0 }

// ownKeys reads a family's own keys, also of the text part.
func (hf *hfConfig) ownKeys(files *weights.Files, into any) error {
	if err := files.Config(into); err != nil {
		return err
	}
	return hf.textPart(files, into)
}

// tied says whether the head is the embedding; usual is what the family does where the file does not say.
func (hf *hfConfig) tied(usual bool) bool {
	if hf.Tied != nil {
		return *hf.Tied
	}
	return usual
}

// activation reads the name of an activation; "" is silu.
func activation(name string) (Activation, error) {
	switch name {
	case "", "silu", "swish":
		return SiLU, nil
	case "gelu_pytorch_tanh", "gelu_new", "gelu_fast":
		return GELU, nil
	case "gelu":
		return GELUErf, nil
	case "relu":
		return ReLU, nil
	}
	return "", fmt.Errorf("activation %q is not served; silu, relu, gelu, gelu_new and gelu_pytorch_tanh are", name)
}

// biasedWhere lists the projections of attention and MLP that have biases.
func (hf *hfConfig) biasedWhere(n tensorNames, attention, mlp bool) (biased []string) {
	if attention {
		biased = append(biased, n.query, n.key, n.value, n.output)
	}
	if mlp {
		biased = append(biased, n.gate, n.up, n.down)
	}
	return biased
}

// textPrefixes stand before the names of the text part's tensors in models that read more than text.
var textPrefixes = []string{"model.language_model.", "language_model.model.", "model.text_model."}

// behind puts a prefix before all names where the model's files have it: checkpoints of models that read more than text, and those
// that were saved without their head, whose names begin with nothing.
func (n tensorNames) behind(files *weights.Files) tensorNames {
	if files.Has(n.embedding) {
		return n
	}
	rest := strings.TrimPrefix(n.embedding, "model.")
	for _, prefix := range append(textPrefixes, "") {
		if !files.Has(prefix + rest) {
			continue
		}
		for _, name := range []*string{&n.embedding, &n.finalNorm, &n.layer} {
			*name = prefix + strings.TrimPrefix(*name, "model.")
		}
		if head := "language_model." + n.head; files.Has(head) {
			n.head = head
		}
	}
	return n
}

// rewardHead reports whether the model has a score head, which LightLLM tells by model type and architecture; none: the
// family has no reward models.
func (hf *hfConfig) rewardHead(family bool) (bool, error) {
	if len(hf.Architectures) == 0 || strings.HasSuffix(hf.Architectures[0], "ForCausalLM") ||
		hf.sees() && strings.HasSuffix(hf.Architectures[0], "ForConditionalGeneration") {
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

// headOf refuses architectures other than the one named.
func (hf *hfConfig) headOf(name string) error {
	if len(hf.Architectures) == 0 || hf.Architectures[0] == name {
		return nil
	}
	return fmt.Errorf("architecture %q of model type %q is not served; %s is", hf.Architectures[0], hf.ModelType, name)
}

// rope reads the rotation of all layers, or of those with full attention.
func (hf *hfConfig) rope(headDim int) (Rope, error) {
	r := Rope{Type: "default", Theta: hf.RopeTheta, OriginalMaxPositions: hf.MaxPositions}
	share := hf.RotatedShare
	for _, scaling := range []*hfRope{hf.RopeParameters, hf.RopeScaling} { // where both are there, the reference takes the latter
		if scaling != nil && scaling.Full != nil {
			scaling = scaling.Full
		}
		if scaling == nil {
			continue
		}
		scaling.set(&r)
		if scaling.RotatedShare != 0 {
			share = scaling.RotatedShare
		}
	}
	if r.Theta == 0 {
		r.Theta = 10000
	}
	switch {
	case r.Type == "dynamic":
		r.OriginalMaxPositions = hf.MaxPositions // whatever the scaling says, as in the reference
	case hf.OriginalMax != 0:
		r.OriginalMaxPositions = hf.OriginalMax
	}
	if r.Type == "yarn" && r.Factor == 0 {
		r.Factor = float64(hf.MaxPositions) / float64(r.OriginalMaxPositions)
	}
	if share != 0 {
		if err := r.rotate(share, headDim); err != nil {
			return r, err
		}
	}
	return r, r.check()
}

// rotate sets how many dimensions of a head are rotated.
func (r *Rope) rotate(share float64, headDim int) error {
	if !(share > 0 && share <= 1) || int(share*float64(headDim)) < 2 {
		return fmt.Errorf("a share of %v of %d dimensions (partial_rotary_factor, rotary_pct) cannot be rotated", share, headDim)
	}
	r.Dims = int(share * float64(headDim))
	return nil
}

// set sets what a scaling says.
func (scaling *hfRope) set(r *Rope) {
	if r.Type = scaling.RopeType; r.Type == "" {
		r.Type = scaling.Type
	}
	switch r.Type {
	case "", "mrope": // of images; text turns as usual
		r.Type = "default"
	case "su":
		r.Type = "longrope"
	}
	if scaling.Theta != 0 {
		r.Theta = scaling.Theta
	}
	r.Factor, r.LowFreqFactor, r.HighFreqFactor = scaling.Factor, scaling.LowFreqFactor, scaling.HighFreqFactor
	r.AttentionFactor, r.BetaFast, r.BetaSlow = scaling.AttentionFactor, scaling.BetaFast, scaling.BetaSlow
	r.MScale, r.MScaleAllDim = scaling.MScale, scaling.MScaleAllDim
	r.Fractional = scaling.Truncate != nil && !*scaling.Truncate
	if r.Divisors, r.LongDivisors = nil, nil; r.Type == "longrope" {
		r.Divisors, r.LongDivisors = narrowed(scaling.ShortFactor), narrowed(scaling.LongFactor)
	}
	if scaling.OriginalMax != 0 {
		r.OriginalMaxPositions = scaling.OriginalMax
	}
}

func narrowed(values []float64) (out []float32) {
	for _, v := range values {
		out = append(out, float32(v))
	}
	return out
}

// windowsWhere gives the layers that slide the window of sliding_window; nil: there is none.
func (hf *hfConfig) windowsWhere(slides func(layer int) bool) []int {
	if hf.SlidingWindow == nil || *hf.SlidingWindow < 1 || hf.Layers < 0 || hf.Layers > maxLayers {
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
