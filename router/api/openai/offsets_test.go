package openai_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"lockstep/router/api/answertest"
)

// The places of a repeated prompt's tokens are places in the text, also where a character has several tokens.
func TestPromptOffsets(t *testing.T) {
	t.Parallel()
	card, tokenizer, words := answertest.DemoCard(t)
	url := answertest.Serve(t, answertest.Options{Card: card, Tokens: words})
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
			_, text := answertest.Post(t, url+completions,
				with(`{"prompt":`+given+`,"echo":true,"logprobs":1}`, `"max_tokens":`+string(rune('0'+more))))
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
