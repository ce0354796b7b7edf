package host_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights/weightstest"
)

// stored is a tensor of a fixture, in BF16.
type stored struct {
	shape []int
	data  []byte // lies in the fixture's file
}

// tensors finds those of a fixture's safetensors files.
func tensors(t *testing.T, dir fstest.MapFS) map[string]stored {
	t.Helper()
	all := map[string]stored{}
	for name, file := range dir {
		if !strings.HasSuffix(name, ".safetensors") {
			continue
		}
		size := binary.LittleEndian.Uint64(file.Data)
		var header map[string]struct {
			DataType string `json:"dtype"`
			Shape    []int
			Offsets  []uint64 `json:"data_offsets"`
		}
		if err := json.Unmarshal(file.Data[8:8+size], &header); err != nil {
			t.Fatal(err)
		}
		delete(header, "__metadata__")
		for name, h := range header {
			if h.DataType != "BF16" {
				t.Fatalf("%s is %s", name, h.DataType)
			}
			all[name] = stored{h.Shape, file.Data[8+size:][h.Offsets[0]:h.Offsets[1]]}
		}
	}
	return all
}

var ggufNames = strings.NewReplacer("model.layers.", "blk.", "model.embed_tokens", "token_embd", "model.norm", "output_norm", "lm_head",
	"output",
	"input_layernorm", "attn_norm", "post_attention_layernorm", "ffn_norm", "self_attn.q_proj", "attn_q", "self_attn.k_proj", "attn_k",
	"self_attn.v_proj", "attn_v", "self_attn.o_proj", "attn_output", "mlp.gate_proj", "ffn_gate", "mlp.up_proj", "ffn_up", "mlp.down_proj",
	"ffn_down")

// asGGUF writes tensors of llama_headdim_bias_sharded as llama.cpp's converter does: the outputs of queries and keys, of
// weights and biases alike, go as rotation pairs.
func asGGUF(all map[string]stored) []byte {
	const headDim, bf16 = 14, 30
	var tensors []weightstest.GGUFTensor
	for name, tensor := range all {
		out := weightstest.GGUFTensor{Name: ggufNames.Replace(name), Kind: bf16, Dimensions: slices.Clone(tensor.shape)}
		slices.Reverse(out.Dimensions)
		rowBytes := len(tensor.data) / tensor.shape[0]
		for output := range tensor.shape[0] {
			from := output
			if strings.Contains(name, "q_proj") || strings.Contains(name, "k_proj") {
				from = output/headDim*headDim + output%headDim/2 + output%2*headDim/2
			}
			out.Data = append(out.Data, tensor.data[from*rowBytes:][:rowBytes]...)
		}
		tensors = append(tensors, out)
	}
	return weightstest.GGUF(weightstest.Metadata{"general.architecture": "llama", "llama.embedding_length": uint32(66),
		"llama.feed_forward_length": uint32(188), "llama.block_count": uint32(3), "llama.attention.head_count": uint32(6),
		"llama.attention.head_count_kv": uint32(2), "llama.attention.key_length": uint32(headDim), "llama.context_length": uint32(512),
		"llama.vocab_size": uint32(487), "llama.attention.layer_norm_rms_epsilon": float32(1e-5)}, tensors)
}

func openGGUF(t *testing.T, data []byte) *model.Model {
	t.Helper()
	source, err := model.Open(weightstest.Write(t, data))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(source.Close)
	return source
}

// logits computes a prompt.
func logits(t *testing.T, source *model.Model) [][]float32 {
	t.Helper()
	g := newGroup(t, source, 2, 1, cpu.Best())
	return g.Sequence(12).Compute([]int32{1, 20, 300, 4, 55, 66, 77, 88, 99, 100, 101, 102}, model.LogitsAll)
}

