package openai_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"

	"lockstep/protocol"
	"lockstep/router/api"
	"lockstep/router/api/answertest"
)

const (
	chats       = "/v1/chat/completions"
	completions = "/v1/completions"
)

// openAIAnswer is an answer or a chunk of one, of chats and completions.
type openAIAnswer struct {
	ID, Object, Model string
	Created           int64
	Fingerprint       string `json:"system_fingerprint"`
	Choices           []struct {
		Index          int
		Message, Delta struct{ Role, Content string }
		Text           string
		Logprobs       *openAILogprobs
		Finish         string  `json:"finish_reason"`
		TokenIDs       []int32 `json:"token_ids"`
		PromptIDs      []int32 `json:"prompt_token_ids"`
	}
	PromptIDs []int32 `json:"prompt_token_ids"` // of chats
	Usage     *openAIUsage
	Error     *struct {
		Message, Type, Param, Code string
		Status                     int `json:"http_status_code"`
	}
}

type openAILogprobs struct {
	Content []struct {
		Token   string
		Logprob float32
		Bytes   []byte `json:"-"`
		Top     []struct {
			Token   string
			Logprob float32
		} `json:"top_logprobs"`
	}
	Tokens   []string
	Logprobs []*float32           `json:"token_logprobs"`
	Top      []map[string]float32 `json:"top_logprobs"`
	Offsets  []int                `json:"text_offset"`
}

type openAIUsage struct {
	Prompt     int `json:"prompt_tokens"`
	Completion int `json:"completion_tokens"`
	Total      int `json:"total_tokens"`
}

// openAIChoice is one answer, put together from wherever it came.
type openAIChoice struct {
	Text, Finish, Role string
	IDs, Prompt        []int32
	Logprobs           openAILogprobs
}

// together joins the chunks of a stream, or reads the one answer.
func together(t *testing.T, answers []openAIAnswer) (choices []openAIChoice, usage openAIUsage) {
	t.Helper()
	for _, a := range answers {
		if a.Error != nil {
			t.Fatalf("error %+v", a.Error)
		}
		if a.Usage != nil {
			usage = *a.Usage
		}
		for _, c := range a.Choices {
			for len(choices) <= c.Index {
				choices = append(choices, openAIChoice{})
			}
			into := &choices[c.Index]
			if into.Finish != "" {
				t.Errorf("choice %d goes on behind its end", c.Index)
			}
			into.Text += c.Text + c.Message.Content + c.Delta.Content
			into.Role += c.Message.Role + c.Delta.Role
			into.Finish = c.Finish
			into.IDs = append(into.IDs, c.TokenIDs...)
			into.Prompt = append(append(into.Prompt, c.PromptIDs...), a.PromptIDs...)
			if l := c.Logprobs; l != nil {
				into.Logprobs.Content = append(into.Logprobs.Content, l.Content...)
				into.Logprobs.Tokens = append(into.Logprobs.Tokens, l.Tokens...)
				into.Logprobs.Logprobs = append(into.Logprobs.Logprobs, l.Logprobs...)
				into.Logprobs.Top = append(into.Logprobs.Top, l.Top...)
				into.Logprobs.Offsets = append(into.Logprobs.Offsets, l.Offsets...)
			}
		}
	}
	return choices, usage
}

// askOpenAI posts a body and returns the answer, or its chunks, which must end with [DONE].
func askOpenAI(t *testing.T, url, body string) (status int, answers []openAIAnswer) {
	t.Helper()
	status, text := answertest.Post(t, url, body)
	parts := []string{text}
	if strings.HasPrefix(text, "data: ") {
		parts = strings.Split(strings.TrimSuffix(text, "\n\n"), "\n\n")
		if last := parts[len(parts)-1]; last != "data: [DONE]" {
			t.Errorf("the stream ends with %q", last)
		}
		parts = parts[:len(parts)-1]
	}
	for _, part := range parts {
		var a openAIAnswer
		if err := json.Unmarshal([]byte(strings.TrimPrefix(part, "data: ")), &a); err != nil {
			t.Fatalf("%v: %q", err, part)
		}
		answers = append(answers, a)
	}
	return status, answers
}

