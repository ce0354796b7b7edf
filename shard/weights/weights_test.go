package weights_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/weights"
)

const config = `{"model_type":"llama","hidden_size":4,"intermediate_size":4,"num_hidden_layers":1,"num_attention_heads":1,"num_key_value_heads":1,
	"vocab_size":3,"max_position_embeddings":16,"rms_norm_eps":1e-5}`

func safetensors(header string, payload int) []byte {
	data := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(data, header...), make([]byte, payload)...)
}

// with is config of another model type and with more keys.
func with(modelType, keys string) string {
	return strings.Replace(config, `"model_type":"llama"`, `"model_type":"`+modelType+`",`+keys, 1)
}

func directory(config string, files map[string][]byte) fstest.MapFS {
	dir := fstest.MapFS{"config.json": {Data: []byte(config)}, "tokenizer.json": {Data: []byte("{}")}}
	for name, data := range files {
		dir[name] = &fstest.MapFile{Data: data}
	}
	return dir
}

// Damaged and foreign directories get an error that names what is wrong; none crashes or allocates what a header claims.
func TestDirectoryErrors(t *testing.T) {
	good := safetensors(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`, 24)
	for name, c := range map[string]struct {
		config string
		files  map[string][]byte
		want   string
	}{
		"no weights":          {config, nil, "no .safetensors"},
		"other architecture":  {strings.Replace(config, "llama", "gpt2", 1), map[string][]byte{"model.safetensors": good}, `"gpt2" is not served`},
		"heads do not divide": {strings.Replace(config, `"num_key_value_heads":1`, `"num_key_value_heads":3`, 1), nil, "do not share"},
		"absurd dimension":    {strings.Replace(config, `"vocab_size":3`, `"vocab_size":1000000000`, 1), nil, "vocabulary size"},
		"quantised":           {strings.Replace(config, `"vocab_size"`, `"quantization_config":{"bits":4},"vocab_size"`, 1), nil, "quantised safetensors"},
		"header too long":     {config, map[string][]byte{"model.safetensors": binary.LittleEndian.AppendUint64(nil, 1<<62)}, "header of"},
		"offsets outside":     {config, map[string][]byte{"model.safetensors": safetensors(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[8,32]}}`, 24)}, "cut off"},
		"classifier":          {with("llama", `"architectures":["LlamaForSequenceClassification"]`), nil, `"LlamaForSequenceClassification" of model type "llama" is not served`},
		"llama reward":        {with("llama", `"architectures":["LlamaForRewardModel"]`), nil, "not served; those for causal"},
		"process reward":      {with("qwen2", `"architectures":["Qwen2ForProcessRewardModel"]`), nil, `"Qwen2ForProcessRewardModel" of model type "qwen2" is not served`},
		"window of a llama":   {with("llama", `"use_sliding_window":true`), nil, `use_sliding_window of model type "llama"`},
		"layer types missing": {with("qwen2", `"use_sliding_window":true,"layer_types":[]`), nil, "layer_types has 0 entries for 1 layers"},
		"layer type":          {with("qwen2", `"use_sliding_window":true,"layer_types":["linear_attention"]`), nil, `"linear_attention" is not served`},
		"internlm2 biases":    {with("internlm2", `"bias":true`), map[string][]byte{"model.safetensors": good}, "internlm2 with bias"},
		"internlm2 queries":   {with("internlm2", `"bias":false`), map[string][]byte{"model.safetensors": good}, "model.layers.0.attention.wqkv.weight is missing"},
		"adapter":             {config, map[string][]byte{"model.safetensors": good, "adapter_config.json": []byte("{}")}, "adapter_config.json: the directory has an adapter"},
		"index outside":       {config, map[string][]byte{"model.safetensors.index.json": []byte(`{"weight_map":{"a":"../b"}}`)}, "outside the directory"},
	} {
		_, err := weights.OpenFS(directory(c.config, c.files))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
	m, err := weights.OpenFS(directory(config, map[string][]byte{"model.safetensors": good}))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Tensor("a", 3, 2); err == nil {
		t.Error("a tensor of another shape was accepted")
	}
	if _, err := m.Tensor("b", 1, 1); err == nil {
		t.Error("a missing tensor was accepted")
	}
}

