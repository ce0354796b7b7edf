package model

import (
	"fmt"

	"lockstep/shard/weights"
)

// gptOSS is OpenAI's gpt-oss: experts, in MXFP4 or plain, with biases and a clamped activation, a sink in each head, and a window in every
// second layer (https://arxiv.org/abs/2508.10925).
var gptOSS = family{modelTypes: []string{"gpt_oss"}, architectures: []string{"gpt-oss"}, read: readGPTOSS}

func readGPTOSS(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil {
		return readGPTOSSGGUF(files)
	}
	hf, c, d, err := readLlama(files)
	if err != nil {
		return c, nil, err
	}
	own := struct {
		Experts int     `json:"num_local_experts"`
		Chosen  int     `json:"num_experts_per_tok"`
		Limit   float64 `json:"swiglu_limit"`
	}{Limit: 7}
	if err := hf.ownKeys(files, &own); err != nil {
		return c, nil, err
	}
	if own.Limit != 7 {
		return c, nil, fmt.Errorf("swiglu_limit %v is not served; 7 is", own.Limit)
	}
	d.activation, d.names.sinks = ClampedSwiGLU, "self_attn.sinks"
	d.biased = hf.biasedWhere(d.names, hf.AttentionBias, false)
	slides := alternate
	if hf.LayerTypes != nil {
		if slides, err = hf.slidingTypes(); err != nil {
			return c, nil, err
		}
	}
	d.windows = hf.windowsWhere(slides)
	d.experts = &experts{of: everyLayer, count: own.Experts, intermediate: c.Intermediate, routing: Routing{Chosen: own.Chosen,
		Normalised: true}, router: "mlp.router", routerBias: true, stacked: true, bias: true,
		gate: "mlp.experts.gate_up_proj", up: "mlp.experts.gate_up_proj", down: "mlp.experts.down_proj",
		gateOrder: Order{Group: 1, Stride: 2}, upOrder: Order{Group: 1, Stride: 2, Offset: 1}}
	d.experts.transposed = files.Has(d.tensor(0, d.experts.gate)) // as those lie that are not in MXFP4
	return c, d.write, d.experts.check()
}

func readGPTOSSGGUF(files *weights.Files) (Config, writer, error) {
	c, d, err := gguf(files)
	if err != nil {
		return c, nil, err
	}
	c.Rope.Fractional = true
	d.activation, d.names.sinks, d.names.mlpNorm = ClampedSwiGLU, "attn_sinks.weight", "post_attention_norm"
	if d.windows, err = ggufWindows(files, c.Layers, 128, alternate); err != nil {
		return c, nil, err
	}
	if d.ggufExperts(files, Routing{Normalised: true}); d.experts == nil {
		return c, nil, errNoExperts
	}
	d.experts.routerBias, d.experts.bias = true, true
	return c, d.write, d.experts.check()
}
