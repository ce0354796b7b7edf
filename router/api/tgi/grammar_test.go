package tgi

import (
	"encoding/json"
	"testing"

	"lockstep/protocol/guide"
	"lockstep/router/api/answer"
)

// Grammars of all forms become sources, and what the original refuses is refused in its words.
func TestGrammarSources(t *testing.T) {
	const schema = `{"type":"object","properties":{"a":{"type":"integer"}}}`
	text, err := json.Marshal(schema)
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]string{
		`{"type":"json","value":` + schema + `}`:                              schema,
		`{"type":"json_object","value":` + schema + `}`:                       schema,
		`{"type":"json","value":` + string(text) + `}`:                        schema,
		`{"value":` + schema + `,"type":"json"}`:                              schema,
		`{"type":"json_schema","value":{"name":"n","schema":` + schema + `}}`: schema,
		`{"type":"json","value":{"properties":{}}}`:                           `{"type":"object","properties":{}}`,
		`{"type":"regex","value":"a+"}`:                                       "a+",
		`{"type":"json","value":{"type":"object"}}`:                           "grammar is not valid: Grammar must have a 'properties' field",
		`{"type":"json","value":"{"}`:                                         "grammar is not valid: it is no JSON object",
		`{"type":"json","value":7}`:                                           "grammar is not supported",
		`{"value":7,"type":"regex"}`:                                          "grammar is not valid: the value of a regex must be a string",
	} {
		body, refusal := decode([]byte(`{"inputs":"x","parameters":{"grammar":`+value+`}}`), form{version: versions[Form3]})
		if refusal != nil {
			t.Errorf("%s: %v", value, refusal)
			continue
		}
		source, refusal := body.Parameters.Grammar.source(&answer.Guides{WhiteSpace: guide.Space})
		got := ""
		switch {
		case refusal != nil:
			got = refusal.Message
		case source.Kind == guide.Schema && source.WhiteSpace != guide.Space:
			t.Errorf("%s: white space %q", value, source.WhiteSpace)
		default:
			got = source.Text
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", value, got, want)
		}
	}
}