// with puts more fields into a body.
func with(body, fields string) string {
	if fields == "" {
		return body
	}
	return strings.TrimSuffix(body, "}") + "," + fields + "}"
}

// Whatever is asked for, a stream tells what one body tells: texts, tokens, log-probabilities, ends, usage.
func TestOpenAIStreamEqualsWhole(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{})
	_, answers := askOpenAI(t, url+completions, `{"prompt":"Once upon","max_tokens":12,"temperature":0}`)
	plain, _ := together(t, answers)
	words := strings.Fields(plain[0].Text)
	stop := fmt.Sprintf("%q", words[2][1:]+" "+words[3][:1]) // from within a word into the next
	const chat, completion = `{"messages":[{"role":"system","content":"Be kind."},{"role":"user","content":"Once"}]}`,
		`{"prompt":"Once upon"}`
	for _, c := range []struct{ path, body, fields string }{
		{completions, completion, `"temperature":0`},
		{completions, completion, `"max_tokens":12,"temperature":0,"stop":` + stop},
		{completions, completion, `"max_tokens":12,"temperature":0,"include_stop_str_in_output":true,"stop":[` + stop + `,"zzzz"]`},
		{completions, completion, `"max_tokens":12,"seed":7,"logprobs":3,"echo":true,"return_token_ids":true`},
		{completions, completion, `"max_tokens":0,"temperature":0,"logprobs":0,"echo":true`},
		{completions, `{"prompt":["Once upon","The"]}`, `"max_tokens":5,"n":3,"seed":1,"logprobs":1,"return_tokens_as_token_ids":true`},
		{completions, `{"prompt":[[10,11],[12,13,14]]}`, `"max_tokens":4,"temperature":0,"return_token_ids":true`},
		{chats, chat, `"max_tokens":9,"temperature":0`},
		{chats, chat, `"max_completion_tokens":9,"max_tokens":3,"seed":3,"n":2,"logprobs":true,"top_logprobs":4,"return_token_ids":true`},
		{chats, chat, `"max_tokens":20,"temperature":0,"stop":["a","e"],"logprobs":true`},
	} {
		status, answers := askOpenAI(t, url+c.path, with(c.body, c.fields))
		wholeChoices, wholeUsage := together(t, answers)
		streamStatus, chunks := askOpenAI(t, url+c.path, with(c.body, c.fields+`,"stream":true,"stream_options":{"include_usage":true}`))
		choices, usage := together(t, chunks)
		if status != 200 || streamStatus != 200 || !reflect.DeepEqual(choices, wholeChoices) || usage != wholeUsage {
			t.Errorf("%s: status %d and %d\nwhole  %+v %+v\nstream %+v %+v", c.fields, status, streamStatus, wholeChoices, wholeUsage,
				choices, usage)
		}
		if usage.Total != usage.Prompt+usage.Completion || usage.Prompt == 0 {
			t.Errorf("%s: usage %+v", c.fields, usage)
		}
		for i, chunk := range chunks {
			if chunk.ID != chunks[0].ID || chunk.ID == answers[0].ID || chunk.Created == 0 || chunk.Model != "demo" ||
				!strings.HasPrefix(chunk.Fingerprint, "fp_") {
				t.Errorf("%s: chunk %d is %+v", c.fields, i, chunk)
			}
			if (len(chunk.Choices) == 0) != (i == len(chunks)-1) || (chunk.Usage != nil) != (i == len(chunks)-1) {
				t.Errorf("%s: chunk %d of %d has %d choices, usage %v", c.fields, i, len(chunks), len(chunk.Choices), chunk.Usage)
			}
		}
	}
}

