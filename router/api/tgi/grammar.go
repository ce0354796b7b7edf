package tgi

import (
	"slices"
	"strings"

	"lockstep/router/api/wire"
)

// grammar is a constraint on the output. Only its kind is kept: none is supported.
type grammar struct{ kind string }

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
	switch g.kind {
	case "regex":
		return intoText(&ignored)(d)
	case "json_schema":
		return d.structure(structure{name: "JsonSchemaConfig", required: 1, fields: []field{
			{"schema", func(d *bodyDecoder) error { return d.ignore() }},
			{"name", optional(intoText(&ignored))},
		}})
	}
	return d.ignore()
}