// Each matrix has a bias or none, whatever others have. In GGUF what is there counts: a model with some biases computes what
// it computes with all, if the others are zero; and with all it computes the bits of the same model in Hugging Face's format,
// whose logits are the reference's.
func TestEachBiasAlone(t *testing.T) {
	projections := []string{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
		"mlp.down_proj"}
	seen := map[float32]string{}
	for _, kept := range append([]string{"all", "none"}, projections...) {
		dir := modeltest.Files(t, "llama_headdim_bias_sharded")
		all := tensors(t, dir)
		for name, tensor := range all {
			if strings.HasSuffix(name, ".bias") && kept != "all" && !strings.Contains(name, kept) {
				clear(tensor.data) // in the fixture's file
				delete(all, name)
			}
		}
		source := modeltest.OpenFS(t, dir)
		got, want := logits(t, openGGUF(t, asGGUF(all))), logits(t, source)
		if !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%s: the logits of GGUF differ from those of the directory", kept)
		}
		last := got[len(got)-1][0]
		if other := seen[last]; other != "" {
			t.Errorf("biases %s compute the same as %s", kept, other)
		}
		seen[last] = kept
	}
}

// In Hugging Face's format the configuration decides, as in transformers: other biases are not computed with, and listed.
func TestBiasesThatTheConfigurationLacks(t *testing.T) {
	for change, unused := range map[string]int{`"attention_bias": true`: 12, `"mlp_bias": true`: 9} {
		dir := modeltest.Files(t, "llama_headdim_bias_sharded")
		all := tensors(t, dir)
		modeltest.Replace(dir, change, strings.Replace(change, "true", "false", 1))
		kept := map[bool]string{true: "mlp.", false: "self_attn."}[unused == 12]
		for name := range all {
			if strings.HasSuffix(name, ".bias") && !strings.Contains(name, kept) {
				delete(all, name)
			}
		}
		source := modeltest.OpenFS(t, dir)
		part, err := source.Part(0, 1)
		if err != nil {
			t.Fatal(err)
		}
		if got := part.Unused; len(got) != unused || !strings.HasSuffix(got[0], ".bias") {
			t.Errorf("%s: %v are not used, want %d biases", change, got, unused)
		}
		if !slices.EqualFunc(logits(t, source), logits(t, openGGUF(t, asGGUF(all))), slices.Equal) {
			t.Errorf("%s: the biases are computed with", change)
		}
	}
}

// llama.cpp takes no file with tensors that its architecture does not have; neither do we serve another model than that.
func TestForeignTensorsOfGGUF(t *testing.T) {
	dir := modeltest.Files(t, "llama_headdim_bias_sharded")
	for name, want := range map[string]string{
		"lm_head.bias": "tensor output.bias", "blk.1.attn_q_norm.weight": "tensor blk.1.attn_q_norm.weight",
		"blk.0.ffn_gate_inp.weight":  "ffn_gate_inp",
		"blk.0.attn_q.weight.lora_a": "attn_q.weight.lora_a", "blk.0.attn_q.scale": "attn_q.scale",
		"blk.3.attn_norm.weight": "tensor blk.3.attn_norm.weight",
		"blk.0.attn_norm.bias":   "tensor blk.0.attn_norm.bias", "blk.0.attn_qkv.weight": "attn_qkv",
		"blk.0.attn_rot_embd.weight": "",
	} {
		all := tensors(t, dir)
		all[name] = stored{[]int{2}, make([]byte, 4)}
		if strings.HasSuffix(name, "attn_qkv.weight") {
			all[name] = stored{[]int{2, 2}, make([]byte, 8)}
		}
		_, err := openGGUF(t, asGGUF(all)).Part(0, 1)
		if (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", name, err, want)
		}
	}
}

// A shape that no projection has is refused before it is used.
func TestBiasesOfAnotherShape(t *testing.T) {
	dir := modeltest.Files(t, "llama_headdim_bias_sharded")
	for _, size := range []int{1, 14, 83, 85} {
		all := tensors(t, dir)
		all["model.layers.0.self_attn.v_proj.bias"] = stored{[]int{size}, make([]byte, 2*size)}
		if _, err := openGGUF(t, asGGUF(all)).Part(0, 1); err == nil ||
			!strings.Contains(err.Error(), fmt.Sprintf("attn_v.bias is 1 x %d", size)) {
			t.Errorf("%d: got error %v", size, err)
		}
	}
}
