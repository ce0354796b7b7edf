package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// schemas is a document with what is needed to hold values against its schemas. It knows the keywords that the documents use.
type schemas map[string]any

// keywords tell where schemas stand in schemas: "" nowhere, "one", "list" or "named".
var keywords = map[string]string{
	"$ref": "", "type": "", "description": "", "default": "", "example": "", "examples": "", "const": "", "enum": "", "required": "",
	"pattern": "",
	"minimum": "", "maximum": "", "exclusiveMinimum": "", "exclusiveMaximum": "", "minLength": "", "maxLength": "", "minItems": "",
	"maxItems":      "",
	"maxProperties": "", "contentMediaType": "", "format": "", "nullable": "",
	"items": "one", "additionalProperties": "one", "propertyNames": "one", "not": "one", "contentSchema": "one",
	"allOf": "list", "anyOf": "list", "oneOf": "list", "prefixItems": "list", "properties": "named",
}

// isKind tells whether a decoded value is of a kind of JSON Schema's.
func isKind(kind string, value any) bool {
	switch v := value.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string"
	case float64:
		return kind == "number" || kind == "integer" && v == math.Trunc(v)
	case []any:
		return kind == "array"
	}
	return kind == "object"
}

// misfit says why a value does not fit a schema, "" if it does.
func (d schemas) misfit(schema, value any) string {
	if allowed, ok := schema.(bool); ok {
		return map[bool]string{false: "nothing is allowed"}[allowed]
	}
	s := schema.(map[string]any)
	if value == nil && s["nullable"] == true {
		return ""
	}
	if reference, ok := s["$ref"].(string); ok {
		if why := d.misfit(d.lookUp(reference), value); why != "" {
			return why
		}
	}
	kinds, _ := s["type"].([]any)
	if kind, ok := s["type"].(string); ok {
		kinds = []any{kind}
	}
	if len(kinds) > 0 && !slices.ContainsFunc(kinds, func(kind any) bool { return isKind(kind.(string), value) }) {
		return fmt.Sprintf("%v is no %v", value, kinds)
	}
	if constant, ok := s["const"]; ok && !reflect.DeepEqual(constant, value) {
		return fmt.Sprintf("%v is not %v", value, constant)
	}
	if list, ok := s["enum"].([]any); ok && !slices.ContainsFunc(list, func(one any) bool { return reflect.DeepEqual(one, value) }) {
		return fmt.Sprintf("%v is none of %v", value, list)
	}
	if not, ok := s["not"]; ok && d.misfit(not, value) == "" {
		return fmt.Sprintf("%v is excluded", value)
	}
	if why := d.misfitInParts(s, value); why != "" {
		return why
	}
	switch v := value.(type) {
	case float64:
		return outside(s, v, "minimum", "maximum")
	case string:
		if pattern, ok := s["pattern"].(string); ok && !regexp.MustCompile(pattern).MatchString(v) {
			return fmt.Sprintf("%q does not match %s", v, pattern)
		}
		if content, ok := s["contentSchema"]; ok {
			var decoded any
			if err := json.Unmarshal([]byte(v), &decoded); err != nil {
				return err.Error()
			}
			return d.misfit(content, decoded)
		}
		return outside(s, float64(utf8.RuneCountInString(v)), "minLength", "maxLength")
	case []any:
		return d.misfitOfItems(s, v)
	case map[string]any:
		return d.misfitOfMembers(s, v)
	}
	return ""
}

func (d schemas) misfitInParts(s map[string]any, value any) string {
	all, _ := s["allOf"].([]any)
	for _, part := range all {
		if why := d.misfit(part, value); why != "" {
			return why
		}
	}
	for _, name := range []string{"anyOf", "oneOf"} {
		parts, ok := s[name].([]any)
		fitting := 0
		var why []string
		for _, part := range parts {
			if not := d.misfit(part, value); not == "" {
				fitting++
			} else {
				why = append(why, not)
			}
		}
		if ok && (fitting == 0 || name == "oneOf" && fitting > 1) {
			return fmt.Sprintf("fits %d of %s: %s", fitting, name, strings.Join(why, "; "))
		}
	}
	return ""
}

func (d schemas) misfitOfItems(s map[string]any, list []any) string {
	first, _ := s["prefixItems"].([]any)
	for i, item := range list {
		schema := s["items"]
		if i < len(first) {
			schema = first[i]
		}
		if schema != nil {
			if why := d.misfit(schema, item); why != "" {
				return fmt.Sprintf("[%d]: %s", i, why)
			}
		}
	}
	return outside(s, float64(len(list)), "minItems", "maxItems")
}

func (d schemas) misfitOfMembers(s, members map[string]any) string {
	required, _ := s["required"].([]any)
	for _, name := range required {
		if _, ok := members[name.(string)]; !ok {
			return name.(string) + " is missing"
		}
	}
	properties, _ := s["properties"].(map[string]any)
	for name, value := range members {
		schema, ok := properties[name]
		if !ok {
			schema = s["additionalProperties"]
		}
		if names, ok := s["propertyNames"]; ok {
			if why := d.misfit(names, name); why != "" {
				return why
			}
		}
		if schema != nil {
			if why := d.misfit(schema, value); why != "" {
				return name + ": " + why
			}
		}
	}
	return outside(s, float64(len(members)), "", "maxProperties")
}

