package model

import "lockstep/shard/weights"

// internLM2 is a Llama under other names, with queries, keys and values in one tensor (https://arxiv.org/abs/2403.17297). Its
// reward models have a score head of one row.
var internLM2 = family{modelTypes: []string{"internlm2"}, architectures: []string{"internlm2"}, read: readInternLM2}

func readInternLM2(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil { // the converter takes the tensor apart, and pairs the rows as Llama's
		return readLlamaGGUF(files)
	}
	hf, c, err := huggingFace(files)
	if err != nil {
		return c, nil, err
	}
	if hf.UseSlidingWindow {
		return c, nil, hf.noWindows()
	}
	if c.Reward, err = hf.rewardHead(true); err != nil {
		return c, nil, err
	}
	c.Embedding = internLM2Names.embedding
	d := &decoder{names: internLM2Names, tied: hf.tied(false), biased: hf.biasedWhere(internLM2Names, hf.Bias, false)}
	if d.activation, err = activation(hf.Activation); err != nil {
		return c, nil, err
	}
	// The rows of wqkv are grouped by KV head: first the query heads that share it, then its key, then its value.
	group := c.Heads / max(c.KVHeads, 1)
	stride := (group + 2) * c.HeadDim
	d.queryOrder = Order{Group: group * c.HeadDim, Stride: stride}
	d.keyOrder = Order{Group: c.HeadDim, Stride: stride, Offset: group * c.HeadDim}
	d.valueOrder = Order{Group: c.HeadDim, Stride: stride, Offset: (group + 1) * c.HeadDim}
	if c.Reward {
		d.score = func(r *recipe) { r.score(&Score{Outer: r.unadapted("v_head", false, 1, c.Hidden)}) }
	}
	return c, d.write, nil
}

var internLM2Names = tensorNames{
	embedding: "model.tok_embeddings.weight", finalNorm: "model.norm.weight", head: "output.weight",
	layer:         "model.layers.%d.",
	attentionNorm: "attention_norm", mlpNorm: "ffn_norm",
	query: "attention.wqkv", key: "attention.wqkv", value: "attention.wqkv", output: "attention.wo",
	gate: "feed_forward.w1", up: "feed_forward.w3", down: "feed_forward.w2",
}
