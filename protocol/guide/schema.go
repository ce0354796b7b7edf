package guide

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"

	"lockstep/protocol/ordered"
)

// Bounds of a schema's meaning.
const (
	maxAlternatives = 500  // of one schema, when its combinators are written out
	maxRules        = 5000 // unlike combinations of schemas
)

// conjunction are schema objects of whose own keywords all hold, in the order in which they appear. One without any holds of everything.
type conjunction []*value

// meaning is what is known of a document's schemas.
type meaning struct {
	*compiler
	alternatives map[int32][]conjunction // by the value's id
	rules        map[string]int32        // by alternatives
	opened       map[int32]bool          // schemas that are being written out
	values       int32                   // of all documents
	text         int32                   // rule of the rest of a plain string
	char         int32                   // rule of one character of a plain string
	indent       int32                   // rule of tidy white space behind a line feed; -1: not there yet
}

// schema builds the documents of a schema.
func (c *compiler) schema(text string, next int32) int32 { return c.documentsOf(next, text) }

// documentsOf builds the documents of all schemas at once.
func (c *compiler) documentsOf(next int32, schemas ...string) int32 {
	if c.meaning == nil {
		c.meaning = &meaning{compiler: c, alternatives: map[int32][]conjunction{}, rules: map[string]int32{}, opened: map[int32]bool{},
			text: c.rule(), char: c.rule(), indent: -1}
		c.define(c.meaning.text, stringStart)
		c.define(c.meaning.char, charStart)
	}
	m := c.meaning
	var roots []*value
	for _, text := range schemas {
		d := documents{reader: ordered.NewReader(text, maxNesting), count: m.values}
		root, err := d.read(nil, "")
		if err == nil {
			err = d.reader.End()
		}
		switch {
		case errors.Is(err, ordered.ErrDepth) || errors.Is(err, errTooMany):
			return c.fail(TooLarge, "the schema is too large: %v", err)
		case err != nil:
			return c.fail(Invalid, "the schema is no JSON: %v", err)
		}
		m.values = d.count
		roots = append(roots, root)
	}
	return m.value(roots, next)
}

// value builds the documents that all schemas admit.
func (m *meaning) value(schemas []*value, next int32) int32 {
	alternatives := []conjunction{{}}
	for _, s := range schemas {
		alternatives = m.product(s, alternatives, m.expand(s))
	}
	if len(alternatives) == 0 || m.err != nil {
		return m.dead()
	}
	key := keyOf(alternatives)
	rule, ok := m.rules[key]
	if !ok {
		if len(m.rules) >= maxRules {
			return m.fail(TooLarge, "its schemas mean more than %d unlike things", maxRules)
		}
		rule = m.rule()
		m.rules[key] = rule
		targets := make([]int32, 0, len(alternatives))
		for _, a := range alternatives {
			targets = append(targets, m.alternative(a))
		}
		m.define(rule, m.split(targets...))
	}
	return m.call(rule, next)
}

func keyOf(alternatives []conjunction) string {
	var key []byte
	for _, a := range alternatives {
		key = binary.LittleEndian.AppendUint32(key, uint32(len(a)))
		for _, part := range a {
			key = binary.LittleEndian.AppendUint32(key, uint32(part.id))
		}
	}
	return string(key)
}

// expand writes a schema out as alternatives, one of which holds.
func (m *meaning) expand(s *value) []conjunction {
	if known, ok := m.alternatives[s.id]; ok || m.err != nil {
		return known
	}
	switch {
	case s.kind == 't':
		return []conjunction{{}}
	case s.kind == 'f':
		return nil
	case s.kind != '{':
		m.failAt(s.pointer(), Invalid, "a schema must be an object or a boolean")
		return nil
	case m.opened[s.id]:
		m.failAt(s.pointer(), Invalid, "the schema refers to itself without an object or array between")
		return nil
	case !m.check(s):
		return nil
	}
	m.opened[s.id] = true
	out := []conjunction{{}}
	own := ownPlace(s)
	for _, keyword := range s.members {
		if keyword.name == own {
			out = m.product(s, out, []conjunction{{s}})
		}
		switch keyword.name {
		case "$ref":
			if target := m.resolve(keyword.value); target != nil {
				out = m.product(s, out, m.expand(target))
			}
		case "allOf":
			for _, item := range keyword.value.items {
				out = m.product(s, out, m.expand(item))
			}
		case "anyOf", "oneOf":
			var any []conjunction
			for _, item := range keyword.value.items {
				any = append(any, m.expand(item)...)
			}
			out = m.product(s, out, any)
		}
	}
	delete(m.opened, s.id)
	if m.err == nil {
		m.alternatives[s.id] = out
	}
	return out
}

