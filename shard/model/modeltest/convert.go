package modeltest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/weights/weightstest"
)

// Conversion says how Convert writes a model, where llama.cpp's converters have differed over the years or can be told.
type Conversion struct {
	ExpertsApart bool // a tensor for each expert, as until 2024
	LatentWhole  bool // DeepSeek's keys and values in one tensor, as until April 2025
	FuseQKV      bool // --fuse-qkv
	FuseExperts  bool // --fuse-gate-up-exps
	// Architecture is another one than is usual: of a model that sees, of which this is the text part.
	Architecture string
	// More are further metadata; a nil value takes a key away.
	More weightstest.Metadata
}

// Convert writes a model in Hugging Face format as a GGUF file by the rules of llama.cpp's convert_hf_to_gguf.py
// (https://github.com/ggml-org/llama.cpp/tree/master/conversion) of 2026: names, metadata, and what it does to the numbers.
// Matrices keep their encoding, and vectors become F32. The tokenizer is left out but for its number of tokens.
func Convert(t testing.TB, dir fstest.MapFS, how Conversion) []byte {
	t.Helper()
	return weightstest.GGUF(Converted(t, dir, how))
}

// Converted is what Convert writes.
func Converted(t testing.TB, dir fstest.MapFS, how Conversion) (weightstest.Metadata, []weightstest.GGUFTensor) {
	t.Helper()
	c := &converter{t: t, how: how, in: tensorsOf(t, dir), out: map[string]tensor{}, meta: weightstest.Metadata{}}
	if err := json.Unmarshal(dir["config.json"].Data, &c.config); err != nil {
		t.Fatal(err)
	}
	rules, ok := conversions[c.text("model_type")]
	if !ok {
		t.Fatalf("no rules for %q", c.text("model_type"))
	}
	c.architecture, c.names = cmp.Or(how.Architecture, rules.architecture), rules.names
	c.common()
	rules.convert(c)
	c.fuse()
	return c.meta, c.tensors()
}

// conversions are the rules by model type: the architecture, the names of tensors as pairs, and the rest.
var conversions = map[string]struct {
	architecture string
	names        *strings.Replacer
	convert      func(c *converter)
}{
	"llama":       {"llama", llamaNames(), (*converter).llama},
	"mistral":     {"llama", llamaNames(), (*converter).llama},
	"mixtral":     {"llama", llamaNames("block_sparse_moe.gate.", "ffn_gate_inp."), (*converter).llama},
	"qwen2":       {"qwen2", llamaNames(), (*converter).plain},
	"qwen3":       {"qwen3", llamaNames(), (*converter).plain},
	"qwen3_moe":   {"qwen3moe", llamaNames(), (*converter).qwen3MoE},
	"gemma2":      {"gemma2", gemmaNames, (*converter).gemma2},
	"gemma3_text": {"gemma3", gemmaNames, (*converter).gemma3},
	"phi3":        {"phi3", llamaNames(), (*converter).phi3},
	"gpt_oss":     {"gpt-oss", llamaNames("post_attention_layernorm.", "post_attention_norm."), (*converter).gptOSS},
	"starcoder2":  {"starcoder2", llamaNames(), (*converter).plain},
	"deepseek_v2": {"deepseek2", llamaNames(), (*converter).deepSeek},
	"deepseek_v3": {"deepseek2", llamaNames(), (*converter).deepSeek},
	"internlm2": {"internlm2", strings.NewReplacer("model.tok_embeddings.", "token_embd.", "model.norm.", "output_norm.",
		"model.layers.", "blk.", "attention_norm.", "attn_norm.", "attention.wo.", "attn_output.", "feed_forward.w1.", "ffn_gate.",
		"feed_forward.w2.", "ffn_down.", "feed_forward.w3.", "ffn_up."), (*converter).internLM2},
	"gpt2": {"gpt2", strings.NewReplacer("transformer.wte.", "token_embd.", "transformer.wpe.", "position_embd.", "transformer.ln_f.",
		"output_norm.", "lm_head.", "output.", "transformer.h.", "blk.", "ln_1.", "attn_norm.", "ln_2.", "ffn_norm.", "attn.c_attn.",
		"attn_qkv.", "attn.c_proj.", "attn_output.", "mlp.c_fc.", "ffn_up.", "mlp.c_proj.", "ffn_down."), (*converter).gpt2},
	"gpt_neox": {"gptneox", strings.NewReplacer("gpt_neox.embed_in.", "token_embd.", "gpt_neox.final_layer_norm.", "output_norm.",
		"embed_out.", "output.", "gpt_neox.layers.", "blk.", "input_layernorm.", "attn_norm.", "post_attention_layernorm.", "ffn_norm.",
		"attention.query_key_value.", "attn_qkv.", "attention.dense.", "attn_output.", "mlp.dense_h_to_4h.", "ffn_up.",
		"mlp.dense_4h_to_h.", "ffn_down."), (*converter).gptNeoX},
}