func outside(s map[string]any, v float64, least, most string) string {
	above, strictly := s["exclusiveMinimum"].(float64)
	below, strictlyBelow := s["exclusiveMaximum"].(float64)
	bounds := least == "minimum"
	low, atLeast := s[least].(float64)
	high, atMost := s[most].(float64)
	if atLeast && v < low || atMost && v > high || bounds && (strictly && v <= above || strictlyBelow && v >= below) {
		return fmt.Sprintf("%v is out of bounds", v)
	}
	return ""
}

func (d schemas) lookUp(reference string) any {
	var at any = map[string]any(d)
	for _, part := range strings.Split(strings.TrimPrefix(reference, "#/"), "/") {
		object, _ := at.(map[string]any)
		at = object[part]
	}
	return at
}

// checkSchema holds a schema's own examples and defaults against it, and those of what it consists of.
func (d schemas) checkSchema(t *testing.T, path string, schema any) {
	s, ok := schema.(map[string]any)
	if !ok {
		if _, ok := schema.(bool); !ok {
			t.Errorf("%s: %v is no schema", path, schema)
		}
		return
	}
	examples, _ := s["examples"].([]any)
	for _, name := range []string{"example", "default"} {
		if example, ok := s[name]; ok {
			examples = append(examples, example)
		}
	}
	for _, example := range examples {
		if why := d.misfit(s, example); why != "" {
			t.Errorf("%s: an example does not fit: %s", path, why)
		}
	}
	for name, value := range s {
		where, known := keywords[name]
		at := path + "/" + name
		switch {
		case !known:
			t.Errorf("%s: an unknown keyword", at)
		case where == "one":
			d.checkSchema(t, at, value)
		case where == "list":
			for i, item := range value.([]any) {
				d.checkSchema(t, fmt.Sprintf("%s/%d", at, i), item)
			}
		case where == "named":
			for name, item := range value.(map[string]any) {
				d.checkSchema(t, at+"/"+name, item)
			}
		}
	}
}

// checkContent finds what has a schema outside of schemas, and holds its examples against it.
func (d schemas) checkContent(t *testing.T, path string, value any) {
	switch v := value.(type) {
	case []any:
		for i, item := range v {
			d.checkContent(t, fmt.Sprintf("%s/%d", path, i), item)
		}
	case map[string]any:
		if schema, ok := v["schema"]; ok {
			d.checkSchema(t, path, schema)
			if example, ok := v["example"]; ok {
				if why := d.misfit(schema, example); why != "" {
					t.Errorf("%s: the example does not fit: %s", path, why)
				}
			}
			examples, _ := v["examples"].(map[string]any)
			for name, example := range examples {
				if why := d.misfit(schema, example.(map[string]any)["value"]); why != "" {
					t.Errorf("%s: the example %s does not fit: %s", path, name, why)
				}
			}
			return
		}
		for name, member := range v {
			d.checkContent(t, path+"/"+name, member)
		}
	}
}

// Schemas use known keywords, and every example and default fits its schema.
func TestExamplesFit(t *testing.T) {
	for name, data := range allDocuments() {
		d := schemas{}
		if err := json.Unmarshal(data, &d); err != nil {
			t.Fatal(err)
		}
		components, _ := d["components"].(map[string]any)
		named, _ := components["schemas"].(map[string]any)
		for schema, value := range named {
			d.checkSchema(t, name+": "+schema, value)
		}
		d.checkContent(t, name+": responses", components["responses"])
		d.checkContent(t, name+": parameters", components["parameters"])
		d.checkContent(t, name, d["paths"])
	}
}

// Operations have what the page shows of them, and nothing else.
func TestOperationsAreWhole(t *testing.T) {
	for name, data := range allDocuments() {
		var document struct {
			OpenAPI string
			Paths   map[string]map[string]map[string]any
			Tags    []struct{ Name, Description string }
		}
		if err := json.Unmarshal(data, &document); err != nil {
			t.Fatal(err)
		}
		if document.OpenAPI != "3.1.0" {
			continue // TGI's own form
		}
		unused := map[string]bool{}
		for _, tag := range document.Tags {
			unused[tag.Name] = true
		}
		tags := maps.Clone(unused)
		for path, operations := range document.Paths {
			for method, operation := range operations {
				at := name + ": " + method + " " + path
				tag, _ := operation["tags"].([]any)
				if len(tag) != 1 || !tags[tag[0].(string)] {
					t.Errorf("%s has the tags %v", at, tag)
				} else {
					delete(unused, tag[0].(string))
				}
				for member := range operation {
					if !slices.Contains([]string{"tags", "operationId", "summary", "description", "security", "parameters",
						"requestBody", "responses"}, member) {
						t.Errorf("%s has %s", at, member)
					}
				}
				needsKey := method == "post" || path == "/tokens" || path == "/lightllm/tokens"
				if operation["operationId"] == nil || operation["summary"] == nil || operation["responses"] == nil ||
					needsKey != (operation["security"] != nil) {
					t.Errorf("%s lacks operationId, summary, responses or, where a body needs a key, security: %v", at,
						slices.Sorted(maps.Keys(operation)))
				}
			}
		}
		if len(unused) > 0 || len(tags) < len(document.Tags) {
			t.Errorf("%s: no operation has the tags %v, or some are there twice: %v", name, unused, document.Tags)
		}
	}
}
