package router_test

import (
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/router"
	"lockstep/router/fleettest"
)

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
	card, _, _ := demoCard(t)
	var source map[string]any
	if err := json.Unmarshal(card.Tokenizer.HuggingFace, &source); err != nil {
		t.Fatal(err)
	}
	added := int32(card.VocabularySize)
	source["added_tokens"] = append(source["added_tokens"].([]any), map[string]any{"id": added, "content": "a" + lineEnds + "b", "special": false,
		"single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
	data, err := json.Marshal(source)
	if err != nil {
		t.Fatal(err)
	}
	card.Tokenizer.HuggingFace, card.VocabularySize = data, card.VocabularySize+1
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: time.Millisecond, Card: card, Tokens: []int32{added}})
	for _, version := range []string{"0.9.4", "3"} {
		url, _ := startRouter(t, natsURL, router.Config{TGIVersion: version})
		openAIType := map[string]string{"0.9.4": "text/event-stream; charset=utf-8", "3": "text/event-stream"}[version]
		const generate = `{"inputs":"Once","parameters":{"max_new_tokens":40}}`
		for path, c := range map[string]struct{ body, contentType string }{
			"/tgi/generate_stream":      {generate, "text/event-stream"},
			"/mindie/generate_stream":   {generate, "text/event-stream"},
			"/lightllm/generate_stream": {generate, "text/event-stream; charset=utf-8"},
			completions:                 {`{"prompt":"Once","max_tokens":40,"stream":true,"logprobs":2}`, openAIType},
			chats:                       {`{"messages":[{"role":"user","content":"a"}],"max_tokens":40,"stream":true,"logprobs":true}`, openAIType},
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
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: time.Millisecond})
	url, _ := startRouter(t, natsURL, router.Config{})
	for _, list := range []string{`["a","b"]`, `[]`, `[[1]]`} {
		status, text := post(t, url+"/generate", `{"inputs":`+list+`}`)
		const want = "Failed to deserialize the JSON body into the target type: inputs: invalid type: sequence, expected a string at line 1 column "
		if status != 422 || !strings.HasPrefix(text, want) {
			t.Errorf("%s: got status %d and %s", list, status, text)
		}
	}
}

// The places of a repeated prompt's tokens are places in the text, also where a character has several tokens.
func TestPromptOffsets(t *testing.T) {
	t.Parallel()
	card, tokenizer, words := demoCard(t)
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: time.Millisecond, Card: card, Tokens: words})
	url, _ := startRouter(t, natsURL, router.Config{})
	const prompt = "日本語のテスト😄 ok"
	ids, err := tokenizer.Encode(prompt, true)
	if err != nil {
		t.Fatal(err)
	}
	asIDs, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	for _, given := range []string{`"` + prompt + `"`, string(asIDs)} {
		for _, more := range []int{0, 3} {
			_, text := ask(t, url+completions, with(`{"prompt":`+given+`,"echo":true,"logprobs":1}`, `"max_tokens":`+string(rune('0'+more))))
			var a struct {
				Choices []struct {
					Text     string
					Logprobs struct {
						Tokens     []string
						TextOffset []int `json:"text_offset"`
					}
				}
			}
			if err := json.Unmarshal([]byte(text), &a); err != nil || len(a.Choices) != 1 {
				t.Fatalf("%v: %s", err, text)
			}
			c := a.Choices[0]
			offsets := c.Logprobs.TextOffset
			if !slices.IsSorted(offsets) || len(offsets) != len(ids)+more {
				t.Errorf("%s: got %v for %d tokens", given, offsets, len(ids)+more)
			}
			runes := []rune(c.Text)
			for i, token := range c.Logprobs.Tokens {
				if strings.Contains(token, "\ufffd") {
					continue
				}
				if rest := string(runes[offsets[i]:]); !strings.HasPrefix(rest, token) {
					t.Errorf("%s: token %d is %q, at its place stands %q", given, i, token, rest)
				}
			}
			if at := slices.Index(c.Logprobs.Tokens, " o"); at >= 0 && offsets[at] != 8 {
				t.Errorf("%s: %q at %d", given, " o", offsets[at])
			}
		}
	}
}