// llamaNames are the names of Llama and most that came after it; own are a family's, which come first.
func llamaNames(own ...string) *strings.Replacer {
	return strings.NewReplacer(append(own, "model.embed_tokens.", "token_embd.", "model.norm.", "output_norm.", "lm_head.", "output.",
		"model.layers.", "blk.", "input_layernorm.", "attn_norm.", "post_attention_layernorm.", "ffn_norm.",
		"self_attn.q_proj.", "attn_q.", "self_attn.k_proj.", "attn_k.", "self_attn.v_proj.", "attn_v.", "self_attn.o_proj.", "attn_output.",
		"self_attn.q_norm.", "attn_q_norm.", "self_attn.k_norm.", "attn_k_norm.", "self_attn.qkv_proj.", "attn_qkv.",
		"self_attn.q_a_proj.", "attn_q_a.", "self_attn.q_a_layernorm.", "attn_q_a_norm.", "self_attn.q_b_proj.", "attn_q_b.",
		"self_attn.kv_a_proj_with_mqa.", "attn_kv_a_mqa.", "self_attn.kv_a_layernorm.", "attn_kv_a_norm.", "self_attn.kv_b_proj.",
		"attn_kv_b.", "mlp.gate.e_score_correction_bias", "exp_probs_b.bias", "mlp.shared_experts.gate_proj.", "ffn_gate_shexp.",
		"mlp.shared_experts.up_proj.", "ffn_up_shexp.", "mlp.shared_experts.down_proj.", "ffn_down_shexp.",
		"mlp.gate_proj.", "ffn_gate.", "mlp.up_proj.", "ffn_up.", "mlp.down_proj.", "ffn_down.", "mlp.gate_up_proj.", "ffn_up.",
		"mlp.c_fc.", "ffn_up.", "mlp.c_proj.", "ffn_down.", "mlp.gate.", "ffn_gate_inp.", "mlp.router.", "ffn_gate_inp.")...)
}

var gemmaNames = llamaNames("post_attention_layernorm.", "post_attention_norm.", "pre_feedforward_layernorm.", "ffn_norm.",
	"post_feedforward_layernorm.", "post_ffw_norm.")

type converter struct {
	t            testing.TB
	how          Conversion
	config       map[string]any
	architecture string
	names        *strings.Replacer
	in, out      map[string]tensor
	meta         weightstest.Metadata
}

// Values of config.json; number is 0 where a key is missing or null.
func (c *converter) text(key string) string    { s, _ := c.config[key].(string); return s }
func (c *converter) number(key string) float64 { n, _ := c.config[key].(float64); return n }
func (c *converter) count(keys ...string) int {
	for _, key := range keys {
		if n := c.number(key); n != 0 {
			return int(n)
		}
	}
	return 0
}

// set sets metadata of the architecture.
func (c *converter) set(key string, value any) { c.meta[c.architecture+"."+key] = value }

