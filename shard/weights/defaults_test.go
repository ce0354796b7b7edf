package weights_test

import (
	"encoding/json"
	"math"
	"strings"
	"testing"

	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// What a model's files recommend is taken key by key; what cannot be is told and left out, and ends no start.
func TestSamplingDefaults(t *testing.T) {
	const unwanted = ": requests that do not say have no such default"
	for _, c := range []struct{ generation, want, doubts string }{
		{`{"eos_token_id":0,"do_sample":false}`, `{}`, ""},
		{`{"temperature":0.6,"top_p":0.95,"top_k":20,"min_p":0.05,"repetition_penalty":1.05,"max_new_tokens":2048,"do_sample":false}`,
			`{"temperature":0.6,"top_p":0.95,"top_k":20,"min_p":0.05,"repetition_penalty":1.05,"max_tokens":2048}`, ""},
		{`{"temperature":0,"top_k":-1,"top_p":null,"min_p":NaN}`, `{"temperature":0,"top_k":0}`, ""},
		{`{"top_k":50.0,"temperature":-1,"top_p":"high"}`, `{"top_k":50}`,
			"generation_config.json: temperature is -1, and a number that is not negative is wanted" + unwanted + "\n" +
				`generation_config.json: top_p is "high", and a number from 0 to 1 is wanted` + unwanted},
		{`{"top_k":1.5,"repetition_penalty":0,"max_new_tokens":0,"temperature":1e999,"min_p":[2]}`, `{}`,
			`generation_config.json: temperature is "1e999", and a number that is not negative is wanted` + unwanted + "\n" +
				"generation_config.json: top_k is 1.5, and a whole number is wanted" + unwanted + "\n" +
				"generation_config.json: min_p is [2], and a number from 0 to 1 is wanted" + unwanted + "\n" +
				"generation_config.json: repetition_penalty is 0, and a number above 0 is wanted" + unwanted + "\n" +
				"generation_config.json: max_new_tokens is 0, and a whole number above 0 is wanted" + unwanted},
	} {
		m, err := weights.OpenFS(weightstest.Directory(weightstest.Config, map[string][]byte{
			"model.safetensors": weightstest.OneTensor("a"), "generation_config.json": []byte(c.generation)}))
		if err != nil {
			t.Errorf("%s: %v", c.generation, err)
			continue
		}
		checkDefaults(t, c.generation, m, c.want, c.doubts)
	}
}

func checkDefaults(t *testing.T, name string, m *weights.Files, want, doubts string) {
	t.Helper()
	got, err := json.Marshal(m.Defaults)
	if err != nil || string(got) != want || m.Defaults.Validate() != nil {
		t.Errorf("%s: got %s, %v, want %s", name, got, err, want)
	}
	if got := strings.Join(m.Doubts, "\n"); got != doubts {
		t.Errorf("%s: got doubts\n%s\nwant\n%s", name, got, doubts)
	}
}

func TestSamplingDefaultsOfGGUF(t *testing.T) {
	m, err := openGGUF(t, weightstest.TinyGGUF(weightstest.Metadata{"general.sampling.temp": float32(0.5),
		"general.sampling.top_k": int32(40), "general.sampling.top_p": float32(1.5), "general.sampling.min_p": float32(math.NaN()),
		"general.sampling.penalty_repeat": float32(1.25), "general.sampling.mirostat": int32(1)}, "token_embd.weight"))
	if err != nil {
		t.Fatal(err)
	}
	checkDefaults(t, "GGUF", m, `{"temperature":0.5,"top_k":40,"repetition_penalty":1.25}`,
		"general.sampling.top_p is 1.5, and a number from 0 to 1 is wanted: requests that do not say have no such default\n"+
			"general.sampling.min_p is NaN, and a number from 0 to 1 is wanted: requests that do not say have no such default")
}
