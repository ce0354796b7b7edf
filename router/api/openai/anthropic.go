package openai

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"lockstep/protocol"
	"lockstep/protocol/ordered"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// anthropic is the form of Anthropic's /v1/messages, which vLLM serves beside OpenAI's routes too.
type anthropic struct{}

var _ reply = anthropic{}

// messagesPath is its route.
const messagesPath = "/v1/messages"

func (anthropic) prefix() string { return "msg_" }

// anthropicFields are the fields of a body; others are ignored.
var anthropicFields = map[string]fieldReader{
	"model":                commonFields["model"],
	"messages":             func(*generateBody, string, json.RawMessage) *request.Refusal { return nil }, // read with system
	"max_tokens":           chatFields["max_tokens"],
	"stop_sequences":       (*generateBody).readStop,
	"stream":               commonFields["stream"],
	"temperature":          realField(0, 1, func(b *generateBody, v float32) { b.chosen.Temperature = &v }),
	"top_p":                commonFields["top_p"],
	"top_k":                commonFields["top_k"],
	"tools":                (*generateBody).readAnthropicTools,
	"tool_choice":          (*generateBody).readAnthropicChoice,
	"thinking":             (*generateBody).readThinking,
	"chat_template_kwargs": chatFields["chat_template_kwargs"],
	"seed":                 commonFields["seed"],
}

func (anthropic) read(top []ordered.Member) (*generateBody, *request.Refusal) {
	b := &generateBody{chat: true, n: 1, tools: toolWishes{parallel: true}}
	for _, m := range top {
		if read := anthropicFields[m.Name]; read != nil && string(m.Value) != "null" {
			if err := read(b, m.Name, m.Value); err != nil {
				return nil, err
			}
		}
	}
	if b.maxTokens == nil {
		return nil, missingField("max_tokens")
	}
	messages := memberOf(top, "messages")
	if messages == nil {
		return nil, missingField("messages")
	}
	if err := b.readAnthropicMessages(memberOf(top, "system"), messages); err != nil {
		return nil, err
	}
	if b.assistantLast { // what it says is gone on with
		b.continueFinal = new(true)
	}
	return b, b.verify()
}

// readAnthropicMessages makes a chat's messages of blocks: results of tools become messages of their own, in front of what else a user
// says.
func (b *generateBody) readAnthropicMessages(system, raw json.RawMessage) *request.Refusal {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return wrongType("messages", "an array of objects", decoded(raw))
	}
	var messages [][]byte
	if system != nil {
		text, err := blockTexts("system", system)
		if err != nil {
			return err
		}
		messages = append(messages, append(wire.AppendText([]byte(`{"role":"system","content":`), text), '}'))
	}
	for i, item := range list {
		at := "messages[" + strconv.Itoa(i) + "]"
		members, ok := wire.Members(item)
		if !ok {
			return wrongType(at, "an object", decoded(item))
		}
		role, _ := decoded(memberOf(members, "role")).(string)
		if role != "user" && role != "assistant" && role != "system" {
			return wrongValue(at+".role", "expected 'user' or 'assistant', but got %q.", wire.Quoted(role))
		}
		made, err := blockMessages(at, role, memberOf(members, "content"))
		if err != nil {
			return err
		}
		messages = append(messages, made...)
	}
	return b.readMessages("messages", append(append([]byte{'['}, bytes.Join(messages, []byte{','})...), ']'))
}

// block is one of a message's content.
type block struct {
	Type, Text, Thinking, ID, Name string
	Input                          json.RawMessage
	ToolUseID                      string `json:"tool_use_id"`
	Content                        json.RawMessage
}

// blocksOf reads content: a text, or blocks.
func blocksOf(at string, raw json.RawMessage) ([]block, *request.Refusal) {
	if text, ok := decoded(raw).(string); ok {
		return []block{{Type: "text", Text: text}}, nil
	}
	var blocks []block
	if raw == nil || json.Unmarshal(raw, &blocks) != nil {
		return nil, wrongType(at, "a string or an array of blocks", decoded(raw))
	}
	return blocks, nil
}

// blockTexts are the texts of blocks that must be such.
func blockTexts(at string, raw json.RawMessage) (string, *request.Refusal) {
	if raw == nil {
		return "", nil
	}
	blocks, err := blocksOf(at, raw)
	var text strings.Builder
	for i, b := range blocks {
		if b.Type != "text" {
			return "", unsupportedBlock(at+"["+strconv.Itoa(i)+"]", b.Type)
		}
		text.WriteString(b.Text)
	}
	return text.String(), err
}

