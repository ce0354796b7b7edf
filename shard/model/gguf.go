package model

import (
	"fmt"

	"lockstep/shard/weights"
)

// ggufNames are llama.cpp's names of tensors, of all architectures.
var ggufNames = tensorNames{
	embedding: "token_embd.weight", finalNorm: "output_norm.weight", head: "output.weight", layer: "blk.%d.",
	attentionNorm: "attn_norm", mlpNorm: "ffn_norm", queryNorm: "attn_q_norm", keyNorm: "attn_k_norm",
	query: "attn_q", key: "attn_k", value: "attn_v", output: "attn_output", gate: "ffn_gate", up: "ffn_up", down: "ffn_down",
}

// gguf reads what the metadata of all architectures have in common
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). The decoder is not nil.
func gguf(files *weights.Files) (Config, *decoder, error) {
	d := &decoder{names: ggufNames, allBiases: true, tied: !files.Has(ggufNames.head)} // this is how a GGUF model says it
	meta, architecture := files.GGUF, files.Architecture
	key := func(name string) string { return architecture + "." + name }
	c := Config{Architecture: architecture, Hidden: meta.Count(key("embedding_length")),
		Intermediate: meta.Count(key("feed_forward_length")),
		Layers:       meta.Count(key("block_count")), Heads: meta.Count(key("attention.head_count")),
		KVHeads: meta.Count(key("attention.head_count_kv")), HeadDim: meta.Count(key("attention.key_length")),
		MaxPositions: meta.Count(key("context_length")), Vocabulary: len(meta.Texts("tokenizer.ggml.tokens")),
		Embedding: ggufNames.embedding}
	c.NormEpsilon = float32(meta.Number(key("attention.layer_norm_rms_epsilon"), meta.Number(key("attention.layer_norm_epsilon"), 1e-5)))
	c.fill()
	if n := meta.Count(key("vocab_size")); n > 0 {
		c.Vocabulary = n
	}
	if n := meta.Count(key("rope.dimension_count")); n != 0 && n != c.HeadDim {
		c.Rope.Dims = n
	}
	if err := ggufRope(files, &c); err != nil {
		return c, d, err
	}
	if n := meta.Count(key("expert_feed_forward_length")); c.Intermediate == 0 {
		c.Intermediate = n // no layer has an MLP
	}
	if err := meta.Err(); err != nil {
		return c, d, err
	}
	if err := c.validate(); err != nil {
		return c, d, err
	}
	dims := c.HeadDim
	if c.Rope.Dims > 0 {
		dims = c.Rope.Dims
	}
	if dims < 2 || dims > c.HeadDim && architecture != "deepseek2" {
		return c, d, fmt.Errorf("rotation of %d of %d dimensions", dims, c.HeadDim)
	}
	var err error
	if files.Has(ropeDivisors) {
		c.Rope.Divisors, err = files.Vector(ropeDivisors, dims/2)
	} else if files.Has(ropeShortDivisors) {
		c.Rope.Type = "longrope"
		if c.Rope.Divisors, err = files.Vector(ropeShortDivisors, dims/2); err == nil {
			c.Rope.LongDivisors, err = files.Vector(ropeLongDivisors, dims/2)
		}
	}
	return c, d, err
}

// ggufRope reads the rotation.
func ggufRope(files *weights.Files, c *Config) error {
	meta := files.GGUF
	key := func(name string) string { return files.Architecture + ".rope." + name }
	r := &c.Rope
	r.Type, r.Theta, r.OriginalMaxPositions = "default", meta.Number(key("freq_base"), 10000), c.MaxPositions
	if n := meta.Count(key("scaling.original_context_length")); n > 0 {
		r.OriginalMaxPositions = n
	}
	switch scaling := meta.Text(key("scaling.type")); scaling {
	case "", "none", "longrope": // whose factors are tensors
		r.AttentionFactor = meta.Number(key("scaling.attn_factor"), 0)
	case "linear", "yarn":
		r.Type, r.Factor = scaling, meta.Number(key("scaling.factor"), 1)
		if r.Factor <= 0 {
			return fmt.Errorf("rope scaling %q has factor %v", scaling, r.Factor)
		}
	default:
		return fmt.Errorf("rope scaling %q is not served from GGUF; linear, yarn and longrope are", scaling)
	}
	return nil
}

// The tensors that llama.cpp's converter makes of Llama 3.1's and of Phi-3's rope scaling.
const (
	ropeDivisors      = "rope_freqs.weight"
	ropeShortDivisors = "rope_factors_short.weight"
	ropeLongDivisors  = "rope_factors_long.weight"
)

// ggufWindows gives the layers that slide the window that the file says, or else the usual one; 0: none.
func ggufWindows(files *weights.Files, layers, usual int, slides func(layer int) bool) []int {
	window := usual
	if n := files.GGUF.Count(files.Architecture + ".attention.sliding_window"); n > 0 {
		window = n
	}
	if window == 0 {
		return nil
	}
	windows := make([]int, layers)
	for layer := range windows {
		if slides(layer) {
			windows[layer] = window
		}
	}
	return windows
}

// plainMLP says that the MLP has no gate, and norms subtract the mean.
func (d *decoder) plainMLP(activation Activation) {
	d.normCentred, d.activation, d.names.gate = true, activation, ""
}

// ggufExperts reads the experts of all layers, where there are any.
func (d *decoder) ggufExperts(files *weights.Files, routing Routing) {
	meta, key := files.GGUF, func(name string) string { return files.Architecture + "." + name }
	count := meta.Count(key("expert_count"))
	if count == 0 {
		return
	}
	routing.Chosen = meta.Count(key("expert_used_count"))
	d.experts = &experts{of: everyLayer, count: count, routing: routing, router: "ffn_gate_inp", stacked: true,
		gate: "ffn_gate_exps", up: "ffn_up_exps", down: "ffn_down_exps", intermediate: meta.Count(key("feed_forward_length"))}
	if n := meta.Count(key("expert_feed_forward_length")); n > 0 {
		d.experts.intermediate = n
	}
	if files.Has("blk.0.ffn_gate.0.weight") { // older files
		d.experts.stacked = false
		d.experts.gate, d.experts.up, d.experts.down = "ffn_gate.%d", "ffn_up.%d", "ffn_down.%d"
	}
	for layer := range min(meta.Count(key("block_count")), weights.MaxDimension) {
		if files.Has(fmt.Sprintf("blk.%d.exp_probs_b.bias", layer)) {
			d.experts.correction = "exp_probs_b.bias"
			return
		}
	}
}