// common is TextModel.set_gguf_parameters.
func (c *converter) common() {
	c.meta["general.architecture"] = c.architecture
	c.meta["tokenizer.ggml.model"] = "no_vocab"
	tokens := make([]string, c.count("vocab_size"))
	for i := range tokens {
		tokens[i] = fmt.Sprint(i)
	}
	c.meta["tokenizer.ggml.tokens"] = tokens
	for key, names := range map[string][]string{"block_count": {"num_hidden_layers", "n_layer"},
		"context_length": {"max_position_embeddings", "n_ctx", "n_positions"}, "embedding_length": {"hidden_size", "n_embd"},
		"feed_forward_length": {"intermediate_size", "n_inner"}, "attention.head_count": {"num_attention_heads", "n_head"},
		"attention.head_count_kv": {"num_key_value_heads"}, "expert_count": {"num_local_experts", "num_experts", "n_routed_experts"},
		"expert_used_count": {"num_experts_per_tok"}, "expert_group_count": {"n_group"}, "expert_group_used_count": {"topk_group"},
		"attention.key_length": {"head_dim"}, "attention.value_length": {"head_dim"}} {
		if n := c.count(names...); n > 0 {
			c.set(key, uint32(n))
		}
	}
	for key, names := range map[string][]string{"attention.layer_norm_rms_epsilon": {"rms_norm_eps"}, "rope.freq_base": {"rope_theta"},
		"attention.layer_norm_epsilon": {"layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"}} {
		for _, name := range names {
			if n := c.number(name); n != 0 {
				c.set(key, float32(n))
			}
		}
	}
	switch c.text("scoring_func") {
	case "softmax":
		c.set("expert_gating_func", uint32(1))
	case "sigmoid":
		c.set("expert_gating_func", uint32(2))
	}
	c.scaling()
}

// scaling writes the metadata of rope_scaling.
func (c *converter) scaling() {
	scaling, _ := c.config["rope_scaling"].(map[string]any)
	kind, _ := scaling["rope_type"].(string)
	if kind == "" {
		kind, _ = scaling["type"].(string)
	}
	put := func(key, name string) {
		if n, ok := scaling[name].(float64); ok {
			c.set("rope.scaling."+key, float32(n))
		}
	}
	switch kind {
	case "linear", "yarn":
		c.set("rope.scaling.type", kind)
		put("factor", "factor")
	case "longrope":
		c.set("rope.scaling.type", kind)
	}
	if kind == "yarn" {
		c.set("rope.scaling.original_context_length", uint32(scaling["original_max_position_embeddings"].(float64)))
		put("yarn_attn_factor", "attention_factor")
		put("yarn_beta_fast", "beta_fast")
		put("yarn_beta_slow", "beta_slow")
	}
}

// plain takes all tensors as they are.
func (c *converter) plain() {
	for name, x := range c.in {
		c.take(name, x)
	}
}

// take adds a tensor under its new name, but for the head of a model whose head is its embedding.
func (c *converter) take(name string, x tensor) {
	if tied, _ := c.config["tie_word_embeddings"].(bool); !tied || name != "lm_head.weight" {
		c.out[c.names.Replace(name)] = x
	}
}

// llama pairs the rows of queries and keys.
func (c *converter) llama() {
	dims := c.count("head_dim")
	if dims == 0 {
		dims = c.count("hidden_size") / c.count("num_attention_heads")
	}
	c.set("rope.dimension_count", uint32(dims))
	c.set("vocab_size", uint32(c.count("vocab_size")))
	c.takeWithExperts(func(name string, x tensor) tensor {
		if strings.Contains(name, ".q_proj.") || strings.Contains(name, ".k_proj.") {
			return x.paired(dims)
		}
		return x
	})
	if scaling, _ := c.config["rope_scaling"].(map[string]any); scaling["rope_type"] == "llama3" {
		c.out["rope_freqs.weight"] = llama3Divisors(scaling, c.number("rope_theta"), dims)
	}
}