// ownPlace is the keyword at whose place a schema's own ones count: that of its properties, if it has any; "": it has no own ones.
func ownPlace(s *value) (place string) {
	for _, keyword := range s.members {
		switch {
		case keyword.name == "properties":
			return keyword.name
		case place == "" && slices.Contains(constraints, keyword.name):
			place = keyword.name
		}
	}
	return place
}

// product are the alternatives of both, where both hold; equal ones count once.
func (m *meaning) product(at *value, left, right []conjunction) (out []conjunction) {
	seen := map[string]bool{}
	for _, a := range left {
		for _, b := range right {
			both := slices.Clone(a)
			for _, part := range b {
				if !slices.Contains(both, part) {
					both = append(both, part)
				}
			}
			if !m.spend(1 + len(both)) {
				return nil
			}
			if key := keyOf([]conjunction{both}); !seen[key] {
				seen[key] = true
				out = append(out, both)
			}
			if len(out) > maxAlternatives {
				m.failAt(at.pointer(), TooLarge, "it has more than %d alternatives", maxAlternatives)
				return nil
			}
		}
	}
	return out
}

// alternative builds the documents that a conjunction admits.
func (m *meaning) alternative(a conjunction) int32 {
	for _, part := range a {
		if constant := part.get("const"); constant != nil {
			return m.constants(a, []*value{constant})
		}
		if list := part.get("enum"); list != nil {
			return m.constants(a, list.items)
		}
	}
	admitted := func(name string) bool {
		for _, part := range a {
			if !admitsType(part, name) {
				return false
			}
		}
		return true
	}
	var targets []int32
	var words []string
	for name, spelled := range map[string][]string{"null": {"null"}, "boolean": {"false", "true"}} {
		if admitted(name) {
			words = append(words, spelled...)
		}
	}
	if len(words) > 0 {
		targets = append(targets, m.words(words, endNode))
	}
	if admitted("number") || admitted("integer") {
		targets = append(targets, m.number(a, !admitted("number")))
	}
	if admitted("string") {
		targets = append(targets, m.string(a))
	}
	if admitted("array") {
		targets = append(targets, m.array(a))
	}
	if admitted("object") {
		targets = append(targets, m.object(a))
	}
	if len(targets) == 0 {
		return m.dead()
	}
	return m.split(targets...)
}

// admitsType reports whether a schema's own keyword type admits a type; numbers admit integers.
func admitsType(part *value, name string) bool {
	listed := part.get("type")
	if listed == nil {
		return true
	}
	is := func(v *value) bool { return v.text == name || name == "integer" && v.text == "number" }
	return is(listed) || slices.ContainsFunc(listed.items, is)
}

// number builds numbers.
func (m *meaning) number(a conjunction, integer bool) int32 {
	n := m.numbersOf(a, integer)
	return m.numeral(&n)
}

// numbersOf joins the bounds of parts. Bounds of the draft before 6 are flags beside others.
func (m *meaning) numbersOf(a conjunction, integer bool) numbers {
	n := numbers{integer: integer}
	for _, part := range a {
		strict := func(name string) bool { flag := part.get(name); return flag != nil && flag.kind == 't' }
		for _, keyword := range part.members {
			v := keyword.value
			if v.kind != '0' {
				continue
			}
			switch keyword.name {
			case "minimum":
				n.raise(limit{v.number, strict("exclusiveMinimum")})
			case "exclusiveMinimum":
				n.raise(limit{v.number, true})
			case "maximum":
				n.lower(limit{v.number, strict("exclusiveMaximum")})
			case "exclusiveMaximum":
				n.lower(limit{v.number, true})
			case "multipleOf":
				if !v.number.IsInt() || !v.number.Num().IsInt64() {
					m.failAt(v.pointer(), Unsupported, "multiples of what is no whole number are not supported")
					continue
				}
				n.multiples = append(n.multiples, v.number.Num().Int64())
			}
		}
	}
	return n
}