// A request has the tokens and log-probabilities that /generate has for it; a choice those of a request with its own seed.
func TestOpenAIEqualsGenerate(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{})
	generate := func(parameters string) (ids []int32, logprobs []float32, text string) {
		_, answer := answertest.Post(t, url+"/generate",
			`{"inputs":"Once upon a time there","parameters":{"details":true,"max_new_tokens":12,`+parameters+`}}`)
		var got struct {
			Text    string `json:"generated_text"`
			Details struct {
				Tokens []struct {
					ID      int32
					Logprob float32
				}
			}
		}
		if err := json.Unmarshal([]byte(answer), &got); err != nil || len(got.Details.Tokens) == 0 {
			t.Fatalf("%v: %s", err, answer)
		}
		for _, token := range got.Details.Tokens {
			ids, logprobs = append(ids, token.ID), append(logprobs, token.Logprob)
		}
		return ids, logprobs, got.Text
	}
	complete := func(fields string) []openAIChoice {
		_, answers := askOpenAI(t, url+completions,
			`{"prompt":"Once upon a time there","max_tokens":12,"logprobs":0,"return_token_ids":true,`+fields+`}`)
		choices, _ := together(t, answers)
		return choices
	}
	check := func(what string, c openAIChoice, ids []int32, logprobs []float32, text string) {
		t.Helper()
		var got []float32
		for _, logprob := range c.Logprobs.Logprobs {
			got = append(got, *logprob)
		}
		if !slices.Equal(c.IDs, ids) || !slices.Equal(got, logprobs) || c.Text != text {
			t.Errorf("%s: got  %v %v %q\nwant %v %v %q", what, c.IDs, got, c.Text, ids, logprobs, text)
		}
	}
	ids, logprobs, text := generate(`"do_sample":false`)
	check("greedy", complete(`"temperature":0`)[0], ids, logprobs, text)
	check("likeliest only", complete(`"top_p":0`)[0], ids, logprobs, text)
	stop := strings.Fields(text)[3]
	ids, logprobs, text = generate(fmt.Sprintf(`"stop":[%q]`, stop))
	check("stop", complete(fmt.Sprintf(`"temperature":0,"stop":%q`, stop))[0], ids, logprobs, strings.TrimSuffix(text, stop))
	for i, c := range complete(`"seed":40,"n":3`) {
		ids, logprobs, text = generate(fmt.Sprintf(`"do_sample":true,"seed":%d`, 40+i))
		check(fmt.Sprint("choice ", i), c, ids, logprobs, text)
	}
	// best_of takes those of the greatest mean log-probability.
	mean := func(c openAIChoice) (sum float32) {
		for _, logprob := range c.Logprobs.Logprobs {
			sum += *logprob
		}
		return sum / float32(len(c.Logprobs.Logprobs))
	}
	all := complete(`"seed":40,"n":5`)
	slices.SortFunc(all, func(a, b openAIChoice) int {
		if mean(a) > mean(b) {
			return -1
		}
		return 1
	})
	if best := complete(`"seed":40,"n":2,"best_of":5`); !reflect.DeepEqual(best, all[:2]) {
		t.Errorf("best_of: got %+v, want %+v", best, all[:2])
	}
}

// Fields that do no harm are taken, in whatever spelling clients send them.
func TestOpenAITakesHarmlessFields(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{})
	for path, body := range map[string]string{
		chats: `{"model":"tgi","messages":[{"role":"developer","content":"a","name":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function",
			"function":{"name":"f","arguments":"{\"b\":1}"}}],"content":"called"},{"role":"user","content":[{"type":"text","text":"b"}]}],"max_tokens":5.0,"user":"u","service_tier":"auto",
			"store":false,"metadata":{"a":"b"},"parallel_tool_calls":true,"reasoning_effort":"low","tools":[],"tool_choice":"none","functions":null,
			"response_format":{"type":"text"},"modalities":["text"],"temperature":null,"n":null,"stop":null,"logprobs":false,"top_logprobs":0,"seed":-1,"logit_bias":{},
			"chat_template_kwargs":{"enable_thinking":false},"documents":[],"top_k":-1,"repetition_penalty":1.0,"what_is_this":[1,{"a":2}]}`,
		completions: `{"model":"","prompt":"a","max_tokens":5,"suffix":null,"best_of":1,"echo":false,"logit_bias":null,"user":"u",` +
			`"min_p":0,"skip_special_tokens":true}`,
	} {
		status, answers := askOpenAI(t, url+path, body)
		if choices, usage := together(t, answers); status != 200 || len(choices) != 1 || usage.Completion != 5 ||
			choices[0].Finish != "length" {
			t.Errorf("%s: %d %+v", path, status, answers)
		}
	}
}

