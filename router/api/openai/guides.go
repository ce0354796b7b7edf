package openai

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"

	"lockstep/protocol/guide"
	"lockstep/protocol/ordered"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// constraint is what a body wants the answer to be.
type constraint struct {
	param  string // of the body
	name   string // the client's, of a response_format
	named  bool   // it is a schema of a response_format
	source guide.Source
	closed bool // objects have declared keys only, whatever the operator wishes
}

// thinkingBudget is vLLM's thinking_token_budget, and thinking_budget among the arguments of templates.
var thinkingBudget = wholeField(1, math.MaxInt32, func(b *generateBody, v int64) { b.thinkingBudget = int(v) })

// readTemplateArguments reads chat_template_kwargs, one of which is for the server too.
func (b *generateBody) readTemplateArguments(name string, raw json.RawMessage) *request.Refusal {
	members, ok := wire.Members(raw)
	if !ok {
		return wrongType(name, "an object", decoded(raw))
	}
	b.templateArguments = raw
	if budget := memberOf(members, "thinking_budget"); budget != nil {
		return thinkingBudget(b, name+".thinking_budget", budget)
	}
	return nil
}

// anyObject is a schema of any JSON object.
const anyObject = `{"type":"object"}`

// constrain notes a constraint, of which there can be one.
func (b *generateBody) constrain(c constraint) *request.Refusal {
	if b.constraint != nil {
		return &request.Refusal{Param: c.param, Code: "invalid_value",
			Message: "You can only use one kind of structured outputs constraint, but multiple are specified: " + b.constraint.param +
				" and " + c.param + "."}
	}
	b.constraint = &c
	return nil
}

// readFormat reads response_format: OpenAI's forms, and TGI's, whose value stands beside the type.
func (b *generateBody) readFormat(name string, raw json.RawMessage) *request.Refusal {
	members, ok := wire.Members(raw)
	if !ok {
		return wrongType(name, "an object", decoded(raw))
	}
	kind, _ := decoded(memberOf(members, "type")).(string)
	value := memberOf(members, "value")
	switch {
	case kind == "text":
		return nil
	case kind == "regex" && value != nil:
		return b.readRegex(name+".value", value)
	case (kind == "json" || kind == "json_object") && value != nil:
		return b.readSchema(name+".value", value)
	case kind == "json_object":
		return b.constrain(constraint{param: name, source: guide.Source{Kind: guide.Schema, Text: anyObject}})
	case kind == "json_schema":
		if value != nil { // TGI's has the schema one level higher
			return b.readNamedSchema(name+".value", value)
		}
		return b.readNamedSchema(name+".json_schema", memberOf(members, "json_schema"))
	case memberOf(members, "type") == nil:
		return missingField(name + ".type")
	}
	return wrongValue(name+".type", "expected one of 'text', 'json_object' or 'json_schema', but got %.100q.", kind)
}

// memberOf is a member's value; nil: there is none, or it is null.
func memberOf(members []ordered.Member, name string) json.RawMessage {
	for _, m := range members {
		if m.Name == name && string(m.Value) != "null" {
			return m.Value
		}
	}
	return nil
}

// readNamedSchema reads a schema with its name. Without one any object will do.
func (b *generateBody) readNamedSchema(param string, raw json.RawMessage) *request.Refusal {
	if raw == nil {
		return missingField(param)
	}
	members, ok := wire.Members(raw)
	if !ok {
		return wrongType(param, "an object", decoded(raw))
	}
	c := constraint{param: "response_format", named: true, source: guide.Source{Kind: guide.Schema, Text: anyObject}}
	if strings.HasPrefix(param, "text.") {
		c.param = param + ".schema"
	}
	if given := memberOf(members, "name"); given != nil {
		if c.name, ok = decoded(given).(string); !ok {
			return wrongType(param+".name", "a string", decoded(given))
		}
	}
	if schema := memberOf(members, "schema"); schema != nil {
		c.source.Text = string(schema)
	}
	return b.constrain(c)
}

// readSchema takes a schema, or its text.
func (b *generateBody) readSchema(name string, raw json.RawMessage) *request.Refusal {
	text := string(raw)
	if written, ok := decoded(raw).(string); ok {
		text = written
	}
	if strings.TrimSpace(text) == "" {
		return wrongValue(name, "the schema is empty.")
	}
	return b.constrain(constraint{param: name, source: guide.Source{Kind: guide.Schema, Text: text}})
}

func (b *generateBody) readRegex(name string, raw json.RawMessage) *request.Refusal {
	return b.readSource(guide.Regex, name, raw)
}

func (b *generateBody) readGrammar(name string, raw json.RawMessage) *request.Refusal {
	return b.readSource(guide.Grammar, name, raw)
}

func (b *generateBody) readSource(kind guide.Kind, name string, raw json.RawMessage) *request.Refusal {
	text, ok := decoded(raw).(string)
	switch {
	case !ok:
		return wrongType(name, "a string", decoded(raw))
	case text == "" && kind == guide.Grammar:
		return wrongValue(name, "the grammar is empty.")
	}
	return b.constrain(constraint{param: name, source: guide.Source{Kind: kind, Text: text}})
}

func (b *generateBody) readChoice(name string, raw json.RawMessage) *request.Refusal {
	list, ok := decoded(raw).([]any)
	if !ok || slices.ContainsFunc(list, func(item any) bool { _, ok := item.(string); return !ok }) {
		return wrongType(name, "an array of strings", decoded(raw))
	}
	if len(list) == 0 {
		return wrongValue(name, "expected at least one choice, but got an empty array.")
	}
	return b.constrain(constraint{param: name, source: guide.Source{Kind: guide.Choice, Text: string(raw)}})
}

