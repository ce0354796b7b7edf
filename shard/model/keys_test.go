package model_test

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// keys are changes of config.json; a nil value takes a key away.
type keys map[string]any

// changed returns a reference model's files with another config.json.
func changed(t *testing.T, name string, changes keys) fstest.MapFS {
	t.Helper()
	dir := modeltest.Files(t, name)
	config := keys{}
	if err := json.Unmarshal(dir["config.json"].Data, &config); err != nil {
		t.Fatal(err)
	}
	for key, value := range changes {
		if config[key] = value; value == nil {
			delete(config, key)
		}
	}
	data, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	dir["config.json"] = &fstest.MapFile{Data: data}
	return dir
}

// Where keys of a rotation contradict each other or are left out, the same are taken as in transformers 5.
func TestRotationKeys(t *testing.T) {
	yarn := func(more ...any) keys {
		rope := map[string]any{"rope_type": "yarn", "original_max_position_embeddings": 128}
		for i := 0; i < len(more); i += 2 {
			rope[more[i].(string)] = more[i+1]
		}
		return keys{"rope_scaling": rope}
	}
	for name, c := range map[string]struct {
		model   string
		changes keys
		is      func(r *model.Rope) bool
	}{
		"factor left out": {"llama_rope_yarn", yarn(), func(r *model.Rope) bool { return r.Factor == 4 }},
		"original positions beside the scaling": {"llama_rope_yarn", keys{"original_max_position_embeddings": 64,
			"rope_scaling": yarn("factor", 4)["rope_scaling"]}, func(r *model.Rope) bool { return r.OriginalMaxPositions == 64 }},
		"original positions of dynamic": {"llama_rope_dynamic", keys{"rope_scaling": map[string]any{"rope_type": "dynamic", "factor": 2,
			"original_max_position_embeddings": 48}}, func(r *model.Rope) bool { return r.OriginalMaxPositions == 96 }},
		"old and new form": {"llama_rope_linear", keys{"rope_parameters": map[string]any{"rope_type": "default", "rope_theta": 10000}},
			func(r *model.Rope) bool { return r.Type == "linear" && r.Factor == 2.5 }},
		"GPT-NeoX with others' keys": {"gpt_neox", keys{"rope_theta": 777, "partial_rotary_factor": 0.5},
			func(r *model.Rope) bool { return r.Theta == 10000 && r.Dims == 4 }},
		"GPT-NeoX in the new form": {"gpt_neox", keys{"rotary_pct": nil, "rotary_emb_base": nil,
			"rope_parameters": map[string]any{"rope_theta": 777, "partial_rotary_factor": 0.5, "rope_type": "default"}},
			func(r *model.Rope) bool { return r.Theta == 777 && r.Dims == 8 }},
		"Mixtral's base": {"mixtral", keys{"rope_theta": nil}, func(r *model.Rope) bool { return r.Theta == 1e6 }},
		"Llama with Ministral's key": {"llama_rope_yarn", yarn("factor", 4, "llama_4_scaling_beta", 0.1),
			func(r *model.Rope) bool { return r.Sharpening == 0 }},
	} {
		if m := modeltest.OpenFS(t, changed(t, c.model, c.changes)); !c.is(&m.Config.Rope) {
			t.Errorf("%s: got %+v", name, m.Config.Rope)
		}
	}
}

// A factor that LongRoPE's scaling names counts, and not how much longer the model is.
func TestLongRotationFactor(t *testing.T) {
	rope := model.Rope{Type: "longrope", Theta: 10000, OriginalMaxPositions: 64, Divisors: []float32{1, 2}, LongDivisors: []float32{3, 4}}
	for factor, of := range map[float64]float64{0: 8, 3: 3, 1: 1} {
		rope.Factor = factor
		cos, sin := make([]float32, 2), make([]float32, 2)
		model.NewRotation(rope, 4, 512).Fill(cos, sin, 0, 1)
		if want := float32(math.Sqrt(1 + math.Log(of)/math.Log(64))); cos[0] != want {
			t.Errorf("factor %v: got the scale %v, want %v", factor, cos[0], want)
		}
	}
}

