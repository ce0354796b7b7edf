package calls

import (
	"encoding/json"
	"strings"
)

// maxSchemaSteps bounds how much of a schema is looked at for one parameter: references may lead in circles.
const maxSchemaSteps = 1000

// joined are the keywords whose branches speak of the same value.
var joined = []string{"allOf", "anyOf", "oneOf"}

// schema is a tool's parameters, read for what they say of types.
type schema struct {
	root  any
	steps int // that are left
}

// kinds looks up what a tool's parameter may be.
func (p *Parser) kinds(tool, parameter string) kinds {
	root, ok := p.schemas[tool]
	if !ok {
		if p.schemas == nil {
			p.schemas = map[string]any{}
		}
		if json.Unmarshal(p.tools[tool], &root) != nil {
			root = nil // what is no schema tells nothing
		}
		p.schemas[tool] = root
	}
	s := &schema{root, maxSchemaSteps}
	return s.kinds(s.property(root, parameter))
}

func (s *schema) object(node any) map[string]any {
	s.steps--
	object, _ := node.(map[string]any)
	if s.steps < 0 {
		return nil
	}
	return object
}

// property finds the schema of an object's member.
func (s *schema) property(node any, name string) any {
	object := s.object(node)
	if properties, ok := object["properties"].(map[string]any); ok && properties[name] != nil {
		return properties[name]
	}
	for _, other := range s.others(object) {
		if found := s.property(other, name); found != nil {
			return found
		}
	}
	return nil
}

// kinds joins what a schema says of types.
func (s *schema) kinds(node any) kinds {
	object := s.object(node)
	var all kinds
	switch names := object["type"].(type) {
	case string:
		return kindNames[names]
	case []any:
		for _, name := range names {
			name, _ := name.(string)
			all |= kindNames[name]
		}
		return all
	}
	values, _ := object["enum"].([]any)
	if value, ok := object["const"]; ok {
		values = append(values, value)
	}
	for _, value := range values {
		if written, err := json.Marshal(value); err == nil {
			all |= kindOf(written[0])
		}
	}
	for _, other := range s.others(object) {
		all |= s.kinds(other)
	}
	return all
}

// others are the schemas that speak of the same value.
func (s *schema) others(object map[string]any) []any {
	var all []any
	if reference, ok := object["$ref"].(string); ok {
		all = append(all, s.resolve(reference))
	}
	for _, key := range joined {
		branches, _ := object[key].([]any)
		all = append(all, branches...)
	}
	return all
}

// resolve follows a JSON pointer within the schema.
func (s *schema) resolve(reference string) any {
	if reference == "#" {
		return s.root
	}
	pointer, ok := strings.CutPrefix(reference, "#/")
	if !ok {
		return nil
	}
	node := s.root
	for name := range strings.SplitSeq(pointer, "/") {
		object, _ := node.(map[string]any)
		node = object[strings.NewReplacer("~1", "/", "~0", "~").Replace(name)]
	}
	return node
}
