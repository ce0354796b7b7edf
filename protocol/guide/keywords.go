package guide

import (
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// unsupported are the keywords that would constrain and that no guide can do here.
var unsupported = []string{"$dynamicRef", "$recursiveRef", "not", "if", "dependencies", "dependentRequired", "dependentSchemas",
	"unevaluatedItems", "unevaluatedProperties", "contains", "propertyNames"}

// constraints are the keywords of a schema's own, those of combinators aside.
var constraints = []string{"type", "enum", "const", "properties", "patternProperties", "additionalProperties", "required", "minProperties",
	"maxProperties", "items", "prefixItems", "minItems", "maxItems", "minLength", "maxLength", "pattern", "format", "minimum", "maximum",
	"exclusiveMinimum", "exclusiveMaximum", "multipleOf"}

// types are JSON's, as schemas name them.
var types = []string{"null", "boolean", "object", "array", "number", "string", "integer"}

// check refuses a schema object whose keywords are malformed or not supported. Keywords that are not known say nothing.
func (c *compiler) check(s *value) bool {
	for _, name := range unsupported {
		if at := s.get(name); at != nil {
			c.failAt(at.pointer(), Unsupported, "the keyword %q is not supported", name)
		}
	}
	if unique := s.get("uniqueItems"); unique != nil && unique.kind != 'f' {
		c.failAt(unique.pointer(), Unsupported, "the keyword %q is not supported", "uniqueItems")
	}
	for _, m := range s.members {
		if want := malformed(m.name, m.value); want != "" {
			c.failAt(m.value.pointer(), Invalid, "the keyword %q must be %s", m.name, want)
		}
	}
	return c.err == nil
}

// malformed tells what a keyword's value must be; "": it is.
func malformed(name string, v *value) string {
	ok, want := true, ""
	switch name {
	case "$ref", "pattern", "format":
		ok, want = v.kind == '"', "a string"
	case "type":
		ok, want = isType(v) || v.kind == '[' && len(v.items) > 0 && all(v.items, isType), "the name of a type, or an array of such"
	case "enum":
		ok, want = v.kind == '[', "an array"
	case "allOf", "anyOf", "oneOf", "prefixItems":
		ok, want = v.kind == '[' && len(v.items) > 0 && all(v.items, isSchema), "an array of at least one schema"
	case "properties", "patternProperties", "$defs", "definitions":
		ok, want = v.kind == '{', "an object of schemas"
		for _, m := range v.members {
			ok = ok && isSchema(m.value)
		}
	case "additionalProperties":
		ok, want = isSchema(v), "a schema"
	case "items":
		ok, want = isSchema(v) || v.kind == '[', "a schema"
	case "required":
		ok, want = v.kind == '[' && all(v.items, func(v *value) bool { return v.kind == '"' }), "an array of strings"
	case "minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties":
		ok, want = v.kind == '0' && v.number.IsInt() && v.number.Sign() >= 0, "a whole number from 0 on"
	case "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum":
		ok, want = v.kind == '0' || v.kind == 't' || v.kind == 'f', "a number"
	case "multipleOf":
		ok, want = v.kind == '0' && v.number.Sign() > 0, "a number above 0"
	}
	if ok {
		return ""
	}
	return want
}

func isType(v *value) bool   { return v.kind == '"' && slices.Contains(types, v.text) }
func isSchema(v *value) bool { return v.kind == '{' || v.kind == 't' || v.kind == 'f' }

func all(values []*value, is func(*value) bool) bool {
	return !slices.ContainsFunc(values, func(v *value) bool { return !is(v) })
}

// count is a keyword's whole number, at most so many that more make no difference; none: it is not there.
func count(s *value, name string, none int) int {
	v := s.get(name)
	if v == nil {
		return none
	}
	if !v.number.Num().IsInt64() || v.number.Num().Int64() > math.MaxInt32-1 {
		return math.MaxInt32 - 1
	}
	return int(v.number.Num().Int64())
}

// resolve finds what a reference names, which must be in the same document.
func (c *compiler) resolve(reference *value) *value {
	root := reference
	for root.above != nil {
		if root = root.above; root.above != nil && root.get("$id") != nil {
			c.failAt(reference.pointer(), Unsupported, "references within a schema with an $id of its own are not supported")
			return nil
		}
	}
	pointer, ok := strings.CutPrefix(reference.text, "#")
	if !ok || pointer != "" && pointer[0] != '/' {
		c.failAt(reference.pointer(), Unsupported, "the reference %.80q does not begin with #/: others are not supported", reference.text)
		return nil
	}
	at := root
	for name := range strings.SplitSeq(strings.TrimPrefix(pointer, "/"), "/") {
		if pointer == "" {
			break
		}
		if plain, err := url.PathUnescape(name); err == nil {
			name = plain
		}
		name = strings.NewReplacer("~1", "/", "~0", "~").Replace(name)
		next := at.get(name)
		if at.kind == '[' {
			if i, err := strconv.Atoi(name); err == nil && 0 <= i && i < len(at.items) {
				next = at.items[i]
			}
		}
		if at = next; at == nil {
			c.failAt(reference.pointer(), Invalid, "the reference %.80q leads nowhere", reference.text)
			return nil
		}
	}
	return at
}
