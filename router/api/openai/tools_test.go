package openai_test

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/router/api"
	"lockstep/router/api/answertest"
	"lockstep/router/request"
)

// hermesTemplate writes tools, and tells by its text how calls are written.
const hermesTemplate = `{% if tools %}{% for tool in tools %}{{ tool | tojson }}{% endfor %}<tool_call>{% endif %}` +
	`{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}`

// thinkingTemplate opens a thought for the model.
const thinkingTemplate = `{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}<think>{# up to </think> #}`

const twoTools = `"tools":[{"type":"function","function":{"name":"find","parameters":{"type":"object","properties":{"what":` +
	`{"type":"string"}},"required":["what"]}}},{"type":"function","function":{"name":"now"}}]`

// heard is an answer to a chat, whole or put together of a stream's chunks.
type heard struct {
	Content, Reasoning, Finish string
	Calls                      []heardCall
	Legacy                     heardCall
}

type heardCall struct{ ID, Name, Arguments string }

func (c heardCall) String() string { return c.Name + c.Arguments }

// message is that of a choice, or the delta of a chunk.
type message struct {
	Content   *string
	Reasoning string `json:"reasoning_content"`
	ToolCalls []struct {
		Index    int
		ID, Type string
		Function struct{ Name, Arguments string }
	} `json:"tool_calls"`
	FunctionCall *struct{ Name, Arguments string } `json:"function_call"`
}

func (h *heard) take(t *testing.T, m *message, stream bool) {
	t.Helper()
	if m.Content != nil {
		h.Content += *m.Content
	}
	h.Reasoning += m.Reasoning
	if f := m.FunctionCall; f != nil {
		h.Legacy.Name, h.Legacy.Arguments = h.Legacy.Name+f.Name, h.Legacy.Arguments+f.Arguments
	}
	for i, c := range m.ToolCalls {
		switch index := c.Index; {
		case !stream && c.Type == "function" && c.ID != "":
			h.Calls = append(h.Calls, heardCall{c.ID, c.Function.Name, c.Function.Arguments})
		case stream && index == len(h.Calls) && c.ID != "" && c.Function.Name != "" && c.Type == "function":
			h.Calls = append(h.Calls, heardCall{c.ID, c.Function.Name, c.Function.Arguments})
		case stream && index == len(h.Calls)-1 && c.ID == "" && c.Function.Name == "":
			h.Calls[index].Arguments += c.Function.Arguments
		default:
			t.Errorf("call %d: %+v", i, c)
		}
	}
}

// hear asks for a chat and returns what is answered.
func hear(t *testing.T, url, body string, stream bool) (h heard) {
	t.Helper()
	if stream {
		body = strings.TrimSuffix(body, "}") + `,"stream":true}`
	}
	status, text := answertest.Post(t, url+chats, body)
	if status != 200 {
		t.Fatalf("%s: %d %s", body, status, text)
	}
	events := []string{text}
	if stream {
		events = strings.Split(strings.TrimSuffix(strings.TrimSpace(text), "data: [DONE]"), "\n\n")
	}
	for _, event := range events {
		event = strings.TrimPrefix(strings.TrimSpace(event), "data: ")
		if event == "" {
			continue
		}
		var answer struct {
			Choices []struct {
				Message, Delta message
				Finish         *string `json:"finish_reason"`
			}
		}
		if err := json.Unmarshal([]byte(event), &answer); err != nil || len(answer.Choices) != 1 {
			t.Fatalf("%q: %v", event, err)
		}
		c := &answer.Choices[0]
		if stream {
			h.take(t, &c.Delta, true)
		} else {
			h.take(t, &c.Message, false)
		}
		if c.Finish != nil {
			h.Finish = *c.Finish
		}
	}
	return h
}

const hermesCalls = "Sure.\n<tool_call>\n{\"name\": \"find\", \"arguments\": {\"what\": \"a \\\"b\\\"\"}}\n</tool_call>\n" +
	"<tool_call>\n{\"name\": \"now\", \"arguments\": {}}\n</tool_call>"

