package host_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights/weightstest"
)

// conversion is a reference model as a GGUF file.
type conversion struct {
	model string
	// replaced are pairs of what stands in config.json and what stands there in its place: a GGUF file cannot say everything.
	replaced []string
	how      modeltest.Conversion
	// off is by how much logits may be off, in standard deviations; 0: their bits are equal.
	off float64
}

const (
	longrope = `"rope_scaling": {"type": "longrope", "rope_type": "longrope", "short_factor": [1, 1.5, 2, 2.5], ` +
		`"long_factor": [3, 4, 5, 6]}, "max_position_embeddings": 512`
	yarn = `"rope_scaling": {"type": "yarn", "rope_type": "yarn", "factor": 4, "mscale": 0.7, "mscale_all_dim": 0.7, ` +
		`"original_max_position_embeddings": 128}`
	patternKey = "gemma3.attention.sliding_window_pattern"
)

var conversions = []conversion{
	{model: "deepseek_v2_mla"},
	{model: "deepseek_v2_mla", how: modeltest.Conversion{LatentWhole: true}},
	{model: "deepseek_v2_mla", how: modeltest.Conversion{FuseExperts: true}, off: 1e-4, // a multiplier in float32
		replaced: []string{`"rope_scaling": null`, yarn}},
	{model: "gemma2", replaced: []string{`"query_pre_attn_scalar": 17`, `"query_pre_attn_scalar": 12`}},
	{model: "gemma3", replaced: []string{`"query_pre_attn_scalar": 23`, `"query_pre_attn_scalar": 20`}},
	{model: "gemma3", replaced: []string{`"query_pre_attn_scalar": 23`, `"query_pre_attn_scalar": 20`, `"sliding_window_pattern": 6`,
		`"sliding_window_pattern": 3`}, how: modeltest.Conversion{More: weightstest.Metadata{patternKey: uint32(3)}}},
	{model: "gemma3", replaced: []string{`"query_pre_attn_scalar": 23`, `"query_pre_attn_scalar": 20`, `"sliding_window_pattern": 6`,
		`"sliding_window_pattern": 3`}, how: modeltest.Conversion{More: weightstest.Metadata{patternKey: []bool{true, true, false, true,
		true, false, true}}}},
	{model: "gemma3", replaced: []string{`"query_pre_attn_scalar": 23`, `"query_pre_attn_scalar": 20`, `"sliding_window": 20`,
		`"sliding_window": null`, `"rope_local_base_freq": 10000.0`, `"rope_local_base_freq": 1000000.0`,
		`"final_logit_softcapping": null`, `"final_logit_softcapping": 4.0`}},
	{model: "gpt2"},
	{model: "gpt_neox"},
	{model: "internlm2"},
	{model: "llama_gqa_9q3kv"},
	{model: "llama_gqa_9q3kv", how: modeltest.Conversion{FuseQKV: true}},
	{model: "llama_headdim_bias_sharded"},
	{model: "llama_headdim_bias_sharded", how: modeltest.Conversion{FuseQKV: true}},
	{model: "llama_rope_linear"},
	{model: "llama_rope_linear", how: modeltest.Conversion{More: weightstest.Metadata{"llama.rope.scaling.type": nil}}},
	{model: "llama_rope_llama3_f16", off: 1e-4}, // divisors of float32
	{model: "llama_rope_yarn"},
	{model: "llama_tied_1kv_f32"},
	{model: "mistral_sliding24", replaced: []string{`"sliding_window": 24`, `"sliding_window": null`}},
	{model: "mixtral"},
	{model: "mixtral", how: modeltest.Conversion{ExpertsApart: true}},
	{model: "phi3"},
	{model: "phi3", off: 1e-4, replaced: []string{`"rope_scaling": null`, longrope, `"max_position_embeddings": 512,`, ``,
		`"original_max_position_embeddings": 512`, `"original_max_position_embeddings": 64`, `"sliding_window": null`,
		`"sliding_window": 48`}},
	{model: "qwen2_tied_7q1kv"},
	{model: "qwen2_untied_sliding", how: modeltest.Conversion{FuseQKV: true},
		replaced: []string{`"use_sliding_window": true`, `"use_sliding_window": false`}},
	{model: "qwen2_tied_7q1kv", how: modeltest.Conversion{Architecture: "qwen2vl"}},
	{model: "qwen3_5q1kv"},
	{model: "qwen3_5q1kv", how: modeltest.Conversion{Architecture: "qwen3vl"}},
	{model: "qwen3_moe"},
	{model: "qwen3_moe", how: modeltest.Conversion{Architecture: "qwen3vlmoe", FuseQKV: true}},
	{model: "llama_gqa_9q3kv", how: modeltest.Conversion{Architecture: "mistral3"}},
	{model: "starcoder2_sliding40", replaced: []string{`"sliding_window": 40`, `"sliding_window": null`}},
}

