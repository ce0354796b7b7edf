package guide_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"lockstep/protocol/guide"
)

// randomSchema writes a schema. Names and values come from few, so that schemas that are joined meet.
type randomSchema struct{ *rand.Rand }

func (r randomSchema) pick(texts ...string) string { return texts[r.IntN(len(texts))] }

func (r randomSchema) name() string {
	return r.pick(`a`, `b`, `ab`, `abc`, `x-a`, `\"`, `\u00e4`, `\n`, `é`, `日本`, ``, `a b`, `\\`, `/`)
}

func (r randomSchema) number() string {
	return r.pick("0", "-0", "1", "-1", "7", "10", "99", "-25", "2.5", "-0.5", "1e2", "1.50", "12e-1", "-3E+1", "100.125")
}

func (r randomSchema) value(depth int) string {
	switch r.IntN(9) {
	case 0:
		return r.pick("true", "false", "null")
	case 1, 2, 3:
		return strings.Replace(r.number(), "-0", "0", 1) // constants are spelled as in the schema
	case 4:
		if depth > 0 {
			return "[" + r.value(depth-1) + "," + r.value(0) + "]"
		}
	case 5:
		if depth > 0 {
			return `{"` + r.name() + `":` + r.value(depth-1) + "}"
		}
	}
	return `"` + r.name() + `"`
}

func (r randomSchema) pattern() string {
	return r.pick(`^a`, `b$`, `a`, `^[a-z]+$`, `^x-`, `\d`, `^(a|ab)*$`, `^.{1,3}$`, `[^a-c]`, `^$`, `\\x{e4}|é`, `^\"+$`, `^\\n?$`)
}

func (r randomSchema) list(most int, item func() string) string {
	var items []string
	for range 1 + r.IntN(most) {
		items = append(items, item())
	}
	return "[" + strings.Join(items, ",") + "]"
}

