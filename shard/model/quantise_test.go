package model_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// Projections and a head of its own are brought into another encoding; embeddings, and a head that is one, are not.
func TestQuantise(t *testing.T) {
	for name, c := range map[string]struct {
		layers, head weights.Encoding
		note         string
	}{
		"int8": {weights.Q8_0, weights.Q8_0, ""}, "int4": {weights.Q4_1, weights.Q8_0, ""},
		"bitsandbytes":     {weights.Q8_0, weights.Q8_0, "is computed as int8"},
		"eetq":             {weights.Q8_0, weights.Q8_0, "is computed as int8"},
		"bitsandbytes-nf4": {weights.Q4_1, weights.Q8_0, "is computed as int4"},
		"bitsandbytes-fp4": {weights.Q4_1, weights.Q8_0, "is computed as int4"},
	} {
		for _, tied := range []bool{true, false} {
			m := openBlocks(t, tied)
			plain, err := m.Fingerprint()
			if err != nil {
				t.Fatal(err)
			}
			note, err := m.Quantise(name)
			if err != nil || !strings.Contains(note, c.note) || (note == "") != (c.note == "") {
				t.Fatalf("%s: got note %q, %v", name, note, err)
			}
			part, err := m.Part(0, 1)
			if err != nil {
				t.Fatal(err)
			}
			for _, stage := range part.Stages {
				switch s := stage.(type) {
				case *model.Embed:
					if s.Table.Encoding > weights.BF16 {
						t.Errorf("%s: the embedding is in %v", name, s.Table.Encoding)
					}
				case *model.Gate:
					if s.Up.Encoding != c.layers {
						t.Errorf("%s: a projection is in %v, want %v", name, s.Up.Encoding, c.layers)
					}
				case *model.Head:
					if (s.Weight.Encoding == c.head) == tied {
						t.Errorf("%s, tied %v: the head is in %v", name, tied, s.Weight.Encoding)
					}
				}
			}
			if quantised, err := m.Fingerprint(); err != nil || quantised == plain {
				t.Errorf("%s: the fingerprint is that of the plain model (%v)", name, err)
			}
		}
	}
}

// openBlocks opens a model whose matrices are of whole blocks, and whose head is its embedding, or is not.
func openBlocks(t *testing.T, tied bool) *model.Model {
	tensors := weightstest.Tensors{"model.embed_tokens.weight": {3, 64}, "model.norm.weight": {64}}
	if !tied {
		tensors["lm_head.weight"] = []int{3, 64}
	}
	for _, name := range []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
		"mlp.up_proj", "mlp.down_proj"} {
		tensors["model.layers.0."+name+".weight"] = []int{64, 64}
	}
	for _, name := range []string{"input_layernorm", "post_attention_layernorm"} {
		tensors["model.layers.0."+name+".weight"] = []int{64}
	}
	config := strings.NewReplacer(`"hidden_size":4`, `"hidden_size":64`, `"intermediate_size":4`, `"intermediate_size":64`, `"model_type"`,
		fmt.Sprintf(`"tie_word_embeddings":%v,"model_type"`, tied)).Replace(weightstest.Config)
	return modeltest.OpenFS(t, weightstest.Directory(config, map[string][]byte{"model.safetensors": tensors.File()}))
}

func TestQuantiseErrors(t *testing.T) {
	for _, c := range []struct{ method, name, want string }{
		{"", "gptq", `not in the format "gptq": nothing in them says that they are quantised`},
		{"fp8", "marlin", `not in the format "marlin": they are in fp8`},
		{"awq", "int8", "quantised already (awq)"},
		{"gptq", "bitsandbytes", "quantised already (gptq)"},
		{"", "int3", `no weights can be brought into "int3": want one of awq, bitsandbytes`},
		{"gptq", "gptq", ""}, {"gptq", "marlin", ""}, {"awq", "awq", ""}, {"fp8", "fp8", ""},
		{"compressed-tensors", "compressed-tensors", ""},
	} {
		m := openBlocks(t, true)
		m.Files.QuantMethod = c.method
		_, err := m.Quantise(c.name)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s of %q: got %v, want %q", c.name, c.method, err, c.want)
		}
	}
	if names := model.QuantiseNames(); !slices.IsSorted(names) || len(names) != 11 {
		t.Errorf("got names %v", names)
	}
}
