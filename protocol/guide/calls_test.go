package guide_test

import (
	"encoding/json"
	"testing"

	"lockstep/protocol/guide"
)

// sourceOf is what calls are compiled from, without white space in arguments.
func sourceOf(t *testing.T, c guide.Calls, thought guide.Thought) guide.Source {
	t.Helper()
	source, err := c.Source(guide.None, false)
	if err != nil {
		t.Fatal(err)
	}
	source.Thought = thought
	return source
}

// Calls have names and arguments that fit, within the fixed texts of a model.
func TestCalls(t *testing.T) {
	parameters := json.RawMessage(`{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}`)
	tagged := guide.Calls{BeforeName: "<c>", BeforeArguments: ":", AfterArguments: "</c>", Between: ",", Tokens: []string{"<c>"},
		Tools: []guide.Function{{Name: "f", Parameters: parameters}, {Name: "g"}}}
	auto, single, other, listed := tagged, tagged, tagged, tagged
	auto.Marker, single.Single = "<c>", true
	other.Otherwise = &guide.Source{Kind: guide.Regex, Text: "[0-9]+"}
	listed.Open, listed.BeforeName, listed.Close, listed.Marker = "<c>[", "", "]", "<c>"
	for name, test := range map[string]struct {
		source        guide.Source
		whole, viable []string // viable ones are not whole
		never         []string
	}{
		"forced": {sourceOf(t, tagged, guide.Thought{}), []string{`<c>f:{"a":1}</c>`, `<c>g:{}</c>,<c>f:{"a":-2}</c>`, "\xff<c>g:{}</c>"},
			[]string{"", "<", "<c>", `<c>f:{"a":`, `<c>g:{}</c>,`}, []string{"x", "<c>h", `<c>f:{}`, `<c>g:{"`, "\xff<d", `<c>g:{}</c>x`}},
		"one": {sourceOf(t, single, guide.Thought{}), []string{`<c>g:{}</c>`}, nil, []string{`<c>g:{}</c>,`}},
		"auto": {sourceOf(t, auto, guide.Thought{}), []string{"", "x < y", "\xff\x00", "<<c>g:{}</c>", "ab\xff<c>g:{}</c>", "\xff<d", "<c"},
			[]string{"<c>", "x<c>f", "\xff<c>"}, []string{"<c>x", "<c>g:{}</c>x", "a<c><c>"}},
		"otherwise": {sourceOf(t, other, guide.Thought{}), []string{"12", `<c>g:{}</c>`}, []string{"", "<"}, []string{"x", "1<"}},
		"a list": {sourceOf(t, listed, guide.Thought{}), []string{"", "so <c>[g:{}</c>]", "<c>[g:{}</c>,g:{}</c>]"},
			[]string{"<c>[g:{}</c>"}, []string{"<c>g"}},
		"a thought": {sourceOf(t, tagged, guide.Thought{Start: "<t>", End: "</t>"}), []string{`<c>g:{}</c>`, "<t>a</t>\n\n<c>g:{}</c>",
			"\xff<t></t</t\xff</t><c>g:{}</c>"}, []string{"<t>", "<t></t> "}, []string{"a", "<t></t>a", "<c>g:{}</c><"}},
		"within one": {sourceOf(t, tagged, guide.Thought{Start: "<t>", End: "</t>", Inside: true}), []string{`a<c></t><c>g:{}</c>`},
			[]string{`<c>g:{}</c>`}, []string{"</t>x"}},
	} {
		program, err := guide.Compile(test.source)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for kind, texts := range [][]string{test.never, test.viable, test.whole} {
			for _, text := range texts {
				whole, deadAt := read(t, program, text)
				got := 0
				switch {
				case whole:
					got = 2
				case *deadAt == len(text):
					got = 1
				}
				if got != kind {
					t.Errorf("%s: %q: got %d, want %d (0: never, 1: viable, 2: whole)", name, text, got, kind)
				}
			}
		}
	}
}

// Arguments are an object, whatever the schema of a function admits beside.
func TestArgumentsAreAnObject(t *testing.T) {
	for _, parameters := range []string{`{}`, `true`, `{"properties":{"a":{"type":"integer"}}}`, `{"$ref":"#/$defs/p","$defs":{"p":{}}}`,
		`{"anyOf":[{"type":"null"},{"properties":{"a":{}}}]}`, `{"type":["object","string"]}`} {
		for _, open := range []bool{false, true} {
			calls := guide.Calls{BeforeArguments: ":", Tools: []guide.Function{{Name: "f", Parameters: json.RawMessage(parameters)}}}
			source, err := calls.Source(guide.Tidy, open)
			if err != nil {
				t.Fatal(err)
			}
			program, err := guide.Compile(source)
			if err != nil {
				t.Errorf("%s: %v", parameters, err)
				continue
			}
			for text, want := range map[string]bool{`f:{}`: true, `f:{"a":1}`: true, `f:1`: false, `f:null`: false, `f:"x"`: false, `f:[]`: false} {
				if whole, _ := read(t, program, text); whole != want {
					t.Errorf("%s: %q: got %t", parameters, text, whole)
				}
			}
		}
	}
}

func TestCallsRefused(t *testing.T) {
	for text, want := range map[string]string{
		`{"tools":[]}`: "there is no function to call",
		`{"tools":[{"name":"f","parameters":{"type":7}}]}`: `the parameters of f: the keyword "type" must be the name of a type, ` +
			`or an array of such at #/type`,
		`{"tools":[{"name":"f"}],"otherwise":{"kind":"tools","text":"{}"}}`: "calls cannot stand for calls",
	} {
		if _, err := guide.Compile(guide.Source{Kind: guide.Tools, Text: text}); err == nil || err.Error() != want {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}
