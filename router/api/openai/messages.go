package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"lockstep/protocol/ordered"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// readMessages checks the messages and puts them into the form that templates expect: the arguments of tool calls, which
// OpenAI has as JSON in a string, become objects. All else stays as it is, in its order. Roles are the template's business.
func (b *generateBody) readMessages(name string, raw json.RawMessage) *request.Refusal {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return wrongType(name, "an array of objects", decoded(raw))
	}
	if len(list) == 0 {
		return wrongValue(name, "expected at least one message, but got an empty array.")
	}
	for i, item := range list {
		at := name + "[" + strconv.Itoa(i) + "]"
		message, ok := wire.Members(item)
		if !ok {
			return wrongType(at, "an object", decoded(item))
		}
		role, err := checkMessage(at, message)
		if err != nil {
			return err
		}
		b.assistantLast = role == "assistant"
		b.messages = append(b.messages, message)
	}
	return nil
}

// conversation returns the messages as JSON. Unless the template reads parts, content in text parts becomes one string.
// Templates that do not know developers take them for the system, whose newer name that is. Where the body has tools, those that
// do not know any get calls and their results as text; an instruction, if it is not empty, stands behind the last message's.
func (b *generateBody) conversation(model *answer.Model, instruction string) json.RawMessage {
	parts, developers := model.ChatReadsParts, strings.Contains(model.Card.Chat.Template, "developer")
	out := []byte{'['}
	for i, message := range b.messages {
		if i > 0 {
			out = append(out, ',')
		}
		message = slices.Clone(message)
		if !model.ChatReadsTools && len(b.tools.list) > 0 {
			message = withoutTools(message)
		}
		if instruction != "" && i == len(b.messages)-1 {
			message = withInstruction(message, instruction)
		}
		for j, m := range message {
			switch {
			case m.Name == "role" && !developers && decoded(m.Value) == "developer":
				message[j].Value = json.RawMessage(`"system"`)
			case m.Name == "content" && !parts && m.Value[0] == '[':
				message[j].Value, _ = joinedParts("", m.Value) // they were checked
			}
		}
		out = wire.AppendMembers(out, message)
	}
	return append(out, ']')
}

// withoutTools makes text of calls, and of their results what a user says.
func withoutTools(message []ordered.Member) []ordered.Member {
	made := memberOf(message, "tool_calls")
	result := string(memberOf(message, "role")) == `"tool"`
	var text []byte
	for i, m := range message {
		switch {
		case m.Name == "role" && result:
			message[i].Value = json.RawMessage(`"user"`)
		case m.Name == "content" && result:
			joined, _ := joinedParts("", m.Value) // they were checked
			content, _ := decoded(joined).(string)
			message[i].Value = wire.AppendText(nil, "Result of the call: "+content)
		}
	}
	var list []json.RawMessage
	if made == nil || json.Unmarshal(made, &list) != nil {
		return message
	}
	for _, item := range list {
		call, _ := wire.Members(item)
		function, _ := wire.Members(memberOf(call, "function"))
		text = append(append(text, `{"name": `...), memberOf(function, "name")...)
		text = append(append(append(text, `, "arguments": `...), memberOf(function, "arguments")...), "}\n"...)
	}
	return withContent(message, func(content string) string { return strings.TrimSpace(content + "\n" + string(text)) })
}

// withInstruction puts words behind a message's text.
func withInstruction(message []ordered.Member, instruction string) []ordered.Member {
	return withContent(message, func(content string) string { return content + instruction })
}

// withContent changes a message's text.
func withContent(message []ordered.Member, change func(string) string) []ordered.Member {
	for i, m := range message {
		if m.Name == "content" {
			joined, _ := joinedParts("", m.Value) // they were checked
			content, _ := decoded(joined).(string)
			message[i].Value = wire.AppendText(nil, change(content))
			return message
		}
	}
	return append(message, ordered.Member{Name: "content", Value: wire.AppendText(nil, change(""))})
}

// checkMessage checks a message, changes its tool calls, and returns its role.
func checkMessage(at string, message []ordered.Member) (role string, err *request.Refusal) {
	content := false // it is there, or something that stands for it
	for i, m := range message {
		value := decoded(m.Value)
		switch m.Name {
		case "role":
			var ok bool
			if role, ok = value.(string); !ok {
				return "", wrongType(at+".role", "a string", value)
			}
		case "content":
			content = content || value != nil
			if _, err := joinedParts(at+".content", m.Value); err != nil {
				return "", err
			}
		case "tool_calls":
			if value != nil {
				message[i].Value = parsedArguments(m.Value)
				content = true
			}
		case "function_call", "refusal":
			content = content || value != nil
		}
	}
	switch {
	case role == "":
		return "", missingField(at + ".role")
	case content, role == "tool", role == "function": // a tool may have nothing to say
	case role != "assistant":
		return "", missingField(at + ".content")
	default:
		return "", wrongValue(at+".content", "it is missing, and there are no 'tool_calls' either.")
	}
	return role, nil
}

// joinedParts returns a text, or the joined texts of an array of parts, as a JSON string.
func joinedParts(at string, raw json.RawMessage) (json.RawMessage, *request.Refusal) {
	value := decoded(raw)
	if _, ok := value.(string); ok || value == nil {
		return raw, nil
	}
	parts, ok := value.([]any)
	if !ok {
		return nil, wrongType(at, "a string or an array of content parts", value)
	}
	var joined []byte
	for i, item := range parts {
		at := at + "[" + strconv.Itoa(i) + "]"
		part, ok := item.(map[string]any)
		kind, named := part["type"].(string)
		text, written := part["text"].(string)
		if kind == "refusal" {
			text, written = part["refusal"].(string)
		}
		switch {
		case !ok:
			return nil, wrongType(at, "an object", item)
		case !named:
			return nil, missingField(at + ".type")
		case !slices.Contains([]string{"text", "input_text", "output_text", "refusal"}, kind):
			return nil, &request.Refusal{Param: at + ".type", Code: "unsupported_content",
				Message: fmt.Sprintf("Content of type %q is not supported: the model reads text only.", wire.Quoted(kind))}
		case !written:
			return nil, missingField(at + ".text")
		}
		joined = append(joined, text...)
	}
	return wire.AppendText(nil, string(joined)), nil
}

// parsedArguments turns the arguments of tool calls into objects where they are objects in a string.
func parsedArguments(raw json.RawMessage) json.RawMessage {
	var calls []json.RawMessage
	if json.Unmarshal(raw, &calls) != nil {
		return raw
	}
	out := []byte{'['}
	for i, item := range calls {
		if i > 0 {
			out = append(out, ',')
		}
		call, ok := wire.Members(item)
		if !ok {
			return raw
		}
		for j, m := range call {
			if function, ok := wire.Members(m.Value); ok && m.Name == "function" {
				call[j].Value = wire.AppendMembers(nil, parsedFunction(function))
			}
		}
		out = wire.AppendMembers(out, call)
	}
	return append(out, ']')
}

func parsedFunction(function []ordered.Member) []ordered.Member {
	for i, m := range function {
		var arguments string
		if m.Name != "arguments" || json.Unmarshal(m.Value, &arguments) != nil {
			continue
		}
		if object := json.RawMessage(bytes.TrimSpace([]byte(arguments))); json.Valid(object) && object[0] == '{' {
			function[i].Value = object
		}
	}
	return function
}
