package tgi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"lockstep/protocol/guide"
	"lockstep/protocol/ordered"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// grammar is a constraint on the output.
type grammar struct {
	kind  string
	value json.RawMessage // as it stands
}

var grammarKinds = []string{"json", "json_object", "regex", "json_schema"}

// intoGrammar reads {"type":…,"value":…}, an adjacently tagged enumeration to the original's decoder.
func intoGrammar(target *grammar) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		if c, ok := d.space(); ok && c != '{' && c != '[' {
			return d.unexpected("adjacently tagged enum GrammarType")
		}
		return d.structure(structure{name: "GrammarType", required: 2, fields: []field{
			{"type", func(d *bodyDecoder) error { return target.readKind(d) }},
			{"value", func(d *bodyDecoder) error { return target.readValue(d) }},
		}})
	}
}

func (g *grammar) readKind(d *bodyDecoder) error {
	if c, ok := d.space(); ok && c != '"' {
		return d.unexpected("variant of enum GrammarType")
	}
	if err := intoText(&g.kind)(d); err != nil {
		return err
	}
	if !slices.Contains(grammarKinds, g.kind) {
		return d.misfit("unknown variant `" + wire.Quoted(g.kind) + "`, expected one of `" + strings.Join(grammarKinds, "`, `") + "`")
	}
	return nil
}

// readValue reads what the kind asks for; anything, if the kind has not come yet.
func (g *grammar) readValue(d *bodyDecoder) error {
	var ignored string
	start := d.index
	var err error
	switch g.kind {
	case "regex":
		err = intoText(&ignored)(d)
	case "json_schema":
		err = d.structure(structure{name: "JsonSchemaConfig", required: 1, fields: []field{
			{"schema", func(d *bodyDecoder) error { return d.ignore() }},
			{"name", optional(intoText(&ignored))},
		}})
	default:
		err = d.ignore()
	}
	if err == nil {
		g.value = bytes.TrimSpace(d.data[start:d.index])
	}
	return err
}

// source is what a grammar is compiled from.
func (g *grammar) source(wishes *answer.Guides) (*guide.Source, *request.Refusal) {
	value := g.value
	if g.kind == "json_schema" {
		members, _ := wire.Members(value)
		for _, m := range members {
			if m.Name == "schema" {
				value = m.Value
			}
		}
	}
	var text string
	written := json.Unmarshal(value, &text) == nil
	switch {
	case g.kind == "regex":
		if !written {
			return nil, grammarInvalid("the value of a regex must be a string")
		}
		return &guide.Source{Kind: guide.Regex, Text: text}, nil
	case written:
		value = json.RawMessage(text)
	case len(value) == 0 || value[0] != '{':
		return nil, request.Invalid("%v", answer.ErrGuidesDisabled) // as the original has it
	}
	members, ok := wire.Members(value)
	if !ok {
		return nil, grammarInvalid("it is no JSON object")
	}
	if !slices.ContainsFunc(members, func(m ordered.Member) bool { return m.Name == "properties" }) {
		return nil, grammarInvalid("Grammar must have a 'properties' field")
	}
	if !slices.ContainsFunc(members, func(m ordered.Member) bool { return m.Name == "type" }) { // what has properties is meant to be one
		value = wire.AppendMembers(nil, append([]ordered.Member{{Name: "type", Value: json.RawMessage(`"object"`)}}, members...))
	}
	return wishes.Schema(string(value)), nil
}

func grammarInvalid(detail string) *request.Refusal {
	return request.Invalid("grammar is not valid: %s", detail)
}

// checkGrammar compiles a grammar.
func (d *Dialect) checkGrammar(ctx context.Context, model *answer.Model, g *grammar) (*guide.Source, *request.Refusal) {
	if d.answers.Guides().Disabled {
		return nil, request.Invalid("%v", answer.ErrGuidesDisabled)
	}
	source, refusal := g.source(d.answers.Guides())
	if refusal != nil {
		return nil, refusal
	}
	refusal, failure := d.answers.CheckGuide(ctx, model, source)
	var why *guide.Error
	switch {
	case refusal != nil:
		return nil, refusal
	case errors.As(failure, &why) && why.Reason == guide.Invalid:
		return nil, grammarInvalid(failure.Error())
	case failure != nil && source.Kind == guide.Schema:
		return nil, request.Invalid("cannot compile regex from schema: %v", failure)
	case failure != nil:
		return nil, grammarInvalid(failure.Error())
	}
	return source, nil
}