func unsupportedBlock(at, kind string) *request.Refusal {
	return &request.Refusal{Param: at + ".type", Code: "unsupported_content",
		Message: fmt.Sprintf("%s: blocks of the type %q are not supported here: the model reads text only.", at, wire.Quoted(kind))}
}

// blockMessages makes messages of one's content.
func blockMessages(at, role string, raw json.RawMessage) (messages [][]byte, err *request.Refusal) {
	blocks, err := blocksOf(at+".content", raw)
	if err != nil {
		return nil, err
	}
	var text, thought strings.Builder
	var made []byte
	for i, b := range blocks {
		at := at + ".content[" + strconv.Itoa(i) + "]"
		switch b.Type {
		case "text":
			text.WriteString(b.Text)
		case "thinking":
			thought.WriteString(b.Thinking)
		case "redacted_thinking":
		case "tool_use":
			made = wire.AppendText(append(wire.AppendComma(made), `{"id":`...), b.ID)
			made = wire.AppendText(append(made, `,"type":"function","function":{"name":`...), b.Name)
			input := cmp.Or(string(bytes.TrimSpace(b.Input)), "{}")
			made = append(wire.AppendText(append(made, `,"arguments":`...), input), "}}"...)
		case "tool_result":
			result, err := blockTexts(at+".content", b.Content)
			if err != nil {
				return nil, err
			}
			message := wire.AppendText([]byte(`{"role":"tool","tool_call_id":`), b.ToolUseID)
			messages = append(messages, append(wire.AppendText(append(message, `,"content":`...), result), '}'))
		default:
			return nil, unsupportedBlock(at, b.Type)
		}
	}
	if text.Len() == 0 && made == nil && (len(messages) > 0 || thought.Len() > 0) {
		return messages, nil
	}
	message := wire.AppendText([]byte(`{"role":`), role)
	if message = append(message, `,"content":`...); text.Len() == 0 && made != nil {
		message = append(message, "null"...)
	} else {
		message = wire.AppendText(message, text.String())
	}
	if thought.Len() > 0 {
		message = wire.AppendText(append(message, `,"reasoning_content":`...), thought.String())
	}
	if made != nil {
		message = append(append(append(message, `,"tool_calls":[`...), made...), ']')
	}
	return append(messages, append(message, '}')), nil
}

// readAnthropicTools reads tools whose parameters are called input_schema.
func (b *generateBody) readAnthropicTools(name string, raw json.RawMessage) *request.Refusal {
	return b.readFlatTools(name, raw, func(at string, _ json.RawMessage, members []ordered.Member) (json.RawMessage, *request.Refusal) {
		if kind, _ := decoded(memberOf(members, "type")).(string); kind != "" && kind != "custom" {
			return nil, unsupportedField(at+".type", "tools of the server, as "+wire.Quoted(kind)+", do not exist here.")
		}
		var function []ordered.Member
		for _, m := range members {
			switch m.Name {
			case "input_schema":
				function = append(function, ordered.Member{Name: "parameters", Value: m.Value})
			case "name", "description", "strict":
				function = append(function, m)
			}
		}
		return wire.AppendMembers(nil, function), nil
	})
}

func (b *generateBody) readAnthropicChoice(name string, raw json.RawMessage) *request.Refusal {
	members, ok := wire.Members(raw)
	if !ok {
		return wrongType(name, "an object", decoded(raw))
	}
	b.tools.chosen = true
	if string(memberOf(members, "disable_parallel_tool_use")) == "true" {
		b.tools.parallel = false
	}
	switch kind, _ := decoded(memberOf(members, "type")).(string); kind {
	case "auto", "any", "none":
		b.chooseTool(kind)
	case "tool":
		b.tools.choice = choiceNamed
		if b.tools.name, ok = decoded(memberOf(members, "name")).(string); !ok {
			return missingField(name + ".name")
		}
	default:
		return wrongValue(name+".type", "expected 'auto', 'any', 'tool' or 'none', but got %q.", wire.Quoted(kind))
	}
	return nil
}

