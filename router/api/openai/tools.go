package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"lockstep/protocol/ordered"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// maxTools bounds the functions of a request.
const maxTools = 1024

// functionName is what functions, and tools and schemas, may be called.
var functionName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,128}$`)

// tool is a function that the model may call.
type tool struct {
	param      string // where its parameters stand in the body
	name       string
	parameters json.RawMessage // nil: it takes no arguments
	kind       any             // of the parameters: what their schema has for its type
	strict     bool
}

// toolChoice says whether functions are called.
type toolChoice int

const (
	choiceAuto toolChoice = iota
	choiceNone
	choiceRequired
	choiceNamed
)

// toolWishes are what a body says of functions.
type toolWishes struct {
	list     []tool
	raw      json.RawMessage // as templates take them
	choice   toolChoice
	chosen   bool   // the body has a choice
	name     string // of choiceNamed
	allowed  []string
	parallel bool
	legacy   bool    // in the older form: functions and function_call
	prompt   *string // TGI's words about them
}

// active reports whether the model may call anything.
func (t *toolWishes) active() bool { return len(t.list) > 0 && t.choice != choiceNone }

// callable are the functions that may be called.
func (t *toolWishes) callable() []tool {
	return slices.DeleteFunc(slices.Clone(t.list), func(f tool) bool {
		return t.choice == choiceNamed && f.name != t.name || t.allowed != nil && !slices.Contains(t.allowed, f.name)
	})
}

// eachTool reads a list of objects.
func eachTool(name string, raw json.RawMessage,
	read func(at string, item json.RawMessage, members []ordered.Member) *request.Refusal) *request.Refusal {
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil {
		return wrongType(name, "an array of objects", decoded(raw))
	}
	for i, item := range list {
		at := name + "[" + strconv.Itoa(i) + "]"
		members, ok := wire.Members(item)
		if !ok {
			return wrongType(at, "an object", decoded(item))
		}
		if err := read(at, item, members); err != nil {
			return err
		}
	}
	return nil
}

// readTools reads OpenAI's tools. Functions without parameters take no arguments.
func (b *generateBody) readTools(name string, raw json.RawMessage) *request.Refusal {
	b.tools.raw = raw
	return eachTool(name, raw, func(at string, _ json.RawMessage, members []ordered.Member) *request.Refusal {
		if kind := memberOf(members, "type"); kind != nil && string(kind) != `"function"` {
			return wrongValue(at+".type", "expected 'function', but got %.100s.", kind)
		}
		function := memberOf(members, "function")
		if function == nil {
			return missingField(at + ".function")
		}
		return b.readFunction(at+".function", function)
	})
}

// readFunctions reads the older form.
func (b *generateBody) readFunctions(name string, raw json.RawMessage) *request.Refusal {
	err := b.readFlatTools(name, raw, func(_ string, item json.RawMessage, _ []ordered.Member) (json.RawMessage, *request.Refusal) {
		return item, nil
	})
	b.tools.legacy = len(b.tools.list) > 0
	return err
}

// readFlatTools reads a list of tools in another form than that of chats: function makes of each the function that chats have of it.
func (b *generateBody) readFlatTools(name string, raw json.RawMessage, function func(at string, item json.RawMessage,
	members []ordered.Member) (json.RawMessage, *request.Refusal)) *request.Refusal {
	var tools [][]byte
	err := eachTool(name, raw, func(at string, item json.RawMessage, members []ordered.Member) *request.Refusal {
		made, err := function(at, item, members)
		if err != nil {
			return err
		}
		tools = append(tools, slices.Concat([]byte(`{"type":"function","function":`), made, []byte("}")))
		return b.readFunction(at, item)
	})
	b.tools.raw = slices.Concat([]byte("["), bytes.Join(tools, []byte(",")), []byte("]"))
	return err
}

func (b *generateBody) readFunction(at string, raw json.RawMessage) *request.Refusal {
	members, ok := wire.Members(raw)
	if !ok {
		return wrongType(at, "an object", decoded(raw))
	}
	var f tool
	for _, m := range members {
		value := decoded(m.Value)
		switch m.Name {
		case "name":
			if f.name, ok = value.(string); !ok {
				return wrongType(at+".name", "a string", value)
			}
		case "parameters", "arguments", "input_schema": // the second is TGI's, the third Anthropic's
			f.param = at + "." + m.Name
			switch schema, ok := value.(map[string]any); {
			case value == nil:
			case !ok:
				return wrongType(f.param, "an object", value)
			default:
				f.parameters, f.kind = m.Value, schema["type"]
			}
		case "strict":
			f.strict = value == true
		}
	}
	switch {
	case f.name == "":
		return missingField(at + ".name")
	case !functionName.MatchString(f.name):
		return wrongValue(at+".name", "expected up to 128 letters, digits, '_', '-' and '.', but got %q.", wire.Quoted(f.name))
	case slices.ContainsFunc(b.tools.list, func(other tool) bool { return other.name == f.name }):
		return wrongValue(at+".name", "there are two functions called %q.", f.name)
	case isOther(f.kind):
		return &request.Refusal{Param: f.param, Code: "invalid_function_parameters", Message: "Invalid schema for function '" + f.name +
			"': arguments are of the type \"object\", but the schema's is " + strconv.Quote(wire.Quoted(f.kind.(string))) + "."}
	case len(b.tools.list) >= maxTools:
		return wrongValue(at, "there can be %d functions at most.", maxTools)
	}
	b.tools.list = append(b.tools.list, f)
	return nil
}

// isOther reports whether a schema's type is one, and not an object.
func isOther(kind any) bool {
	name, ok := kind.(string)
	return ok && name != "object"
}

// readToolChoice reads a word, or which functions may be called. TGI takes the name of a function for a word too.
func (b *generateBody) readToolChoice(name string, raw json.RawMessage) *request.Refusal {
	b.tools.chosen = true
	value := decoded(raw)
	if word, ok := value.(string); ok {
		b.chooseTool(word)
		return nil
	}
	members, ok := wire.Members(raw)
	if !ok {
		return wrongType(name, "a string or an object", value)
	}
	switch kind, _ := decoded(memberOf(members, "type")).(string); kind {
	case "function", "":
		function, _ := wire.Members(memberOf(members, "function"))
		named := memberOf(function, "name")
		if named == nil {
			named = memberOf(members, "name") // function_call's form, and that of /v1/responses
		}
		if b.tools.name, ok = decoded(named).(string); !ok {
			return missingField(name + ".function.name")
		}
		b.tools.choice = choiceNamed
		return nil
	case "allowed_tools":
		return b.readAllowedTools(name+".allowed_tools", memberOf(members, "allowed_tools"), members)
	default:
		return wrongValue(name+".type", "expected 'function' or 'allowed_tools', but got %q.", wire.Quoted(kind))
	}
}

// chooseTool takes a word for a choice.
func (b *generateBody) chooseTool(word string) {
	switch t := &b.tools; word {
	case "auto":
		t.choice = choiceAuto
	case "none":
		t.choice = choiceNone
	case "required", "any":
		t.choice = choiceRequired
	default:
		t.choice, t.name = choiceNamed, word
	}
}

// readAllowedTools reads which tools may be called; they stand beside the type, or in an object of their own.
func (b *generateBody) readAllowedTools(name string, raw json.RawMessage, beside []ordered.Member) *request.Refusal {
	members, ok := wire.Members(raw)
	if !ok {
		members = beside
	}
	mode, _ := decoded(memberOf(members, "mode")).(string)
	list, ok := decoded(memberOf(members, "tools")).([]any)
	if mode != "auto" && mode != "required" || !ok {
		return wrongValue(name, "expected a mode, 'auto' or 'required', and an array of tools.")
	}
	b.chooseTool(mode)
	b.tools.allowed = []string{}
	for _, item := range list {
		entry, _ := item.(map[string]any)
		function, ok := entry["function"].(map[string]any)
		if !ok {
			function = entry
		}
		named, _ := function["name"].(string)
		b.tools.allowed = append(b.tools.allowed, named)
	}
	return nil
}

// verifyTools checks what is said of functions against each other.
func (t *toolWishes) verifyTools() *request.Refusal {
	param := "tool_choice"
	if t.legacy { // which has room for one call
		param, t.parallel = "function_call", false
	}
	known := func(name string) bool {
		return slices.ContainsFunc(t.list, func(f tool) bool { return f.name == name })
	}
	switch {
	case len(t.list) == 0 && t.choice != choiceAuto && t.choice != choiceNone:
		return wrongValue(param, "'tools' must be given where it is.")
	case t.choice == choiceNamed && !known(t.name):
		return wrongValue(param, "there is no tool called %q in 'tools'.", wire.Quoted(t.name))
	}
	for _, name := range t.allowed {
		if !known(name) {
			return wrongValue(param, "there is no tool called %q in 'tools'.", wire.Quoted(name))
		}
	}
	if t.allowed != nil && len(t.allowed) == 0 {
		return wrongValue(param, "no tool is allowed.")
	}
	return nil
}

// instruction tells a model whose template does not write tools of them.
func (t *toolWishes) instruction() string {
	words := "You can call these functions. To call one, answer with nothing but a JSON object that has its name and its arguments: " +
		`{"name": "...", "arguments": {...}}. ` + "Otherwise answer as usual."
	if t.prompt != nil && *t.prompt != "" {
		words = *t.prompt
	}
	return fmt.Sprintf("\n---\n%s\n%s", t.raw, words)
}
