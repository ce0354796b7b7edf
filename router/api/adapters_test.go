package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"lockstep/protocol"
	"lockstep/router/api"
	"lockstep/router/api/answertest"
	"lockstep/router/api/tgi"
)

// serveAdapters serves the demo model with adapters, and returns the text of an answer to the prompt "Once" by its adapter.
func serveAdapters(t *testing.T, change func(*api.Config), names ...string) (url string, text func(adapter string) string) {
	t.Helper()
	card, tokenizer, words := answertest.DemoCard(t)
	for _, name := range names {
		card.Adapters = append(card.Adapters, protocol.Adapter{Name: name, Digest: "of " + name})
	}
	prompt, err := tokenizer.Encode("Once", true)
	if err != nil {
		t.Fatal(err)
	}
	return answertest.Serve(t, answertest.Options{Card: card, Tokens: words}, change), func(adapter string) string {
		var ids []int32
		for position := range 8 {
			id, _ := answertest.Token(words, answertest.Under(prompt, adapter), 0, position)
			ids = append(ids, id)
		}
		return strings.TrimSpace(tokenizer.Decode(ids, true))
	}
}

// Each dialect has its word for an adapter; what it says of one that is not there is its own too.
func TestAdapters(t *testing.T) {
	parameter := func(path, value string) [2]string {
		return [2]string{path, `{"inputs":"Once","parameters":{"max_new_tokens":8,"seed":0,"adapter_id":` + value + `}}`}
	}
	lightllm := func(member string) [2]string {
		return [2]string{"/lightllm/generate", `{"inputs":"Once","parameters":{"max_new_tokens":8,"do_sample":false}` + member + `}`}
	}
	openai := func(model string) [2]string {
		return [2]string{"/v1/completions", `{"model":` + model + `,"prompt":"Once","max_tokens":8,"temperature":0}`}
	}
	tgi3 := func(c *api.Config) { c.TGIVersion = tgi.Form3 }
	for _, c := range []struct {
		change  func(*api.Config)
		request [2]string
		adapter string // of the answer
		status  int
		words   string // of a refusal
	}{
		{tgi3, parameter("/generate", `"org/one"`), "org/one", 200, ""},
		{tgi3, parameter("/generate", `"two"`), "two", 200, ""},
		{tgi3, parameter("/generate", `null`), "", 200, ""},
		{tgi3, parameter("/generate", `""`), "", 200, ""},
		{tgi3, parameter("/tgi/generate", `"None"`), "", 200, ""},
		{tgi3, parameter("/generate", `"three"`), "", 422, "`adapter_id` must be one of: org/one, two. Given: three"},
		{nil, parameter("/generate", `"two"`), "two", 200, ""},
		{nil, parameter("/generate", `7`), "", 200, ""},
		{nil, parameter("/generate", `"three"`), "", 422, "`adapter_id` must be one of: org/one, two. Given: three"},
		{nil, parameter("/mindie/generate", `"two"`), "two", 200, ""},
		{nil, parameter("/mindie/generate", `"None"`), "", 200, ""},
		{nil, parameter("/mindie/generate", `null`), "", 200, ""},
		{nil, parameter("/mindie/generate", `"three"`), "", 200, ""}, // the base model answers, as MindIE's
		{nil, parameter("/mindie/generate", `""`), "", 422, "The format of adapter_id is invalid."},
		{nil, lightllm(`,"lora_dir":"two"`), "two", 200, ""},
		{nil, lightllm(`,"lora_dir":null`), "", 200, ""},
		{nil, lightllm(`,"lora_dir":""`), "", 200, ""},
		{nil, lightllm(``), "", 200, ""},
		{nil, lightllm(`,"lora_dir":"three"`), "", 400, "lora_dir must be one of: org/one, two, got three"},
		{nil, lightllm(`,"lora_dir":3`), "", 417, "lora_dir must be a string"},
		{nil, openai(`"org/one"`), "org/one", 200, ""},
		{nil, openai(`"demo"`), "", 200, ""},
		{nil, openai(`"tgi"`), "", 200, ""},
		{nil, openai(`null`), "", 200, ""},
		{nil, openai(`"three"`), "", 404, `"code":"model_not_found"`},
		{nil, openai(`"three"`), "", 404, `The model \"three\" does not exist. There are: demo, org/one, two.`},
		{nil, [2]string{"/v1/messages/count_tokens", `{"model":"three","messages":[{"role":"user","content":"a"}]}`}, "", 404,
			`{"type":"error","error":{"type":"not_found_error"`},
	} {
		change := c.change
		if change == nil {
			change = func(*api.Config) {}
		}
		url, text := serveAdapters(t, change, "org/one", "two")
		status, answer := answertest.Post(t, url+c.request[0], c.request[1])
		switch {
		case status != c.status, !strings.Contains(answer, c.words):
			t.Errorf("%v: got %d %s, want %d %s", c.request, status, answer, c.status, c.words)
		case status == http.StatusOK && !strings.Contains(answer, text(c.adapter)):
			t.Errorf("%v: got %s, want what %q says: %s", c.request, answer, c.adapter, text(c.adapter))
		}
		if c.request[0] == "/v1/completions" && status == http.StatusOK {
			name := c.adapter
			if name == "" {
				name = "demo"
			}
			if !strings.Contains(answer, fmt.Sprintf(`"model":%q`, name)) {
				t.Errorf("%v: got %s, want the name of the model that answered", c.request, answer)
			}
		}
	}
}