// readThinking tells templates that can think whether to.
func (b *generateBody) readThinking(name string, raw json.RawMessage) *request.Refusal {
	members, ok := wire.Members(raw)
	if !ok {
		return wrongType(name, "an object", decoded(raw))
	}
	kind, _ := decoded(memberOf(members, "type")).(string)
	if budget := memberOf(members, "budget_tokens"); budget != nil && kind != "disabled" {
		if err := thinkingBudget(b, name+".budget_tokens", budget); err != nil {
			return err
		}
	}
	if b.templateArguments == nil {
		b.templateArguments = json.RawMessage(fmt.Sprintf(`{"enable_thinking":%t}`, kind != "disabled"))
	}
	return nil
}

// stopReason is Anthropic's word for why an answer has ended, and the stop sequence at which it has.
func (c *choice) stopReason() (reason, stop string) {
	switch {
	case c.Last.Finish == protocol.FinishLength:
		return "max_tokens", ""
	case c.called():
		return "tool_use", ""
	case c.Last.Finish == protocol.FinishStop:
		for _, s := range c.job.body.stops {
			if strings.Contains(c.Last.Text, s) {
				return "stop_sequence", s
			}
		}
	}
	return "end_turn", ""
}

// appendReason appends both.
func (c *choice) appendReason(b []byte) []byte {
	reason, stop := c.stopReason()
	b = append(append(append(b, `"stop_reason":"`...), reason...), `","stop_sequence":`...)
	if stop == "" {
		return append(b, "null"...)
	}
	return wire.AppendText(b, stop)
}

// appendMessageHead appends what a message begins with.
func (job *work) appendMessageHead(b []byte) []byte {
	b = append(append(append(b, `{"id":"`...), job.name...), `","type":"message","role":"assistant","model":`...)
	return append(wire.AppendText(b, cmp.Or(job.adapter, job.model.Card.ModelID)), `,"content":[`...)
}

// appendMessageUsage appends what was used. Tokens of the prompt that a cache had count apart.
func appendMessageUsage(b []byte, u tokenUsage) []byte {
	b = strconv.AppendInt(append(b, `{"input_tokens":`...), int64(u.prompt-u.cached), 10)
	b = strconv.AppendInt(append(b, `,"cache_creation_input_tokens":0,"cache_read_input_tokens":`...), int64(u.cached), 10)
	return append(strconv.AppendInt(append(b, `,"output_tokens":`...), int64(u.completion), 10), '}')
}

func (anthropic) take(c *choice, t *answer.Token, last *answer.Generation) {
	c.tellParts(nil, t, last, quiet{})
}

func (anthropic) appendWhole(b []byte, job *work) []byte {
	c := job.choices[0]
	b = job.appendMessageHead(b)
	for i, p := range c.parts {
		if i > 0 {
			b = append(b, ',')
		}
		b = p.appendBlock(b, p.text.String())
	}
	b = c.appendReason(append(b, "],"...))
	return append(appendMessageUsage(append(b, `,"usage":`...), job.usage()), '}')
}

// appendBlock appends a block that says so much.
func (p *part) appendBlock(b []byte, text string) []byte {
	switch p.kind {
	case partThought:
		return append(wire.AppendText(append(b, `{"type":"thinking","thinking":`...), text), `,"signature":""}`...)
	case partCall:
		b = wire.AppendText(append(b, `{"type":"tool_use","id":`...), p.call.id)
		b = wire.AppendText(append(b, `,"name":`...), p.call.name)
		input := json.RawMessage(text)
		if !json.Valid(input) { // it was cut
			input = json.RawMessage("{}")
		}
		return append(append(append(b, `,"input":`...), input...), '}')
	}
	return append(wire.AppendText(append(b, `{"type":"text","text":`...), text), '}')
}

func (anthropic) head(*work) []byte { return nil }

// messageEvent appends an event with what tell appends behind its type.
func messageEvent(b []byte, kind string, tell func(b []byte) []byte) []byte {
	b = append(append(append(b, "event: "...), kind...), "\ndata: {\"type\":\""...)
	return append(tell(append(append(b, kind...), '"')), "}\n\n"...)
}

func (anthropic) chunks(c *choice, _ []byte) answer.AppendEvent {
	return func(b []byte, t *answer.Token, last *answer.Generation) []byte {
		if !c.begun {
			c.begun = true
			b = messageEvent(b, "message_start", func(b []byte) []byte {
				b = c.job.appendMessageHead(append(b, `,"message":`...))
				b = append(b, `],"stop_reason":null,"stop_sequence":null,"usage":`...)
				return append(appendMessageUsage(b, tokenUsage{prompt: len(c.Request.Prompt), cached: c.Cached(), completion: 1}), '}')
			})
			b = messageEvent(b, "ping", func(b []byte) []byte { return b })
		}
		return c.tellParts(b, t, last, blockWriter{})
	}
}

