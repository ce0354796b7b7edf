package openai_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"lockstep/router/api"
	"lockstep/router/api/answertest"
)

const aChat, aCompletion = `{"messages":[{"role":"user","content":"a"}]}`, `{"prompt":"a"}`

// messages makes a chat's body.
func messages(list string) string { return `{"messages":` + list + `}` }

// openAIErrors are requests that are refused: fields are put into the body.
var openAIErrors = []struct {
	path, body, fields string
	status             int
	param, code        string
}{
	{chats, `[]`, "", 400, "", "invalid_json"},
	{chats, `{"messages"`, "", 400, "", "invalid_json"},
	{chats, "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", "", 400, "", "invalid_json"},
	{chats, `{}`, "", 400, "messages", "missing_required_parameter"},
	{chats, messages(`null`), "", 400, "messages", "missing_required_parameter"},
	{chats, messages(`[]`), "", 400, "messages", "invalid_value"},
	{chats, messages(`"a"`), "", 400, "messages", "invalid_type"},
	{chats, messages(`[5]`), "", 400, "messages[0]", "invalid_type"},
	{chats, messages(`[{"content":"a"}]`), "", 400, "messages[0].role", "missing_required_parameter"},
	{chats, messages(`[{"role":5,"content":"a"}]`), "", 400, "messages[0].role", "invalid_type"},
	{chats, messages(`[{"role":"","content":"a"}]`), "", 400, "messages[0].role", "missing_required_parameter"},
	{chats, messages(`[{"role":"user"}]`), "", 400, "messages[0].content", "missing_required_parameter"},
	{chats, messages(`[{"role":"user","content":null}]`), "", 400, "messages[0].content", "missing_required_parameter"},
	{chats, messages(`[{"role":"user","content":7}]`), "", 400, "messages[0].content", "invalid_type"},
	{chats, messages(`[{"role":"user","content":[{"text":"a"}]}]`), "", 400, "messages[0].content[0].type", "missing_required_parameter"},
	{chats, messages(`[{"role":"user","content":[{"type":"text"}]}]`), "", 400, "messages[0].content[0].text",
		"missing_required_parameter"},
	{chats, messages(`[{"role":"user","content":[{"type":"text","text":"a"},{"type":"image_url",` +
		`"image_url":{"url":"http://a/b.png"}}]}]`), "",
		400, "messages[0].content[1].type", "unsupported_content"},
	{chats, messages(`[{"role":"assistant"}]`), "", 400, "messages[0].content", "invalid_value"},
	{chats, messages(`[{"role":"tool","content":"5"}]`), "", 400, "messages", "chat_template_error"},
	{chats, aChat, `"tools":{}`, 400, "tools", "invalid_type"},
	{chats, aChat, `"tools":[{"type":"code"}]`, 400, "tools[0].type", "invalid_value"},
	{chats, aChat, `"tools":[{"type":"function"}]`, 400, "tools[0].function", "missing_required_parameter"},
	{chats, aChat, `"tools":[{"type":"function","function":{}}]`, 400, "tools[0].function.name", "missing_required_parameter"},
	{chats, aChat, `"tools":[{"type":"function","function":{"name":"a b"}}]`, 400, "tools[0].function.name", "invalid_value"},
	{chats, aChat, `"functions":[{"name":"f"},{"name":"f"}]`, 400, "functions[1].name", "invalid_value"},
	{chats, aChat, `"tools":[{"type":"function","function":{"name":"f","parameters":[]}}]`, 400, "tools[0].function.parameters",
		"invalid_type"},
	{chats, aChat, `"tools":[{"type":"function","function":{"name":"f","parameters":{"type":7}}}],"tool_choice":"required"`, 400,
		"tools[0].function.parameters", "invalid_function_parameters"},
	{chats, aChat, `"tools":[{"type":"function","function":{"name":"f","strict":true,"parameters":{"not":{}}}}],"tool_choice":"f"`, 400,
		"tools[0].function.parameters", "invalid_function_parameters"},
	{chats, aChat, `"tools":[{"type":"function","function":{"name":"f"}}],"tool_choice":{"type":"function","function":{"name":"g"}}`, 400,
		"tool_choice", "invalid_value"},
	{chats, aChat, `"functions":[{"name":"f"}],"function_call":{"name":"g"}`, 400, "function_call", "invalid_value"},
	{chats, aChat, `"tool_choice":{"type":"allowed_tools"}`, 400, "tool_choice.allowed_tools", "invalid_value"},
	{chats, messages(`[{"role":"user","tool_calls":null}]`), "", 400, "messages[0].content", "missing_required_parameter"},
	{chats, aChat, `"documents":5`, 400, "documents", "invalid_type"},
	{chats, aChat, `"documents":[5]`, 400, "documents[0]", "invalid_type"},
	{chats, aChat, `"chat_template_kwargs":[]`, 400, "chat_template_kwargs", "invalid_type"},
	{chats, aChat, `"tool_choice":"required"`, 400, "tool_choice", "invalid_value"},
	{chats, aChat, `"response_format":{"type":"xml"}`, 400, "response_format.type", "invalid_value"},
	{chats, aChat, `"response_format":{}`, 400, "response_format.type", "missing_required_parameter"},
	{chats, aChat, `"response_format":{"type":"json_schema"}`, 400, "response_format.json_schema", "missing_required_parameter"},
	{chats, aChat, `"response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"not":{}}}}`, 400, "response_format", "invalid_value"},
	{chats, aChat, `"response_format":{"type":"regex","value":"("}`, 400, "response_format.value", "invalid_value"},
	{chats, aChat, `"guided_regex":"a","guided_choice":["a"]`, 400, "guided_choice", "invalid_value"},
	{chats, aChat, `"structured_outputs":{"json":{},"regex":"a"}`, 400, "structured_outputs.regex", "invalid_value"},
	{chats, aChat, `"structured_outputs":{"structural_tag":"a"}`, 400, "structured_outputs.structural_tag", "unsupported_parameter"},
	{chats, aChat, `"structured_outputs":{"whitespace_pattern":"[ ]?"}`, 400, "structured_outputs", "invalid_value"},
	{chats, aChat, `"guided_json":{},"guided_whitespace_pattern":"x"`, 400, "guided_whitespace_pattern", "invalid_value"},
	{chats, aChat, `"response_format":5`, 400, "response_format", "invalid_type"},
	{chats, aChat, `"chat_template":"{{ 7 }}"`, 400, "chat_template", "unsupported_parameter"},
	{chats, aChat, `"max_tokens":0`, 400, "max_tokens", "invalid_value"},
	{chats, aChat, `"max_tokens":"5"`, 400, "max_tokens", "invalid_type"},
	{chats, aChat, `"max_tokens":1.5`, 400, "max_tokens", "invalid_type"},
	{chats, aChat, `"max_tokens":99999999999999999999`, 400, "max_tokens", "invalid_value"},
	{chats, aChat, `"max_tokens":1000`, 400, "messages", "context_length_exceeded"},
	{chats, messages(`[{"role":"user","content":"` + strings.Repeat("a b ", 30) + `"}]`), "", 400, "messages", "context_length_exceeded"},
	{chats, aChat, `"temperature":-0.1`, 400, "temperature", "invalid_value"},
	{chats, aChat, `"temperature":2.1`, 400, "temperature", "invalid_value"},
	{chats, aChat, `"temperature":"hot"`, 400, "temperature", "invalid_type"},
	{chats, aChat, `"temperature":1e999`, 400, "temperature", "invalid_value"},
	{chats, aChat, `"top_p":1.1`, 400, "top_p", "invalid_value"},
	{chats, aChat, `"presence_penalty":-2.5`, 400, "presence_penalty", "invalid_value"},
	{chats, aChat, `"frequency_penalty":2.5`, 400, "frequency_penalty", "invalid_value"},
	{chats, aChat, `"n":0`, 400, "n", "invalid_value"},
	{chats, aChat, `"n":129`, 400, "n", "invalid_value"},
	{chats, aChat, `"seed":1.5`, 400, "seed", "invalid_type"},
	{chats, aChat, `"stop":["a","b","c","d","e"]`, 400, "stop", "invalid_value"},
	{chats, aChat, `"stop":""`, 400, "stop", "invalid_value"},
	{chats, aChat, `"stop":5`, 400, "stop", "invalid_type"},
	{chats, aChat, `"logit_bias":{"a":1}`, 400, "logit_bias", "invalid_value"},
	{chats, aChat, `"logit_bias":{"5":101}`, 400, "logit_bias.5", "invalid_value"},
	{chats, aChat, `"logit_bias":{"9999999":1}`, 400, "logit_bias", "invalid_value"},
	{chats, aChat, `"allowed_token_ids":[9999999]`, 400, "allowed_token_ids", "invalid_value"},
	{chats, aChat, `"repetition_penalty":0`, 400, "repetition_penalty", "invalid_value"},
	{chats, aChat, `"repetition_penalty":1e-60`, 400, "repetition_penalty", "invalid_value"},
	{chats, aChat, `"stop_token_ids":[9999999]`, 400, "stop_token_ids", "invalid_value"},
	{chats, aChat, `"cache_salt":"` + strings.Repeat("é", 129) + `"`, 400, "cache_salt", "invalid_value"},
	{chats, aChat, `"top_logprobs":3`, 400, "top_logprobs", "invalid_value"},
	{chats, aChat, `"logprobs":true,"top_logprobs":21`, 400, "top_logprobs", "invalid_value"},
	{chats, aChat, `"stream_options":{"include_usage":true}`, 400, "stream_options", "invalid_value"},
	{chats, aChat, `"add_generation_prompt":true,"continue_final_message":true`, 400, "continue_final_message", "invalid_value"},
	{chats, aChat, `"min_tokens":9,"max_tokens":8`, 400, "min_tokens", "invalid_value"},
	{completions, `{}`, "", 400, "prompt", "missing_required_parameter"},
	{completions, `{"prompt":[]}`, "", 400, "prompt", "invalid_value"},
	{completions, `{"prompt":5}`, "", 400, "prompt", "invalid_type"},
	{completions, `{"prompt":""}`, "", 400, "prompt", "invalid_value"},
	{completions, `{"prompt":["a",5]}`, "", 400, "prompt[1]", "invalid_type"},
	{completions, `{"prompt":[5,"a"]}`, "", 400, "prompt[1]", "invalid_type"},
	{completions, `{"prompt":[[5],"a"]}`, "", 400, "prompt[1]", "invalid_type"},
	{completions, `{"prompt":[5,-1]}`, "", 400, "prompt[1]", "invalid_value"},
	{completions, `{"prompt":[9999999]}`, "", 400, "prompt", "invalid_value"},
	{completions, `{"prompt":["a","b","c","d"]}`, "", 400, "prompt", "invalid_value"},
	{completions, aCompletion, `"suffix":"b"`, 400, "suffix", "unsupported_parameter"},
	{completions, aCompletion, `"n":3,"best_of":2`, 400, "best_of", "invalid_value"},
	{completions, aCompletion, `"guided_json":"{"`, 400, "guided_json", "invalid_value"},
	{completions, aCompletion, `"guided_choice":["a"],"allowed_token_ids":[5]`, 400, "allowed_token_ids", "invalid_value"},
	{completions, aCompletion, `"guided_choice":[]`, 400, "guided_choice", "invalid_value"},
	{completions, aCompletion, `"guided_choice":[1]`, 400, "guided_choice", "invalid_type"},
	{completions, aCompletion, `"guided_grammar":"root ::= x"`, 400, "guided_grammar", "invalid_value"},
	{completions, aCompletion, `"use_beam_search":true`, 400, "use_beam_search", "unsupported_parameter"},
	{completions, `{"prompt":"` + strings.Repeat("a", 6000) + `"}`, "", 413, "", "request_too_large"},
	{"/v1/models/none", "", "", 404, "model", "model_not_found"},
	{"/v1/embeddings", `{}`, "", 404, "", "unknown_url"},
	{"/detokenize", `{"tokens":[5,"a"]}`, "", 400, "tokens[1]", "invalid_type"},
	{"/detokenize", `{"tokens":[9999999]}`, "", 400, "tokens", "invalid_value"},
	{"/detokenize", `{}`, "", 400, "tokens", "missing_required_parameter"},
	{"/detokenize", `{"tokens":null,"prompt":"a"}`, "", 400, "tokens", "missing_required_parameter"},
	{"/tokenize", aChat, `"tools":[[]]`, 400, "tools[0]", "invalid_type"},
	{"/tokenize", `{"messages":[{"role":"tool","content":"5"}]}`, "", 400, "messages", "chat_template_error"},
	{"/tokenize", "{\"messages\":[{\"role\":\"user\",\"content\":\"\xff\"}]}", "", 400, "", "invalid_json"},
}

