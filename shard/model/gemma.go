package model

import (
	"fmt"
	"math"

	"lockstep/shard/weights"
)

// gemma2 norms before and after attention and MLP, caps scores and logits softly, and gives every second layer a window
// (https://arxiv.org/abs/2408.00118).
var gemma2 = family{modelTypes: []string{"gemma2"}, architectures: []string{"gemma2"}, read: readGemma2}

func readGemma2(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil {
		c, d, err := gemmaGGUF(files)
		if err != nil {
			return c, nil, err
		}
		meta := files.GGUF
		d.attentionCap = float32(meta.Number("gemma2.attn_logit_softcapping", 50))
		d.headCap = float32(meta.Number("gemma2.final_logit_softcapping", 30))
		if d.windows, err = ggufWindows(files, c.Layers, 4096, alternate); err != nil {
			return c, nil, err
		}
		if c.Layers == 46 { // the 27B's query_pre_attn_scalar, which the file does not say
			d.attentionScale = scaleOf(float64(c.Hidden) / float64(c.Heads))
		}
		return c, d.write, nil
	}
	hf, own, c, d, err := readGemma(files)
	if err != nil {
		return c, nil, err
	}
	d.attentionCap, d.headCap = own.attentionCap(50), own.headCap(30)
	slides := alternate
	if hf.LayerTypes != nil {
		if slides, err = hf.slidingTypes(); err != nil {
			return c, nil, err
		}
	}
	d.windows = hf.windowsWhere(slides)
	return c, d.write, nil
}

// gemma3 norms each head besides, has five layers with a window, and a rotation of their own, for one without
// (https://arxiv.org/abs/2503.19786). Of models that see, the text part is served.
var gemma3 = family{modelTypes: []string{"gemma3_text", "gemma3"}, architectures: []string{"gemma3"}, read: readGemma3}

func readGemma3(files *weights.Files) (Config, writer, error) {
	const pattern = 6
	if files.GGUF != nil {
		c, d, err := gemmaGGUF(files)
		if err != nil {
			return c, nil, err
		}
		d.headNorms = true
		d.headCap = float32(files.GGUF.Number("gemma3.final_logit_softcapping", 0))
		if d.windows, err = ggufWindows(files, c.Layers, 0, everyBut(pattern)); err != nil {
			return c, nil, err
		}
		if d.windows != nil { // else all layers are of one kind
			local := Rope{Type: "default", Theta: files.GGUF.Number("gemma3.rope.freq_base_swa", 10000)}
			d.twoRotations(c.Rope, local, func(layer int) bool { return d.windows[layer] > 0 })
		}
		if c.Layers == 62 { // the 27B's query_pre_attn_scalar, which the file does not say
			d.attentionScale = scaleOf(float64(c.Hidden) / float64(c.Heads))
		}
		return c, d.write, nil
	}
	hf, own, c, d, err := readGemma(files)
	if err != nil {
		return c, nil, err
	}
	d.headNorms = true
	c.MaxPositions = hf.MaxPositions // already those of the scaled rotation, as vLLM has it too
	d.headCap = own.headCap(0)       // attn_logit_softcapping is ignored, as in the reference
	slides := everyBut(pattern)
	switch {
	case hf.LayerTypes != nil:
		if slides, err = hf.slidingTypes(); err != nil {
			return c, nil, err
		}
	case own.Pattern > 0:
		slides = everyBut(own.Pattern)
	}
	d.windows = hf.windowsWhere(slides)
	local := Rope{Type: "default", Theta: own.LocalTheta, OriginalMaxPositions: hf.MaxPositions}
	if local.Theta == 0 {
		local.Theta = 10000
	}
	if hf.RopeParameters != nil && hf.RopeParameters.Sliding != nil {
		hf.RopeParameters.Sliding.set(&local)
		if err := local.check(); err != nil {
			return c, nil, err
		}
		if local.DependsOnLength() { // Config.KeysDependOnPrompt knows of one rotation
			return c, nil, fmt.Errorf("rope type %q of layers with a window is not served", local.Type)
		}
	}
	d.twoRotations(c.Rope, local, slides)
	return c, d.write, nil
}

