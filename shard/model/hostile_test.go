package model_test

import (
	"strings"
	"testing"

	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// Configurations that no model has are told in words, whatever else of the files is whole.
func TestRotationsThatCannotBe(t *testing.T) {
	factors := strings.TrimSuffix(strings.Repeat("1.5,", 16), ",")
	for _, c := range []struct{ model, keys, want string }{
		{"gpt_neox", `"rope_scaling":{"type":"longrope","short_factor":[` + factors + `],"long_factor":[` + factors + `]}`, "and wants 2"},
		{"deepseek_v2_mla", `"rope_scaling":{"type":"longrope","short_factor":[` + factors + `],"long_factor":[1]}`, "16 short and 1 long"},
		{"llama_gqa_9q3kv", `"rope_scaling":{"rope_type":"default","short_factor":[` + factors + `]}`, ""}, // they count for nothing
		{"llama_gqa_9q3kv", `"rope_scaling":{"rope_type":"yarn","factor":2,"original_max_position_embeddings":-5}`, "no number"},
		{"llama_gqa_9q3kv", `"rope_scaling":{"rope_type":"yarn","factor":2},"rope_theta":1`, "no number"},
		{"gemma3", `"rope_parameters":{"full_attention":{"rope_type":"default"},"sliding_attention":{"rope_type":"dynamic","factor":4}}`,
			`rope type "dynamic" of layers with a window`},
		{"deepseek_v2_mla", `"n_shared_experts":4611686018427387904`, "n_shared_experts is 4611686018427387904"},
		{"llama_gqa_9q3kv", `"max_position_embeddings":1000000000000000`, "maximum position is 1000000000000000"},
	} {
		dir := modeltest.Files(t, c.model)
		config := *dir["config.json"]
		// The last of a key counts.
		config.Data = []byte(strings.TrimSuffix(strings.TrimSpace(string(config.Data)), "}") + "," + c.keys + "}")
		dir["config.json"] = &config
		m, err := model.OpenFS(dir)
		if err == nil {
			_, err = m.Part(0, 1)
			m.Close()
		}
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: got error %v, want %q", c.model, c.keys, err, c.want)
		}
	}
}