// Calls are found in what the model says, whole and in streams, and thoughts come apart.
func TestOpenAITools(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		template, says, fields string
		want                   string // content|reasoning|calls|finish
	}{
		"two calls":         {hermesTemplate, hermesCalls, twoTools, `Sure.||[find{"what": "a \"b\""} now{}]|tool_calls`},
		"none wanted":       {hermesTemplate, hermesCalls, twoTools + `,"tool_choice":"none"`, hermesCalls + "||[]|stop"},
		"no tools":          {hermesTemplate, hermesCalls, `"user":"u"`, hermesCalls + "||[]|stop"},
		"cut":               {hermesTemplate, hermesCalls, twoTools + `,"max_tokens":40`, `Sure.||[find{"what": "a]|length`},
		"stopped in a call": {hermesTemplate, hermesCalls, twoTools + `,"stop":["\"b"]`, `Sure.||[find{"what": "a \]|stop`},
		"one wanted": {hermesTemplate, hermesCalls, twoTools + `,"parallel_tool_calls":false`,
			`Sure.||[find{"what": "a \"b\""}]|tool_calls`},
		"no call": {hermesTemplate, "Hello.", twoTools, "Hello.||[]|stop"},
		"named": {hermesTemplate, hermesCalls, twoTools + `,"tool_choice":"now"`,
			`Sure.||[find{"what": "a \"b\""} now{}]|stop`},
		"generic": {"", `{"name": "now", "arguments": {}}`, twoTools, "||[now{}]|tool_calls"},
		"thought": {thinkingTemplate, "Hm.\n</think>\n\nYes.", `"user":"u"`, "Yes.|Hm.|[]|stop"},
		"thought and call": {toolTemplate, "So?</think>" + hermesCalls, twoTools,
			`Sure.|So?|[find{"what": "a \"b\""} now{}]|tool_calls`},
	} {
		card := protocol.ModelCard{Chat: protocol.ChatSource{Template: c.template}}
		url := answertest.Serve(t, answertest.Options{Says: c.says, Card: card})
		for _, stream := range []bool{false, true} {
			h := hear(t, url, `{"messages":[{"role":"user","content":"a"}],`+c.fields+`}`, stream)
			got := fmt.Sprintf("%s|%s|%s|%s", strings.TrimSpace(h.Content), strings.TrimSpace(h.Reasoning), h.Calls, h.Finish)
			if name == "cut" { // by how many tokens there are to the text
				got = got[:strings.Index(got, `"what"`)] + got[strings.LastIndex(got, "]"):]
				c.want = `Sure.||[find{]|length`
			}
			if got != c.want {
				t.Errorf("%s, stream %v:\n got %s\nwant %s", name, stream, got, c.want)
			}
		}
	}
}

// Mistral's templates take the names of calls that are nine letters and digits, and no others.
func TestShortCallIDs(t *testing.T) {
	t.Parallel()
	url := serveSaying(t, `{{ tools }}[TOOL_CALLS] [`, `[TOOL_CALLS] [{"name": "now", "arguments": {}}]`)
	h := hear(t, url, `{"messages":[{"role":"user","content":"a"}],`+twoTools+`}`, false)
	if len(h.Calls) != 1 || !regexp.MustCompile(`^[a-zA-Z0-9]{9}$`).MatchString(h.Calls[0].ID) {
		t.Errorf("got %+v", h)
	}
}

// The older form has one call, and its own reason.
func TestOpenAIFunctions(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{Says: `{"name": "now", "arguments": {}}`})
	for _, stream := range []bool{false, true} {
		h := hear(t, url, `{"messages":[{"role":"user","content":"a"}],"functions":[{"name":"now"}],"function_call":"auto"}`, stream)
		if h.Legacy.String() != "now{}" || h.Finish != "function_call" || h.Content != "" || len(h.Calls) > 0 {
			t.Errorf("stream %v: %+v", stream, h)
		}
	}
	url = serveSaying(t, hermesTemplate, hermesCalls)
	for _, stream := range []bool{false, true} {
		h := hear(t, url, `{"messages":[{"role":"user","content":"a"}],"functions":[{"name":"now"},{"name":"find"}]}`, stream)
		if h.Legacy.String() != `find{"what": "a \"b\""}` || strings.TrimSpace(h.Content) != "Sure." {
			t.Errorf("of two calls, stream %v: %+v", stream, h)
		}
	}
}

