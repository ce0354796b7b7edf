package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"lockstep/router/api"
	"lockstep/router/api/answertest"
)

const (
	chats       = "/v1/chat/completions"
	completions = "/v1/completions"
)

// Dashboards made for each replaced server find its metrics, and ours beside them.
func TestMetricsOfEachDialect(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{})
	for _, body := range []string{`{"inputs":"Once","parameters":{"max_new_tokens":5}}`, `{"inputs":"Once","parameters":{"top_p":9}}`} {
		response, err := http.Post(url+"/tgi/generate", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	for path, names := range map[string][]string{
		"/metrics": {"tgi_request_count 2", "tgi_request_success 1", `tgi_request_failure{err="validation"} 1`,
			"lockstep_time_to_first_token_seconds_count 1"},
		"/lightllm/metrics": {`lightllm_request_count_total{model_name="demo"} 2`, `lightllm_request_failure_total{model_name="demo"} 1`,
			`lightllm_generation_tokens_total{model_name="demo"} 5`, `lightllm_request_first_token_duration_count{model_name="demo"} 1`,
			"lockstep_inter_token_seconds_count 4"},
		"/mindie/metrics": {`request_received_total{model_name="demo"} 2`, `num_requests_running{model_name="demo"} 0`,
			`e2e_request_latency_seconds_count{model_name="demo"} 1`, "lockstep_groups_lost_total 0"},
	} {
		response, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.Contains("\n"+string(text), "\n"+name+"\n") {
				t.Errorf("%s: %q is missing in\n%s", path, name, text)
			}
		}
	}
}