// What keys say that are missing or go by another name, and those that a family does not read.
func TestFamiliesKeys(t *testing.T) {
	first := func(p *model.Part, is func(stage model.Stage) bool) bool {
		for _, stage := range p.Stages {
			if is(stage) {
				return true
			}
		}
		return false
	}
	activation := func(want model.Activation) func(p *model.Part) bool {
		return func(p *model.Part) bool {
			return first(p, func(stage model.Stage) bool { gate, ok := stage.(*model.Gate); return ok && gate.Activation == want })
		}
	}
	windows := func(p *model.Part) (all []int) {
		for _, stage := range p.Stages {
			if attend, ok := stage.(*model.Attend); ok {
				all = append(all, attend.Window)
			}
		}
		return all
	}
	for name, c := range map[string]struct {
		model   string
		changes keys
		is      func(p *model.Part) bool
	}{
		"StarCoder2's activation": {"starcoder2_sliding40", keys{"hidden_act": nil}, activation(model.GELU)},
		"GPT-NeoX's activation":   {"gpt_neox", keys{"hidden_act": nil}, activation(model.GELUErf)},
		"Llama's activation":      {"llama_gqa_9q3kv", keys{"hidden_act": nil}, activation(model.SiLU)},
		"relu":                    {"llama_gqa_9q3kv", keys{"hidden_act": "relu"}, activation(model.ReLU)},
		"rows of DeepSeek V2 are always pairs": {"deepseek_v2_mla", keys{"rope_interleave": false}, func(p *model.Part) bool {
			return first(p, func(stage model.Stage) bool {
				project, ok := stage.(*model.ProjectLatent)
				return ok && project.Latent.Order.PairedHead > 0 && project.Query.Order.PairedHead > 0
			})
		}},
		"experts by their other name": {"qwen3_moe", keys{"num_experts": nil, "num_local_experts": 7}, func(p *model.Part) bool {
			return first(p, func(stage model.Stage) bool { e, ok := stage.(*model.Experts); return ok && len(e.Experts) == 7 })
		}},
		"windows of Qwen3 MoE are in all layers": {"qwen3_moe", keys{"use_sliding_window": true, "sliding_window": 20,
			"max_window_layers": 2}, func(p *model.Part) bool { all := windows(p); return len(all) == 3 && all[0] == 20 && all[2] == 20 }},
		"Gemma 3 caps no scores": {"gemma3", keys{"attn_logit_softcapping": 10}, func(p *model.Part) bool {
			return first(p, func(stage model.Stage) bool { a, ok := stage.(*model.Attend); return ok && a.Cap == 0 })
		}},
		"YaRN's scale of DeepSeek under another type": {"deepseek_v2_mla", keys{"rope_scaling": map[string]any{"rope_type": "linear",
			"factor": 4, "mscale_all_dim": 1}}, func(p *model.Part) bool {
			m := 0.1*math.Log(4) + 1
			return first(p, func(stage model.Stage) bool {
				a, ok := stage.(*model.Attend)
				return ok && math.Abs(float64(a.Scale)*math.Sqrt(20)-m*m) < 1e-6
			})
		}},
	} {
		p, err := part(t, changed(t, c.model, c.changes))
		if err != nil || !c.is(p) {
			t.Errorf("%s: got error %v, or not what is wanted", name, err)
		}
	}
}

// DeepSeek V3 has groups of experts where its file does not speak of them.
func TestGroupsOfDeepSeekV3(t *testing.T) {
	_, err := model.OpenFS(changed(t, "deepseek_v2_mla", keys{"model_type": "deepseek_v3", "architectures": nil, "n_group": nil,
		"topk_group": nil}))
	if err == nil || !strings.Contains(err.Error(), "6 experts in 8 groups, of which 4 are chosen, do not give 2") {
		t.Errorf("got error %v", err)
	}
}

