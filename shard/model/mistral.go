package model

import (
	"fmt"

	"lockstep/shard/weights"
)

// mistral is a Llama that may see a window of positions only (https://arxiv.org/abs/2310.06825). Ministral 3's queries grow with
// their position besides.
var mistral = family{modelTypes: []string{"mistral", "mistral3", "ministral3"}, read: func(files *weights.Files) (Config, writer, error) {
	hf, c, d, err := readLlama(files)
	if err != nil {
		return c, nil, err
	}
	if hf.ModelType == "ministral3" {
		if c.Rope.Sharpening, err = hf.sharpening(&c.Rope); err != nil {
			return c, nil, err
		}
	}
	d.windows = hf.windowsWhere(everyLayer)
	return c, d.write, nil
}}

// sharpening reads Rope.Sharpening.
func (hf *hfConfig) sharpening(r *Rope) (beta float64, err error) {
	for _, scaling := range []*hfRope{hf.RopeParameters, hf.RopeScaling} {
		if scaling != nil && scaling.Sharpening != 0 {
			beta = scaling.Sharpening
		}
	}
	if beta != 0 && r.OriginalMaxPositions < 1 {
		return 0, fmt.Errorf("llama_4_scaling_beta beside original_max_position_embeddings %d", r.OriginalMaxPositions)
	}
	return beta, nil
}

// mixtral is a Mistral with experts (https://arxiv.org/abs/2401.04088).
var mixtral = family{modelTypes: []string{"mixtral"}, read: func(files *weights.Files) (Config, writer, error) {
	hf, c, d, err := readLlama(files)
	if err != nil {
		return c, nil, err
	}
	own := struct {
		Experts int `json:"num_local_experts"`
		Chosen  int `json:"num_experts_per_tok"`
	}{8, 2}
	if err := hf.ownKeys(files, &own); err != nil {
		return c, nil, err
	}
	d.windows = hf.windowsWhere(everyLayer)
	d.experts = &experts{of: everyLayer, count: own.Experts, intermediate: c.Intermediate,
		routing: Routing{Chosen: own.Chosen, Normalised: true}, router: "block_sparse_moe.gate",
		gate: "block_sparse_moe.experts.%d.w1", up: "block_sparse_moe.experts.%d.w3", down: "block_sparse_moe.experts.%d.w2"}
	return c, d.write, d.experts.check()
}}