// Usage counts a prompt once, however many answers it has, and every answer; each chunk can tell it.
func TestOpenAIUsage(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{})
	_, answers := askOpenAI(t, url+completions, `{"prompt":[[10,11,12],[13,14]],"n":2,"best_of":3,"max_tokens":4}`)
	if _, usage := together(t, answers); usage != (openAIUsage{Prompt: 5, Completion: 24, Total: 29}) {
		t.Errorf("got %+v", usage)
	}
	_, chunks := askOpenAI(t, url+completions, `{"prompt":[10,11,12],"max_tokens":4,"stream":true,`+
		`"stream_options":{"continuous_usage_stats":true}}`)
	for i, chunk := range chunks {
		if chunk.Usage == nil || *chunk.Usage != (openAIUsage{Prompt: 3, Completion: i + 1, Total: i + 4}) {
			t.Errorf("chunk %d: %+v", i, chunk.Usage)
		}
	}
}

// What templates are given: parts as text unless they read parts, developers as the system unless they know them, arguments
// as objects, tools where nothing is generated.
func TestOpenAIConversations(t *testing.T) {
	t.Parallel()
	const plain = `{% for m in messages %}{{ m.role + ':' + m.content }};{% if m.tool_calls %}{{ m.tool_calls[0].function.arguments.b ` +
		`}}{% endif %}{% endfor %}{{ tools }}`
	const parts = `{% for m in messages %}{% if m.role == 'developer' %}dev{% endif %}{% if m.content is string %}{{ m.content }}{% ` +
		`else %}` +
		`{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endif %}{% endfor %}`
	const list = `[{"role":"developer","content":"d"},{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]},` +
		`{"role":"assistant","content":"c","tool_calls":[{"function":{"name":"f","arguments":"{\"b\": 7}"}}]}]`
	for _, c := range []struct{ template, fields, want string }{
		{plain, ``, `system:d;user:ab;assistant:c;7None`},
		{plain, `"tools":[{"a":1}],"tool_choice":"auto"`, `system:d;user:ab;assistant:c;7[{'a': 1}]`},
		{strings.ReplaceAll(strings.ReplaceAll(parts, "[{{", "{{"), "}}]", "}}"), ``, `devdabc`},
		{parts, ``, `devdabc`}, // it writes parts otherwise than text: it gets text
		{strings.ReplaceAll(parts, "[{{ p.text }}]", "{{ p.text }}{{ '+' if not loop.last }}"), ``, `devda+bc`},
		{plain + `{{ documents[0].x }}{{ deep.er }}`, `"documents":[{"x":5}],"chat_template_kwargs":{"deep":{"er":"!"}}`,
			`system:d;user:ab;assistant:c;7None5!`},
	} {
		card, _, words := answertest.DemoCard(t)
		card.Chat = protocol.ChatSource{Template: c.template}
		url := answertest.Serve(t, answertest.Options{Card: card, Tokens: words})
		_, text := answertest.Post(t, url+"/chat_tokenize", with(`{"messages":`+list+`}`, c.fields))
		var got struct {
			Text string `json:"templated_text"`
		}
		if err := json.Unmarshal([]byte(text), &got); err != nil || got.Text != c.want {
			t.Errorf("%s %s: got %s, want %q", c.template, c.fields, text, c.want)
		}
	}
}

