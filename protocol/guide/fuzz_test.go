package guide_test

import (
	"encoding/json"
	"errors"
	"hash/fnv"
	"math/rand/v2"
	"testing"
	"unicode/utf8"

	"lockstep/protocol/guide"
	"lockstep/protocol/guide/cases"
	"lockstep/protocol/outside"
)

// maxFuzzText is how many bytes a fuzzed source has at most, so that it takes little time.
const maxFuzzText = 2048

func FuzzSchema(f *testing.F) {
	seedSchemas(f)
	f.Add(`{"$ref":"#"}`)
	f.Add(`{"type":["array","integer"],"items":{"$ref":"#"},"minItems":1,"maxItems":1}`)
	f.Add(`{"allOf":[{"properties":{"a":{}}},{"additionalProperties":false}]}`)
	f.Add(`{"type":"string","pattern":"^(a|b)*$","minLength":3,"maxLength":70}`)
	f.Add(`{"minimum":-1.5e3,"exclusiveMaximum":2E-2,"multipleOf":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		text, complete := fuzzSource(t, guide.Source{Kind: guide.Schema, Text: text, WhiteSpace: guide.Space})
		if complete && !json.Valid([]byte(text)) {
			t.Errorf("%q is complete, and no JSON", text)
		}
	})
}

func FuzzRegex(f *testing.F) {
	for _, text := range []string{`a*b+`, `^\d{1,3}(\.\d{2})?$`, `(?i)[^k-z]\x{1F600}`, `.{0,20}.{0,20}z`, `(a|ab)(c|bcd)(d*)`, ``, `(`, `\pL\b`, `\u00e4`} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		text, complete := fuzzSource(t, guide.Source{Kind: guide.Regex, Text: text})
		if complete && !utf8.ValidString(text) {
			t.Errorf("%q is complete, and no UTF-8", text)
		}
	})
}

func FuzzGrammar(f *testing.F) {
	for _, text := range []string{
		`root ::= "a" | "b" root`, `root ::= ([a-z] x?){2,5} # c` + "\n" + `x ::= "," | " "`, `root ::= (("a"{1,100}){1,100}){0,100}`,
		`root ::= "(" root ")" | ""`, `root ::= "\x41\u00e4" [^\n\]] .`, `root ::=`, `a ::= "x"`,
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) { fuzzSource(t, guide.Source{Kind: guide.Grammar, Text: text}) })
}

func FuzzChoice(f *testing.F) {
	f.Add(`["a","ab",""]`)
	f.Add(`["",1]`)
	f.Fuzz(func(t *testing.T, text string) {
		said, complete := fuzzSource(t, guide.Source{Kind: guide.Choice, Text: text})
		var choices []string
		if err := json.Unmarshal([]byte(text), &choices); complete && (err != nil || !contains(choices, said)) {
			t.Errorf("%q is none of %q", said, choices)
		}
	})
}

func contains(texts []string, text string) bool {
	for _, other := range texts {
		if other == text {
			return true
		}
	}
	return false
}

// fuzzSource compiles a source, and walks it: what compiles stays small, and can be completed at each step. It gives a text that is
// complete, if one was found soon.
func fuzzSource(t *testing.T, source guide.Source) (text string, complete bool) {
	if len(source.Text) > maxFuzzText {
		return "", false
	}
	program, err := guide.Compile(source)
	if err != nil {
		var failure *guide.Error
		if !errors.As(err, &failure) || failure.Message == "" {
			t.Errorf("%T: %v", err, err)
		}
		return "", false
	}
	if program.Bytes() > 64<<20 {
		t.Errorf("%d bytes", program.Bytes())
	}
	sum := fnv.New64a()
	sum.Write([]byte(source.Text))
	random := rand.New(rand.NewPCG(sum.Sum64(), 0))
	w := newWalker(program, random)
	for range 40 {
		if !w.step(t) {
			break
		}
		if rest, there, known := w.complete(t, 300); known && !there {
			t.Fatalf("%q cannot be completed", w.text)
		} else if there {
			text, complete = string(w.text)+string(rest), true
		}
	}
	return text, complete
}

// seedSchemas adds the reference schemas, where they are there.
func seedSchemas(f *testing.F) {
	path := outside.Reference(f, "", "golden", "guided", "schema_cases.jsonl")
	if path == "" {
		return
	}
	for _, c := range outside.Lines[cases.Case](f, path) {
		f.Add(string(c.Schema))
	}
}
