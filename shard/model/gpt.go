package model

import (
	"cmp"
	"strings"

	"lockstep/shard/weights"
)

// gpt2 has learned positions, biases everywhere, norms that subtract the mean, and an MLP without a gate (Language Models are
// Unsupervised Multitask Learners, 2019). Its matrices are stored as [inputs][outputs].
var gpt2 = family{modelTypes: []string{"gpt2"}, architectures: []string{"gpt2"}, read: readGPT2}

func readGPT2(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil {
		c, d, err := gguf(files)
		if err != nil {
			return c, nil, err
		}
		c.Rope = Rope{}
		d.plainMLP(GELU)
		d.names.positions = "position_embd.weight"
		return c, d.write, nil
	}
	hf, c, err := huggingFace(files)
	if err != nil {
		return c, nil, err
	}
	own := struct {
		Hidden       int     `json:"n_embd"`
		Layers       int     `json:"n_layer"`
		Heads        int     `json:"n_head"`
		Positions    int     `json:"n_positions"`
		Intermediate *int    `json:"n_inner"`
		Activation   string  `json:"activation_function"`
		Epsilon      float32 `json:"layer_norm_epsilon"`
		ByLayer      bool    `json:"scale_attn_by_inverse_layer_idx"`
		Scaled       bool    `json:"scale_attn_weights"`
	}{Activation: "gelu_new", Epsilon: 1e-5, Scaled: true}
	if err := hf.ownKeys(files, &own); err != nil {
		return c, nil, err
	}
	if err := hf.headOf("GPT2LMHeadModel"); err != nil {
		return c, nil, err
	}
	c = Config{Architecture: hf.ModelType, Hidden: own.Hidden, Layers: own.Layers, Heads: own.Heads, Vocabulary: hf.Vocabulary,
		NormEpsilon: own.Epsilon, MaxPositions: own.Positions, Intermediate: 4 * min(max(own.Hidden, 0), weights.MaxDimension)}
	c.fill()
	if own.Intermediate != nil {
		c.Intermediate = *own.Intermediate
	}
	d := &decoder{normCentred: true, transposed: true, tied: hf.tied(true), scaleByLayer: own.ByLayer}
	if !own.Scaled {
		d.attentionScale = 1
	}
	if d.activation, err = activation(own.Activation); err != nil {
		return c, nil, err
	}
	d.names = tensorNames{embedding: "transformer.wte.weight", positions: "transformer.wpe.weight", finalNorm: "transformer.ln_f.weight",
		head: "lm_head.weight", layer: "transformer.h.%d.", attentionNorm: "ln_1", mlpNorm: "ln_2",
		query: "attn.c_attn", key: "attn.c_attn", value: "attn.c_attn", output: "attn.c_proj", up: "mlp.c_fc", down: "mlp.c_proj"}
	d.names.bare(files, "transformer.") // as the first checkpoints are
	c.Embedding = d.names.embedding
	d.biased = hf.biasedWhere(d.names, true, true)
	d.fuseAttention(&c)
	return c, d.write, nil
}

// bare takes a prefix from the names where the files have them without.
func (n *tensorNames) bare(files *weights.Files, prefix string) {
	if !files.Has(strings.TrimPrefix(n.embedding, prefix)) {
		return
	}
	for _, name := range []*string{&n.embedding, &n.positions, &n.finalNorm, &n.layer} {
		*name = strings.TrimPrefix(*name, prefix)
	}
}

// gptNeoX adds attention and MLP of the same stream, rotates a part of each head, and has the rows of a head's query, key and
// value together (https://arxiv.org/abs/2204.06745). Pythia goes by its name.
var gptNeoX = family{modelTypes: []string{"gpt_neox"}, architectures: []string{"gptneox"}, read: readGPTNeoX}

func readGPTNeoX(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil {
		c, d, err := gguf(files)
		if err != nil {
			return c, nil, err
		}
		d.plainMLP(GELUErf)
		d.parallel = files.GGUF.Flag("gptneox.use_parallel_residual")
		return c, d.write, nil
	}
	hf, c, err := huggingFace(files)
	if err != nil {
		return c, nil, err
	}
	own := struct {
		Epsilon  float32 `json:"layer_norm_eps"`
		Share    float64 `json:"rotary_pct"`
		Theta    float64 `json:"rotary_emb_base"`
		Parallel bool    `json:"use_parallel_residual"`
		Biased   bool    `json:"attention_bias"`
	}{1e-5, 0.25, 10000, true, true}
	if err := hf.ownKeys(files, &own); err != nil {
		return c, nil, err
	}
	if _, err := hf.rewardHead(false); err != nil {
		return c, nil, err
	}
	c.NormEpsilon = own.Epsilon
	c.Rope.Theta = own.Theta
	for _, scaling := range []*hfRope{hf.RopeParameters, hf.RopeScaling} {
		if scaling != nil {
			c.Rope.Theta, own.Share = cmp.Or(scaling.Theta, c.Rope.Theta), cmp.Or(scaling.RotatedShare, own.Share)
		}
	}
	if err := c.Rope.rotate(own.Share, c.HeadDim); err != nil {
		return c, nil, err
	}
	d := &decoder{normCentred: true, parallel: own.Parallel, tied: hf.tied(false)}
	if d.activation, err = activation(hf.Activation); err != nil {
		return c, nil, err
	}
	d.names = tensorNames{embedding: "gpt_neox.embed_in.weight", finalNorm: "gpt_neox.final_layer_norm.weight", head: "embed_out.weight",
		layer: "gpt_neox.layers.%d.", attentionNorm: "input_layernorm", mlpNorm: "post_attention_layernorm",
		query: "attention.query_key_value", key: "attention.query_key_value", value: "attention.query_key_value",
		output: "attention.dense", up: "mlp.dense_h_to_4h", down: "mlp.dense_4h_to_h"}
	d.names.bare(files, "gpt_neox.")
	c.Embedding = d.names.embedding
	d.biased = hf.biasedWhere(d.names, own.Biased, true)
	d.queryOrder = Order{Group: c.HeadDim, Stride: 3 * c.HeadDim}
	d.keyOrder = Order{Group: c.HeadDim, Stride: 3 * c.HeadDim, Offset: c.HeadDim}
	d.valueOrder = Order{Group: c.HeadDim, Stride: 3 * c.HeadDim, Offset: 2 * c.HeadDim}
	return c, d.write, nil
}

// starCoder2 is a Llama with GPT-2's norms, biases and MLP, and a window (https://arxiv.org/abs/2402.19173).
var starCoder2 = family{modelTypes: []string{"starcoder2"}, architectures: []string{"starcoder2"}, read: readStarCoder2}

func readStarCoder2(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil {
		c, d, err := gguf(files)
		if err != nil {
			return c, nil, err
		}
		d.plainMLP(GELU)
		return c, d.write, nil
	}
	hf, c, d, err := readLlama(files)
	if err != nil {
		return c, nil, err
	}
	own := struct {
		Epsilon float32 `json:"norm_epsilon"`
		Biased  bool    `json:"use_bias"`
	}{1e-5, true}
	if err := hf.ownKeys(files, &own); err != nil {
		return c, nil, err
	}
	c.NormEpsilon = own.Epsilon
	d.normCentred, d.tied = true, hf.tied(true)
	d.windows = hf.windowsWhere(everyLayer)
	d.names.gate, d.names.up, d.names.down = "", "mlp.c_fc", "mlp.c_proj"
	d.biased = hf.biasedWhere(d.names, own.Biased, own.Biased)
	return c, d.write, nil
}
