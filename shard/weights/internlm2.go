package weights

import (
	"fmt"
	"strings"
)

// internlm2Names are the parts of InternLM2's tensor names that differ from Llama's.
var internlm2Names = strings.NewReplacer("tok_embeddings", "embed_tokens", "attention_norm", "input_layernorm", "ffn_norm", "post_attention_layernorm",
	"attention.wo", "self_attn.o_proj", "feed_forward.w1", "mlp.gate_proj", "feed_forward.w3", "mlp.up_proj", "feed_forward.w2", "mlp.down_proj")

// llamaName translates the name of a tensor in a safetensors file; unknown names stay as they are.
func (m *Model) llamaName(name string) string {
	switch {
	case m.Config.Architecture != "internlm2":
		return name
	case name == "output.weight":
		return "lm_head.weight"
	}
	return internlm2Names.Replace(name)
}

// rowGroups finds the rows of a matrix among those of a larger one, which come in groups of stride: the matrix has rows of
// each, from offset on.
type rowGroups struct{ rows, stride, offset int }

// splitQKV parts InternLM2's attention.wqkv into queries, keys and values. Its rows are grouped by KV head: first the query
// heads that share it, then its key, then its value.
func (m *Model) splitQKV() error {
	c := m.Config
	shared := c.Heads / c.KVHeads
	for layer := range c.Layers {
		name := fmt.Sprintf("model.layers.%d.attention.wqkv.weight", layer)
		whole, err := m.Tensor(name, (c.Heads+2*c.KVHeads)*c.HeadDim, c.Hidden)
		if err != nil {
			return err
		}
		delete(m.tensors, name)
		first := 0
		for _, part := range []struct {
			name  string
			heads int // of each group
		}{{"q_proj", shared}, {"k_proj", 1}, {"v_proj", 1}} {
			t := whole
			t.Rows = part.heads * c.KVHeads * c.HeadDim
			t.groups = rowGroups{rows: part.heads * c.HeadDim, stride: (shared + 2) * c.HeadDim, offset: first * c.HeadDim}
			first += part.heads
			m.tensors[fmt.Sprintf("model.layers.%d.self_attn.%s.weight", layer, part.name)] = t
		}
	}
	return nil
}