// A browser's client may send its key and its own headers, and read the answer.
func TestOpenAIFromBrowsers(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{}, func(c *api.Config) {
		c.APIKeys = []string{"sesame"}
		c.CORSAllowOrigin = []string{"http://a.example"}
	})
	for _, method := range []string{http.MethodOptions, http.MethodPost} {
		request, err := http.NewRequest(method, url+completions, strings.NewReader(`{"prompt":"a"}`))
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Origin": "http://a.example", "Content-Type": "application/json",
			"Authorization":                 "Bearer sesame",
			"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type,x-stainless-os"} {
			request.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		h := response.Header
		if response.StatusCode != 200 || h.Get("Access-Control-Allow-Origin") != "http://a.example" ||
			method == http.MethodOptions && h.Get("Access-Control-Allow-Headers") != "authorization,content-type,x-stainless-os" {
			t.Errorf("%s: %s %v", method, response.Status, h)
		}
	}
	status, answers := askOpenAI(t, url+completions, `{"prompt":"a"}`)
	if e := answers[0].Error; status != 401 || e == nil || e.Type != "authentication_error" || e.Code != "invalid_api_key" {
		t.Errorf("without a key: %d %+v", status, answers)
	}
	for path, want := range map[string]string{"/v1/messages": "authentication_error", "/v1/messages/count_tokens": "authentication_error",
		"/v1/messages/x": "not_found_error"} {
		status, text := answertest.Post(t, url+path, `{}`)
		if !strings.HasPrefix(text, `{"type":"error","error":{"type":"`+want+`"`) {
			t.Errorf("%s without a key: %d %s", path, status, text)
		}
	}
}

// A model without a usable template completes, and says of chats what is missing.
func TestOpenAIWithoutTemplate(t *testing.T) {
	t.Parallel()
	for template, code := range map[string]string{"": "no chat template", "{% if %}": "cannot be used"} {
		card, _, words := answertest.DemoCard(t)
		card.Chat = protocol.ChatSource{Template: template}
		url := answertest.Serve(t, answertest.Options{Card: card, Tokens: words})
		if status, _ := askOpenAI(t, url+completions, `{"prompt":"a"}`); status != http.StatusOK {
			t.Errorf("%q: completions answer %d", template, status)
		}
		status, answers := askOpenAI(t, url+chats, `{"messages":[{"role":"user","content":"a"}],"max_tokens":3}`)
		if e := answers[0].Error; status != 400 || e == nil || e.Code != "chat_template_missing" || !strings.Contains(e.Message, code) {
			t.Errorf("%q: chats answer %d %+v", template, status, answers)
		}
	}
}

// Stop strings that span tokens never show, not even for a moment; stop token ids end an answer and show.
func TestOpenAIStops(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		token        int32
		fields       string
		text, finish string
		tokens       int
	}{
		{1, `"stop":"ell"`, "ab h", "stop", 1},
		{1, `"stop":["oab"]`, "ab hell", "stop", 2},
		{1, `"stop":["oab"],"include_stop_str_in_output":true`, "ab helloab", "stop", 2},
		{1, `"stop":["ox","helloabx"],"max_tokens":2`, "ab helloab hello", "length", 2},
		{1, `"stop_token_ids":[1]`, "ab hello", "stop", 1},
		{2, `"stop":"ND"`, "E", "stop", 1},
		{2, `"max_tokens":2`, "END\ufffdEND\ufffd", "length", 2},
		{3, `"max_tokens":2`, "", "length", 2},
		{3, `"max_tokens":2,"skip_special_tokens":false`, "<stop me><stop me>", "length", 2},
		{3, `"stop":"stop"`, "", "stop", 1},
	} {
		url := answertest.Serve(t, answertest.Options{Card: answertest.Monotone(), Tokens: []int32{c.token}})
		for _, more := range []string{"", `,"stream":true,"stream_options":{"include_usage":true}`} {
			_, answers := askOpenAI(t, url+completions, `{"prompt":"aaaaaaaa","temperature":0,`+c.fields+more+`}`)
			choices, usage := together(t, answers)
			if choices[0].Text != c.text || choices[0].Finish != c.finish || usage.Completion != c.tokens {
				t.Errorf("%s%s of token %d: got %+v, %+v, want %q, %s, %d tokens", c.fields, more, c.token, choices[0], usage, c.text,
					c.finish, c.tokens)
			}
		}
	}
}

