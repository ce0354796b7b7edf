package modeltest

import (
	"math"
	"strings"
)

// internLM2 takes wqkv apart and pairs the rows of queries and keys.
func (c *converter) internLM2() {
	dims := c.count("hidden_size") / c.count("num_attention_heads")
	group := c.count("num_attention_heads") / c.count("num_key_value_heads")
	for name, x := range c.in {
		layer, is := strings.CutSuffix(name, "attention.wqkv.weight")
		if !is {
			c.take(name, x)
			continue
		}
		var queries, keys, values []tensor
		for i, head := range x.cut(x.shape[0] / dims) {
			switch i % (group + 2) {
			case group:
				keys = append(keys, head)
			case group + 1:
				values = append(values, head)
			default:
				queries = append(queries, head)
			}
		}
		layer = c.names.Replace(layer)
		c.out[layer+"attn_q.weight"], c.out[layer+"attn_k.weight"] = joined(queries...).paired(dims), joined(keys...).paired(dims)
		c.out[layer+"attn_v.weight"] = joined(values...)
	}
}

// gpt2 turns the matrices of layers over.
func (c *converter) gpt2() {
	c.set("feed_forward_length", uint32(4*c.count("n_embd")))
	for name, x := range c.in {
		if strings.Contains(name, ".c_") && len(x.shape) == 2 {
			x = x.transposed()
		}
		c.take(name, x)
	}
}

// gptNeoX takes the heads of queries, keys and values apart.
func (c *converter) gptNeoX() {
	heads := c.count("num_attention_heads")
	c.set("rope.dimension_count", uint32(c.number("rotary_pct")*float64(c.count("hidden_size")/heads)))
	c.set("use_parallel_residual", c.config["use_parallel_residual"] != false)
	for name, x := range c.in {
		if strings.Contains(name, "query_key_value") {
			parts := x.cut(3 * heads)
			var kinds [3][]tensor
			for i, part := range parts {
				kinds[i%3] = append(kinds[i%3], part)
			}
			x = joined(append(append(kinds[0], kinds[1]...), kinds[2]...)...)
		}
		c.take(name, x)
	}
}

// gemma adds one to norms, and leaves the head out.
func (c *converter) gemma() {
	for name, x := range c.in {
		if strings.HasSuffix(name, "norm.weight") {
			x = x.plusOne()
		}
		if name != "lm_head.weight" {
			c.take(name, x)
		}
	}
}

func (c *converter) gemma2() {
	delete(c.meta, "gemma2.rope.freq_base")
	c.set("attn_logit_softcapping", float32(c.number("attn_logit_softcapping")))
	c.set("final_logit_softcapping", float32(c.number("final_logit_softcapping")))
	c.set("attention.sliding_window", uint32(c.count("sliding_window")))
	c.gemma()
}

func (c *converter) gemma3() {
	if n := c.number("final_logit_softcapping"); n != 0 {
		c.set("final_logit_softcapping", float32(n))
	}
	if n := c.number("rope_local_base_freq"); n != 0 {
		c.set("rope.freq_base_swa", float32(n))
	}
	if c.count("sliding_window_pattern") != 1 {
		c.set("attention.sliding_window", uint32(c.count("sliding_window")))
	}
	c.gemma()
}

func (c *converter) phi3() {
	original := c.number("original_max_position_embeddings")
	c.set("rope.dimension_count", uint32(c.count("hidden_size")/c.count("num_attention_heads")))
	c.set("rope.scaling.original_context_length", uint32(original))
	c.set("attention.sliding_window", uint32(c.count("sliding_window")))
	delete(c.meta, "phi3.rope.scaling.type")
	c.plain()
	scaling, _ := c.config["rope_scaling"].(map[string]any)
	if scaling == nil {
		return
	}
	scale, attention := c.number("max_position_embeddings")/original, 1.0
	if scale > 1 {
		attention = math.Sqrt(1 + math.Log(scale)/math.Log(original))
	}
	c.set("rope.scaling.attn_factor", float32(attention))
	for name, key := range map[string]string{"rope_factors_long.weight": "long_factor", "rope_factors_short.weight": "short_factor"} {
		var factors []float32
		for _, factor := range scaling[key].([]any) {
			factors = append(factors, float32(factor.(float64)))
		}
		c.out[name] = vector(factors)
	}
}