// What is asked for is what the groups are asked for: their guide accepts it and nothing else.
func TestOpenAIGuides(t *testing.T) {
	t.Parallel()
	const find = `{"what": "x"}`
	call := func(name, arguments string) string {
		return "<tool_call>\n{\"name\": \"" + name + "\", \"arguments\": " + arguments + "}\n</tool_call>"
	}
	for _, c := range []struct {
		template, fields string
		fits, misfits    []string
	}{
		{hermesTemplate, `"user":"u"`, nil, nil},
		{hermesTemplate, twoTools + `,"tool_choice":"none"`, nil, nil},
		{hermesTemplate, twoTools, []string{"Hi.", call("now", "{}"), "Hm " + call("find", find) + "\n" + call("now", "{}")},
			[]string{call("find", "{}"), call("other", "{}"), call("now", "{}") + "more"}},
		{hermesTemplate, twoTools + `,"parallel_tool_calls":false`, []string{"Hi.", call("now", "{}")},
			[]string{call("now", "{}") + "\n" + call("now", "{}")}},
		{hermesTemplate, twoTools + `,"tool_choice":"required"`, []string{call("now", "{}"), call("now", "{}") + "\n" + call("find", find)},
			[]string{"Hi.", "", call("now", `{"a":1}`)}},
		{hermesTemplate, twoTools + `,"tool_choice":{"type":"function","function":{"name":"find"}}`, []string{call("find", find)},
			[]string{call("now", "{}"), call("find", find) + "\n" + call("find", find)}},
		{hermesTemplate, twoTools + `,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function",` +
			`"function":{"name":"now"}}]}}`, []string{call("now", "{}")}, []string{"Hi.", call("find", find)}},
		{hermesTemplate, twoTools + `,"response_format":{"type":"json_object"}`, []string{`{"a":1}`, call("now", "{}")}, []string{"Hi."}},
		{"", twoTools, nil, nil}, // what a bare call is, its end tells
		{"", twoTools + `,"tool_choice":"required"`, []string{`{"name": "now", "arguments": {}}`}, []string{"Hi."}},
		{thinkingTemplate, `"response_format":{"type":"json_object"}`, []string{`Let me see {.</think>` + "\n\n" + `{"a":1}`},
			[]string{`{"a":1}`, `Hm.</think>Hi.`}},
		{thinkingTemplate, `"thinking_token_budget":7`, []string{"Hm.</think>Hi.", ""}, nil},
		{thinkingTemplate, `"chat_template_kwargs":{"thinking_budget":7}`, []string{"Hm.</think>Hi."}, nil},
		{"", `"thinking_token_budget":7`, nil, nil}, // it does not think
		{"", `"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"enum":[1,2]}}}`, []string{"1", "2"}, []string{"3"}},
		{"", `"response_format":{"type":"json_schema","value":{"schema":{"enum":[1,2]}}}`, []string{"1"}, []string{"3"}},
		{"", `"response_format":{"type":"regex","value":"a+"}`, []string{"aa"}, []string{"b"}},
		{"", `"guided_choice":["a","b"]`, []string{"a", "b"}, []string{"c"}},
		{"", `"guided_grammar":"root ::= \"a\" root \"b\" | \"c\""`, []string{"acb"}, []string{"ac"}},
		{"", `"guided_json":"{\"type\":\"array\"}","guided_whitespace_pattern":""`, []string{"[1,2]"}, []string{"[1, 2]"}},
		{"", `"structured_outputs":{"json":{"type":"array"},"disable_any_whitespace":true}`, []string{"[1,2]"}, []string{"[1, 2]"}},
		{"", `"ebnf":"root ::= \"x\""`, []string{"x"}, []string{"y"}},
	} {
		var asked *guide.Source
		var mu sync.Mutex
		url := answertest.Serve(t, answertest.Options{Card: protocol.ModelCard{Chat: protocol.ChatSource{Template: c.template}},
			Asked: func(r *request.Request) {
				mu.Lock()
				defer mu.Unlock()
				asked = r.Guide
			}})
		status, text := answertest.Post(t, url+chats, `{"messages":[{"role":"user","content":"a"}],"max_tokens":3,`+c.fields+`}`)
		if status != 200 || (asked == nil) != (c.fits == nil) {
			t.Errorf("%s: %d %s, asked for %+v", c.fields, status, text, asked)
			continue
		}
		for i, text := range append(c.fits, c.misfits...) {
			if fits := accepts(t, asked, text); fits != (i < len(c.fits)) {
				t.Errorf("%s: %q fits: %v", c.fields, text, fits)
			}
		}
	}
}

// Where the operator lets objects have keys that are not declared, a request can forbid them.
func TestClosedGuides(t *testing.T) {
	t.Parallel()
	asked := make(chan *guide.Source, 1)
	url := answertest.Serve(t, answertest.Options{Asked: func(r *request.Request) { asked <- r.Guide }},
		func(c *api.Config) { c.Guides.Open = true })
	for fields, fits := range map[string]bool{"": true, `,"disable_additional_properties":false`: true,
		`,"disable_additional_properties":true`: false} {
		status, text := answertest.Post(t, url+chats, `{"messages":[{"role":"user","content":"a"}],"max_tokens":3,`+
			`"structured_outputs":{"json":{"type":"object","properties":{"b":{}}}`+fields+`}}`)
		if status != 200 {
			t.Fatalf("%s: %d %s", fields, status, text)
		}
		if source := <-asked; accepts(t, source, `{"a":1}`) != fits || !accepts(t, source, `{"b":1}`) {
			t.Errorf("%s: asked for %+v", fields, source)
		}
	}
}

// accepts reports whether a guide accepts a text.
func accepts(t *testing.T, source *guide.Source, text string) bool {
	t.Helper()
	program, err := guide.Compile(*source)
	if err != nil {
		t.Fatal(err)
	}
	m := guide.NewMachine(program)
	state := m.Start()
	for i := range len(text) {
		if state, err = m.Next(state, text[i]); err != nil || state == guide.Dead {
			return false
		}
	}
	return m.Complete(state)
}

// However many functions a request has, checking them takes no more work than a guide may.
func TestManyHeavyFunctions(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{})
	var tools []string
	for i := range 500 { // the first takes a twentieth of the work
		tools = append(tools, fmt.Sprintf(`{"type":"function","function":{"name":"f%d","parameters":{"type":"object","properties":{"a%d":`+
			`{"type":"string","pattern":"[ab]*a[ab]{12}","minLength":900,"maxLength":1000}}}}}`, i, i))
	}
	status, text := answertest.Post(t, url+chats, `{"messages":[{"role":"user","content":"a"}],"tool_choice":"required","tools":[`+
		strings.Join(tools, ",")+`]}`)
	if status != 400 || !strings.Contains(text, "more work than the functions of a request may") {
		t.Errorf("%d %.500s", status, text)
	}
}
