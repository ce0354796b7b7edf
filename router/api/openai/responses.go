package openai

import (
	"bytes"
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"lockstep/protocol"
	"lockstep/protocol/ordered"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// responses is the form of /v1/responses. Nothing is stored: a conversation comes whole with each request.
type responses struct{ plain }

var _ reply = responses{}

func (responses) prefix() string { return "resp_" }

// responseFields are the fields of a body beside those that chats have too.
var responseFields = map[string]fieldReader{
	"max_output_tokens": wholeField(1, math.MaxInt32, func(b *generateBody, v int64) { b.maxTokens = new(int(v)) }),
	"text":              (*generateBody).readTextFormat,
	"tools":             (*generateBody).readResponseTools,
	"messages":          refuseUnless("", "use 'input'."),
	"max_tokens":        refuseUnless("", "use 'max_output_tokens'."),
	"n":                 refuseUnless("1", "there is one answer."),
	"stop":              refuseUnless("", "this interface has no stop strings: use /v1/chat/completions."),
	"logprobs":          refuseUnless("false", "use /v1/chat/completions."),
	"top_logprobs":      refuseUnless("0", "use /v1/chat/completions."),
	"previous_response_id": refuseUnless("",
		"answers are not stored: send the conversation so far as 'input'."),
	"conversation": refuseUnless("", "conversations are not stored: send the one so far as 'input'."),
	"background":   refuseUnless("false", "answers come at once."),
	"prompt":       refuseUnless("", "prompts are not stored."),
}

func (responses) read(top []ordered.Member) (*generateBody, *request.Refusal) {
	if memberOf(top, "input") == nil {
		return nil, missingField("input")
	}
	fields := maps.Clone(responseFields)
	fields["input"] = func(b *generateBody, name string, raw json.RawMessage) *request.Refusal {
		return b.readInput(name, raw, memberOf(top, "instructions"))
	}
	b, err := readBody(top, true, fields)
	if err == nil {
		b.told = top
	}
	return b, err
}

// readInput makes messages of instructions, which stand before all else, and of a text or of items: messages, calls of functions, and what
// these have returned.
func (b *generateBody) readInput(name string, raw, instructions json.RawMessage) *request.Refusal {
	var items []json.RawMessage
	if text, ok := decoded(raw).(string); ok {
		items = append(items, append(wire.AppendText([]byte(`{"role":"user","content":`), text), '}'))
	} else if json.Unmarshal(raw, &items) != nil {
		return wrongType(name, "a string or an array of items", decoded(raw))
	}
	var messages [][]byte
	if instructions != nil {
		text, ok := decoded(instructions).(string)
		if !ok {
			return wrongType("instructions", "a string", decoded(instructions))
		}
		messages = append(messages, append(wire.AppendText([]byte(`{"role":"system","content":`), text), '}'))
	}
	var said []ordered.Member // by the assistant, last: calls behind it belong to the same message
	var made []byte           // calls that belong to one message
	flush := func() {
		if made != nil {
			list := slices.Concat([]byte{'['}, made, []byte{']'})
			if said == nil {
				said = []ordered.Member{{Name: "role", Value: []byte(`"assistant"`)}, {Name: "content", Value: []byte("null")}}
			} else {
				messages = messages[:len(messages)-1]
			}
			messages = append(messages, wire.AppendMembers(nil, append(said, ordered.Member{Name: "tool_calls", Value: list})))
		}
		said, made = nil, nil
	}
	for i, item := range items {
		at := name + "[" + strconv.Itoa(i) + "]"
		members, ok := wire.Members(item)
		if !ok {
			return wrongType(at, "an object", decoded(item))
		}
		kind, _ := decoded(memberOf(members, "type")).(string)
		if kind != "function_call" && kind != "reasoning" {
			flush()
		}
		switch kind {
		case "", "message":
			if _, err := checkMessage(at, slices.Clone(members)); err != nil { // here it has its place in the body
				return err
			}
			messages = append(messages, item)
			if role, _ := decoded(memberOf(members, "role")).(string); role == "assistant" && memberOf(members, "tool_calls") == nil {
				said = slices.Clone(members)
			}
		case "function_call":
			made = appendCallItem(wire.AppendComma(made), members)
		case "function_call_output":
			output := memberOf(members, "output")
			message := append([]byte(`{"role":"tool","tool_call_id":`), orText(memberOf(members, "call_id"))...)
			messages = append(messages, append(append(append(message, `,"content":`...), orText(output)...), '}'))
		case "reasoning": // a model's own thoughts are not told again
		case "item_reference":
			return unsupportedField(at, "answers are not stored.")
		default:
			return wrongValue(at+".type", "items of the type %q are not supported.", wire.Quoted(kind))
		}
	}
	flush()
	return b.readMessages(name, append(append([]byte{'['}, bytes.Join(messages, []byte{','})...), ']'))
}

// orText is a value, or an empty text where there is none.
func orText(raw json.RawMessage) json.RawMessage {
	if raw == nil {
		return json.RawMessage(`""`)
	}
	return raw
}

// appendCallItem makes a call of a message of an item.
func appendCallItem(b []byte, members []ordered.Member) []byte {
	b = append(append(b, `{"id":`...), orText(memberOf(members, "call_id"))...)
	b = append(append(b, `,"type":"function","function":{"name":`...), orText(memberOf(members, "name"))...)
	b = append(append(b, `,"arguments":`...), orText(memberOf(members, "arguments"))...)
	return append(b, "}}"...)
}

// readTextFormat reads {"format":…}, in which name and schema of a schema stand beside its type.
func (b *generateBody) readTextFormat(name string, raw json.RawMessage) *request.Refusal {
	members, ok := wire.Members(raw)
	if !ok {
		return wrongType(name, "an object", decoded(raw))
	}
	format := memberOf(members, "format")
	if format == nil {
		return nil
	}
	inner, _ := wire.Members(format)
	if kind, _ := decoded(memberOf(inner, "type")).(string); kind == "json_schema" {
		return b.readNamedSchema(name+".format", format)
	}
	return b.readFormat(name+".format", format)
}

// readResponseTools reads tools in which all stands beside the type.
func (b *generateBody) readResponseTools(name string, raw json.RawMessage) *request.Refusal {
	return b.readFlatTools(name, raw, func(at string, item json.RawMessage, members []ordered.Member) (json.RawMessage, *request.Refusal) {
		if kind := memberOf(members, "type"); string(kind) != `"function"` {
			return nil, unsupportedField(at+".type", "only functions can be called, not tools of the type "+wire.Quoted(string(kind))+".")
		}
		return item, nil
	})
}

// status is how an answer has ended, and why it is incomplete.
func (c *choice) status() (status, reason string) {
	if c.Last != nil && c.Last.Finish == protocol.FinishLength {
		return "incomplete", "max_output_tokens"
	}
	return "completed", ""
}

// appendResponse appends the object of an answer with what it has come to; status "in_progress": nothing.
func (c *choice) appendResponse(b []byte, status string) []byte {
	job := c.job
	b = append(append(append(b, `{"id":"`...), job.name...), `","object":"response","created_at":`...)
	b = strconv.AppendInt(b, job.created, 10)
	b = append(append(append(b, `,"status":"`...), status...), `","background":false,"error":null,"incomplete_details":`...)
	if _, reason := c.status(); status == "incomplete" {
		b = append(append(append(b, `{"reason":"`...), reason...), `"}`...)
	} else {
		b = append(b, "null"...)
	}
	b = job.appendTold(b, "instructions", "null")
	b = job.appendTold(b, "max_output_tokens", "null")
	b = wire.AppendText(append(b, `,"model":`...), cmp.Or(job.adapter, job.model.Card.ModelID))
	b = append(b, `,"output":[`...)
	if status != "in_progress" {
		for i, p := range c.parts {
			if i > 0 {
				b = append(b, ',')
			}
			b = c.appendItem(b, p, p.status())
		}
	}
	b = strconv.AppendBool(append(b, `],"parallel_tool_calls":`...), job.body.tools.parallel)
	b = job.appendTold(append(b, `,"previous_response_id":null`...), "reasoning", `{"effort":null,"summary":null}`)
	b = append(b, `,"service_tier":"default","store":false`...)
	b = wire.AppendFloat(append(b, `,"temperature":`...), c.Request.Sampling.Temperature)
	b = job.appendTold(b, "text", `{"format":{"type":"text"}}`)
	b = job.appendTold(b, "tool_choice", `"auto"`)
	b = job.appendTold(b, "tools", "[]")
	b = wire.AppendFloat(append(b, `,"top_p":`...), cmp.Or(c.Request.Sampling.TopP, 1))
	b = append(b, `,"truncation":"disabled","usage":`...)
	if status == "in_progress" {
		b = append(b, "null"...)
	} else {
		b = appendResponseUsage(b, job.usage())
	}
	b = job.appendTold(b, "user", "null")
	return append(job.appendTold(b, "metadata", "{}"), '}')
}

// appendTold appends a field as the request has it.
func (job *work) appendTold(b []byte, name, otherwise string) []byte {
	b = append(append(append(b, `,"`...), name...), `":`...)
	if told := memberOf(job.body.told, name); told != nil {
		return append(b, told...)
	}
	return append(b, otherwise...)
}

func appendResponseUsage(b []byte, u tokenUsage) []byte {
	b = strconv.AppendInt(append(b, `{"input_tokens":`...), int64(u.prompt), 10)
	b = strconv.AppendInt(append(b, `,"input_tokens_details":{"cached_tokens":`...), int64(u.cached), 10)
	b = strconv.AppendInt(append(b, `},"output_tokens":`...), int64(u.completion), 10)
	b = strconv.AppendInt(append(b, `,"output_tokens_details":{"reasoning_tokens":0},"total_tokens":`...), int64(u.prompt+u.completion), 10)
	return append(b, '}')
}

// status is that of a part that has ended.
func (p *part) status() string {
	if p.cut && !(p.kind == partCall && json.Valid([]byte(p.text.String()))) {
		return "incomplete"
	}
	return "completed"
}

// itemID names a part of an answer.
func (c *choice) itemID(p *part) string {
	prefix := [...]string{partThought: "rs_", partText: "msg_", partCall: "fc_"}[p.kind]
	return prefix + strings.TrimPrefix(c.job.name, "resp_") + strconv.Itoa(p.index)
}

// appendItem appends a part; status "in_progress": without what it says.
func (c *choice) appendItem(b []byte, p *part, status string) []byte {
	text := p.text.String()
	if status == "in_progress" {
		text = ""
	}
	switch b = append(append(append(b, `{"id":"`...), c.itemID(p)...), `","type":"`...); p.kind {
	case partThought:
		b = append(b, `reasoning","summary":[],"content":[`...)
		if text != "" {
			b = append(wire.AppendText(append(b, `{"type":"reasoning_text","text":`...), text), '}')
		}
		return append(b, "]}"...)
	case partCall:
		b = append(append(append(b, `function_call","status":"`...), status...), `","call_id":`...)
		b = wire.AppendText(append(wire.AppendText(b, p.call.id), `,"name":`...), p.call.name)
		return append(wire.AppendText(append(b, `,"arguments":`...), text), '}')
	}
	b = append(append(append(b, `message","status":"`...), status...), `","role":"assistant","content":[`...)
	if status != "in_progress" {
		b = appendTextPart(b, text)
	}
	return append(b, "]}"...)
}

func appendTextPart(b []byte, text string) []byte {
	return append(wire.AppendText(append(b, `{"type":"output_text","annotations":[],"logprobs":[],"text":`...), text), '}')
}

func (responses) appendWhole(b []byte, job *work) []byte {
	c := job.choices[0]
	status, _ := c.status()
	return c.appendResponse(b, status)
}

func (responses) take(c *choice, t *answer.Token, last *answer.Generation) {
	c.tellParts(nil, t, last, quiet{})
}

func (responses) head(*work) []byte { return nil }

// event appends one with what tell appends behind its type and number.
func (c *choice) event(b []byte, kind string, tell func(b []byte) []byte) []byte {
	b = append(append(append(b, "event: "...), kind...), "\ndata: {\"type\":\""...)
	b = strconv.AppendInt(append(append(b, kind...), `","sequence_number":`...), int64(c.events), 10)
	c.events++
	return append(tell(append(b, ',')), "}\n\n"...)
}

func (responses) chunks(c *choice, _ []byte) answer.AppendEvent {
	return func(b []byte, t *answer.Token, last *answer.Generation) []byte {
		if !c.begun {
			c.begun = true
			for _, kind := range []string{"response.created", "response.in_progress"} {
				b = c.event(b, kind, func(b []byte) []byte { return c.appendResponse(append(b, `"response":`...), "in_progress") })
			}
		}
		return c.tellParts(b, t, last, itemWriter{c})
	}
}

func (responses) appendEnd(b []byte, job *work, _ []byte) []byte {
	c := job.choices[0]
	status, _ := c.status()
	return c.event(b, "response."+status, func(b []byte) []byte { return c.appendResponse(append(b, `"response":`...), status) })
}

func (r responses) appendFailure(b []byte, job *work, refusal *request.Refusal) ([]byte, int) {
	status := outcomes[refusal.Class].status
	return job.choices[0].event(b, "error", func(b []byte) []byte {
		b = wire.AppendText(append(b, `"code":`...), cmp.Or(refusal.Code, outcomes[refusal.Class].code, "server_error"))
		return append(wire.AppendText(append(b, `,"message":`...), wire.Bounded(refusal.Message)), `,"param":null`...)
	}), status
}

// itemWriter tells of items as they grow.
type itemWriter struct{ *choice }

// place appends where an item is.
func (w itemWriter) place(b []byte, p *part, content bool) []byte {
	b = append(append(append(b, `"item_id":"`...), w.itemID(p)...), `","output_index":`...)
	if b = strconv.AppendInt(b, int64(p.index), 10); content {
		b = append(b, `,"content_index":0`...)
	}
	return b
}

func (w itemWriter) item(b []byte, p *part, kind, status string) []byte {
	return w.event(b, kind, func(b []byte) []byte {
		b = strconv.AppendInt(append(b, `"output_index":`...), int64(p.index), 10)
		return w.appendItem(append(b, `,"item":`...), p, status)
	})
}

func (w itemWriter) open(b []byte, p *part) []byte {
	b = w.item(b, p, "response.output_item.added", "in_progress")
	if p.kind != partText {
		return b
	}
	return w.event(b, "response.content_part.added", func(b []byte) []byte {
		return appendTextPart(append(w.place(b, p, true), `,"part":`...), "")
	})
}

// eventNames are those of the events of a kind of part.
var eventNames = [...]string{partThought: "response.reasoning_text", partText: "response.output_text",
	partCall: "response.function_call_arguments"}

func (w itemWriter) grow(b []byte, p *part, piece string) []byte {
	return w.event(b, eventNames[p.kind]+".delta", func(b []byte) []byte {
		b = wire.AppendText(append(w.place(b, p, p.kind != partCall), `,"delta":`...), piece)
		if p.kind == partText {
			b = append(b, `,"logprobs":[]`...)
		}
		return b
	})
}

func (w itemWriter) shut(b []byte, p *part) []byte {
	b = w.event(b, eventNames[p.kind]+".done", func(b []byte) []byte {
		b = w.place(b, p, p.kind != partCall)
		switch p.kind {
		case partCall:
			b = wire.AppendText(append(b, `,"name":`...), p.call.name)
			return wire.AppendText(append(b, `,"arguments":`...), p.text.String())
		case partText:
			b = append(b, `,"logprobs":[]`...)
		}
		return wire.AppendText(append(b, `,"text":`...), p.text.String())
	})
	if p.kind == partText {
		b = w.event(b, "response.content_part.done", func(b []byte) []byte {
			return appendTextPart(append(w.place(b, p, true), `,"part":`...), p.text.String())
		})
	}
	return w.item(b, p, "response.output_item.done", p.status())
}
