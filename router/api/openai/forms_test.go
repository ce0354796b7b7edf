package openai_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"lockstep/protocol"
	"lockstep/router/api/answertest"
)

// eventsOf are the events of a stream: their types and data.
func eventsOf(t *testing.T, text string) (kinds []string, data []map[string]any) {
	t.Helper()
	for event := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		name, rest, ok := strings.Cut(event, "\n")
		var fields map[string]any
		if err := json.Unmarshal([]byte(strings.TrimPrefix(rest, "data: ")), &fields); err != nil || !ok {
			t.Fatalf("%q: %v", event, err)
		}
		kind := strings.TrimPrefix(name, "event: ")
		if fields["type"] != kind {
			t.Errorf("the event %s has the type %v", kind, fields["type"])
		}
		kinds, data = append(kinds, kind), append(data, fields)
	}
	return kinds, data
}

func serveSaying(t *testing.T, template, says string) string {
	t.Helper()
	return answertest.Serve(t, answertest.Options{Says: says, Card: protocol.ModelCard{Chat: protocol.ChatSource{Template: template}}})
}

const toolTemplate = "{% if tools %}{{ tools | tojson }}<tool_call>{% endif %}" + thinkingTemplate

// compact are the parts of an answer's list of items or blocks.
func compact(t *testing.T, list any) string {
	t.Helper()
	var parts []string
	for _, entry := range list.([]any) {
		item := entry.(map[string]any)
		switch item["type"] {
		case "reasoning", "message":
			var text string
			for _, part := range item["content"].([]any) {
				text += part.(map[string]any)["text"].(string)
			}
			parts = append(parts, fmt.Sprintf("%s %q", item["type"], strings.TrimSpace(text)))
		case "thinking", "text":
			parts = append(parts, fmt.Sprintf("%s %q", item["type"], strings.TrimSpace(item[item["type"].(string)].(string))))
		case "function_call":
			parts = append(parts, fmt.Sprintf("call %s %s", item["name"], item["arguments"]))
		case "tool_use":
			input, _ := json.Marshal(item["input"])
			parts = append(parts, fmt.Sprintf("call %s %s", item["name"], input))
		default:
			t.Errorf("a part %v", item)
		}
	}
	return strings.Join(parts, ", ")
}

const flatTools = `"tools":[{"type":"function","name":"find","parameters":{"type":"object","properties":{"what":{"type":"string"}},` +
	`"required":["what"]}},{"type":"function","name":"now"}]`

func TestResponses(t *testing.T) {
	t.Parallel()
	url := serveSaying(t, toolTemplate, "So?</think>"+hermesCalls)
	body := `{"input":"a","instructions":"b",` + flatTools + `}`
	status, text := answertest.Post(t, url+"/v1/responses", body)
	var answer map[string]any
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	const want = `reasoning "So?", message "Sure.", call find {"what": "a \"b\""}, call now {}`
	if got := compact(t, answer["output"]); got != want || answer["status"] != "completed" || answer["object"] != "response" {
		t.Errorf("got %s\nwant %s\nof %s", got, want, text)
	}
	if usage := answer["usage"].(map[string]any); usage["input_tokens"].(float64) < 3 || usage["output_tokens"].(float64) < 20 {
		t.Errorf("used %v", usage)
	}
	_, text = answertest.Post(t, url+"/v1/responses", strings.TrimSuffix(body, "}")+`,"stream":true}`)
	kinds, events := eventsOf(t, text)
	last := events[len(events)-1]
	if got := compact(t, last["response"].(map[string]any)["output"]); got != want || kinds[0] != "response.created" ||
		kinds[1] != "response.in_progress" || kinds[len(kinds)-1] != "response.completed" {
		t.Errorf("streamed %s: %v", got, kinds)
	}
	said, called := "", ""
	for i, event := range events {
		if int(event["sequence_number"].(float64)) != i {
			t.Errorf("event %d has the number %v", i, event["sequence_number"])
		}
		switch kinds[i] {
		case "response.output_text.delta":
			said += event["delta"].(string)
		case "response.function_call_arguments.delta":
			called += event["delta"].(string)
		}
	}
	if strings.TrimSpace(said) != "Sure." || called != `{"what": "a \"b\""}{}` {
		t.Errorf("streamed %q and %q", said, called)
	}
}