// formats are those of strings that are held to; others say nothing.
var formats = map[string]string{
	"date":      datePattern,
	"time":      timePattern,
	"date-time": datePattern + "[Tt]" + timePattern,
	"uuid":      `[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}`,
	"ipv4":      `(?:` + octetPattern + `\.){3}` + octetPattern,
}

const (
	datePattern = `[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9]))`
	timePattern = `(?:[01][0-9]|2[0-3]):[0-5][0-9]:(?:[0-5][0-9]|60)(?:\.[0-9]+)?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])`

	octetPattern = `(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])`
)

// textsOf joins what parts say of strings. The automaton is nil where there are only lengths.
func (m *meaning) textsOf(a conjunction) (shape *automaton, shaped bool, least, greatest int) {
	greatest = -1
	join := func(other *automaton) {
		if shaped {
			other = m.intersect(shape, other)
		}
		shape, shaped = other, true
	}
	for _, part := range a {
		least = max(least, count(part, "minLength", 0))
		if most := count(part, "maxLength", -1); most >= 0 && (greatest < 0 || most < greatest) {
			greatest = most
		}
		if pattern := part.get("pattern"); pattern != nil {
			join(m.pattern(pattern.text, true))
			m.placed(pattern)
		}
		if format := part.get("format"); format != nil && formats[format.text] != "" {
			join(m.pattern(formats[format.text], false))
		}
	}
	return shape, shaped, least, greatest
}

// placed says of an error that has no place yet where it is.
func (m *meaning) placed(v *value) {
	if m.err != nil && m.err.Pointer == "" {
		m.err.Pointer = v.pointer()
	}
}

// string builds strings.
func (m *meaning) string(a conjunction) int32 {
	shape, shaped, least, greatest := m.textsOf(a)
	switch {
	case greatest >= 0 && greatest < least:
		return m.dead()
	case shaped && (least > 0 || greatest >= 0):
		shape = m.intersect(shape, m.lengths(least, greatest))
		for _, part := range a {
			if pattern := part.get("pattern"); pattern != nil {
				m.placed(pattern)
			}
		}
		fallthrough
	case shaped:
		if d, ok := m.determine(shape, fewStates); ok {
			shape = d
		}
		return m.literal(`"`, m.spell(shape, textSpelling, m.literal(`"`, endNode)))
	case least == 0 && greatest < 0:
		return m.literal(`"`, m.call(m.text, endNode))
	}
	return m.literal(`"`, m.loop(m.char, int32(least), int32(greatest), m.literal(`"`, endNode)))
}

// spelled is a text as JSON writes it, each character in one way.
func spelled(text string) string {
	var out strings.Builder
	out.WriteByte('"')
	for i := range len(text) {
		switch b := text[i]; {
		case b == '"' || b == '\\':
			out.WriteString(string([]byte{'\\', b}))
		case b >= 0x20:
			out.WriteByte(b)
		case shortEscapes[b] != 0:
			out.WriteString(string([]byte{'\\', shortEscapes[b]}))
		default:
			out.WriteString(`\u00` + string("0123456789abcdef"[b>>4]) + string("0123456789abcdef"[b&15]))
		}
	}
	out.WriteByte('"')
	return out.String()
}

// blank is the white space that may stand here. What is short stands at its place, so that nothing is called for it.
func (m *meaning) blank(next int32) int32 {
	switch m.source.WhiteSpace {
	case None:
		return next
	case Space:
		return m.split(next, m.literal(" ", next))
	case Any:
		n := m.add(node{kind: kindSplit})
		m.setSplit(n, next, m.bytes(edge{'\t', '\n', n}, edge{'\r', '\r', n}, edge{' ', ' ', n}))
		return n
	}
	if m.indent < 0 {
		m.indent = m.rule()
		m.define(m.indent, m.indentRule())
	}
	return m.split(next, m.bytes(edge{'\n', '\n', m.call(m.indent, next)}, edge{' ', ' ', next}))
}

// indentRule is what may stand behind a line feed.
func (m *meaning) indentRule() int32 {
	const indent = 20
	behind := endNode
	for range indent {
		behind = m.split(endNode, m.bytes(edge{'\t', '\t', behind}, edge{' ', ' ', behind}))
	}
	return m.split(behind, m.bytes(edge{'\n', '\n', behind}))
}
