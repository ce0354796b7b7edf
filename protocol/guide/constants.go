package guide

import "unicode/utf8"

// constants builds those of some values that a conjunction admits.
func (m *meaning) constants(a conjunction, values []*value) int32 {
	var admitted []*value
	for _, v := range values {
		if m.admitsOwn(a, v) && !contains(admitted, v) {
			admitted = append(admitted, v)
		}
	}
	var words []string
	var targets []int32
	for _, v := range admitted {
		if v.kind == '{' || v.kind == '[' {
			targets = append(targets, m.constant(v, endNode))
		} else {
			words = append(words, scalar(v))
		}
	}
	if len(words) > 0 {
		targets = append(targets, m.words(words, endNode))
	}
	if len(targets) == 0 {
		return m.dead()
	}
	return m.split(targets...)
}

func contains(values []*value, v *value) bool {
	for _, other := range values {
		if equal(other, v) {
			return true
		}
	}
	return false
}

// scalar is a constant that is no array or object, as it is spelled.
func scalar(v *value) string {
	switch v.kind {
	case 'n':
		return "null"
	case 't':
		return "true"
	case 'f':
		return "false"
	case '0':
		return v.text
	}
	return spelled(v.text)
}

// constant builds a value as it is, with white space where it may stand.
func (m *meaning) constant(v *value, next int32) int32 {
	if !m.spend(1) {
		return next
	}
	open, close := "{", "}"
	switch v.kind {
	case '{':
	case '[':
		open, close = "[", "]"
	default:
		return m.literal(scalar(v), next)
	}
	next = m.literal(close, next)
	size := len(v.items) + len(v.members)
	for i := size - 1; i >= 0; i-- {
		next = m.blank(next)
		if v.kind == '{' {
			next = m.literal(spelled(v.members[i].name), m.blank(m.literal(":", m.blank(m.constant(v.members[i].value, next)))))
		} else {
			next = m.constant(v.items[i], next)
		}
		if i > 0 {
			next = m.literal(",", m.blank(next))
		}
	}
	return m.literal(open, m.blank(next))
}

// admits reports whether a schema holds of a value.
func (m *meaning) admits(s, v *value) bool {
	for _, a := range m.expand(s) {
		if m.admitsOwn(a, v) {
			return true
		}
	}
	return false
}

// admitsOwn reports whether the own keywords of all parts hold of a value.
func (m *meaning) admitsOwn(a conjunction, v *value) bool {
	for _, part := range a {
		if !m.spend(1) || !admitsValue(part, v) {
			return false
		}
	}
	switch v.kind {
	case '0':
		n := m.numbersOf(a, false)
		return n.holds(v.number)
	case '"':
		shape, shaped, least, greatest := m.textsOf(a)
		length := utf8.RuneCountInString(v.text)
		return length >= least && (greatest < 0 || length <= greatest) && (!shaped || shape.matches(v.text))
	case '[':
		return m.admitsItems(a, v)
	case '{':
		return m.admitsMembers(a, v)
	}
	return true
}

// admitsValue reports whether the type, enum and const of a part hold of a value.
func admitsValue(part, v *value) bool {
	if constant := part.get("const"); constant != nil && !equal(constant, v) {
		return false
	}
	if list := part.get("enum"); list != nil && !contains(list.items, v) {
		return false
	}
	name := map[byte]string{'n': "null", 't': "boolean", 'f': "boolean", '"': "string", '[': "array", '{': "object", '0': "number"}[v.kind]
	return admitsType(part, name) || v.kind == '0' && v.number.IsInt() && admitsType(part, "integer")
}

func (m *meaning) admitsItems(a conjunction, v *value) bool {
	for _, part := range a {
		if len(v.items) < count(part, "minItems", 0) || len(v.items) > count(part, "maxItems", len(v.items)) {
			return false
		}
	}
	for i, item := range v.items {
		for _, s := range itemSchemas(a, i) {
			if !m.admits(s, item) {
				return false
			}
		}
	}
	return true
}

func (m *meaning) admitsMembers(a conjunction, v *value) bool {
	o := members{meaning: m, parts: a}
	for _, part := range a {
		if len(v.members) < count(part, "minProperties", 0) || len(v.members) > count(part, "maxProperties", len(v.members)) {
			return false
		}
		if required := part.get("required"); required != nil {
			for _, name := range required.items {
				if v.get(name.text) == nil {
					return false
				}
			}
		}
	}
	for _, member := range v.members {
		for _, s := range o.schemasOf(member.name) {
			if !m.admits(s, member.value) {
				return false
			}
		}
	}
	return true
}
