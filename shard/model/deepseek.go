package model

import (
	"fmt"

	"lockstep/shard/weights"
)

// deepSeek is DeepSeek-V2, V3 and R1: keys and values come from a latent, and most layers have many small experts beside one
// that all tokens share (https://arxiv.org/abs/2405.04434, https://arxiv.org/abs/2412.19437).
var deepSeek = family{modelTypes: []string{"deepseek_v2", "deepseek_v3"}, architectures: []string{"deepseek2"},
	read: readDeepSeek}

// deepSeekConfig are DeepSeek's own keys.
type deepSeekConfig struct {
	QueryRank    *int     `json:"q_lora_rank"`
	Rank         int      `json:"kv_lora_rank"`
	Plain        int      `json:"qk_nope_head_dim"`
	Rotated      int      `json:"qk_rope_head_dim"`
	Value        int      `json:"v_head_dim"`
	Experts      *int     `json:"n_routed_experts"`
	Shared       *int     `json:"n_shared_experts"`
	Chosen       int      `json:"num_experts_per_tok"`
	Intermediate int      `json:"moe_intermediate_size"`
	Dense        int      `json:"first_k_dense_replace"`
	Step         int      `json:"moe_layer_freq"`
	Groups       *int     `json:"n_group"`
	GroupsChosen *int     `json:"topk_group"`
	Method       string   `json:"topk_method"`
	Scoring      string   `json:"scoring_func"`
	Normalised   *bool    `json:"norm_topk_prob"`
	Scale        *float32 `json:"routed_scaling_factor"`
	Interleaved  *bool    `json:"rope_interleave"`
}

func readDeepSeek(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil {
		return readDeepSeekGGUF(files)
	}
	hf, c, d, err := readLlama(files)
	if err != nil {
		return c, nil, err
	}
	own, third := deepSeekConfig{Step: 1}, hf.ModelType == "deepseek_v3"
	if third {
		own.Groups, own.GroupsChosen, own.Scale = new(8), new(4), new(float32(2.5))
	}
	if err := hf.ownKeys(files, &own); err != nil {
		return c, nil, err
	}
	if c.KVHeads, err = latentHeads(c.Heads, own.Rank, own.Plain, own.Rotated, own.Value); err != nil {
		return c, nil, err
	}
	c.HeadDim, c.ValueDim = own.Plain+own.Rotated, own.Value
	c.Rope.Dims = own.Rotated
	d.latent = &latent{rank: own.Rank, rotated: own.Rotated, paired: !third || own.Interleaved == nil || *own.Interleaved,
		queryLatent: "self_attn.q_a_proj", queryLatentNorm: "self_attn.q_a_layernorm", latent: "self_attn.kv_a_proj_with_mqa",
		latentNorm: "self_attn.kv_a_layernorm", expand: "self_attn.kv_b_proj"}
	if own.QueryRank != nil && *own.QueryRank > 0 {
		d.latent.queryRank, d.names.query = min(*own.QueryRank, weights.MaxDimension), "self_attn.q_b_proj"
	}
	if hf.AttentionBias {
		d.biased = []string{d.latent.queryLatent, d.latent.latent, d.names.output}
	}
	d.attentionScale = deepSeekScale(&c)
	if own.Experts != nil {
		if d.experts, err = own.experts(third); err != nil {
			return c, nil, err
		}
	}
	return c, d.write, nil
}

// experts reads the experts; third: of the third generation, whose scores and choice are what they are, whatever the file says.
func (own *deepSeekConfig) experts(third bool) (*experts, error) {
	e := &experts{count: *own.Experts, intermediate: own.Intermediate, router: "mlp.gate",
		of:   func(layer int) bool { return layer >= own.Dense && layer%own.Step == 0 },
		gate: "mlp.experts.%d.gate_proj", up: "mlp.experts.%d.up_proj", down: "mlp.experts.%d.down_proj",
		sharedGate: "mlp.shared_experts.gate_proj", sharedUp: "mlp.shared_experts.up_proj", sharedDown: "mlp.shared_experts.down_proj"}
	if own.Step < 1 {
		return nil, fmt.Errorf("moe_layer_freq is %d, want 1 or more", own.Step)
	}
	if n := own.Shared; n != nil && *n != 0 {
		if *n < 0 || own.Intermediate < 1 || *n > weights.MaxDimension/own.Intermediate {
			return nil, fmt.Errorf("n_shared_experts is %d beside a moe_intermediate_size of %d", *n, own.Intermediate)
		}
		e.sharedColumns = *n * own.Intermediate
	}
	// transformers normalises the third generation's weights alone.
	e.routing = Routing{Chosen: own.Chosen, Normalised: third && (own.Normalised == nil || *own.Normalised)}
	if own.Scale != nil && *own.Scale != 1 {
		e.routing.Scale = *own.Scale
	}
	if third {
		own.Scoring, own.Method = "sigmoid", "noaux_tc"
	}
	switch own.Scoring {
	case "", "softmax":
	case "sigmoid":
		e.routing.Sigmoid = true
	default:
		return nil, fmt.Errorf("scoring_func %q is not served; softmax and sigmoid are", own.Scoring)
	}
	grouped := own.Groups != nil && own.GroupsChosen != nil && *own.Groups > 1
	switch own.Method {
	case "", "greedy":
		return e, e.check()
	case "group_limited_greedy":
	case "noaux_tc":
		e.correction, e.routing.GroupPairs = "mlp.gate.e_score_correction_bias", grouped
	default:
		return nil, fmt.Errorf("topk_method %q is not served; greedy, group_limited_greedy and noaux_tc are", own.Method)
	}
	if grouped {
		e.routing.Groups, e.routing.GroupsChosen = *own.Groups, *own.GroupsChosen
	}
	return e, e.check()
}

