package openai

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"lockstep/protocol"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// decode reads a body as its route does.
func decode(data []byte, chat bool) (*generateBody, *request.Refusal) {
	top, ok := wire.Members(data)
	if !ok {
		return nil, notAnObject
	}
	return readBody(top, chat, nil)
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
		body, err := decode([]byte(`{"messages":[`+c.message+`]}`), true)
		if (err == nil) != (c.want != "") {
			t.Errorf("%s: %v", c.message, err)
		} else if err == nil && string(body.conversation(readsTools, "")) != c.want {
			t.Errorf("%s: got %s", c.message, body.conversation(readsTools, ""))
		}
	}
}

// readsTools is a model whose template writes calls.
var readsTools = &answer.Model{Card: &protocol.ModelCard{}, ChatReadsTools: true}

// Templates that do not know tools get calls and results as text, and the instruction behind the last message.
func TestConversationWithoutTools(t *testing.T) {
	body, err := decode([]byte(`{"tools":[{"type":"function","function":{"name":"f"}}],"messages":[{"role":"user","content":"a"},{"role":"assistant","content":null,"tool_calls":[{"id":"1",`+
		`"type":"function","function":{"name":"f","arguments":"{\"b\": 1}"}}]},{"role":"tool","tool_call_id":"1","content":"5"}]}`), true)
	if err != nil {
		t.Fatal(err)
	}
	var got []struct{ Role, Content string }
	if err := json.Unmarshal(body.conversation(&answer.Model{Card: &protocol.ModelCard{}}, "\nDo."), &got); err != nil {
		t.Fatal(err)
	}
	want := []struct{ Role, Content string }{{"user", "a"}, {"assistant", `{"name": "f", "arguments": {"b": 1}}`},
		{"user", "Result of the call: 5\nDo."}}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
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
	if body, err := readBody(top, false, tokenizeFields); err != nil || body.prompts[0].text != "a" {
		t.Errorf("got %+v, %v", body, err)
	}
}

// No body makes the decoder panic; what is accepted is within the ranges.
func FuzzBody(f *testing.F) {
	for _, body := range []string{
		`{"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},{"role":"assistant",` +
			`"tool_calls":[{"function":{"arguments":"{\"a\":1}"}}]}],"logprobs":true,"stop":"a"}`,
		`{"prompt":[[1,2],[3]],"n":2,"logit_bias":{"7":-100},"stream":true,"stream_options":{"include_usage":true},"max_tokens":5.0}`,
		`{"prompt":"\ud800","seed":1e400,"top_k":-1}`, `[`, `{"a":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, chat := range []bool{false, true} {
			b, err := decode(data, chat)
			if err != nil {
				continue
			}
			if b.n < 1 || b.copies() > maxChoices ||
				b.chosen.Temperature != nil && *b.chosen.Temperature < 0 || (b.messages == nil) == (b.prompts == nil) ||
				!json.Valid(b.conversation(readsTools, "")) ||
				!json.Valid(b.conversation(&answer.Model{Card: &protocol.ModelCard{}}, "b")) {
				t.Fatalf("got %+v of %q", b, data)
			}
			b.resolveSampling(0, 1, &protocol.SamplingDefaults{})
		}
	})
}

// Every refusal that is answered has a status.
func TestEveryClassHasAStatus(t *testing.T) {
	for class := request.Validation; class < request.Left; class++ {
		if status := outcomes[class].status; status < 400 || status > 599 {
			t.Errorf("class %d has the status %d", class, status)
		}
	}
}

// No body of another form makes its reader panic; what is accepted is a chat within the ranges.
func FuzzForms(f *testing.F) {
	for _, body := range []string{
		`{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"function_call","name":"f","arguments":"{}"},` +
			`{"type":"function_call_output","call_id":"1","output":[{"type":"input_text","text":"b"}]}],"instructions":"c",` +
			`"tools":[{"type":"function","name":"f"}],"text":{"format":{"type":"json_schema","name":"n","schema":{}}}}`,
		`{"input":"a","tool_choice":{"type":"function","name":"f"}}`, `{"input":[],"instructions":""}`, `{"input":[null,7]}`,
		`{"max_tokens":5,"system":[{"type":"text","text":"a"}],"messages":[{"role":"user","content":[{"type":"tool_result","content":"b"},` +
			`{"type":"text"}]},{"role":"assistant","content":[{"type":"tool_use","input":[1]},{"type":"thinking","thinking":"c"}]}],` +
			`"tools":[{"name":"f","input_schema":{}}],"tool_choice":{"type":"any","disable_parallel_tool_use":true},"thinking":{}}`,
		`{"max_tokens":1,"messages":[{"content":{}}]}`, `{"max_tokens":1,"messages":[],"system":7}`,
		`{"messages":[{"role":"user","content":"a"}],"functions":[{"name":"f"}],"function_call":{"name":"f"},"tool_choice":"any"}`,
		`{"messages":[{"role":"user","content":"a"}],"structured_outputs":{"choice":["a"],"whitespace_pattern":""},"response_format":null}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		top, ok := wire.Members(data)
		if !ok {
			return
		}
		for _, form := range []reply{plain{chat: true}, responses{}, anthropic{}} {
			b, err := form.read(top)
			if err != nil {
				continue
			}
			if b.n < 1 || b.messages == nil || b.tools.raw != nil && !json.Valid(b.tools.raw) ||
				!json.Valid(b.conversation(readsTools, "")) ||
				!json.Valid(b.conversation(&answer.Model{Card: &protocol.ModelCard{}}, "b")) {
				t.Fatalf("%T: got %+v of %q", form, b, data)
			}
		}
	})
}