func (r randomSchema) object(most int, name func() string, depth int) string {
	var members []string
	seen := map[string]bool{}
	for range r.IntN(most + 1) {
		if n := name(); !seen[n] {
			seen[n] = true
			members = append(members, `"`+n+`":`+r.schema(depth))
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

// schema is one that has others within it, at most so deep.
func (r randomSchema) schema(depth int) string {
	if depth < 0 || r.IntN(12) == 0 {
		return r.pick(`true`, `{}`, `{"type":"integer"}`, `{"type":"string"}`, `{"type":"null"}`, `{"const":"a"}`, `{"$ref":"#/$defs/d"}`)
	}
	var members []string
	seen := map[string]bool{}
	for range 1 + r.IntN(4) {
		if keyword, value := r.keyword(depth - 1); !seen[keyword] {
			seen[keyword] = true
			members = append(members, `"`+keyword+`":`+value)
		}
	}
	return "{" + strings.Join(members, ",") + "}"
}

func (r randomSchema) keyword(depth int) (keyword, value string) {
	nested := func() string { return r.schema(depth) }
	quoted := func() string { return `"` + r.name() + `"` }
	small := func() string { return fmt.Sprint(r.IntN(5)) }
	types := func() string {
		return `"` + r.pick("null", "boolean", "object", "array", "number", "string", "integer") + `"`
	}
	switch keyword = r.pick("type", "type", "type", "types", "enum", "const", "anyOf", "allOf", "$ref", "minLength", "maxLength", "pattern",
		"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "items", "prefixItems", "minItems", "maxItems",
		"properties", "properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"); keyword {
	case "type":
		return keyword, types()
	case "types":
		return "type", r.list(3, types)
	case "enum":
		return keyword, r.list(5, func() string { return r.value(1) })
	case "const":
		return keyword, r.value(2)
	case "anyOf", "allOf":
		return keyword, r.list(3, nested)
	case "prefixItems":
		return keyword, r.list(2, nested)
	case "$ref":
		return keyword, `"#/$defs/d"`
	case "pattern":
		return keyword, `"` + r.pattern() + `"`
	case "multipleOf":
		return keyword, r.pick("1", "2", "7", "10")
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		return keyword, r.number()
	case "items", "additionalProperties":
		return keyword, r.pick(`false`, nested())
	case "properties":
		return keyword, r.object(3, r.name, depth)
	case "patternProperties":
		return keyword, r.object(1, r.pattern, depth)
	case "required":
		return keyword, r.list(2, quoted)
	}
	return keyword, small()
}

// hugeExponent is what math/big takes too long for.
var hugeExponent = regexp.MustCompile(`[0-9][eE][+-]?[0-9]{4}`)

// TestRandomSchemas walks the automata of random schemas, and holds the documents that come of it against a plain validator.
func TestRandomSchemas(t *testing.T) {
	compiled, walked := 0, 0
	for seed := range uint64(1500) {
		r := randomSchema{rand.New(rand.NewPCG(seed, 7))}
		schema := r.schema(3)
		if schema[0] == '{' && len(schema) > 2 {
			schema = schema[:len(schema)-1] + `,"$defs":{"d":` + r.schema(1) + `}}`
		}
		source := guide.Source{Kind: guide.Schema, Text: schema, Open: r.IntN(2) == 0,
			WhiteSpace: []guide.WhiteSpace{guide.Tidy, guide.None, guide.Space, guide.Any}[r.IntN(4)]}
		program, err := guide.Compile(source)
		if err != nil {
			continue
		}
		compiled++
		holds := validator{root: decode(t, schema), repeats: true}
		for range 8 {
			text, ok := walkToEnd(t, program, r.Rand, r.IntN(60))
			if !ok || hugeExponent.MatchString(text) {
				continue
			}
			walked++
			if !json.Valid([]byte(text)) {
				t.Errorf("seed %d: %s allows %q, which is no JSON", seed, schema, text)
			} else if !holds.holds(holds.root, decode(t, text)) && !holds.endless {
				t.Errorf("seed %d: %s allows %s", seed, schema, text)
			}
		}
	}
	if compiled < 500 || walked < 3000 {
		t.Errorf("%d schemas compiled, %d documents", compiled, walked)
	}
	t.Logf("%d schemas compiled, %d documents", compiled, walked)
}

// TestRandomSchemasAccept holds random values against random schemas: what the plain validator accepts, and has no order or spelling that
// guides do not take, the automaton accepts.
func TestRandomSchemasAccept(t *testing.T) {
	accepted, refused := 0, 0
	for seed := range uint64(3000) {
		r := randomSchema{rand.New(rand.NewPCG(seed, 8))}
		schema := r.schema(2)
		if schema[0] == '{' && len(schema) > 2 {
			schema = schema[:len(schema)-1] + `,"$defs":{"d":` + r.schema(0) + `}}`
		}
		program, err := guide.Compile(guide.Source{Kind: guide.Schema, Text: schema, Open: true, WhiteSpace: guide.None})
		var failure *guide.Error
		if errors.As(err, &failure) && failure.Reason != guide.Unsatisfiable {
			continue
		}
		holds := validator{root: decode(t, schema)}
		for range 20 {
			value := r.pick("true", "false", "null", "0", "1", "7", "-1", "2.5", "10", "99", `"a"`, `"ab"`, `"é"`, `""`, "[]", "[1]", "[7,7,7]",
				`["a",1]`, "{}", `{"a":1}`, `{"b":"a"}`, `{"x-a":null}`)
			want := holds.holds(holds.root, decode(t, value))
			if holds.endless {
				break
			}
			got := false
			if err == nil {
				got, _ = read(t, program, value)
			}
			if got != want {
				t.Errorf("seed %d: %s of %s: got %v, want %v", seed, schema, value, got, want)
			}
			if want {
				accepted++
			} else {
				refused++
			}
		}
	}
	if accepted < 2000 || refused < 2000 {
		t.Errorf("%d values accepted, %d refused", accepted, refused)
	}
}

// TestRandomRegexes walks the automata of random regular expressions, and has Go's own engine match what comes of it.
func TestRandomRegexes(t *testing.T) {
	walked := 0
	for seed := range uint64(800) {
		r := randomSchema{rand.New(rand.NewPCG(seed, 9))}
		expression := r.expression(3)
		program, err := guide.Compile(guide.Source{Kind: guide.Regex, Text: expression})
		if err != nil {
			var failure *guide.Error
			if errors.As(err, &failure) && failure.Reason == guide.Invalid {
				t.Errorf("seed %d: %q: %v", seed, expression, err)
			}
			continue
		}
		whole := regexp.MustCompile(`\A(?:` + expression + `)\z`)
		for range 5 {
			text, ok := walkToEnd(t, program, r.Rand, r.IntN(30))
			if !ok {
				continue
			}
			walked++
			if !utf8.ValidString(text) || !whole.MatchString(text) {
				t.Errorf("seed %d: %q allows %q", seed, expression, text)
			}
		}
		for range 10 {
			text := r.pick("", "a", "b", "ab", "aab", "é", "日", "\n", "7", "A", "aaaa", "x7", " ", "ba7")
			if got, _ := read(t, program, text); got != whole.MatchString(text) {
				t.Errorf("seed %d: %q of %q: got %v", seed, expression, text, got)
			}
		}
	}
	if walked < 1500 {
		t.Errorf("%d texts", walked)
	}
}

func (r randomSchema) expression(depth int) string {
	if depth == 0 {
		return r.pick(`a`, `b`, `.`, `[a-c]`, `[^a]`, `\d`, `\w`, `\s`, `é`, `[日-本]`, `\x{1F600}`, `(?i:k)`, `\.`, `[^\x00-\x{ffff}]`, `^`, `$`, ``)
	}
	one := r.expression(depth - 1)
	switch r.IntN(6) {
	case 0:
		return one + "|" + r.expression(depth-1)
	case 1:
		return "(" + one + ")" + r.pick("*", "+", "?", "{2}", "{0,3}", "{1,}", "*?")
	}
	return "(?:" + one + ")" + r.expression(depth-1)
}