// guideFields are the kinds of vLLM's structured_outputs, and its older guided_*.
var guideFields = map[string]fieldReader{
	"json":    (*generateBody).readSchema,
	"regex":   (*generateBody).readRegex,
	"choice":  (*generateBody).readChoice,
	"grammar": (*generateBody).readGrammar,
	"json_object": func(b *generateBody, name string, raw json.RawMessage) *request.Refusal {
		if string(raw) != "true" {
			return wrongValue(name, "it can only be true.")
		}
		return b.constrain(constraint{param: name, source: guide.Source{Kind: guide.Schema, Text: anyObject}})
	},
	"structural_tag": refuseUnless("", "structural tags are not supported: use tools, or a grammar."),
}

// readStructured reads vLLM's structured_outputs.
func (b *generateBody) readStructured(name string, raw json.RawMessage) *request.Refusal {
	members, ok := wire.Members(raw)
	if !ok {
		return wrongType(name, "an object", decoded(raw))
	}
	var options []ordered.Member
	for _, m := range members {
		read := guideFields[m.Name]
		switch {
		case string(m.Value) == "null":
		case read == nil:
			options = append(options, m)
		default:
			if err := read(b, name+"."+m.Name, m.Value); err != nil {
				return err
			}
		}
	}
	if b.constraint == nil {
		if len(members) == 0 {
			return nil
		}
		return wrongValue(name, "expected one of 'json', 'regex', 'choice', 'grammar' or 'json_object'.")
	}
	for _, m := range options {
		switch m.Name {
		case "disable_any_whitespace":
			if string(m.Value) == "true" {
				b.constraint.source.WhiteSpace = guide.None
			}
		case "disable_additional_properties":
			b.constraint.closed = string(m.Value) == "true"
		case "whitespace_pattern":
			if err := b.readWhiteSpace(name+"."+m.Name, m.Value); err != nil {
				return err
			}
		}
	}
	return nil
}

// whiteSpaces are the patterns of white space that mean what a guide knows.
var whiteSpaces = map[string]guide.WhiteSpace{
	"": guide.None, "[ ]?": guide.Space, " ?": guide.Space, `[\n\t ]*`: guide.Any, `[ \n\t]*`: guide.Any, `\s*`: guide.Any,
	`[ \t\n\r]*`: guide.Any, `[\n ]?`: guide.Tidy,
}

// readWhiteSpace reads where white space may stand: one of guide's words, or a pattern that means the same.
func (b *generateBody) readWhiteSpace(name string, raw json.RawMessage) *request.Refusal {
	pattern, ok := decoded(raw).(string)
	space, known := whiteSpaces[pattern]
	for _, word := range []guide.WhiteSpace{guide.Tidy, guide.None, guide.Space, guide.Any} {
		if string(word) == pattern {
			space, known = word, true
		}
	}
	switch {
	case !ok:
		return wrongType(name, "a string", decoded(raw))
	case !known:
		return wrongValue(name, "white space can be tidy, none, space ([ ]?) or any ([\\n\\t ]*), not %.100q.", pattern)
	}
	b.whiteSpace = space
	return nil
}

// guideOf compiles what a body wants the answer to be; nil: anything. A chat's answer is read as s says, nil: as text.
func (d *Dialect) guideOf(ctx context.Context, model *answer.Model, b *generateBody, s *speech) (*guide.Source, *request.Refusal) {
	c := &constraint{param: "tools"}
	var source guide.Source
	if b.constraint != nil {
		c = b.constraint
		source = d.wished(b)
	}
	if s != nil && s.format != nil && (s.constrain || b.constraint != nil) {
		var otherwise *guide.Source
		if b.constraint != nil && !s.forced {
			otherwise = &source
		}
		made, err := d.callsSource(ctx, model, b, s, otherwise)
		if err != nil {
			return nil, err
		}
		source = made
	}
	if s != nil && s.reasoning.End != "" {
		source.Thought = s.thought()
		if source.Thought.Budget = b.thinkingBudget; b.thinkingBudget > 0 && source.Kind == "" {
			source.Kind = guide.Anything
		}
	}
	if source.Kind == "" {
		return nil, nil
	}
	return d.compiled(ctx, model, c, &source)
}

// wished is what a body's constraint is compiled from.
func (d *Dialect) wished(b *generateBody) guide.Source {
	c := b.constraint
	source := c.source
	if source.Kind == guide.Schema {
		wishes := d.answers.Guides()
		source.Open = wishes.Open && !c.closed
		for _, space := range []guide.WhiteSpace{b.whiteSpace, wishes.WhiteSpace} {
			if source.WhiteSpace == "" {
				source.WhiteSpace = space
			}
		}
	}
	return source
}

// compiled compiles what a constraint has come to.
func (d *Dialect) compiled(ctx context.Context, model *answer.Model, c *constraint, source *guide.Source) (*guide.Source,
	*request.Refusal) {
	refusal, failure := d.answers.CheckGuide(ctx, model, source)
	var why *guide.Error
	switch {
	case refusal != nil:
		return nil, refusal
	case failure == nil:
		return source, nil
	case !errors.As(failure, &why):
		return nil, unsupportedField(c.param, failure.Error()+".")
	case c.named:
		return nil, &request.Refusal{Param: c.param,
			Message: "Invalid schema for response_format '" + wire.Quoted(c.name) + "': " + failure.Error()}
	}
	return nil, wrongValue(c.param, "%v", failure)
}
