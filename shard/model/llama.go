package model

import "lockstep/shard/weights"

// llama is Meta's Llama, 1 to 3.x, and in GGUF whatever llama.cpp's converter files under that name, Mistral among them.
var llama = family{modelTypes: []string{"llama"}, architectures: []string{"llama"}, read: readLlama}

func readLlama(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil {
		return readLlamaGGUF(files)
	}
	hf, c, err := huggingFace(files)
	if err != nil {
		return c, nil, err
	}
	if _, err := hf.rewardHead(false); err != nil {
		return c, nil, err
	}
	if hf.UseSlidingWindow {
		return c, nil, hf.noWindows()
	}
	c.Embedding = llamaNames.embedding
	d := &decoder{names: llamaNames, tied: hf.Tied}
	if n := llamaNames; hf.AttentionBias {
		d.biased = []string{n.query, n.key, n.value, n.output}
	}
	if n := llamaNames; hf.MLPBias {
		d.biased = append(d.biased, n.gate, n.up, n.down)
	}
	return c, d.write, nil
}

func readLlamaGGUF(files *weights.Files) (Config, writer, error) {
	c, err := gguf(files)
	if err != nil {
		return c, nil, err
	}
	c.Embedding = llamaNames.embedding
	paired := Order{PairedHead: c.HeadDim}
	d := &decoder{names: llamaNames, allBiases: true, queryOrder: paired, keyOrder: paired}
	d.tied = !files.Has(llamaNames.head) // this is how a GGUF model says it
	return c, d.write, nil
}