// Items of /v1/responses and blocks of /v1/messages become the messages that a chat has of them: each result of a call behind its own call.
func TestFormsBecomeMessages(t *testing.T) {
	for body, c := range map[string]struct {
		form reply
		want string
	}{
		`{"instructions":"s","input":"a"}`: {responses{}, `[{"role":"system","content":"s"},{"role":"user","content":"a"}]`},
		`{"input":[{"role":"user","content":"a"},{"type":"reasoning","summary":[]},` +
			`{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"5"},` +
			`{"type":"function_call","call_id":"2","name":"g","arguments":"{}"},{"type":"function_call","call_id":"3","name":"h","arguments":"{}"},` +
			`{"type":"function_call_output","call_id":"2","output":"6"}]}`: {responses{}, `[{"role":"user","content":"a"},` +
			`{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{}}}]},` +
			`{"role":"tool","tool_call_id":"1","content":"5"},{"role":"assistant","content":null,"tool_calls":[` +
			`{"id":"2","type":"function","function":{"name":"g","arguments":{}}},` +
			`{"id":"3","type":"function","function":{"name":"h","arguments":{}}}]},{"role":"tool","tool_call_id":"2","content":"6"}]`},
		`{"input":[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"type":"reasoning","summary":[]},` +
			`{"type":"function_call","call_id":"1","name":"f","arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"5"},` +
			`{"role":"assistant","content":"c"},{"role":"user","content":"d"}]}`: {responses{}, `[{"role":"user","content":"a"},` +
			`{"role":"assistant","content":"b","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{}}}]},` +
			`{"role":"tool","tool_call_id":"1","content":"5"},{"role":"assistant","content":"c"},{"role":"user","content":"d"}]`},
		`{"max_tokens":1,"system":"s","messages":[{"role":"user","content":"a"},{"role":"assistant","content":[{"type":"text","text":"b"},` +
			`{"type":"tool_use","id":"1","name":"f","input":{"c":1}}]},{"role":"user","content":[{"type":"tool_result","tool_use_id":"1",` +
			`"content":[{"type":"text","text":"5"}]},{"type":"text","text":"d"}]}]}`: {anthropic{}, `[{"role":"system","content":"s"},` +
			`{"role":"user","content":"a"},{"role":"assistant","content":"b","tool_calls":[` +
			`{"id":"1","type":"function","function":{"name":"f","arguments":{"c":1}}}]},` +
			`{"role":"tool","tool_call_id":"1","content":"5"},{"role":"user","content":"d"}]`},
	} {
		top, _ := wire.Members([]byte(body))
		b, err := c.form.read(top)
		if err != nil {
			t.Errorf("%s: %v", body, err)
		} else if got := string(b.conversation(readsTools, "")); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", body, got, c.want)
		}
	}
}
