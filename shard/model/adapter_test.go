package model_test

import (
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights"
)

// What an adapter's configuration says and is not computed, or contradicts its tensors, is refused by name; what says the same or
// nothing is not.
func TestAdapterConfigurations(t *testing.T) {
	files := modeltest.Unpacked(t, filepath.Join("..", "host", "testdata", "lora", "llama_gqa_9q3kv", "attn_r4"))
	source, _ := modeltest.Open(t, "llama_gqa_9q3kv")
	other, _ := modeltest.Open(t, "qwen2_untied_sliding")
	for keys, want := range map[string]string{
		``:                             "",
		`,"target_modules":["q_proj"]`: "says with target_modules that model.layers.0.self_attn.v_proj has no adapter",
		`,"target_modules":["q_proj","v_proj","k_proj"]`:                        "",
		`,"target_modules":"all-linear"`:                                        "",
		`,"target_modules":"model\\..*\\.(q|v)_proj"`:                           "",
		`,"target_modules":"(q|v)_proj"`:                                        "says with target_modules",
		`,"target_modules":"(("`:                                                "is not understood",
		`,"target_modules":"(?!.*mlp).*(q|v)_proj","exclude_modules":"(?=k).*"`: "", // which Go's expressions cannot say
		`,"target_modules":7`:                                                   "target_modules is neither",
		`,"exclude_modules":["v_proj"]`:                                         "says with exclude_modules",
		`,"layers_to_transform":[0,1]`:                                          "says with layers_to_transform that model.layers.2.self_attn.q_proj",
		`,"layers_to_transform":[0,1,2]`:                                        "",
		`,"layers_to_transform":{}`:                                             "layers_to_transform is neither",
		`,"init_lora_weights":"pissa_niter_4"`:                                  `init_lora_weights "pissa_niter_4"`,
		`,"init_lora_weights":"gaussian"`:                                       "",
		`,"use_dora":true`:                                                      "use_dora",
		`,"bias":"all"`:                                                         `bias "all"`,
		`,"modules_to_save":["lm_head"]`:                                        "modules_to_save (lm_head)",
		`,"rank_pattern":{"q_proj":3}`:                                          "its tensors have rank 4 and 4, and the configuration says 3",
		`,"rank_pattern":{"q_proj":4,"model.layers.0.self_attn.q_proj":3}`:      "", // the first that fits
		`,"rank_pattern":{"(":3}`:                                               "rank_pattern or alpha_pattern",
		`,"alpha_pattern":{"q_proj":1e300}`:                                     "no number that can be computed with",
		`,"r":0`:                                                                "rank 0 is not served",
		`,"r":257`:                                                              "rank 257 is not served",
		`,"peft_type":"IA3"`:                                                    `peft_type "IA3"`,
		`,"r":"4"`:                                                              "is a JSON string",
	} {
		dir := fstest.MapFS{weights.AdapterWeightsName: files[weights.AdapterWeightsName],
			weights.AdapterConfigName: {Data: []byte(`{"peft_type":"LORA","r":4,"lora_alpha":8` + keys + `}`)}}
		adapter, err := model.OpenAdapterFS("poet", dir)
		if err == nil {
			_, err = source.Part(0, 1, adapter)
			if _, wrong := other.Part(0, 1, adapter); wrong == nil || !strings.Contains(wrong.Error(), "it was made for another model") {
				t.Errorf("beside another model: got %v", wrong)
			}
			adapter.Close()
		}
		told := err == nil || strings.Contains(err.Error(), want) && strings.Contains(err.Error(), "adapter poet: ")
		if (want == "") != (err == nil) || !told {
			t.Errorf("%s: got error %v, want %q", keys, err, want)
		}
	}
}

// named returns an adapter's files with tensors of other names.
func named(t *testing.T, files fstest.MapFS, rename func(name string) string) fstest.MapFS {
	t.Helper()
	dir := fstest.MapFS{weights.AdapterWeightsName: files[weights.AdapterWeightsName]}
	modeltest.Renamed(t, dir, rename)
	return fstest.MapFS{weights.AdapterWeightsName: dir["model.safetensors"],
		weights.AdapterConfigName: {Data: []byte(`{"peft_type":"LORA","r":4,"lora_alpha":8}`)}}
}

// Adapters find their modules by whatever names versions of transformers and checkpoints have for a model's layers. Those of a part
// that sees are passed over where the model has one.
func TestAdapterNames(t *testing.T) {
	files := modeltest.Unpacked(t, filepath.Join("..", "host", "testdata", "lora", "llama_gqa_9q3kv", "attn_r4"))
	prefixed := func(prefix string) func(name string) string {
		return func(name string) string { return strings.Replace(name, "model.layers.", prefix+"layers.", 1) }
	}
	moved := func(name string) string {
		return strings.Replace(name, "model.layers.1.self_attn.q_proj", "model.visual.layers.1.self_attn.q_proj", 1)
	}
	doubled := func(name string) string {
		return strings.Replace(name, "model.layers.1.self_attn.q_proj.lora_B", "model.language_model.layers.1.self_attn.q_proj.lora_B", 1)
	}
	same := func(name string) string { return name }
	checkpoint := func(prefix string) func(name string) string {
		return func(name string) string {
			if rest, found := strings.CutPrefix(name, "model."); found {
				return prefix + rest
			}
			return name
		}
	}
	for name, c := range map[string]struct {
		adapter, model func(name string) string
		more           []string
		modules        int // that are adapted
		want           string
	}{
		"as they are":               {same, same, nil, 6, ""},
		"new names, old checkpoint": {prefixed("model.language_model."), checkpoint("language_model.model."), nil, 6, ""},
		"new names, flat one":       {prefixed("model.language_model."), same, nil, 6, ""},
		"old names, new checkpoint": {prefixed("language_model.model."), checkpoint("model.language_model."), nil, 6, ""},
		"names of the text alone":   {same, checkpoint("language_model.model."), nil, 6, ""},
		"without a prefix":          {same, checkpoint(""), nil, 6, ""},
		"of what sees":              {moved, same, []string{"visual.blocks.0.attn.qkv.weight"}, 5, ""},
		"of what is not there":      {moved, same, nil, 0, "changes model.visual.layers.1.self_attn.q_proj, which the model does not have"},
		"twice":                     {doubled, same, nil, 0, "which are one"},
	} {
		base := modeltest.Files(t, "llama_gqa_9q3kv")
		modeltest.Renamed(t, base, c.model, c.more...)
		var p *model.Part
		adapter, err := model.OpenAdapterFS("poet", named(t, files, c.adapter))
		if err == nil {
			defer adapter.Close()
			p, err = modeltest.OpenFS(t, base).Part(0, 1, adapter)
		}
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
			continue
		}
		adapted := 0
		for i := 0; err == nil && i < len(p.Stages); i++ {
			if stage, ok := p.Stages[i].(*model.Project); ok {
				for _, low := range [][]*model.LowRank{stage.Query.Low, stage.Key.Low, stage.Value.Low} {
					adapted += len(low)
				}
			}
		}
		if adapted != c.modules {
			t.Errorf("%s: %d modules are adapted, want %d", name, adapted, c.modules)
		}
	}
}