// A model as llama.cpp's converter writes it computes what it does in Hugging Face format, also where files are as older
// converters wrote them.
func TestConvertedToGGUF(t *testing.T) {
	for _, c := range conversions {
		t.Run(strings.ReplaceAll(fmt.Sprintf("%s/%+v", c.model, c.how), " ", ","), func(t *testing.T) {
			dir := modeltest.Files(t, c.model)
			replaceConfig(t, dir, c.replaced)
			compareConverted(t, dir, c)
		})
	}
}

// The same of gpt-oss, whose experts are in MXFP4.
func TestGPTOSSConvertedToGGUF(t *testing.T) {
	dir := modeltest.Unpacked(t, outside.Shared(t, "golden", "quant", "mxfp4_gpt_oss"))
	compareConverted(t, dir, conversion{model: "gpt_oss"})
}

// Experts of gpt-oss that are not quantised compute what they do in MXFP4.
func TestGPTOSSWithPlainExperts(t *testing.T) {
	path := outside.Shared(t, "golden", "quant", "mxfp4_gpt_oss")
	dir := modeltest.Unpacked(t, path)
	modeltest.PlainExperts(t, dir)
	compareSources(t, modeltest.OpenFS(t, modeltest.Unpacked(t, path)), modeltest.OpenFS(t, dir), dir, 1e-4)
}

// What later versions of transformers call otherwise in config.json.
func TestQwen3MoELocalExperts(t *testing.T) {
	dir := modeltest.Files(t, "qwen3_moe")
	source := modeltest.OpenFS(t, dir)
	renamed := modeltest.Files(t, "qwen3_moe")
	replaceConfig(t, renamed, []string{`"num_experts"`, `"num_local_experts"`})
	compareSources(t, source, modeltest.OpenFS(t, renamed), dir, 0)
}

func replaceConfig(t *testing.T, dir fstest.MapFS, pairs []string) {
	t.Helper()
	config := string(dir["config.json"].Data)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(config, pairs[i]) {
			t.Fatalf("config.json has no %s", pairs[i])
		}
		config = strings.Replace(config, pairs[i], pairs[i+1], 1)
	}
	dir["config.json"] = &fstest.MapFile{Data: []byte(config)}
}

// compareConverted compares a model with what it is converted to.
func compareConverted(t *testing.T, dir fstest.MapFS, c conversion) {
	t.Helper()
	data := modeltest.Convert(t, dir, c.how)
	converted, err := model.Open(weightstest.Write(t, data))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(converted.Close)
	compareSources(t, modeltest.OpenFS(t, dir), converted, dir, c.off)
}

// compareSources compares the logits that two models compute of the longest prompt of a directory's cases, on one and two shards.
// They may be off by so many standard deviations.
func compareSources(t *testing.T, source, other *model.Model, dir fstest.MapFS, off float64) {
	t.Helper()
	cases := modeltest.Cases[backendtest.Golden](t, dir["golden.jsonl"].Data)
	prompt := cases[len(cases)-1].Prompt
	if len(prompt) < 70 {
		t.Fatalf("%d tokens are within all windows", len(prompt))
	}
	for _, ranks := range []int{1, 2} {
		want := newGroup(t, source, ranks, 1, cpu.Best()).Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
		got := newGroup(t, other, ranks, 1, cpu.Best()).Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
		worst := 0.0
		for i := range want {
			worst = max(worst, logitsOff(got[i], want[i]))
		}
		if !(worst <= off) {
			t.Errorf("%d shards: logits are off by %g standard deviations", ranks, worst)
		}
		t.Logf("%d shards: largest difference of a logit %g standard deviations", ranks, worst)
	}
}

// logitsOff is the largest difference of two rows of logits, in standard deviations; infinite where one is no number.
func logitsOff(got, want []float32) float64 {
	sum, squares, worst := 0.0, 0.0, 0.0
	for i, v := range want {
		sum, squares = sum+float64(v), squares+float64(v)*float64(v)
		if off := math.Abs(float64(got[i]) - float64(v)); off > worst || off != off {
			worst = max(worst, off)
		}
	}
	n := float64(len(want))
	if len(got) != len(want) || worst != worst {
		return math.Inf(1)
	}
	return worst / math.Sqrt(squares/n-sum/n*sum/n)
}
