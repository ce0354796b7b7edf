package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
)

// readMessages checks the messages and puts them into the form that templates expect: the arguments of tool calls, which
// OpenAI has as JSON in a string, become objects. All else stays as it is, in its order. Roles are the template's business.
func (b *openAIBody) readMessages(name string, raw json.RawMessage) *openAIError {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return wrongType(name, "an array of objects", decoded(raw))
	}
	if len(list) == 0 {
		return wrongValue(name, "expected at least one message, but got an empty array.")
	}
	for i, item := range list {
		at := name + "[" + strconv.Itoa(i) + "]"
		message, ok := members(item)
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
// Templates that do not know developers take them for the system, whose newer name that is.
func (b *openAIBody) conversation(parts, developers bool) json.RawMessage {
	out := []byte{'['}
	for i, message := range b.messages {
		if i > 0 {
			out = append(out, ',')
		}
		message = slices.Clone(message)
		for j, m := range message {
			switch {
			case m.name == "role" && !developers && decoded(m.value) == "developer":
				message[j].value = json.RawMessage(`"system"`)
			case m.name == "content" && !parts && m.value[0] == '[':
				message[j].value, _ = joinedParts("", m.value) // they were checked
			}
		}
		out = appendMembers(out, message)
	}
	return append(out, ']')
}

// checkMessage checks a message, changes its tool calls, and returns its role.
func checkMessage(at string, message []member) (role string, err *openAIError) {
	content := false // it is there, or something that stands for it
	for i, m := range message {
		value := decoded(m.value)
		switch m.name {
		case "role":
			var ok bool
			if role, ok = value.(string); !ok {
				return "", wrongType(at+".role", "a string", value)
			}
		case "content":
			content = content || value != nil
			if _, err := joinedParts(at+".content", m.value); err != nil {
				return "", err
			}
		case "tool_calls":
			if value != nil {
				message[i].value = parsedArguments(m.value)
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
func joinedParts(at string, raw json.RawMessage) (json.RawMessage, *openAIError) {
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
			return nil, &openAIError{param: at + ".type", code: "unsupported_content",
				message: fmt.Sprintf("Content of type %q is not supported: the model reads text only.", quoted(kind))}
		case !written:
			return nil, missingField(at + ".text")
		}
		joined = append(joined, text...)
	}
	return appendText(nil, string(joined)), nil
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
		call, ok := members(item)
		if !ok {
			return raw
		}
		for j, m := range call {
			if function, ok := members(m.value); ok && m.name == "function" {
				call[j].value = appendMembers(nil, parsedFunction(function))
			}
		}
		out = appendMembers(out, call)
	}
	return append(out, ']')
}

func parsedFunction(function []member) []member {
	for i, m := range function {
		var arguments string
		if m.name != "arguments" || json.Unmarshal(m.value, &arguments) != nil {
			continue
		}
		if object := json.RawMessage(bytes.TrimSpace([]byte(arguments))); json.Valid(object) && object[0] == '{' {
			function[i].value = object
		}
	}
	return function
}

func appendMembers(b []byte, list []member) []byte {
	b = append(b, '{')
	for i, m := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(appendText(b, m.name), ':'), m.value...)
	}
	return append(b, '}')
}
