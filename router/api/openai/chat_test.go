package openai_test

import (
	"encoding/json"
	"testing"

	"lockstep/protocol"
	"lockstep/router/api/answertest"
)

// startTemplate runs a router whose model has a chat template.
func startTemplate(t *testing.T, source protocol.ChatSource) (url string) {
	t.Helper()
	card, _, words := answertest.DemoCard(t)
	card.Chat = source
	url = answertest.Serve(t, answertest.Options{Card: card, Tokens: words})
	return url
}

// Messages may have null or nothing where OpenAI's own may: templates write it as an empty text, and see it as none.
func TestOpenAINullContent(t *testing.T) {
	t.Parallel()
	const call = `"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":"{}"}}]`
	const chatML = `{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}`
	const asking = `{% for m in messages %}{% if m.content is none %}-{% elif m.content %}{{ m.content }}{% endif %}{% endfor %}`
	for template, want := range map[string]string{
		chatML: "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n<|im_end|>\n<|im_start|>tool\n<|im_end|>\n" +
			"<|im_start|>assistant\n<|im_end|>\n<|im_start|>tool\n<|im_end|>\n",
		asking: "a----",
	} {
		url := startTemplate(t, protocol.ChatSource{Template: template})
		body := messages(`[{"role":"user","content":"a"},{"role":"assistant","content":null,` + call +
			`},{"role":"tool","tool_call_id":"1","content":null},` +
			`{"role":"assistant",` + call + `},{"role":"tool","tool_call_id":"1"}]`)
		_, text := answertest.Post(t, url+"/chat_tokenize", body)
		var got struct {
			Text string `json:"templated_text"`
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Text != want {
			t.Errorf("%s: got %s, want %q", template, text, want)
		}
		if status, text := answertest.Post(t, url+chats, with(body, `"max_tokens":2`)); status != 200 {
			t.Errorf("%s: got status %d and %s", template, status, text)
		}
	}
}

// What the server gives to a template is not given a second time by a request.
func TestTemplateArguments(t *testing.T) {
	t.Parallel()
	url := startTemplate(t, protocol.ChatSource{Template: "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}{{ mood }}",
		SpecialTokens: map[string]string{"bos_token": "a"}})
	for _, name := range []string{"messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "chat_template",
		"bos_token"} {
		for _, path := range []string{chats, "/openai/tokenize", "/chat_tokenize"} {
			status, text := answertest.Post(t, url+path, with(aChat, `"chat_template_kwargs":{"mood":"b","`+name+`":[]}`))
			var a openAIAnswer
			if err := json.Unmarshal([]byte(text), &a); err != nil || a.Error == nil || status != 400 ||
				a.Error.Param != "chat_template_kwargs."+name || a.Error.Code != "invalid_value" {
				t.Errorf("%s to %s: got status %d and %s", name, path, status, text)
			}
		}
	}
	if status, text := answertest.Post(t, url+chats, with(aChat, `"chat_template_kwargs":{"mood":"b"},"max_tokens":2`)); status != 200 {
		t.Errorf("got status %d and %s", status, text)
	}
}
