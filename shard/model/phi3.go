package model

import "lockstep/shard/weights"

// phi3 is a Llama with queries, keys and values in one tensor, and gate and up in another (https://arxiv.org/abs/2404.14219).
// Phi-4 goes by its name.
var phi3 = family{modelTypes: []string{"phi3"}, architectures: []string{"phi3"}, read: readPhi3}

func readPhi3(files *weights.Files) (Config, writer, error) {
	if files.GGUF != nil {
		c, d, err := gguf(files)
		if err != nil {
			return c, nil, err
		}
		d.names.gate = d.names.up
		d.fuseMLP(&c)
		d.windows, err = ggufWindows(files, c.Layers, 0, everyLayer)
		return c, d.write, err
	}
	hf, c, d, err := readLlama(files)
	if err != nil {
		return c, nil, err
	}
	n := &d.names
	n.query, n.key, n.value = "self_attn.qkv_proj", "self_attn.qkv_proj", "self_attn.qkv_proj"
	n.gate, n.up = "mlp.gate_up_proj", "mlp.gate_up_proj"
	d.fuseAttention(&c)
	d.fuseMLP(&c)
	d.windows = hf.windowsWhere(everyLayer)
	return c, d.write, nil
}

// fuseMLP says that gate and up lie one behind the other in one tensor.
func (d *decoder) fuseMLP(c *Config) {
	d.gateOrder = Order{Group: c.Intermediate, Stride: 2 * c.Intermediate}
	d.upOrder = Order{Group: c.Intermediate, Stride: 2 * c.Intermediate, Offset: c.Intermediate}
}

// fuseAttention says that queries, keys and values lie one behind the other in one tensor.
func (d *decoder) fuseAttention(c *Config) {
	queries, keys := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	all := queries + 2*keys
	d.queryOrder = Order{Group: queries, Stride: all}
	d.keyOrder = Order{Group: keys, Stride: all, Offset: queries}
	d.valueOrder = Order{Group: keys, Stride: all, Offset: queries + keys}
}
