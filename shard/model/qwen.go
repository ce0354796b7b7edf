package model

import (
	"cmp"
	"fmt"
	"slices"

	"lockstep/shard/weights"
)

// qwen2 is Qwen 1.5 to 2.5: a Llama with biases of queries, keys and values, whose later layers may see a window only
// (https://arxiv.org/abs/2407.10671). Its reward models have a score head of two layers. Of models that see, the text part is
// served.
var qwen2 = family{modelTypes: []string{"qwen2", "qwen2_vl", "qwen2_5_vl"}, architectures: []string{"qwen2", "qwen2vl"},
	read: func(files *weights.Files) (Config, writer, error) {
		if files.GGUF != nil {
			c, d, err := gguf(files)
			return c, d.write, err
		}
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
				inner := r.unadapted("score.0", true, c.Hidden, c.Hidden)
				r.score(&Score{Inner: &inner, Outer: r.unadapted("score.2", true, 1, c.Hidden)})
			}
		}
		return c, d.write, nil
	}}

// qwen3 norms each head's queries and keys, and has no biases unless it says so (https://arxiv.org/abs/2505.09388).
var qwen3 = family{modelTypes: []string{"qwen3", "qwen3_vl"}, architectures: []string{"qwen3", "qwen3vl"},
	read: func(files *weights.Files) (Config, writer, error) {
		if files.GGUF != nil {
			c, d, err := gguf(files)
			d.headNorms = true
			return c, d.write, err
		}
		hf, c, d, err := readQwen3(files)
		if err != nil {
			return c, nil, err
		}
		d.biased = hf.biasedWhere(d.names, hf.AttentionBias, false)
		return c, d.write, nil
	}}

// qwen3MoE is a Qwen3 with experts.
var qwen3MoE = family{modelTypes: []string{"qwen3_moe"}, architectures: []string{"qwen3moe", "qwen3vlmoe"},
	read: func(files *weights.Files) (Config, writer, error) {
		if files.GGUF != nil {
			c, d, err := gguf(files)
			if err != nil {
				return c, nil, err
			}
			d.headNorms = true
			if d.ggufExperts(files, Routing{Normalised: true}); d.experts == nil {
				return c, nil, errNoExperts
			}
			if files.GGUF.Count(files.Architecture+".expert_feed_forward_length") == 0 {
				d.experts.intermediate /= max(d.experts.routing.Chosen, 1) // the MLP's width, by the first converters
			}
			return c, d.write, d.experts.check()
		}
		hf, c, d, err := readQwen3(files)
		if err != nil {
			return c, nil, err
		}
		own := struct {
			Experts      int   `json:"num_experts"`
			AlsoExperts  int   `json:"num_local_experts"` // as transformers 5 writes it
			Chosen       int   `json:"num_experts_per_tok"`
			Intermediate int   `json:"moe_intermediate_size"`
			Step         int   `json:"decoder_sparse_step"`
			Dense        []int `json:"mlp_only_layers"`
			Normalised   bool  `json:"norm_topk_prob"`
		}{Chosen: 8, Intermediate: 768, Step: 1}
		if err := hf.ownKeys(files, &own); err != nil {
			return c, nil, err
		}
		own.Experts = cmp.Or(own.Experts, own.AlsoExperts, 128)
		if hf.UseSlidingWindow { // in all layers: the reference knows of no others in this family
			d.windows = hf.windowsWhere(everyLayer)
		}
		if own.Step < 1 {
			return c, nil, fmt.Errorf("decoder_sparse_step is %d, want 1 or more", own.Step)
		}
		d.biased = hf.biasedWhere(d.names, hf.AttentionBias, false)
		d.experts = &experts{count: own.Experts, intermediate: own.Intermediate,
			of:      func(layer int) bool { return (layer+1)%own.Step == 0 && !slices.Contains(own.Dense, layer) },
			routing: Routing{Chosen: own.Chosen, Normalised: own.Normalised}, router: "mlp.gate",
			gate: "mlp.experts.%d.gate_proj", up: "mlp.experts.%d.up_proj", down: "mlp.experts.%d.down_proj"}
		return c, d.write, d.experts.check()
	}}

// readQwen reads what all have in common.
func readQwen(files *weights.Files) (*hfConfig, Config, *decoder, error) {
	hf, c, d, err := readLlamaLike(files)
	if err != nil {
		return nil, c, nil, err
	}
	d.windows, err = hf.qwenWindows()
	return hf, c, d, err
}

// readQwen3 reads what those of the third generation have in common.
func readQwen3(files *weights.Files) (*hfConfig, Config, *decoder, error) {
	hf, c, d, err := readQwen(files)
	if err != nil {
		return nil, c, nil, err
	}
	d.headNorms = true
	_, err = hf.rewardHead(false)
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
	}
	slides, err := hf.slidingTypes()
	if err != nil {
		return nil, err
	}
	return hf.windowsWhere(slides), nil
}

// slidingTypes reads layer_types: which layers have a window.
func (hf *hfConfig) slidingTypes() (slides func(layer int) bool, err error) {
	if len(hf.LayerTypes) != hf.Layers {
		return nil, fmt.Errorf("layer_types has %d entries for %d layers", len(hf.LayerTypes), hf.Layers)
	}
	for _, kind := range hf.LayerTypes {
		if kind != "full_attention" && kind != "sliding_attention" {
			return nil, fmt.Errorf("layer type %q is not served", kind)
		}
	}
	return func(layer int) bool { return hf.LayerTypes[layer] == "sliding_attention" }, nil
}