// gemmaConfig are Gemma's own keys.
type gemmaConfig struct {
	QueryScalar  float64  `json:"query_pre_attn_scalar"`
	Hidden       string   `json:"hidden_activation"`
	AttentionCap *float32 `json:"attn_logit_softcapping"`
	HeadCap      *float32 `json:"final_logit_softcapping"`
	Pattern      int      `json:"sliding_window_pattern"`
	LocalTheta   float64  `json:"rope_local_base_freq"`
	// Bidirectional are models that embed texts.
	Bidirectional bool `json:"use_bidirectional_attention"`
}

// uncapped is what the caps are before the file is read: null there means that nothing is capped, a missing key the family's
// usual cap.
const uncapped = -1

// attentionCap and headCap are 0 where nothing is capped.
func (g *gemmaConfig) attentionCap(usual float32) float32 { return capOr(g.AttentionCap, usual) }
func (g *gemmaConfig) headCap(usual float32) float32      { return capOr(g.HeadCap, usual) }

func capOr(value *float32, usual float32) float32 {
	switch {
	case value == nil:
		return 0
	case *value == uncapped:
		return usual
	}
	return *value
}

// readGemma reads what both have in common.
func readGemma(files *weights.Files) (*hfConfig, *gemmaConfig, Config, *decoder, error) {
	hf, c, d, err := readLlama(files)
	if err != nil {
		return nil, nil, c, nil, err
	}
	own := &gemmaConfig{QueryScalar: 256, Hidden: "gelu_pytorch_tanh"}
	attention, head := float32(uncapped), float32(uncapped)
	own.AttentionCap, own.HeadCap = &attention, &head
	if err := hf.ownKeys(files, own); err != nil {
		return nil, nil, c, nil, err
	}
	if own.Bidirectional {
		return nil, nil, c, nil, fmt.Errorf("use_bidirectional_attention: models that embed texts are not served")
	}
	if d.activation, err = activation(own.Hidden); err != nil {
		return nil, nil, c, nil, err
	}
	d.tied = hf.tied(true)
	d.biased = hf.biasedWhere(d.names, hf.AttentionBias, false)
	d.names.mlpNorm, d.names.attentionPartNorm, d.names.mlpPartNorm = "pre_feedforward_layernorm", "post_attention_layernorm",
		"post_feedforward_layernorm"
	d.normPlusOne = true
	d.embeddingScale = float32(math.Sqrt(float64(c.Hidden)))
	d.attentionScale = scaleOf(own.QueryScalar)
	return hf, own, c, d, nil
}

// gemmaGGUF reads what both have in common in GGUF, where norms hold their whole weight.
func gemmaGGUF(files *weights.Files) (Config, *decoder, error) {
	c, d, err := gguf(files)
	if err != nil {
		return c, nil, err
	}
	d.activation = GELU
	d.names.attentionPartNorm, d.names.mlpPartNorm = "post_attention_norm", "post_ffw_norm"
	d.embeddingScale = float32(math.Sqrt(float64(c.Hidden)))
	return c, d, nil
}

// scaleOf is 1/sqrt(scalar).
func scaleOf(scalar float64) float32 { return float32(1 / math.Sqrt(scalar)) }

func alternate(layer int) bool { return layer%2 == 0 }

// everyBut is true for all layers but every n-th.
func everyBut(n int) func(layer int) bool { return func(layer int) bool { return (layer+1)%n != 0 } }

// twoRotations gives layers with a window a rotation of their own.
func (d *decoder) twoRotations(full, local Rope, slides func(layer int) bool) {
	d.ropes = []Rope{full, local}
	d.ropeOf = func(layer int) int {
		if slides(layer) {
			return 1
		}
		return 0
	}
}