// What is wrong with a request is told by status, type, field and code, streamed or not.
func TestOpenAIErrors(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{MaxInputLength: 40, MaxTotalTokens: 60}, func(c *api.Config) {
		c.MaxClientBatchSize = 3
		c.PayloadLimit = 5000
	})
	for _, c := range openAIErrors {
		for _, streamed := range []bool{false, true} {
			body := with(c.body, c.fields)
			if streamed && strings.HasPrefix(c.path, "/v1/c") && strings.HasSuffix(body, "}") &&
				!strings.Contains(c.fields, "stream") && body != "{}" {
				body = with(body, `"stream":true`)
			}
			var status int
			var text string
			if body == "" {
				status, text = answertest.Get(t, url+c.path)
			} else {
				status, text = answertest.Post(t, url+c.path, body)
			}
			var a openAIAnswer
			if err := json.Unmarshal([]byte(text), &a); err != nil || a.Error == nil {
				t.Errorf("%s %.200s %s: %v: %d %s", c.path, c.body, c.fields, err, status, text)
			} else if e := a.Error; status != c.status || e.Param != c.param || e.Code != c.code || e.Type != "invalid_request_error" ||
				len(e.Message) < 10 {
				t.Errorf("%s %.200s %s: got %d %+v, want %d, %q, %q", c.path, c.body, c.fields, status, *e, c.status, c.param, c.code)
			}
		}
	}
}

