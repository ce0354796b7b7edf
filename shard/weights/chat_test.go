package weights_test

import (
	"maps"
	"strings"
	"testing"

	"lockstep/protocol"
	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// Where a directory may have its chat template and special tokens, and which of several counts.
func TestChatOfDirectory(t *testing.T) {
	model := weightstest.Safetensors(`{"model.embed_tokens.weight":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}`, 48)
	for name, c := range map[string]struct {
		files map[string]string
		want  protocol.ChatSource
		err   string
	}{
		"none": {nil, protocol.ChatSource{}, ""},
		"config": {map[string]string{"tokenizer_config.json": `{"chat_template":"a","bos_token":"<s>","eos_token":{"content":"</s>","lstrip":false},"pad_token":null}`},
			protocol.ChatSource{Template: "a", SpecialTokens: map[string]string{"bos_token": "<s>", "eos_token": "</s>"}}, ""},
		"named": {map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"tool_use","template":"t"},{"name":"default","template":"d"}]}`},
			protocol.ChatSource{Template: "d"}, ""},
		"no default": {map[string]string{"tokenizer_config.json": `{"chat_template":[{"name":"rag","template":"t"}]}`},
			protocol.ChatSource{}, ""},
		"json": {map[string]string{"tokenizer_config.json": `{"chat_template":"a"}`, "chat_template.json": `{"chat_template":"b"}`},
			protocol.ChatSource{Template: "b"}, ""},
		"jinja": {map[string]string{"tokenizer_config.json": `{"chat_template":"a"}`, "chat_template.json": `{"chat_template":"b"}`,
			"chat_template.jinja": "c\n"},
			protocol.ChatSource{Template: "c\n"}, ""},
		"map": {map[string]string{"special_tokens_map.json": `{"bos_token":"x","sep_token":"y"}`,
			"tokenizer_config.json": `{"bos_token":"z"}`},
			protocol.ChatSource{SpecialTokens: map[string]string{"bos_token": "z", "sep_token": "y"}}, ""},
		"number":  {map[string]string{"tokenizer_config.json": `{"chat_template":5}`}, protocol.ChatSource{}, "neither a text nor a list"},
		"no JSON": {map[string]string{"tokenizer_config.json": `{`}, protocol.ChatSource{}, "tokenizer_config.json: unexpected end"},
	} {
		files := map[string][]byte{"model.safetensors": model}
		for name, content := range c.files {
			files[name] = []byte(content)
		}
		m, err := weights.OpenFS(weightstest.Directory(weightstest.Config, files))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: error %v, want %q", name, err, c.err)
			}
			continue
		}
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if m.Chat.Template != c.want.Template || !maps.Equal(m.Chat.SpecialTokens, c.want.SpecialTokens) {
			t.Errorf("%s: got %+v, want %+v", name, m.Chat, c.want)
		}
	}
}