// A client's name for a request is told back by LightLLM, and is MindIE's UUID; for want of a good one, one is made.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	const made = "a UUID"
	url := answertest.Serve(t, answertest.Options{})
	for _, c := range []struct{ path, given, header, want string }{
		{"/tgi/generate", "mine-1", "X-Request-Id", ""}, {"/mindie/generate", "mine-2", "Requestuuid", "mine-2"},
		{"/lightllm/generate", "mine-3", "X-Request-Id", "mine-3"}, {"/lightllm/generate", "", "X-Request-Id", made},
		{"/lightllm/generate", "a b", "X-Request-Id", made}, {"/lightllm/generate", strings.Repeat("x", 129), "X-Request-Id", made},
	} {
		request, err := http.NewRequest(http.MethodPost, url+c.path, strings.NewReader(`{"inputs":"a","parameters":{"max_new_tokens":1}}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if c.given != "" {
			request.Header.Set("X-Request-Id", c.given)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		got := response.Header.Get(c.header)
		if len(got) == 36 && c.want == made {
			got = made
		}
		if got != c.want || response.StatusCode != http.StatusOK {
			t.Errorf("%s with %q: got %q and status %d, want %q", c.path, c.given, got, response.StatusCode, c.want)
		}
	}
}

// A tokenizer may have tokens that the model has no rows for. Prompts with them are refused before they are queued, in each
// dialect's words for what is invalid, and not by a group later.
func TestTokensBeyondTheModel(t *testing.T) {
	t.Parallel()
	card, _, words := answertest.DemoCard(t)
	var source map[string]any
	if err := json.Unmarshal(card.Tokenizer.HuggingFace, &source); err != nil {
		t.Fatal(err)
	}
	source["added_tokens"] = append(source["added_tokens"].([]any), map[string]any{"id": card.VocabularySize, "content": "<beyond>",
		"special":     false,
		"single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
	var err error
	if card.Tokenizer.HuggingFace, err = json.Marshal(source); err != nil {
		t.Fatal(err)
	}
	url := answertest.Serve(t, answertest.Options{Card: card, Tokens: words})
	message := fmt.Sprintf("token id %d", card.VocabularySize)
	for path, c := range map[string]struct {
		body   string
		status int
	}{
		"/tgi/generate":             {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 422},
		"/tgi/generate_stream":      {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 200}, // the error is an event there
		"/mindie/generate":          {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 422},
		"/lightllm/generate":        {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 400},
		"/lightllm/generate_stream": {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 400},
		completions:                 {`{"prompt":"a <beyond>","max_tokens":2}`, 400},
		chats:                       {`{"messages":[{"role":"user","content":"a <beyond>"}],"max_tokens":2}`, 400},
	} {
		if status, text := answertest.Post(t, url+path, c.body); status != c.status || !strings.Contains(text, message) {
			t.Errorf("%s: got %d %s, want %d with %q", path, status, text, c.status, message)
		}
		if status, text := answertest.Post(t, url+path, strings.Replace(c.body, "<beyond>", "b", 1)); status != 200 {
			t.Errorf("%s: got %d %s", path, status, text)
		}
	}
	if status, text := answertest.Post(t, url+"/tokenize", `{"inputs":"a <beyond>"}`); status != 200 ||
		!strings.Contains(text, fmt.Sprintf(`"id":%d`, card.VocabularySize)) {
		t.Errorf("/tokenize: got %d %s", status, text)
	}
}

// ask posts a body and returns the answer's content type and bytes.
func ask(t *testing.T, url, body string) (contentType, text string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.Header.Get("Content-Type"), string(data)
}

// Streams have the type that their original has, and but for TGI's bytes no character in them that a client's reader of lines
// takes for the end of one.
func TestStreamsForReadersOfLines(t *testing.T) {
	t.Parallel()
	const lineEnds = "\u0085\u2028\u2029"
	card, _, _ := answertest.DemoCard(t)
	var source map[string]any
	if err := json.Unmarshal(card.Tokenizer.HuggingFace, &source); err != nil {
		t.Fatal(err)
	}
	added := int32(card.VocabularySize)
	source["added_tokens"] = append(source["added_tokens"].([]any), map[string]any{"id": added, "content": "a" + lineEnds + "b",
		"special":     false,
		"single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
	data, err := json.Marshal(source)
	if err != nil {
		t.Fatal(err)
	}
	card.Tokenizer.HuggingFace, card.VocabularySize = data, card.VocabularySize+1
	for _, version := range []string{"0.9.4", "3"} {
		url := answertest.Serve(t, answertest.Options{Card: card, Tokens: []int32{added}}, func(c *api.Config) { c.TGIVersion = version })
		openAIType := map[string]string{"0.9.4": "text/event-stream; charset=utf-8", "3": "text/event-stream"}[version]
		const generate = `{"inputs":"Once","parameters":{"max_new_tokens":40}}`
		for path, c := range map[string]struct{ body, contentType string }{
			"/tgi/generate_stream":      {generate, "text/event-stream"},
			"/mindie/generate_stream":   {generate, "text/event-stream"},
			"/lightllm/generate_stream": {generate, "text/event-stream; charset=utf-8"},
			completions:                 {`{"prompt":"Once","max_tokens":40,"stream":true,"logprobs":2}`, openAIType},
			chats: {`{"messages":[{"role":"user","content":"a"}],"max_tokens":40,"stream":true,"logprobs":true}`,
				openAIType},
		} {
			contentType, text := ask(t, url+path, c.body)
			if contentType != c.contentType {
				t.Errorf("%s: got the type %q, want %q", path, contentType, c.contentType)
			}
			exact := path == "/tgi/generate_stream"
			if strings.ContainsAny(text, lineEnds) != exact || strings.Contains(text, `\u2028`) == exact {
				t.Errorf("%s: got %.600q", path, text)
			}
		}
	}
}

// A list that no dialect takes is refused by the default one.
func TestInputsOfNoDialect(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{})
	for _, list := range []string{`["a","b"]`, `[]`, `[[1]]`} {
		status, text := answertest.Post(t, url+"/generate", `{"inputs":`+list+`}`)
		const want = "Failed to deserialize the JSON body into the target type: inputs: invalid type: sequence, expected a string at " +
			"line 1 column "
		if status != 422 || !strings.HasPrefix(text, want) {
			t.Errorf("%s: got status %d and %s", list, status, text)
		}
	}
}
