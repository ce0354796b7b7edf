package guide_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

// validator holds documents against a schema by the standard's words, keyword by keyword, and shares nothing with what compiles schemas.
// It knows the keywords that randomSchema writes.
type validator struct {
	root any
	// repeats says that a document may have a name twice, of which encoding/json keeps one. Guides count both.
	repeats bool
	// depth is how many schemas stand within one another; endless, that one came to itself, of which the standard says nothing.
	depth   int
	endless bool
}

// decode keeps the spelling of numbers.
func decode(t testing.TB, text string) (value any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if err := d.Decode(&value); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	return value
}

func rational(n json.Number) *big.Rat {
	r, _ := new(big.Rat).SetString(n.String())
	return r
}

// plainValue makes equal what JSON Schema takes for equal.
func plainValue(v any) any {
	switch v := v.(type) {
	case json.Number:
		return rational(v).String()
	case []any:
		out := []any{}
		for _, item := range v {
			out = append(out, plainValue(item))
		}
		return out
	case map[string]any:
		out := map[string]any{}
		for name, item := range v {
			out[name] = plainValue(item)
		}
		return out
	case string:
		return "text " + v
	}
	return v
}

func same(a, b any) bool { return reflect.DeepEqual(plainValue(a), plainValue(b)) }

func typeHolds(name string, v any) bool {
	switch v := v.(type) {
	case nil:
		return name == "null"
	case bool:
		return name == "boolean"
	case string:
		return name == "string"
	case []any:
		return name == "array"
	case map[string]any:
		return name == "object"
	case json.Number:
		return name == "number" || name == "integer" && rational(v).IsInt()
	}
	return false
}

// holds reports whether a schema holds of a value.
func (d *validator) holds(schema, v any) bool {
	if yes, ok := schema.(bool); ok {
		return yes
	}
	if d.depth++; d.depth > 100 {
		d.endless = true
	}
	defer func() { d.depth-- }()
	s := schema.(map[string]any)
	for keyword, k := range s {
		if !d.endless && !d.keyword(s, keyword, k, v) {
			return false
		}
	}
	return true
}

func (d *validator) keyword(s map[string]any, keyword string, k, v any) bool {
	some := func(list any, is func(any) bool) (count int) {
		for _, item := range list.([]any) {
			if is(item) {
				count++
			}
		}
		return count
	}
	valid := func(schema any) bool { return d.holds(schema, v) }
	switch keyword {
	case "type":
		if name, ok := k.(string); ok {
			return typeHolds(name, v)
		}
		return some(k, func(name any) bool { return typeHolds(name.(string), v) }) > 0
	case "enum":
		return some(k, func(item any) bool { return same(item, v) }) > 0
	case "const":
		return same(k, v)
	case "anyOf":
		return some(k, valid) > 0
	case "allOf":
		return some(k, valid) == len(k.([]any))
	case "$ref":
		at := d.root
		for _, name := range strings.Split(k.(string), "/")[1:] {
			at = at.(map[string]any)[name]
		}
		return d.holds(at, v)
	}
	switch v := v.(type) {
	case string:
		return holdsText(keyword, k, v)
	case json.Number:
		return holdsNumber(keyword, k, rational(v))
	case []any:
		return d.holdsArray(s, keyword, k, v)
	case map[string]any:
		return d.holdsObject(s, keyword, k, v)
	}
	return true
}

func holdsText(keyword string, k any, v string) bool {
	switch keyword {
	case "minLength":
		return rational(k.(json.Number)).Cmp(big.NewRat(int64(utf8.RuneCountInString(v)), 1)) <= 0
	case "maxLength":
		return rational(k.(json.Number)).Cmp(big.NewRat(int64(utf8.RuneCountInString(v)), 1)) >= 0
	case "pattern":
		return regexp.MustCompile(k.(string)).MatchString(v)
	}
	return true
}

func holdsNumber(keyword string, k any, v *big.Rat) bool {
	switch keyword {
	case "minimum":
		return v.Cmp(rational(k.(json.Number))) >= 0
	case "maximum":
		return v.Cmp(rational(k.(json.Number))) <= 0
	case "exclusiveMinimum":
		return v.Cmp(rational(k.(json.Number))) > 0
	case "exclusiveMaximum":
		return v.Cmp(rational(k.(json.Number))) < 0
	case "multipleOf":
		return new(big.Rat).Quo(v, rational(k.(json.Number))).IsInt()
	}
	return true
}

func whole(k any) int { return int(rational(k.(json.Number)).Num().Int64()) }

func (d *validator) holdsArray(s map[string]any, keyword string, k any, v []any) bool {
	prefix, _ := s["prefixItems"].([]any)
	switch keyword {
	case "minItems":
		return len(v) >= whole(k)
	case "maxItems":
		return len(v) <= whole(k)
	case "prefixItems":
		for i := range min(len(prefix), len(v)) {
			if !d.holds(prefix[i], v[i]) {
				return false
			}
		}
	case "items":
		for _, item := range v[min(len(prefix), len(v)):] {
			if !d.holds(k, item) {
				return false
			}
		}
	}
	return true
}

func (d *validator) holdsObject(s map[string]any, keyword string, k any, v map[string]any) bool {
	properties, _ := s["properties"].(map[string]any)
	patterns, _ := s["patternProperties"].(map[string]any)
	switch keyword {
	case "minProperties":
		return len(v) >= whole(k) || d.repeats
	case "maxProperties":
		return len(v) <= whole(k)
	case "required":
		for _, name := range k.([]any) {
			if _, ok := v[name.(string)]; !ok {
				return false
			}
		}
	case "properties":
		for name, schema := range properties {
			if item, ok := v[name]; ok && !d.holds(schema, item) {
				return false
			}
		}
	case "patternProperties", "additionalProperties":
		for name, item := range v {
			_, declared := properties[name]
			for pattern, schema := range patterns {
				if regexp.MustCompile(pattern).MatchString(name) {
					declared = true
					if keyword == "patternProperties" && !d.holds(schema, item) {
						return false
					}
				}
			}
			if keyword == "additionalProperties" && !declared && !d.holds(k, item) {
				return false
			}
		}
	}
	return true
}
