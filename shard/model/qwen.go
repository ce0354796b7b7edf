package model

import (
	"fmt"

	"lockstep/shard/weights"
)

// qwen2 is Qwen 1.5 to 2.5: a Llama with biases of queries, keys and values, whose later layers may see a window only
// (https://arxiv.org/abs/2407.10671). Its reward models have a score head of two layers.
var qwen2 = family{modelTypes: []string{"qwen2"}, read: func(files *weights.Files) (Config, writer, error) {
	hf, c, d, err := readQwen(files)
	if err != nil {
		return c, nil, err
	}
	if c.Reward, err = hf.rewardHead(true); err != nil {
		return c, nil, err
	}
	d.biased = []string{d.names.query, d.names.key, d.names.value}
	if c.Reward {
		d.score = func(r *recipe) {
			inner := r.whole("score.0", true, c.Hidden, c.Hidden)
			r.score(&Score{Inner: &inner, Outer: r.whole("score.2", true, 1, c.Hidden)})
		}
	}
	return c, d.write, nil
}}

// qwen3 norms each head's queries and keys, and has no biases unless it says so (https://arxiv.org/abs/2505.09388).
var qwen3 = family{modelTypes: []string{"qwen3"}, read: func(files *weights.Files) (Config, writer, error) {
	hf, c, d, err := readQwen(files)
	if err != nil {
		return c, nil, err
	}
	if _, err := hf.rewardHead(false); err != nil {
		return c, nil, err
	}
	d.headNorms = true
	if n := d.names; hf.AttentionBias {
		d.biased = []string{n.query, n.key, n.value, n.output}
	}
	return c, d.write, nil
}}

// readQwen reads what both have in common.
func readQwen(files *weights.Files) (*hfConfig, Config, *decoder, error) {
	hf, c, err := huggingFace(files)
	if err != nil {
		return nil, c, nil, err
	}
	c.Embedding = llamaNames.embedding
	d := &decoder{names: llamaNames, tied: hf.Tied}
	d.windows, err = hf.qwenWindows()
	return hf, c, d, err
}

// qwenWindows returns decoder.windows. Where the file does not list the layers' types, those from max_window_layers on have
// windows.
func (hf *hfConfig) qwenWindows() ([]int, error) {
	switch {
	case !hf.UseSlidingWindow:
		return nil, nil
	case hf.LayerTypes == nil:
		first := 28 // the reference's default
		if hf.MaxWindowLayers != nil {
			first = *hf.MaxWindowLayers
		}
		return hf.windowsWhere(func(layer int) bool { return layer >= first }), nil
	case len(hf.LayerTypes) != hf.Layers:
		return nil, fmt.Errorf("layer_types has %d entries for %d layers", len(hf.LayerTypes), hf.Layers)
	}
	for _, kind := range hf.LayerTypes {
		if kind != "full_attention" && kind != "sliding_attention" {
			return nil, fmt.Errorf("layer type %q is not served", kind)
		}
	}
	return hf.windowsWhere(func(layer int) bool { return hf.LayerTypes[layer] == "sliding_attention" }), nil
}