// A model without adapters takes what other servers take: OpenAI's model is any name, and TGI 0.9.4 knows no adapter_id.
func TestNoAdapters(t *testing.T) {
	for _, c := range []struct {
		version, path, body string
		status              int
		words               string
	}{
		{tgi.Form094, "/generate", `{"inputs":"Once","parameters":{"adapter_id":"x"}}`, 200, ""},
		{tgi.Form3, "/generate", `{"inputs":"Once","parameters":{"adapter_id":"x"}}`, 422, "`adapter_id` is not supported"},
		{tgi.Form3, "/generate", `{"inputs":"Once","parameters":{"adapter_id":""}}`, 200, ""},
		{tgi.Form094, "/mindie/generate", `{"inputs":"Once","parameters":{"adapter_id":"x"}}`, 200, ""},
		{tgi.Form094, "/lightllm/generate", `{"inputs":"Once","parameters":{"max_new_tokens":2},"lora_dir":"x"}`, 400, "no adapters"},
		{tgi.Form094, "/v1/completions", `{"model":"gpt-4","prompt":"Once"}`, 200, `"model":"demo"`},
	} {
		url, _ := serveAdapters(t, func(config *api.Config) { config.TGIVersion = c.version })
		if status, answer := answertest.Post(t, url+c.path, c.body); status != c.status || !strings.Contains(answer, c.words) {
			t.Errorf("%s %s: got %d %s, want %d %s", c.path, c.body, status, answer, c.status, c.words)
		}
	}
}

// GET /v1/models lists the model and its adapters, whose parent it is.
func TestModelsListAdapters(t *testing.T) {
	url, _ := serveAdapters(t, func(*api.Config) {}, "org/one", "two")
	type listed struct {
		ID, Object, Root, Parent string
		MaxModelLen              int `json:"max_model_len"`
	}
	var list struct{ Data []listed }
	status, answer := answertest.Get(t, url+"/v1/models")
	if err := json.Unmarshal([]byte(answer), &list); err != nil || status != http.StatusOK {
		t.Fatal(status, answer, err)
	}
	want := []listed{{"demo", "model", "", "", 2048}, {"org/one", "model", "org/one", "demo", 2048}, {"two", "model", "two", "demo", 2048}}
	if fmt.Sprint(list.Data) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", list.Data, want)
	}
	for id, want := range map[string]int{"demo": 200, "org/one": 200, "two": 200, "three": 404} {
		if status, answer := answertest.Get(t, url+"/v1/models/"+id); status != want || !strings.Contains(answer, id) {
			t.Errorf("%s: got %d %s", id, status, answer)
		}
	}
	url, _ = serveAdapters(t, func(c *api.Config) { c.TGIVersion = tgi.Form3 }, "two")
	if _, answer := answertest.Get(t, url+"/v1/models"); answer != `{"object":"list","data":[`+
		`{"id":"demo","object":"model","created":0,"owned_by":"demo"},{"id":"two","object":"model","created":0,"owned_by":"demo"}]}` {
		t.Errorf("as TGI 3: got %s", answer)
	}
}
