package model_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights/weightstest"
)

func openGGUF(t *testing.T, data []byte) (*model.Model, error) {
	t.Helper()
	m, err := model.Open(weightstest.Write(t, data))
	if err == nil {
		t.Cleanup(m.Close)
	}
	return m, err
}

// Configurations that are not served get an error that names what is wrong.
func TestConfigurationErrors(t *testing.T) {
	files := map[string][]byte{"model.safetensors": weightstest.OneTensor("a")}
	config, with := weightstest.Config, weightstest.With
	for name, c := range map[string]struct{ config, want string }{
		"other architecture":  {strings.Replace(config, "llama", "mamba", 1), `"mamba" is not served`},
		"heads do not divide": {strings.Replace(config, `"num_key_value_heads":1`, `"num_key_value_heads":3`, 1), "do not share"},
		"absurd dimension":    {strings.Replace(config, `"vocab_size":3`, `"vocab_size":1000000000`, 1), "vocabulary size"},
		"quantised": {strings.Replace(config, `"vocab_size"`, `"quantization_config":{"bits":3,"quant_method":"gptq"},"vocab_size"`, 1),
			"quantization_config: bits 3 is not served; gptq (4 and 8 bits)"},
		"classifier": {with("llama", `"architectures":["LlamaForSequenceClassification"]`),
			`"LlamaForSequenceClassification" of model type "llama" is not served`},
		"llama reward": {with("llama", `"architectures":["LlamaForRewardModel"]`), "not served; those for causal"},
		"process reward": {with("qwen2", `"architectures":["Qwen2ForProcessRewardModel"]`),
			`"Qwen2ForProcessRewardModel" of model type "qwen2" is not served`},
		"window of a llama":   {with("llama", `"use_sliding_window":true`), `use_sliding_window of model type "llama"`},
		"layer types missing": {with("qwen2", `"use_sliding_window":true,"layer_types":[]`), "layer_types has 0 entries for 1 layers"},
		"layer type": {with("qwen2", `"use_sliding_window":true,"layer_types":["linear_attention"]`),
			`"linear_attention" is not served`},
	} {
		_, err := model.OpenFS(weightstest.Directory(c.config, files))
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "config.json: ") {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
}

func TestGGUFArchitectures(t *testing.T) {
	for architecture, want := range map[string]string{"mixtral": "served from safetensors only",
		"mamba": "not served yet; from GGUF deepseek2, gemma2, ", "": "names no architecture"} {
		_, err := openGGUF(t, weightstest.TinyGGUF(weightstest.Metadata{"general.architecture": architecture}, "token_embd.weight"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", architecture, err, want)
		}
	}
	if _, err := openGGUF(t, weightstest.TinyGGUF(weightstest.Metadata{"general.type": "adapter"}, "token_embd.weight")); err == nil ||
		!strings.Contains(err.Error(), `holds no model, but (general.type) "adapter"`) {
		t.Errorf("got %v", err)
	}
}

// Metadata that cannot be believed are never taken for none: a file that tells of more than it holds would be served with a
// tied head, and one whose rotation is a text with the usual one.
func TestGGUFMetadataThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		meta weightstest.Metadata
		want string // "": it is opened
	}{
		"one part, tensors missing": {weightstest.Metadata{"split.count": uint32(1), "split.tensors.count": int32(2)},
			"m.gguf has 1 tensors, and its split.tensors.count says 2"},
		"no parts, tensors missing": {weightstest.Metadata{"split.tensors.count": int32(2)}, "split.tensors.count says 2"},
		"no parts, none counted":    {weightstest.Metadata{"split.tensors.count": int32(0)}, "split.tensors.count says 0"},
		"whole":                     {weightstest.Metadata{"split.count": uint32(1), "split.tensors.count": uint64(1)}, ""},
		"count of parts as a text":  {weightstest.Metadata{"split.count": "2"}, `split.count is the text "2", and a whole number`},
		"tensors as a text":         {weightstest.Metadata{"split.tensors.count": "2"}, "split.tensors.count is the text"},
		"number as a fraction":      {weightstest.Metadata{"split.no": float32(0.5)}, "split.no is 0.5, and a whole number"},
		"negative count of parts":   {weightstest.Metadata{"split.count": int32(-1)}, "split.count is -1"},
		"a count beyond all":        {weightstest.Metadata{"split.count": uint64(1 << 63)}, "split.count is -"},
		"another part alone":        {weightstest.Metadata{"split.no": uint32(1)}, "it is part 2 (split.no)"},
		"rotation as a text": {weightstest.Metadata{"llama.rope.freq_base": "500000"},
			`llama.rope.freq_base is the text "500000", and a number`},
		"epsilon as a truth": {weightstest.Metadata{"llama.attention.layer_norm_rms_epsilon": true},
			"rms_epsilon is true, and a number"},
		"experts as a text": {weightstest.Metadata{"llama.expert_count": "8"}, "llama.expert_count is the text"},
		"KV heads of each layer": {weightstest.Metadata{"llama.attention.head_count_kv": []int32{1}},
			"head_count_kv is a list of numbers, and a whole number"},
		"scaling as a number": {weightstest.Metadata{"llama.rope.scaling.type": uint32(2)}, "rope.scaling.type is 2, and a text"},
		"BOS as a number": {weightstest.Metadata{"tokenizer.ggml.add_bos_token": uint32(1)},
			"add_bos_token is 1, and true or false"},
		"end as a text": {weightstest.Metadata{"tokenizer.ggml.eos_token_id": "</s>"},
			`eos_token_id is the text "</s>", and the id of a token`},
		"types as texts": {weightstest.Metadata{"tokenizer.ggml.token_type": []string{"3"}},
			"token_type is a list of texts, and a list of numbers"},
		"what is not read": {weightstest.Metadata{"general.author": uint32(1)}, ""},
	} {
		_, err := openGGUF(t, weightstest.TinyGGUF(c.meta, "token_embd.weight"))
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
	twice := bytes.Replace(weightstest.TinyGGUF(weightstest.Metadata{"llama.block_bount": uint32(2)}, "token_embd.weight"),
		[]byte("llama.block_bount"), []byte("llama.block_count"), 1)
	if _, err := openGGUF(t, twice); err == nil || !strings.Contains(err.Error(), "llama.block_count twice") {
		t.Errorf("got error %v", err)
	}
	nested := weightstest.TinyGGUF(weightstest.Metadata{"a": "12345678"}, "token_embd.weight")
	at := bytes.Index(nested, []byte("12345678")) - 12 // its type, length and bytes become an array of arrays
	copy(nested[at:], []byte{9, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	if _, err := openGGUF(t, nested); err == nil || !strings.Contains(err.Error(), "array of arrays") {
		t.Errorf("got error %v", err)
	}
}

// A single GGUF file without a head is how that format says that the head is tied.
func TestGGUFWithoutHead(t *testing.T) {
	names := []string{"token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight", "blk.0.attn_output.weight",
		"blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"}
	for _, tied := range []bool{true, false} {
		want := "token_embd.weight"
		if !tied {
			names, want = append(names, "output.weight"), "output.weight"
		}
		part := partOf(t, ggufWithNorms(names...))
		if head := part.Stages[len(part.Stages)-1].(*model.Head); head.Weight.Name != want {
			t.Errorf("got the head %s, want %s", head.Weight.Name, want)
		}
	}
}

// ggufWithNorms is a whole model of one layer.
func ggufWithNorms(names ...string) []byte {
	var tensors []weightstest.GGUFTensor
	for i, name := range append(names, "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight") {
		t := weightstest.GGUFTensor{Name: name, Dimensions: []int{4, 4}}
		if strings.Contains(name, "norm") {
			t.Dimensions = t.Dimensions[:1]
		}
		for j := range 4 * max(1, 4*(len(t.Dimensions)-1)) {
			t.Data = binary.LittleEndian.AppendUint32(t.Data, math.Float32bits(float32(16*i+j)))
		}
		tensors = append(tensors, t)
	}
	return weightstest.GGUF(weightstest.Metadata{"general.architecture": "llama", "llama.embedding_length": uint32(4),
		"llama.feed_forward_length": uint32(4), "llama.block_count": uint32(1), "llama.attention.head_count": uint32(1),
		"llama.context_length": uint32(16), "llama.vocab_size": uint32(4)}, tensors)
}

func partOf(t *testing.T, data []byte) *model.Part {
	t.Helper()
	m, err := openGGUF(t, data)
	if err != nil {
		t.Fatal(err)
	}
	part, err := m.Part(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	return part
}

// A model whose attention grows sharper with the position is not computed as one whose does not.
func TestGGUFTemperature(t *testing.T) {
	meta := weightstest.Metadata{"llama.attention.temperature_scale": float32(0.1)}
	_, err := openGGUF(t, weightstest.TinyGGUF(meta, "token_embd.weight"))
	if err == nil || !strings.Contains(err.Error(), "temperature follows the position is not served") {
		t.Errorf("got error %v", err)
	}
}

// YaRN reaches as far as in Hugging Face's format. A factor without a type is a linear one, under its old name too; a number that
// is none is refused.
func TestGGUFScaling(t *testing.T) {
	for name, c := range map[string]struct {
		meta      weightstest.Metadata
		positions int
		rope      model.Rope
		err       string
	}{
		"yarn": {weightstest.Metadata{"scaling.type": "yarn", "scaling.factor": float32(4), "scaling.yarn_beta_fast": float32(16),
			"scaling.yarn_beta_slow": float32(2), "scaling.attn_factor": float32(0.5)}, 64,
			model.Rope{Type: "yarn", Factor: 4, BetaFast: 16, BetaSlow: 2, AttentionFactor: 0.5 * (0.1*math.Log(4) + 1)}, ""},
		"yarn with its own factor": {weightstest.Metadata{"scaling.type": "yarn", "scaling.factor": float32(2),
			"scaling.yarn_attn_factor": float32(1.5), "scaling.original_context_length": uint32(4)}, 16,
			model.Rope{Type: "yarn", Factor: 2, AttentionFactor: 1.5}, ""},
		"old name": {weightstest.Metadata{"scale_linear": float32(2)}, 16, model.Rope{Type: "linear", Factor: 2}, ""},
		"no type":  {weightstest.Metadata{"scaling.factor": float32(8)}, 16, model.Rope{Type: "linear", Factor: 8}, ""},
		"none":     {weightstest.Metadata{"scaling.type": "none", "scaling.factor": float32(8)}, 16, model.Rope{Type: "default"}, ""},
		"zero":     {weightstest.Metadata{"scaling.factor": float32(0)}, 16, model.Rope{Type: "default"}, ""},
		"no number": {weightstest.Metadata{"scaling.factor": float32(math.Inf(1))}, 0, model.Rope{},
			"scaling.factor is +Inf, and a finite number"},
		"less":  {weightstest.Metadata{"scaling.type": "yarn", "scaling.factor": float32(0.5)}, 0, model.Rope{}, "has factor 0.5"},
		"other": {weightstest.Metadata{"scaling.type": "ntk"}, 0, model.Rope{}, `rope scaling "ntk" is not served from GGUF`},
	} {
		meta := weightstest.Metadata{}
		for key, value := range c.meta {
			meta["llama.rope."+key] = value
		}
		m, err := openGGUF(t, weightstest.TinyGGUF(meta, "token_embd.weight"))
		if err != nil {
			if c.err == "" || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: got error %v, want %q", name, err, c.err)
			}
			continue
		}
		got, want := m.Config.Rope, c.rope
		if math.Abs(got.AttentionFactor-want.AttentionFactor) < 1e-6 {
			got.AttentionFactor = want.AttentionFactor
		}
		want.Theta, want.OriginalMaxPositions = got.Theta, got.OriginalMaxPositions
		if c.err != "" || !reflect.DeepEqual(got, want) || m.Config.MaxPositions != c.positions {
			t.Errorf("%s: got %+v and %d positions, want %+v and %d", name, got, m.Config.MaxPositions, want, c.positions)
		}
	}
}

// What the published files of Gemma 3 leave out is as in transformers; its positions are those of the scaled rotation already.
func TestGemma3LeavesOut(t *testing.T) {
	config := `{"architectures":["Gemma3ForConditionalGeneration"],"model_type":"gemma3","vision_config":{"hidden_size":1152},"text_config":
		{"hidden_size":2560,"intermediate_size":10240,"model_type":"gemma3_text","num_hidden_layers":34,
		"rope_scaling":{"factor":8.0,"rope_type":"linear"},"sliding_window":1024}}`
	files := map[string][]byte{"model.safetensors": weightstest.OneTensor("a")}
	c := modeltest.OpenFS(t, weightstest.Directory(config, files)).Config
	got := []int{c.Hidden, c.Intermediate, c.Layers, c.Heads, c.KVHeads, c.HeadDim, c.Vocabulary, c.MaxPositions, int(c.Rope.Theta),
		int(c.Rope.Factor)}
	if want := []int{2560, 10240, 34, 8, 4, 256, 262208, 131072, 1000000, 8}; !slices.Equal(got, want) || c.NormEpsilon != 1e-6 {
		t.Errorf("got %v, want %v, and epsilon %v", got, want, c.NormEpsilon)
	}
}

// llama.cpp stores the rows of queries and keys as rotation pairs; the model computes with Hugging Face's order.
func TestGGUFRowOrder(t *testing.T) {
	part := partOf(t, ggufWithNorms("token_embd.weight", "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.attn_v.weight",
		"blk.0.attn_output.weight",
		"blk.0.ffn_gate.weight", "blk.0.ffn_up.weight", "blk.0.ffn_down.weight"))
	project := part.Stages[1].(*model.Project)
	for name, c := range map[string]struct {
		of   *model.Linear
		want []float32
	}{
		"queries": {&project.Query, []float32{16, 24, 20, 28}}, "keys": {&project.Key, []float32{32, 40, 36, 44}},
		"values": {&project.Value, []float32{48, 52, 56, 60}},
	} {
		if got := firsts(c.of); !slices.Equal(got, c.want) {
			t.Errorf("%s: got rows %v, want %v", name, got, c.want)
		}
	}
}

// firsts are the first numbers of a matrix's rows.
func firsts(l *model.Linear) (firsts []float32) {
	for row := range l.Rows.Size() {
		first := make([]float32, 1)
		l.Encoding.Decode(first, l.Row(l.Rows.From+row))
		firsts = append(firsts, first[0])
	}
	return firsts
}

// The rows of wqkv come by KV head: here two, each with two query heads; a head has two dimensions.
func TestInternLM2RowOrder(t *testing.T) {
	config := `{"model_type":"internlm2","hidden_size":4,"head_dim":2,"intermediate_size":4,"num_hidden_layers":1,"num_attention_heads":4,
		"num_key_value_heads":2,"vocab_size":3,"max_position_embeddings":16,"rms_norm_eps":1e-5}`
	files := weightstest.Tensors{"model.layers.0.attention.wqkv.weight": {16, 4}, "model.tok_embeddings.weight": {3, 4},
		"model.norm.weight": {4}, "output.weight": {3, 4},
		"model.layers.0.attention_norm.weight": {4}, "model.layers.0.ffn_norm.weight": {4}, "model.layers.0.attention.wo.weight": {4, 8},
		"model.layers.0.feed_forward.w1.weight": {4, 4}, "model.layers.0.feed_forward.w2.weight": {4, 4},
		"model.layers.0.feed_forward.w3.weight": {4, 4}}
	m := modeltest.OpenFS(t, weightstest.Directory(config, map[string][]byte{"model.safetensors": files.File()}))
	part, err := m.Part(0, 1)
	if err != nil {
		t.Fatal(err)
	}
	project := part.Stages[1].(*model.Project)
	for name, c := range map[string]struct {
		of   *model.Linear
		want []float32
	}{
		"queries": {&project.Query, []float32{0, 1, 2, 3, 8, 9, 10, 11}}, "keys": {&project.Key, []float32{4, 5, 12, 13}},
		"values": {&project.Value, []float32{6, 7, 14, 15}},
	} {
		if got := firsts(c.of); !slices.Equal(got, c.want) {
			t.Errorf("%s: got rows %v, want %v", name, got, c.want)
		}
	}
	delete(files, "model.layers.0.attention.wqkv.weight")
	m = modeltest.OpenFS(t, weightstest.Directory(config, map[string][]byte{"model.safetensors": files.File()}))
	if _, err := m.Part(0, 1); err == nil || !strings.Contains(err.Error(), "model.layers.0.attention.wqkv.weight is missing") {
		t.Errorf("got error %v", err)
	}
}

// What a configuration says of windows, biases, norms and heads stands in the stages.
func TestRecipesFollowConfigurations(t *testing.T) {
	file := weightstest.DecoderTensors(3).File()
	for _, c := range []struct {
		modelType, keys string
		windows         []int
		biased          string // which of q o g have biases
		norms, reward   bool
	}{
		{"mistral", `"sliding_window":8`, []int{8, 8, 8}, "", false, false},
		{"mistral", `"sliding_window":null`, []int{0, 0, 0}, "", false, false},
		{"llama", `"sliding_window":8`, []int{0, 0, 0}, "", false, false},
		{"llama", `"attention_bias":true`, []int{0, 0, 0}, "qo", false, false},
		{"llama", `"mlp_bias":true`, []int{0, 0, 0}, "g", false, false},
		{"qwen2", `"sliding_window":8,"max_window_layers":1`, []int{0, 0, 0}, "q", false, false},
		{"qwen2", `"use_sliding_window":true,"sliding_window":8,"max_window_layers":1`, []int{0, 8, 8}, "q", false, false},
		{"qwen2", `"use_sliding_window":true,"sliding_window":8`, []int{0, 0, 0}, "q", false, false},
		{"qwen3", `"use_sliding_window":true,"sliding_window":8,"layer_types":["sliding_attention","full_attention","sliding_attention"]`,
			[]int{8, 0, 8}, "", true, false},
		{"qwen3", `"attention_bias":true`, []int{0, 0, 0}, "qo", true, false},
		{"qwen2", `"architectures":["Qwen2ForCausalLM"]`, []int{0, 0, 0}, "q", false, false},
		{"qwen2", `"architectures":["Qwen2ForRewardModel"]`, []int{0, 0, 0}, "q", false, true},
	} {
		config := strings.Replace(weightstest.With(c.modelType, c.keys), `"num_hidden_layers":1`, `"num_hidden_layers":3`, 1)
		m, err := model.OpenFS(weightstest.Directory(config, map[string][]byte{"model.safetensors": file}))
		if err != nil {
			t.Errorf("%s with %s: %v", c.modelType, c.keys, err)
			continue
		}
		part, err := m.Part(0, 1)
		if err != nil {
			t.Errorf("%s with %s: %v", c.modelType, c.keys, err)
			continue
		}
		var windows []int
		biased, norms := "", false
		for _, stage := range part.Stages[:6] {
			switch s := stage.(type) {
			case *model.Project:
				norms = s.QueryNorm.Weight != nil && s.KeyNorm.Weight != nil
				biased += map[bool]string{true: "q"}[s.Query.Bias != nil]
			case *model.Join:
				biased += map[bool]string{true: "o"}[s.Weight.Bias != nil && strings.Contains(s.Weight.Name, "attn")]
			case *model.Gate:
				biased += map[bool]string{true: "g"}[s.Gate.Bias != nil]
			}
		}
		for _, stage := range part.Stages {
			if s, ok := stage.(*model.Attend); ok {
				windows = append(windows, s.Window)
			}
		}
		_, reward := part.Stages[len(part.Stages)-1].(*model.Score)
		if !slices.Equal(windows, c.windows) || biased != c.biased || norms != c.norms || reward != c.reward || m.Config.Reward != reward {
			t.Errorf("%s with %s: got windows %v, biases %q, norms %v, reward %v", c.modelType, c.keys, windows, biased, norms, reward)
		}
	}
}