// Checkpoints that were saved without their head have names that begin with nothing; with a tied head that is all that there is.
func TestNamesWithoutPrefix(t *testing.T) {
	for name, prefix := range map[string]string{"qwen3_5q1kv": "model.", "gpt2": "transformer.", "gpt_neox": "gpt_neox."} {
		dir := modeltest.Files(t, name)
		modeltest.Renamed(t, dir, func(name string) string { return strings.TrimPrefix(name, prefix) })
		p, err := part(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(p.Unused) > 0 {
			t.Errorf("%s: nothing computes with %v", name, p.Unused)
		}
	}
}

// Where a model and its text part say otherwise of a tied head, there is one of its own if the files have it.
func TestTiedHeadOfTextPart(t *testing.T) {
	const head = "language_model.lm_head.weight"
	for _, whole := range []bool{false, true} {
		for _, has := range []bool{false, true} {
			dir := modeltest.Files(t, "ministral3")
			config := keys{}
			if err := json.Unmarshal(dir["config.json"].Data, &config); err != nil {
				t.Fatal(err)
			}
			text := config["text_config"].(map[string]any)
			text["tie_word_embeddings"] = !whole
			dir, want := changed(t, "ministral3", keys{"tie_word_embeddings": whole, "text_config": text}), head
			if !has {
				modeltest.Replace(dir, head, strings.Replace(head, "lm_head", "xx_head", 1))
				want = "language_model.model.embed_tokens.weight"
			}
			p, err := part(t, dir)
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Stages[len(p.Stages)-1].(*model.Head).Weight.Name; got != want {
				t.Errorf("tied %v, in the text part %v: got %s, want %s", whole, !whole, got, want)
			}
		}
	}
}

// A tied head that the files have, and that is not the embedding, is one of its own.
func TestTiedHeadThatDiffers(t *testing.T) {
	for same, want := range map[bool]string{true: "model.embed_tokens.weight", false: "lm_head.weight"} {
		dir := changed(t, "llama_gqa_9q3kv", keys{"tie_word_embeddings": true})
		if same {
			files := dir["model.safetensors"].Data
			at := func(name string) (from, to int) {
				header := map[string]struct {
					Offsets [2]int `json:"data_offsets"`
				}{}
				length := int(binary.LittleEndian.Uint64(files))
				if err := json.Unmarshal(files[8:8+length], &header); err != nil {
					t.Fatal(err)
				}
				return 8 + length + header[name].Offsets[0], 8 + length + header[name].Offsets[1]
			}
			from, to := at("model.embed_tokens.weight")
			head, _ := at("lm_head.weight")
			copy(files[head:], files[from:to])
		}
		p, err := part(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		if head := p.Stages[len(p.Stages)-1].(*model.Head).Weight.Name; head != want {
			t.Errorf("the same %v: got %s, want %s", same, head, want)
		}
	}
}

// A text part of another family is not computed as the usual one.
func TestTextPartOfAnotherFamily(t *testing.T) {
	_, err := model.OpenFS(changed(t, "ministral3", keys{"text_config": map[string]any{"model_type": "mamba"}}))
	if err == nil || !strings.Contains(err.Error(), `text_config: model type "mamba" within "mistral3" is not served`) {
		t.Errorf("got error %v", err)
	}
	rope := map[string]any{"rope_type": "default", "llama_4_scaling_beta": 0.1, "original_max_position_embeddings": -1}
	text := map[string]any{"model_type": "ministral3", "rope_parameters": rope}
	_, err = model.OpenFS(changed(t, "ministral3", keys{"text_config": text}))
	if err == nil || !strings.Contains(err.Error(), "llama_4_scaling_beta beside original_max_position_embeddings -1") {
		t.Errorf("got error %v", err)
	}
}