// deepSeek takes each head's key and value apart and turns the key over.
func (c *converter) deepSeek() {
	plain, rotated, rank, value := c.count("qk_nope_head_dim"), c.count("qk_rope_head_dim"), c.count("kv_lora_rank"), c.count("v_head_dim")
	c.set("leading_dense_block_count", uint32(c.count("first_k_dense_replace")))
	c.set("vocab_size", uint32(c.count("vocab_size")))
	c.set("attention.kv_lora_rank", uint32(rank))
	if n := c.count("q_lora_rank"); n > 0 {
		c.set("attention.q_lora_rank", uint32(n))
	}
	if c.how.LatentWhole {
		c.set("attention.key_length", uint32(plain+rotated))
		c.set("attention.value_length", uint32(value))
	} else {
		c.set("attention.head_count_kv", uint32(1))
		c.set("attention.key_length", uint32(rank+rotated))
		c.set("attention.value_length", uint32(rank))
		c.set("attention.key_length_mla", uint32(plain+rotated))
		c.set("attention.value_length_mla", uint32(value))
	}
	c.set("expert_feed_forward_length", uint32(c.count("moe_intermediate_size")))
	c.set("expert_shared_count", uint32(c.count("n_shared_experts")))
	c.set("expert_weights_scale", float32(c.number("routed_scaling_factor")))
	if c.config["norm_topk_prob"] == true {
		c.set("expert_weights_norm", true)
	}
	c.set("rope.dimension_count", uint32(rotated))
	if scaling, _ := c.config["rope_scaling"].(map[string]any); scaling["mscale_all_dim"] != nil {
		c.set("rope.scaling.yarn_log_multiplier", float32(0.1*scaling["mscale_all_dim"].(float64)))
	}
	c.takeWithExperts(same)
	for name, x := range c.out {
		layer, is := strings.CutSuffix(name, "attn_kv_b.weight")
		if !is || c.how.LatentWhole {
			continue
		}
		heads := c.count("num_attention_heads")
		var keys, values []tensor
		for _, head := range x.cut(heads) {
			keys = append(keys, head.rows(0, plain).transposed())
			values = append(values, head.rows(plain, plain+value))
		}
		key, val := joined(keys...), joined(values...)
		key.shape, val.shape = []int{heads, rank, plain}, []int{heads, value, rank}
		c.cut(name)
		c.out[layer+"attn_k_b.weight"], c.out[layer+"attn_v_b.weight"] = key, val
	}
}

// gptOSS takes gates and ups apart, whose rows alternate, and lays MXFP4's blocks as GGUF has them.
func (c *converter) gptOSS() {
	c.set("attention.sliding_window", uint32(c.count("sliding_window")))
	c.set("expert_feed_forward_length", uint32(c.count("intermediate_size")))
	for name, x := range c.in {
		layer, kind, is := strings.Cut(name, "mlp.experts.")
		layer = c.names.Replace(layer)
		kind, part := kind[:max(0, strings.LastIndex(kind, "_"))], kind[strings.LastIndex(kind, "_")+1:]
		switch {
		case !is && strings.HasSuffix(name, "sinks"):
			c.out[strings.Replace(layer, "self_attn.sinks", "attn_sinks.weight", 1)] = x
			continue
		case !is:
			c.take(name, x)
			continue
		case part == "scales":
			continue
		case part == "blocks":
			x, part = x.microscaled(c.in[strings.TrimSuffix(name, "blocks")+"scales"]), "weight"
		}
		if kind == "down_proj" {
			c.out[layer+"ffn_down_exps."+part] = x
			continue
		}
		c.out[layer+"ffn_gate_exps."+part], c.out[layer+"ffn_up_exps."+part] = x.alternate()
	}
}
