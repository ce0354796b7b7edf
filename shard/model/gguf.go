package model

import (
	"errors"
	"fmt"
	"slices"

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
	d := &decoder{names: ggufNames, allBiases: true, tied: !files.Has(ggufNames.head)}
	if files.Has("blk.0.attn_qkv.weight") { // --fuse-qkv of the converter, for any architecture
		d.names.query, d.names.key, d.names.value = "attn_qkv", "attn_qkv", "attn_qkv"
	}
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
	if c.Rope.Type == "yarn" {
		c.extendPositions()
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
	if d.names.query == d.names.key {
		d.fuseAttention(&c)
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
	// A factor without a type is a linear one, under its old name too; 0 is none.
	factor := meta.Number(key("scaling.factor"), meta.Number(key("scale_linear"), 0))
	if factor == 0 {
		factor = 1
	}
	r.AttentionFactor = meta.Number(key("scaling.attn_factor"), 0)
	switch scaling := meta.Text(key("scaling.type")); scaling {
	case "none", "longrope": // whose factors are tensors
		return nil
	case "", "linear":
		if factor != 1 || scaling != "" {
			r.Type, r.Factor = "linear", factor
		}
	case "yarn":
		r.Type, r.Factor = scaling, factor
		r.BetaFast, r.BetaSlow = meta.Number(key("scaling.yarn_beta_fast"), 0), meta.Number(key("scaling.yarn_beta_slow"), 0)
		r.AttentionFactor = meta.Number(key("scaling.yarn_attn_factor"), r.AttentionFactor*yarnScale(factor, 1))
	default:
		return fmt.Errorf("rope scaling %q is not served from GGUF; linear, yarn and longrope are", scaling)
	}
	return r.check()
}

// The tensors that llama.cpp's converter makes of Llama 3.1's and of Phi-3's rope scaling.
const (
	ropeDivisors      = "rope_freqs.weight"
	ropeShortDivisors = "rope_factors_short.weight"
	ropeLongDivisors  = "rope_factors_long.weight"
)

// ggufWindows gives the layers that slide the window that the file says, or else the usual one; 0: none. Which layers do the
// file may say too, by a list or by the number of layers of which the last does not; else they are the usual ones.
func ggufWindows(files *weights.Files, layers, usual int, usually func(layer int) bool) ([]int, error) {
	meta, key := files.GGUF, func(name string) string { return files.Architecture + ".attention." + name }
	window, slides := usual, usually
	if n := meta.Count(key("sliding_window")); n > 0 {
		window = n
	}
	if window == 0 {
		return nil, nil
	}
	switch pattern := key("sliding_window_pattern"); {
	case meta.IsList(pattern):
		list := meta.Numbers(pattern)
		if len(list) < layers {
			return nil, fmt.Errorf("%s has %d entries for %d layers", pattern, len(list), layers)
		}
		slides = func(layer int) bool { return list[layer] != 0 }
	case meta.Count(pattern) > 0:
		slides = everyBut(meta.Count(pattern))
	}
	windows := make([]int, layers)
	for layer := range windows {
		if slides(layer) {
			windows[layer] = window
		}
	}
	return windows, nil
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
	layers := min(meta.Count(key("block_count")), weights.MaxDimension)
	inSome := func(name string) bool { // the first layers may be without
		return slices.ContainsFunc(d.projections(layers, name), files.Has)
	}
	routing.Chosen = meta.Count(key("expert_used_count"))
	d.experts = &experts{of: everyLayer, count: count, routing: routing, router: "ffn_gate_inp", stacked: true,
		gate: "ffn_gate_exps", up: "ffn_up_exps", down: "ffn_down_exps", intermediate: meta.Count(key("feed_forward_length"))}
	e := d.experts
	if n := meta.Count(key("expert_feed_forward_length")); n > 0 {
		e.intermediate = n
	}
	switch {
	case inSome("ffn_gate_up_exps"): // the converter joins them with --fuse-gate-up-exps
		e.gate, e.up = "ffn_gate_up_exps", "ffn_gate_up_exps"
		e.gateOrder = Order{Group: e.intermediate, Stride: 2 * e.intermediate}
		e.upOrder = Order{Group: e.intermediate, Stride: 2 * e.intermediate, Offset: e.intermediate}
	case inSome("ffn_gate.0"): // older files
		e.stacked, e.gate, e.up, e.down = false, "ffn_gate.%d", "ffn_up.%d", "ffn_down.%d"
	}
	for layer := range layers {
		if files.Has(d.tensor(layer, "exp_probs_b.bias")) {
			e.correction = "exp_probs_b.bias"
			return
		}
	}
}

// ggufNoTemperature refuses models whose queries grow with their position.
func ggufNoTemperature(files *weights.Files) error {
	if key := files.Architecture + ".attention.temperature_scale"; files.GGUF.Number(key, 0) != 0 {
		return fmt.Errorf("%s: attention whose temperature follows the position is not served", key)
	}
	return nil
}

// errNoExperts refuses files of architectures that are experts in each layer.
var errNoExperts = errors.New("its metadata tell of no experts (expert_count): fetch it anew")
