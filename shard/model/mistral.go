package model

import "lockstep/shard/weights"

// mistral is a Llama that may see a window of positions only (https://arxiv.org/abs/2310.06825).
var mistral = family{modelTypes: []string{"mistral"}, read: func(files *weights.Files) (Config, writer, error) {
	hf, c, err := huggingFace(files)
	if err != nil {
		return c, nil, err
	}
	if _, err := hf.rewardHead(false); err != nil {
		return c, nil, err
	}
	c.Embedding = llamaNames.embedding
	d := &decoder{names: llamaNames, tied: hf.Tied, windows: hf.windowsWhere(func(int) bool { return true })}
	return c, d.write, nil
}}
