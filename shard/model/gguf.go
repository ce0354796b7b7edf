package model

import (
	"fmt"

	"lockstep/shard/weights"
)

// gguf reads what the metadata of all architectures have in common
// (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
func gguf(files *weights.Files) (Config, error) {
	meta, architecture := files.GGUF, files.Architecture
	key := func(name string) string { return architecture + "." + name }
	if n := meta.Count(key("expert_count")); n > 0 {
		return Config{}, fmt.Errorf("models with experts (%d) are not served yet", n)
	}
	c := Config{Architecture: architecture, Hidden: meta.Count(key("embedding_length")),
		Intermediate: meta.Count(key("feed_forward_length")),
		Layers:       meta.Count(key("block_count")), Heads: meta.Count(key("attention.head_count")),
		KVHeads: meta.Count(key("attention.head_count_kv")), HeadDim: meta.Count(key("attention.key_length")),
		MaxPositions: meta.Count(key("context_length")), Vocabulary: len(meta.Texts("tokenizer.ggml.tokens")),
		NormEpsilon: float32(meta.Number(key("attention.layer_norm_rms_epsilon"), 1e-5))}
	c.fill()
	if n := meta.Count(key("vocab_size")); n > 0 {
		c.Vocabulary = n
	}
	if n := meta.Count(key("rope.dimension_count")); n != 0 && n != c.HeadDim {
		return Config{}, fmt.Errorf("rotation of %d of %d dimensions is not served yet", n, c.HeadDim)
	}
	c.Rope = Rope{Type: "default", Theta: meta.Number(key("rope.freq_base"), 10000), OriginalMaxPositions: c.MaxPositions}
	switch scaling := meta.Text(key("rope.scaling.type")); scaling {
	case "", "none":
	case "linear":
		c.Rope.Type, c.Rope.Factor = "linear", meta.Number(key("rope.scaling.factor"), 1)
	default:
		return Config{}, fmt.Errorf("rope scaling %q is not served from GGUF yet", scaling)
	}
	if err := meta.Err(); err != nil {
		return Config{}, err
	}
	if err := c.validate(); err != nil || !files.Has(ropeDivisors) {
		return c, err
	}
	var err error
	c.Rope.Divisors, err = files.Vector(ropeDivisors, c.HeadDim/2)
	return c, err
}

// ropeDivisors is the tensor that llama.cpp's converter makes of Llama 3.1's rope scaling.
const ropeDivisors = "rope_freqs.weight"
