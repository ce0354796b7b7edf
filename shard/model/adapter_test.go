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
		`,"target_modules":["q_proj","v_proj","k_proj"]`:                   "",
		`,"target_modules":"all-linear"`:                                   "",
		`,"target_modules":"model\\..*\\.(q|v)_proj"`:                      "",
		`,"target_modules":"(q|v)_proj"`:                                   "says with target_modules",
		`,"target_modules":"(("`:                                           "is not understood",
		`,"target_modules":7`:                                              "target_modules is neither",
		`,"exclude_modules":["v_proj"]`:                                    "says with exclude_modules",
		`,"layers_to_transform":[0,1]`:                                     "says with layers_to_transform that model.layers.2.self_attn.q_proj",
		`,"layers_to_transform":[0,1,2]`:                                   "",
		`,"layers_to_transform":{}`:                                        "layers_to_transform is neither",
		`,"init_lora_weights":"pissa_niter_4"`:                             `init_lora_weights "pissa_niter_4"`,
		`,"init_lora_weights":"gaussian"`:                                  "",
		`,"use_dora":true`:                                                 "use_dora",
		`,"bias":"all"`:                                                    `bias "all"`,
		`,"modules_to_save":["lm_head"]`:                                   "modules_to_save (lm_head)",
		`,"rank_pattern":{"q_proj":3}`:                                     "its tensors have rank 4 and 4, and the configuration says 3",
		`,"rank_pattern":{"q_proj":4,"model.layers.0.self_attn.q_proj":3}`: "", // the first that fits
		`,"rank_pattern":{"(":3}`:                                          "rank_pattern or alpha_pattern",
		`,"alpha_pattern":{"q_proj":1e300}`:                                "no number that can be computed with",
		`,"r":0`:                                                           "rank 0 is not served",
		`,"r":257`:                                                         "rank 257 is not served",
		`,"peft_type":"IA3"`:                                               `peft_type "IA3"`,
		`,"r":"4"`:                                                         "is a JSON string",
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