// With TGI 3's form a last message of the assistant is continued, more tokens than fit are cut, its headers come along, and
// /invocations takes what OpenAI's routes take.
func TestOpenAIAsTGI3(t *testing.T) {
	t.Parallel()
	const body = `{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"Once upon"}],"max_tokens":100000,` +
		`"temperature":0}`
	for version, c := range map[string]struct {
		end    string
		status int
	}{
		"0.9.4": {"<|im_start|>assistant\nOnce upon<|im_end|>\n<|im_start|>assistant\n", 400},
		"3":     {"<|im_start|>assistant\nOnce upon", 200},
	} {
		url := answertest.Serve(t, answertest.Options{MaxInputLength: 60, MaxTotalTokens: 80},
			func(c *api.Config) { c.TGIVersion = version })
		var written struct {
			Text string `json:"templated_text"`
		}
		_, text := answertest.Post(t, url+"/chat_tokenize", body)
		if err := json.Unmarshal([]byte(text), &written); err != nil || !strings.HasSuffix(written.Text, c.end) {
			t.Errorf("%s: the template wrote %s", version, text)
		}
		response, err := http.Post(url+chats, "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		h := response.Header
		if three := version == "3"; response.StatusCode != c.status || three != (h.Get("X-Generated-Tokens") != "") ||
			three == (h.Get("X-Request-Id") != "") {
			t.Errorf("%s: %s %v", version, response.Status, h)
		}
		want := map[string]int{"0.9.4": 422, "3": 200}[version]
		for _, body := range []string{body, `{"prompt":"a","max_tokens":3}`} {
			if status, answer := answertest.Post(t, url+"/invocations", body); status != want || want == 200 &&
				!strings.Contains(answer, `"usage"`) {
				t.Errorf("%s: /invocations %s: %d %s", version, body, status, answer)
			}
		}
		status, _ := answertest.Post(t, url+completions, `{"prompt":["a","b","c","d","e"],"max_tokens":1}`)
		if status != map[string]int{"0.9.4": 200, "3": 400}[version] {
			t.Errorf("%s: five prompts: %d", version, status)
		}
	}
}

// A model's default length bounds chats that do not say theirs, and nothing else; clients can ask for all defaults.
func TestDefaultMaxTokens(t *testing.T) {
	t.Parallel()
	card, _, tokens := answertest.DemoCard(t)
	card.Defaults = protocol.SamplingDefaults{Temperature: new(float32(0.5)), MaxTokens: 7}
	url := answertest.Serve(t, answertest.Options{Card: card, Tokens: tokens})
	asTGI := answertest.Serve(t, answertest.Options{Card: card, Tokens: tokens, MaxInputLength: 50, MaxTotalTokens: 60},
		func(c *api.Config) { c.TGIVersion = "3" })
	const chat, prompt = `{"messages":[{"role":"user","content":"Once"}]}`, `{"prompt":"Once"}`
	for _, c := range []struct {
		url, body, fields string
		want              int // 0: all that fits
	}{
		{url + chats, chat, ``, 7}, {url + chats, chat, `"max_tokens":9`, 9}, {url + chats, chat, `"max_completion_tokens":3`, 3},
		{url + completions, prompt, ``, 16}, {url + completions, prompt, `"max_tokens":9`, 9},
		{asTGI + chats, chat, ``, 0},
	} {
		_, answers := askOpenAI(t, c.url, with(c.body, c.fields))
		_, usage := together(t, answers)
		if got := usage.Completion; got != c.want && (c.want != 0 || usage.Total != 60) {
			t.Errorf("%s %s: got %d tokens, want %d", c.body, c.fields, got, c.want)
		}
	}
	const told = `"default_sampling_params":{"temperature":0.5,"max_tokens":7}`
	for path, want := range map[string]bool{"/v1/models": true, "/v1/models/demo": true, "/info": true} {
		if _, answer := answertest.Get(t, url+path); strings.Contains(answer, told) != want || !json.Valid([]byte(answer)) {
			t.Errorf("%s: got %s", path, answer)
		}
	}
	if _, answer := answertest.Get(t, asTGI+"/v1/models"); strings.Contains(answer, told) {
		t.Errorf("as TGI 3: got %s", answer)
	}
}
