package model

import "lockstep/shard/weights"

// llama is Meta's Llama, 1 to 3.x, and in GGUF whatever llama.cpp's converter files under that name, Mistral and Mixtral among
// them, whose windows it leaves out, as llama.cpp does.
var llama = family{modelTypes: []string{"llama"}, architectures: []string{"llama", "mistral3"}, read: readLlamaFamily}

func readLlamaFamily(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil {
		return readLlamaGGUF(files)
	}
	hf, c, d, err := readLlama(files)
	if err != nil {
		return c, nil, err
	}
	if hf.UseSlidingWindow {
		return c, nil, hf.noWindows()
	}
	d.biased = hf.biasedWhere(d.names, hf.AttentionBias, hf.MLPBias)
	return c, d.write, nil
}

// readLlama reads what Llama and most that came after it have in common in Hugging Face's format, but for reward heads.
func readLlama(files *weights.Files) (*hfConfig, Config, *decoder, error) {
	hf, c, d, err := readLlamaLike(files)
	if err == nil {
		_, err = hf.rewardHead(false)
	}
	return hf, c, d, err
}

// readLlamaLike is readLlama for families with reward models.
func readLlamaLike(files *weights.Files) (*hfConfig, Config, *decoder, error) {
	hf, c, err := huggingFace(files)
	if err != nil {
		return nil, c, nil, err
	}
	d := &decoder{names: llamaNames.behind(files), tied: hf.tied(false)}
	c.Embedding = d.names.embedding
	d.activation, err = activation(hf.Activation)
	return hf, c, d, err
}

func readLlamaGGUF(files *weights.Files) (Config, writer, error) {
	c, d, err := gguf(files)
	if err != nil {
		return c, nil, err
	}
	d.queryOrder.PairedHead, d.keyOrder.PairedHead = c.HeadDim, c.HeadDim
	if err := ggufNoTemperature(files); err != nil {
		return c, nil, err
	}
	if d.ggufExperts(files, Routing{Normalised: true}); d.experts != nil {
		err = d.experts.check()
	}
	return c, d.write, err
}