// latentHeads checks the sizes of a latent attention, whose heads have keys and values of their own.
func latentHeads(heads int, sizes ...int) (int, error) {
	for _, size := range sizes {
		if size < 1 || size > weights.MaxDimension {
			return 0, fmt.Errorf("latent attention with a size of %d: kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and v_head_dim "+
				"must be positive", size)
		}
	}
	return heads, nil
}

// deepSeekScale is the scale of attention: YaRN's, squared, belongs to it, whatever the rotation's type.
func deepSeekScale(c *Config) float32 {
	scale := float64(scaleOf(float64(c.HeadDim)))
	if c.Rope.Type != "default" && c.Rope.MScaleAllDim != 0 {
		m := yarnScale(c.Rope.Factor, c.Rope.MScaleAllDim)
		scale *= m * m
	}
	return float32(scale)
}

func readDeepSeekGGUF(files *weights.Files) (Config, writer, error) {
	c, d, err := gguf(files)
	if err != nil {
		return c, nil, err
	}
	meta, key := files.GGUF, func(name string) string { return "deepseek2." + name }
	rotated, rank := meta.Count(key("rope.dimension_count")), meta.Count(key("attention.kv_lora_rank"))
	c.HeadDim, c.ValueDim = meta.Count(key("attention.key_length_mla")), meta.Count(key("attention.value_length_mla"))
	if c.HeadDim == 0 { // older files
		c.HeadDim, c.ValueDim = meta.Count(key("attention.key_length")), meta.Count(key("attention.value_length"))
	}
	if c.KVHeads, err = latentHeads(c.Heads, rank, c.HeadDim-rotated, rotated, c.ValueDim); err != nil {
		return c, nil, err
	}
	c.Rope.Dims = rotated
	d.latent = &latent{rank: rank, rotated: rotated, paired: true, queryLatent: "attn_q_a", queryLatentNorm: "attn_q_a_norm",
		latent: "attn_kv_a_mqa", latentNorm: "attn_kv_a_norm", expand: "attn_kv_b"}
	if meta.Count(key("attention.key_length_mla")) > 0 { // as llama.cpp tells the files whose keys and values are taken apart
		d.latent.expand, d.latent.key, d.latent.value = "", "attn_k_b", "attn_v_b"
	}
	if err := ggufNoTemperature(files); err != nil {
		return c, nil, err
	}
	if n := meta.Count(key("attention.q_lora_rank")); n > 0 {
		d.latent.queryRank, d.names.query = n, "attn_q_b"
	}
	if c.Rope.Type == "yarn" {
		// The file says 0.1 times mscale_all_dim, which is mscale too.
		c.Rope.MScale = 10 * meta.Number(key("rope.scaling.yarn_log_multiplier"), 0)
		c.Rope.MScaleAllDim = c.Rope.MScale
	}
	d.attentionScale = deepSeekScale(&c)
	routing := Routing{Normalised: meta.Flag(key("expert_weights_norm")), Sigmoid: meta.Count(key("expert_gating_func")) == 2}
	if scale := meta.Number(key("expert_weights_scale"), 1); scale != 1 && scale != 0 {
		routing.Scale = float32(scale)
	}
	if groups := meta.Count(key("expert_group_count")); groups > 1 {
		routing.Groups, routing.GroupsChosen = groups, meta.Count(key("expert_group_used_count"))
		routing.GroupPairs = routing.Sigmoid
	}
	d.ggufExperts(files, routing)
	if d.experts == nil {
		return c, d.write, meta.Err()
	}
	e := d.experts
	e.of = func(layer int) bool { return layer >= meta.Count(key("leading_dense_block_count")) }
	if n := meta.Count(key("expert_feed_forward_length")); n > 0 {
		e.intermediate = n
	}
	if n := meta.Count(key("expert_shared_count")); n > 0 {
		e.sharedColumns = min(n*e.intermediate, weights.MaxDimension)
		e.sharedGate, e.sharedUp, e.sharedDown = "ffn_gate_shexp", "ffn_up_shexp", "ffn_down_shexp"
	}
	return c, d.write, e.check()
}
