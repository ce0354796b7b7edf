package api

import (
	"slices"
	"testing"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// decodeOpenAI reads a body as its route does.
func decodeOpenAI(data []byte, chat bool) (*openAIBody, *request.Refusal) {
	top, ok := wire.Members(data)
	if !ok {
		return nil, notAnObject
	}
	return readOpenAI(top, chat, nil)
}

// Calls of tools stand for content wherever they stand, and null is absent.
func TestMessagesWithoutContent(t *testing.T) {
	for _, c := range []struct{ message, want string }{
		{`{"role":"assistant","content":null,"tool_calls":[{"function":{"arguments":"{\"a\": 1}"}}]}`,
			`[{"role":"assistant","content":null,"tool_calls":[{"function":{"arguments":{"a": 1}}}]}]`},
		{`{"tool_calls":[],"role":"assistant","content":null}`, `[{"tool_calls":[],"role":"assistant","content":null}]`},
		{`{"role":"assistant","refusal":"no","content":null}`, `[{"role":"assistant","refusal":"no","content":null}]`},
		{`{"role":"assistant","content":"a","tool_calls":null}`, `[{"role":"assistant","content":"a","tool_calls":null}]`},
		{`{"role":"assistant","tool_calls":null,"content":null}`, ""},
	} {
		body, err := decodeOpenAI([]byte(`{"messages":[`+c.message+`]}`), true)
		if (err == nil) != (c.want != "") {
			t.Errorf("%s: %v", c.message, err)
		} else if err == nil && string(body.conversation(false, false)) != c.want {
			t.Errorf("%s: got %s", c.message, body.conversation(false, false))
		}
	}
}

// Only tokens become text: a prompt beside them does not count, nor do tokens beside a prompt.
func TestTokensAndPrompts(t *testing.T) {
	top, _ := wire.Members([]byte(`{"prompt":"a","tokens":[5,6],"model":7}`))
	ids, err := readTokens(top)
	if err != nil || !slices.Equal(ids, []int32{5, 6}) {
		t.Errorf("got %v, %v", ids, err)
	}
	top, _ = wire.Members([]byte(`{"prompt":"a","tokens":[5]}`))
	if body, err := readOpenAI(top, false, tokenizeFields); err != nil || body.prompts[0].text != "a" {
		t.Errorf("got %+v, %v", body, err)
	}
}
