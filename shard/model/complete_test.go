package model_test

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// part is the whole of a model on one rank.
func part(t *testing.T, dir fstest.MapFS) (*model.Part, error) {
	t.Helper()
	m, err := model.OpenFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m.Part(0, 1)
}

// A tensor that the model must have is never taken for one that it does without.
func TestMissingTensorsAreNamed(t *testing.T) {
	for _, c := range []struct{ model, old, new, want string }{
		{"llama_gqa_9q3kv", "lm_head.weight", "xx_head.weight", "no head (lm_head.weight)"},
		{"qwen2_untied_sliding", "layers.1.self_attn.k_proj.bias", "layers.1.self_attn.k_proj.bxxs",
			"layers.1.self_attn.k_proj.bias is missing"},
		{"llama_headdim_bias_sharded", "layers.0.mlp.down_proj.bias", "layers.0.mlp.down_proj.bxxs",
			"layers.0.mlp.down_proj.bias is missing"},
		{"llama_headdim_bias_sharded", "layers.0.self_attn.o_proj.bias", "layers.0.self_attn.o_proj.bxxs",
			"layers.0.self_attn.o_proj.bias is missing"},
		{"qwen3_5q1kv", "self_attn.q_norm", "self_attn.x_norm", "layers.0.self_attn.q_norm.weight is missing"},
	} {
		dir := modeltest.Files(t, c.model)
		modeltest.Replace(dir, c.old, c.new)
		if _, err := part(t, dir); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s without %s: got error %v, want one with %q", c.model, c.old, err, c.want)
		}
	}
	dir := modeltest.Files(t, "llama_gqa_9q3kv")
	modeltest.Replace(dir, `"tie_word_embeddings": false`, `"xie_word_embeddings": false`) // the architecture's default is false
	modeltest.Replace(dir, "lm_head.weight", "xx_head.weight")
	if _, err := part(t, dir); err == nil || !strings.Contains(err.Error(), "no head") {
		t.Errorf("got error %v", err)
	}
}

// Tensors that the model does not compute with do not keep it from being served, and are listed, but those that say nothing
// new.
func TestUnusedTensorsAreListed(t *testing.T) {
	dir := modeltest.Files(t, "llama_tied_1kv_f32")
	name := "model.safetensors"
	data := dir[name].Data
	extra := `{"lm_head.weight":{"dtype":"F32","shape":[1,0],"data_offsets":[0,0]},` + // tied
		`"model.layers.0.self_attn.rotary_emb.inv_freq":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},` +
		`"model.layers.0.table":{"dtype":"I64","shape":[],"data_offsets":[0,0]},"model.conv":{"dtype":"F32","shape":[1,1,0],"data_offsets":[0,0]},`
	padded := extra + strings.Repeat(" ", (8-len(extra)+1)&7)
	header := append([]byte(padded), data[9:]...)
	size := binary.LittleEndian.Uint64(data) + uint64(len(padded)) - 1
	dir[name] = &fstest.MapFile{Data: append(binary.LittleEndian.AppendUint64(nil, size), header...)}
	m, err := part(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := m.Unused, []string{"model.conv", "model.layers.0.table"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
