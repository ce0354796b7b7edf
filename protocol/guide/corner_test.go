package guide_test

import (
	"errors"
	"testing"

	"lockstep/protocol/guide"
)

// TestCorners tells of sources that are easily taken amiss which texts they let through.
func TestCorners(t *testing.T) {
	ab := `"$defs":{"b":{"properties":{"b":{}},"required":["b"]}}`
	for _, c := range []struct {
		kind           guide.Kind
		text           string
		accept, refuse []string
	}{
		// Keys come in the order of first appearance, wherever the other schema stands.
		{guide.Schema, `{"properties":{"a":{"type":"integer"}},"$ref":"#/$defs/b",` + ab + `}`,
			[]string{`{"a":1,"b":2}`, `{"b":2}`}, []string{`{"b":2,"a":1}`, `{"a":1}`, `{"a":"x","b":1}`}},
		{guide.Schema, `{"$ref":"#/$defs/b","properties":{"a":{"type":"integer"}},` + ab + `}`,
			[]string{`{"b":2,"a":1}`}, []string{`{"a":1,"b":2}`}},
		{guide.Schema, `{"anyOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"required":["b"]}],"properties":{"z":{"type":"null"}}}`,
			[]string{`{"a":1,"z":null}`, `{"z":null,"b":0}`}, []string{`{"z":null,"a":1}`, `{"b":0,"z":null}`, `{"z":null}`}},
		// Closed schemas that are joined have the keys of all, but for what one of them closes itself.
		{guide.Schema, `{"allOf":[{"properties":{"a":{"const":1}},"required":["a"]},{"properties":{"b":{"const":"x"}}}]}`,
			[]string{`{"a":1,"b":"x"}`, `{"a":1}`}, []string{`{"a":1,"c":1}`, `{"b":"x"}`}},
		{guide.Schema, `{"properties":{"a":true},"required":["a"],"additionalProperties":false,"allOf":[{"properties":{"b":{}}}]}`,
			[]string{`{"a":1}`}, []string{`{"a":1,"b":1}`}},
		// Required names are held to patterns.
		{guide.Schema, `{"patternProperties":{"^x":{"type":"integer"}},"required":["xa","b"]}`,
			[]string{`{"xa":1,"b":"s"}`, `{"xa":1,"b":1,"xb":2}`}, []string{`{"xa":"s","b":1}`, `{"xa":1,"b":1,"xb":"s"}`, `{"xa":1,"b":1,"c":1}`}},
		{guide.Schema, `{"description":"anything"}`, []string{"1", "[]", `{"a":1}`}, nil},
		{guide.Schema, `{"minimum":1e2,"maximum":1.5E+2}`, []string{"100", "150", "149.999"}, []string{"99", "151", "1e2"}},
		{guide.Schema, `{"type":"integer","minimum":-1.5e-1}`, []string{"0", "1"}, []string{"-0", "-1"}},
		{guide.Schema, `{"properties":{"\u0061\n\"":{"const":1}},"additionalProperties":false}`,
			[]string{`{"a\n\"":1}`}, []string{`{"\u0061\n\"":1}`}},
		{guide.Schema, `{"type":"string","pattern":"^a","minLength":3,"maxLength":4}`,
			[]string{`"aab"`, `"aabb"`, `"a\n\n"`}, []string{`"aa"`, `"aabbc"`, `"baa"`}},
		{guide.Schema, `{"$ref":"#/$defs/a%25b~1c","$defs":{"a%b/c":{"const":1}}}`, []string{"1"}, []string{"2"}},
		// JavaScript's ways to write characters.
		{guide.Schema, `{"type":"string","pattern":"^\\ud83d\\ude00\\u00e4\\u{1F600}$"}`, []string{`"😀ä😀"`}, []string{`"😀ä"`}},
		{guide.Regex, `[\u00e4-\u00f6]\\u0041`, []string{`ä\u0041`}, []string{"ä", `äA`}},
		{guide.Regex, `^^a$$|`, []string{"a", ""}, []string{"aa"}},
		{guide.Regex, `(a|)(b|)`, []string{"", "a", "b", "ab"}, []string{"ba"}},
		{guide.Grammar, `root ::= "a" |`, []string{"", "a"}, []string{"aa"}},
		{guide.Grammar, `root ::= ("a"? | ())* [-b]`, []string{"b", "aa-"}, []string{"", "a"}},
		{guide.Grammar, "root ::= x |\n \"y\" # no more\nx::=\"x\"{0}", []string{"", "y"}, []string{"x"}},
		{guide.Choice, `["a","a","","\u00e4"]`, []string{"a", "", "ä"}, []string{"aa"}},
	} {
		program, err := guide.Compile(guide.Source{Kind: c.kind, Text: c.text, WhiteSpace: guide.None})
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		for want, texts := range map[bool][]string{true: c.accept, false: c.refuse} {
			for _, text := range texts {
				if got, _ := read(t, program, text); got != want {
					t.Errorf("%s of %s: got %v, want %v", c.text, text, got, want)
				}
			}
		}
	}
}

// TestReasons tells why sources cannot be compiled.
func TestReasons(t *testing.T) {
	for _, c := range []struct {
		kind   guide.Kind
		text   string
		reason guide.Reason
		where  string
	}{
		{guide.Schema, `{"properties":{"a/b":{"propertyNames":{}}}}`, guide.Unsupported, "#/properties/a~1b/propertyNames"},
		{guide.Schema, `{"type":"string","pattern":"^(?=a)"}`, guide.Unsupported, "#/pattern"},
		{guide.Schema, `{"type":"string","pattern":"^\\cA"}`, guide.Unsupported, "#/pattern"},
		{guide.Schema, `{"type":"string","pattern":"("}`, guide.Invalid, "#/pattern"},
		{guide.Schema, `{"type":"array","minItems":3,"maxItems":2}`, guide.Unsatisfiable, ""},
		{guide.Schema, `{"$ref":"#/$defs/x"}`, guide.Invalid, "#/$ref"},
		{guide.Schema, `{"$ref":"#"}`, guide.Invalid, "#"},
		{guide.Schema, `{"minLength":-1}`, guide.Invalid, "#/minLength"},
		{guide.Schema, `{"minimum":1e1000}`, guide.TooLarge, ""},
		{guide.Schema, `{"a":1`, guide.Invalid, ""},
		{guide.Grammar, `root ::= root "a" | "b"`, guide.Invalid, ""},
		{guide.Grammar, `root ::= ("a"?){70}`, guide.Unsupported, ""},
		{guide.Grammar, `root ::= "a" b`, guide.Invalid, ""},
		{guide.Choice, `[]`, guide.Invalid, ""},
		{"other", ``, guide.Invalid, ""},
		// More work than there may be, wherever it comes to light.
		{guide.Regex, `.{0,1000}.{0,1000}.{0,1000}z`, guide.TooLarge, ""},
		{guide.Schema, `{"pattern":".{0,1000}.{0,1000}.{0,1000}z"}`, guide.TooLarge, "#/pattern"},
		{guide.Schema, `{"type":"string","pattern":"a.{900}b","maxLength":5000}`, guide.TooLarge, "#/pattern"},
	} {
		_, err := guide.Compile(guide.Source{Kind: c.kind, Text: c.text})
		var failure *guide.Error
		if !errors.As(err, &failure) || failure.Reason != c.reason || failure.Pointer != c.where {
			t.Errorf("%s: got %v, want %s at %q", c.text, err, c.reason, c.where)
		}
	}
}