// What cannot be computed with does not keep a model from being opened; whoever needs it learns why it cannot be used.
func TestUnusableTensors(t *testing.T) {
	for name, c := range map[string]struct{ header, want string }{
		"scalar of integers": {`{"a":{"dtype":"I64","shape":[],"data_offsets":[0,8]}}`, "tensor a: type I64 is not served"},
		"three dimensions":   {`{"a":{"dtype":"F32","shape":[1,1,2],"data_offsets":[0,8]}}`, "tensor a: it has 3 dimensions"},
		"eight bits":         {`{"a":{"dtype":"F8_E4M3","shape":[8],"data_offsets":[0,8]}}`, "type F8_E4M3 is not served"},
		"nothing":            {`{"a":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}`, "does not fit"},
		"overflowing shape":  {`{"a":{"dtype":"F32","shape":[4611686018427387905,4],"data_offsets":[0,8]}}`, "does not fit"},
	} {
		m, err := weights.OpenFS(directory(config, map[string][]byte{"model.safetensors": safetensors(c.header, 8)}))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if _, err := m.Tensor("a", 1, 2); err == nil || !strings.Contains(err.Error(), c.want) || !m.Has("a") {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
}

func openGGUF(t testing.TB, data []byte) (*weights.Model, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	m, err := weights.Open(path)
	if err == nil {
		t.Cleanup(m.Close)
	}
	return m, err
}

// llama.cpp stores the rows of queries and keys as rotation pairs; Row gives them in Hugging Face's order.
func TestGGUFRowOrder(t *testing.T) {
	for tensor, want := range map[string][]float32{"blk.0.attn_q.weight": {0, 8, 4, 12}, "blk.0.attn_v.weight": {0, 4, 8, 12}} {
		m, err := openGGUF(t, ggufOf(ggufMeta{"tokenizer.ggml.eos_token_id": uint32(2)}, tensor))
		if err != nil {
			t.Fatal(err)
		}
		name := map[string]string{"blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj.weight", "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight"}[tensor]
		matrix, err := m.Tensor(name, 4, 4)
		if err != nil {
			t.Fatal(err)
		}
		var got []float32
		for row := range 4 {
			got = append(got, matrix.Floats(row, nil)[0])
		}
		if !slices.Equal(got, want) || !slices.Equal(m.Config.EOSTokenIDs, []int32{2}) {
			t.Errorf("%s: got rows %v, want %v; eos %v", tensor, got, want, m.Config.EOSTokenIDs)
		}
	}
}

func TestGGUFCutAnywhere(t *testing.T) {
	data := ggufOf(nil, "output.weight")
	for cut := 1; cut < len(data); cut++ {
		if _, err := openGGUF(t, data[:cut]); err == nil {
			t.Fatalf("a file cut at %d of %d bytes was accepted", cut, len(data))
		}
	}
}

func FuzzGGUF(f *testing.F) {
	f.Add(ggufOf(nil, "output.weight"))
	f.Fuzz(func(t *testing.T, data []byte) {
		weights.ParseGGUF(data)
	})
}

func FuzzSafetensors(f *testing.F) {
	f.Add(`{"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`, uint16(24))
	f.Fuzz(func(t *testing.T, header string, payload uint16) {
		weights.OpenFS(directory(config, map[string][]byte{"model.safetensors": safetensors(header, int(payload))}))
	})
}

func ExampleModel_Tensor() {
	m, err := weights.OpenFS(directory(config, map[string][]byte{"model.safetensors": safetensors(`{"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,6]}}`, 6)}))
	if err != nil {
		fmt.Println(err)
		return
	}
	vector, err := m.Vector("a", 3)
	fmt.Println(vector, err)
	// Output: [0 0 0] <nil>
}