// What does not fit is told in OpenAI's words, which clients look for, with the numbers that they read.
func TestContextTexts(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{MaxInputLength: 40, MaxTotalTokens: 60})
	ids := func(count int) string { return `[` + strings.Repeat("5,", count-1) + `5]` }
	const begins = "This model's maximum context length is 60 tokens. However, "
	for _, c := range []struct{ path, body, want string }{
		{completions, `{"prompt":` + ids(30) + `,"max_tokens":31}`,
			begins + "you requested 61 tokens (30 in your prompt; 31 for the completion). Please reduce your prompt; or completion " +
				"length."},
		{completions, `{"prompt":` + ids(50) + `}`,
			begins + "your prompt resulted in 50 tokens, and the longest input is 40 tokens. Please reduce the length of your prompt."},
		{completions, `{"prompt":` + ids(60) + `}`, begins + "your prompt resulted in 60 tokens. Please reduce the length of your prompt."},
		{chats, with(aChat, `"max_tokens":100`),
			begins + "you requested PLUS tokens (N in the messages, 100 in the completion). Please reduce the length of the messages " +
				"or completion."},
		{chats, messages(`[{"role":"user","content":"` + strings.Repeat("a b ", 90) + `"}]`),
			begins + "your messages resulted in N tokens. Please reduce the length of the messages."},
	} {
		_, text := answertest.Post(t, url+c.path, c.body)
		var a openAIAnswer
		if err := json.Unmarshal([]byte(text), &a); err != nil || a.Error == nil {
			t.Fatalf("%s: %v: %s", c.body, err, text)
		}
		if c.path == chats {
			_, text := answertest.Post(t, url+"/openai/tokenize", c.body)
			var counted struct{ Count int }
			if err := json.Unmarshal([]byte(text), &counted); err != nil || counted.Count == 0 {
				t.Fatalf("%s: %v", text, err)
			}
			c.want = strings.ReplaceAll(strings.ReplaceAll(c.want, "PLUS", fmt.Sprint(counted.Count+100)), "N in",
				fmt.Sprint(counted.Count, " in"))
			c.want = strings.ReplaceAll(c.want, "N tokens", fmt.Sprint(counted.Count, " tokens"))
		}
		if a.Error.Message != c.want || a.Error.Code != "context_length_exceeded" {
			t.Errorf("%s:\ngot  %s\nwant %s", c.body, a.Error.Message, c.want)
		}
	}
}
