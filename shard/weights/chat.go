package weights

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"lockstep/protocol"
	"lockstep/protocol/regular"
)

// chatOfDirectory reads how a model wants conversations written, from where directories in Hugging Face format have it:
// the template from chat_template.jinja, else chat_template.json, else tokenizer_config.json; the special tokens from
// special_tokens_map.json and, before it, tokenizer_config.json. Of several named templates it is the one called default.
func chatOfDirectory(dir fs.FS) (chat protocol.ChatSource, err error) {
	var config, other, tokens map[string]json.RawMessage
	for name, into := range map[string]*map[string]json.RawMessage{"tokenizer_config.json": &config, "chat_template.json": &other,
		"special_tokens_map.json": &tokens} {
		if _, err := readJSON(dir, name, into); err != nil {
			return chat, err
		}
	}
	chat.SpecialTokens = map[string]string{}
	for _, from := range []map[string]json.RawMessage{tokens, config} {
		for _, name := range specialTokenNames {
			if content := tokenContent(from[name]); content != "" {
				chat.SpecialTokens[name] = content
			}
		}
	}
	if data, err := regular.ReadFS(dir, "chat_template.jinja", maxJSONBytes); err == nil {
		chat.Template = string(data)
		return chat, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return chat, err
	}
	for _, from := range []map[string]json.RawMessage{other, config} {
		if template := from["chat_template"]; template != nil && string(template) != "null" {
			chat.Template, err = defaultTemplate(template)
			return chat, err
		}
	}
	return chat, nil
}

// specialTokenNames are the tokens that transformers gives to templates by name.
var specialTokenNames = []string{"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"}

// tokenContent reads a token, which is a string or an object with its content.
func tokenContent(token json.RawMessage) (content string) {
	var object struct{ Content string }
	if json.Unmarshal(token, &content) == nil {
		return content
	}
	if json.Unmarshal(token, &object) == nil {
		return object.Content
	}
	return ""
}

// defaultTemplate reads a template, or a list of named ones.
func defaultTemplate(data json.RawMessage) (string, error) {
	var template string
	if json.Unmarshal(data, &template) == nil {
		return template, nil
	}
	var named []struct{ Name, Template string }
	if err := json.Unmarshal(data, &named); err != nil {
		return "", fmt.Errorf("chat_template is neither a text nor a list of named ones: %w", err)
	}
	for _, n := range named {
		if n.Name == "default" {
			return n.Template, nil
		}
	}
	return "", nil
}

// chatOfGGUF is the same for a GGUF file's metadata.
func chatOfGGUF(meta *Metadata) protocol.ChatSource {
	chat := protocol.ChatSource{Template: meta.Text("tokenizer.chat_template"), SpecialTokens: map[string]string{}}
	tokens := meta.Texts("tokenizer.ggml.tokens")
	for name, key := range map[string]string{"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "sep_token": "seperator",
		"pad_token": "padding", "cls_token": "cls", "mask_token": "mask"} { // "seperator" is how the specification spells it
		if id := meta.ID("tokenizer.ggml." + key + "_token_id"); id >= 0 && int(id) < len(tokens) {
			chat.SpecialTokens[name] = tokens[id]
		}
	}
	return chat
}