// llama3Divisors are by what Llama 3.1's rope scaling divides the frequencies.
func llama3Divisors(scaling map[string]any, theta float64, dims int) tensor {
	number := func(key string) float64 { return scaling[key].(float64) }
	factor, original := number("factor"), number("original_max_position_embeddings")
	low, high := number("low_freq_factor"), number("high_freq_factor")
	var divisors []float32
	for i := range dims / 2 {
		wavelength := 2 * math.Pi * math.Pow(theta, float64(2*i)/float64(dims))
		switch smooth := (original/wavelength - low) / (high - low); {
		case wavelength < original/high:
			divisors = append(divisors, 1)
		case wavelength > original/low:
			divisors = append(divisors, float32(factor))
		default:
			divisors = append(divisors, float32(1/((1-smooth)/factor+smooth)))
		}
	}
	return vector(divisors)
}

// takeWithExperts takes all tensors, changed, and stacks the experts of each layer.
func (c *converter) takeWithExperts(change func(name string, x tensor) tensor) {
	kinds := map[string]string{"w1": "gate", "w3": "up", "w2": "down", "gate_proj": "gate", "up_proj": "up", "down_proj": "down"}
	stacks := map[string][]tensor{} // by the layer's name and the kind
	for _, name := range slices.Sorted(maps.Keys(c.in)) {
		x := change(name, c.in[name])
		layer, rest, is := strings.Cut(name, ".experts.")
		if !is {
			c.take(name, x)
			continue
		}
		var number int
		var kind string
		if _, err := fmt.Sscanf(strings.ReplaceAll(rest, ".", " "), "%d %s", &number, &kind); err != nil {
			c.t.Fatal(name, err)
		}
		layer, _, _ = strings.Cut(strings.TrimPrefix(layer, "model.layers."), ".")
		stack := fmt.Sprintf("blk.%s.ffn_%s", layer, kinds[kind])
		if c.how.ExpertsApart {
			c.out[fmt.Sprintf("%s.%d.weight", stack, number)] = x
			continue
		}
		for len(stacks[stack]) <= number {
			stacks[stack] = append(stacks[stack], tensor{})
		}
		stacks[stack][number] = x
	}
	for stack, parts := range stacks {
		x := joined(parts...)
		x.shape = append([]int{len(parts)}, parts[0].shape...)
		c.out[stack+"_exps.weight"] = x
	}
}

func same(_ string, x tensor) tensor { return x }

func (c *converter) qwen3MoE() {
	c.set("expert_feed_forward_length", uint32(c.count("moe_intermediate_size")))
	c.takeWithExperts(same)
}

// fuse joins what the options say.
func (c *converter) fuse() {
	for name, x := range c.out {
		if layer, is := strings.CutSuffix(name, ".attn_q.weight"); c.how.FuseQKV && is {
			for _, suffix := range []string{".weight", ".bias"} {
				if _, has := c.out[layer+".attn_q"+suffix]; has {
					c.out[layer+".attn_qkv"+suffix] = joined(c.cut(layer+".attn_q"+suffix), c.cut(layer+".attn_k"+suffix),
						c.cut(layer+".attn_v"+suffix))
				}
			}
		}
		if layer, is := strings.CutSuffix(name, ".ffn_gate_exps.weight"); c.how.FuseExperts && is {
			gates, ups := x.cut(x.shape[0]), c.out[layer+".ffn_up_exps.weight"].cut(x.shape[0])
			var both []tensor
			for i := range gates {
				both = append(both, gates[i], ups[i])
			}
			fused := joined(both...)
			fused.shape = []int{x.shape[0], 2 * x.shape[1], x.shape[2]}
			c.cut(name)
			c.cut(layer + ".ffn_up_exps.weight")
			c.out[layer+".ffn_gate_up_exps.weight"] = fused
		}
	}
}

// cut takes a tensor out.
func (c *converter) cut(name string) tensor {
	x := c.out[name]
	delete(c.out, name)
	return x
}

// tensors are what the file holds; meta is complete with that.
func (c *converter) tensors() (tensors []weightstest.GGUFTensor) {
	for key, value := range c.how.More {
		if c.meta[key] = value; value == nil {
			delete(c.meta, key)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.out)) {
		tensors = append(tensors, c.out[name].gguf(name))
	}
	return tensors
}