// What was said, called and returned before comes as items.
func TestResponseInput(t *testing.T) {
	t.Parallel()
	url := serveSaying(t, `{% for m in messages %}[{{ m.role }}|{{ m.content }}|{% for c in m.tool_calls %}{{ c.function.name }}`+
		`{{ c.function.arguments }}{% endfor %}]{% endfor %}{{ tools }}`, "Yes.")
	body := `{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"reasoning","summary":[]},` +
		`{"type":"function_call","call_id":"1","name":"f","arguments":"{\"b\":1}"},{"type":"function_call","call_id":"2","name":"g",` +
		`"arguments":"{}"},{"type":"function_call_output","call_id":"1","output":"5"},{"type":"message","role":"assistant",` +
		`"content":[{"type":"output_text","text":"c"}]}],"instructions":"d","max_output_tokens":1}`
	status, text := answertest.Post(t, url+"/v1/responses", body)
	if status != 200 || !strings.Contains(text, `"incomplete_details":{"reason":"max_output_tokens"}`) ||
		!strings.Contains(text, `"type":"message","status":"incomplete"`) {
		t.Errorf("%d %s", status, text)
	}
	for fields, param := range map[string]string{`"previous_response_id":"x"`: "previous_response_id", `"input":5`: "input",
		`"input":[{"type":"item_reference"}]`: "input[0]", `"tools":[{"type":"web_search"}]`: "tools[0].type", `"a":1`: "input",
		`"input":null,"instructions":"b"`: "input", `"instructions":5`: "instructions",
		`"input":[{"type":"reasoning"},{"role":"user"}],"instructions":"b"`:       "input[1].content",
		`"text":{"format":{"type":"json_schema","name":"n","schema":{"not":{}}}}`: "text.format.schema",
		`"tools":[{"type":"function","name":"f","parameters":{"type":"string"}}]`: "tools[0].parameters",
		`"tools":[{"type":"function","name":"f","parameters":[]}]`:                "tools[0].parameters"} {
		body := `{` + fields + `}`
		if !strings.Contains(fields, "input") && param != "input" {
			body = `{"input":"a",` + fields + `}`
		}
		if status, text := answertest.Post(t, url+"/v1/responses", body); status != 400 || !strings.Contains(text, `"param":"`+param+`"`) {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
}

func TestMessages(t *testing.T) {
	t.Parallel()
	url := serveSaying(t, toolTemplate, "So?</think>"+hermesCalls)
	body := `{"max_tokens":300,"system":"b","messages":[{"role":"user","content":"a"}],"tools":[{"name":"find","input_schema":` +
		`{"type":"object","properties":{"what":{"type":"string"}},"required":["what"]}},{"name":"now","input_schema":{"type":"object"}}]}`
	status, text := answertest.Post(t, url+"/v1/messages", body)
	var answer map[string]any
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	const want = `thinking "So?", text "Sure.", call find {"what":"a \"b\""}, call now {}`
	if got := compact(t, answer["content"]); got != want || answer["stop_reason"] != "tool_use" || answer["type"] != "message" {
		t.Errorf("got %s\nwant %s\nof %s", got, want, text)
	}
	_, text = answertest.Post(t, url+"/v1/messages", strings.TrimSuffix(body, "}")+`,"stream":true}`)
	kinds, events := eventsOf(t, text)
	if kinds[0] != "message_start" || kinds[len(kinds)-1] != "message_stop" || kinds[len(kinds)-2] != "message_delta" {
		t.Errorf("streamed %v", kinds)
	}
	var got []string
	grown := ""
	for i, event := range events {
		switch kinds[i] {
		case "content_block_start":
			block := event["content_block"].(map[string]any)
			got, grown = append(got, fmt.Sprintf("%v %v %v", event["index"], block["type"], block["name"])), ""
		case "content_block_delta":
			for _, field := range []string{"text", "thinking", "partial_json"} {
				if piece, ok := event["delta"].(map[string]any)[field].(string); ok {
					grown += piece
				}
			}
		case "content_block_stop":
			got = append(got, strings.TrimSpace(grown))
		}
	}
	if list := strings.Join(got, ", "); list != `0 thinking <nil>, So?, 1 text <nil>, Sure., 2 tool_use find, {"what": "a \"b\""}, `+
		`3 tool_use now, {}` {
		t.Errorf("streamed %s", list)
	}
	status, text = answertest.Post(t, url+"/v1/messages/count_tokens", `{"messages":[{"role":"user","content":"a"}]}`)
	if status != 200 || !strings.HasPrefix(text, `{"input_tokens":`) {
		t.Errorf("%d %s", status, text)
	}
}

// A call that a stop sequence cuts is none that can be made.
func TestMessagesStoppedInACall(t *testing.T) {
	t.Parallel()
	url := serveSaying(t, hermesTemplate, hermesCalls)
	for stop, want := range map[string]string{`\"b`: `"stop_reason":"stop_sequence","stop_sequence":"\"b"`,
		`</tool_call>`: `"stop_reason":"tool_use","stop_sequence":null`} {
		status, text := answertest.Post(t, url+"/v1/messages", `{"max_tokens":300,"messages":[{"role":"user","content":"a"}],"stop_sequences":["`+
			stop+`"],"tools":[{"name":"find","input_schema":{"type":"object"}}]}`)
		if status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", stop, status, text)
		}
	}
}

// Blocks become messages, and errors have their own form.
func TestMessageBlocks(t *testing.T) {
	t.Parallel()
	url := serveSaying(t, "", "One. Two.")
	body := `{"max_tokens":30,"stop_sequences":["Two"],"messages":[{"role":"user","content":[{"type":"text","text":"a"}]},` +
		`{"role":"assistant","content":[{"type":"thinking","thinking":"t"},{"type":"tool_use","id":"1","name":"f","input":{"b":1}}]},` +
		`{"role":"user","content":[{"type":"tool_result","tool_use_id":"1","content":[{"type":"text","text":"5"}]},` +
		`{"type":"text","text":"c"}]}],"tools":[{"name":"f","input_schema":{"type":"object"}}]}`
	status, text := answertest.Post(t, url+"/v1/messages", body)
	if status != 200 || !strings.Contains(text, `"stop_reason":"stop_sequence","stop_sequence":"Two"`) {
		t.Errorf("%d %s", status, text)
	}
	for _, body := range []string{`{"messages":[{"role":"user","content":"a"}]}`, `{"max_tokens":1}`,
		`{"max_tokens":1,"messages":[{"role":"user","content":[{"type":"image"}]}]}`, `{"max_tokens":1,"messages":[{"role":"tool"}]}`,
		`{"max_tokens":1,"messages":[{"role":"user","content":"a"}],"tool_choice":{"type":"tool"}}`, `[]`,
		`{"max_tokens":1,"messages":[{"role":"user","content":"a"}],"tools":[{"name":"f","input_schema":5}]}`} {
		status, text := answertest.Post(t, url+"/v1/messages", body)
		if status != 400 || !strings.HasPrefix(text, `{"type":"error","error":{"type":"invalid_request_error","message":`) {
			t.Errorf("%s: %d %s", body, status, text)
		}
	}
}