func (anthropic) appendEnd(b []byte, job *work, _ []byte) []byte {
	c := job.choices[0]
	b = messageEvent(b, "message_delta", func(b []byte) []byte {
		b = append(c.appendReason(append(b, `,"delta":{`...)), '}')
		return appendMessageUsage(append(b, `,"usage":`...), job.usage())
	})
	return messageEvent(b, "message_stop", func(b []byte) []byte { return b })
}

// anthropicTypes are the types of errors by their statuses.
var anthropicTypes = map[int]string{http.StatusUnauthorized: "authentication_error", http.StatusNotFound: "not_found_error",
	http.StatusRequestEntityTooLarge: "request_too_large", http.StatusTooManyRequests: "rate_limit_error",
	http.StatusServiceUnavailable: "overloaded_error"}

func (anthropic) appendRefusal(b []byte, refusal *request.Refusal) ([]byte, int) {
	outcome := outcomes[refusal.Class]
	kind := anthropicTypes[outcome.status]
	switch {
	case kind != "":
	case outcome.status >= http.StatusInternalServerError:
		kind = "api_error"
	default:
		kind = "invalid_request_error"
	}
	message := outcome.words
	if !outcome.whole {
		message += wire.Bounded(refusal.Message)
	}
	b = append(append(append(b, `{"type":"error","error":{"type":"`...), kind...), `","message":`...)
	return append(wire.AppendText(b, message), "}}"...), outcome.status
}

func (a anthropic) appendFailure(b []byte, _ *work, refusal *request.Refusal) ([]byte, int) {
	b, status := a.appendRefusal(append(b, "event: error\ndata: "...), refusal)
	return append(b, "\n\n"...), status
}

// blockWriter tells of blocks as they grow.
type blockWriter struct{}

func (blockWriter) event(b []byte, p *part, kind string, tell func(b []byte) []byte) []byte {
	return messageEvent(b, kind, func(b []byte) []byte {
		return tell(strconv.AppendInt(append(b, `,"index":`...), int64(p.index), 10))
	})
}

func (w blockWriter) open(b []byte, p *part) []byte {
	return w.event(b, p, "content_block_start", func(b []byte) []byte {
		return p.appendBlock(append(b, `,"content_block":`...), "")
	})
}

// deltas are the types of what is added to a kind of block, and its field.
var deltas = [...]string{partThought: `"thinking_delta","thinking":`, partText: `"text_delta","text":`,
	partCall: `"input_json_delta","partial_json":`}

func (w blockWriter) grow(b []byte, p *part, piece string) []byte {
	return w.event(b, p, "content_block_delta", func(b []byte) []byte {
		return append(wire.AppendText(append(append(b, `,"delta":{"type":`...), deltas[p.kind]...), piece), '}')
	})
}

func (w blockWriter) shut(b []byte, p *part) []byte {
	return w.event(b, p, "content_block_stop", func(b []byte) []byte { return b })
}

// serveCountTokens answers /v1/messages/count_tokens.
func (d *Dialect) serveCountTokens(w http.ResponseWriter, r *http.Request) {
	form := anthropic{}
	job := &work{form: form}
	_, err := d.answers.Bodies.ReadJSON(w, r)
	if err == nil {
		err = d.answers.Bodies.Decode(r.Context(), func() (err *request.Refusal) {
			top, ok := wire.Of(w).Members()
			if !ok {
				return notAnObject
			}
			if memberOf(top, "max_tokens") == nil {
				top = append(top[:len(top):len(top)], ordered.Member{Name: "max_tokens", Value: json.RawMessage("1")})
			}
			if job.body, err = form.read(top); err == nil {
				err = d.check(job.body)
			}
			return err
		})
	}
	if err == nil {
		job.model, err = d.answers.WaitModel(r.Context())
	}
	if err == nil {
		job.adapter, err = adapterOf(job.model, job.body.model)
	}
	if err == nil {
		err = d.makePrompts(r.Context(), job)
	}
	if err != nil {
		d.refuseAs(w, form, err)
		return
	}
	b := strconv.AppendInt([]byte(`{"input_tokens":`), int64(len(job.prompts[0].ids)), 10)
	wire.Respond(w, http.StatusOK, wire.JSONType, append(b, '}'))
}
