package calls

import (
	"encoding/json"
	"fmt"
	"strings"
)

// maxValueBytes is how long a value may be that is no text and therefore waits for its end; a longer one is taken for a text.
const maxValueBytes = 1 << 20

const (
	xmlFunction     = "<function="
	xmlParameter    = "<parameter="
	xmlParameterEnd = "</parameter>"
	xmlFunctionEnd  = "</function>"
	xmlCallEnd      = "</tool_call>"
)

// xmlCall reads <function=N>, <parameter=K>, a value, </parameter> and so on to </function>. A value's own first and last line
// feeds belong to the form. Texts pass through as they come, other values when they are whole.
type xmlCall struct {
	place    xmlPlace
	literal  literal
	written  []byte // of a name
	name     string
	started  bool   // the call has begun
	kinds    kinds  // of the present value
	value    []byte // of the present value, if it is no text
	tail     []byte // may be the value's end
	anything bool   // of the value came
}

type xmlPlace int

const (
	xmlOpening xmlPlace = iota
	xmlName
	xmlBody
	xmlKey
	xmlValue
)

func (x *xmlCall) read(p *Parser, c byte) result {
	switch x.place {
	case xmlOpening:
		return x.readTag(p, c, xmlFunction)
	case xmlBody:
		return x.readTag(p, c, xmlParameter, xmlFunctionEnd, xmlCallEnd)
	case xmlValue:
		return x.readValue(p, c)
	}
	switch {
	case c == '\n', c == '<', len(x.written) == maxNameBytes:
		return x.fail(p)
	case c != '>':
		x.written = append(x.written, c)
	case x.place == xmlKey:
		x.startValue(p, string(x.written))
	default:
		name, ok := plainName(x.written)
		if !ok {
			return wrong
		}
		x.name, x.place = name, xmlBody
		x.written = x.written[:0]
	}
	return more
}

// readTag takes a byte of a tag or of the white space before it.
func (x *xmlCall) readTag(p *Parser, c byte, tags ...string) result {
	if len(x.literal.matched) == 0 && isSpace(c) {
		return more
	}
	switch tag, partly := x.literal.next(c, tags...); {
	case !partly:
		return x.fail(p)
	case tag == xmlFunction:
		x.place = xmlName
	case tag == xmlParameter:
		x.place = xmlKey
	case tag == xmlCallEnd && !x.started:
		return wrong
	case tag != "":
		x.close(p)
		return done
	}
	return more
}

// fail leaves a call that has begun with the values that came.
func (x *xmlCall) fail(p *Parser) result {
	if x.started {
		p.arguments('}')
	}
	return wrong
}

func (x *xmlCall) close(p *Parser) {
	if !x.started {
		p.begin(x.name)
		p.arguments('{')
	}
	p.arguments('}')
}

func (x *xmlCall) startValue(p *Parser, key string) {
	separator := ", "
	if !x.started {
		x.started, separator = true, "{"
		p.begin(x.name)
	}
	p.arguments([]byte(separator + quote(key) + ": ")...)
	x.kinds = p.kinds(x.name, key)
	x.written = x.written[:0]
	x.place, x.value, x.tail, x.anything = xmlValue, x.value[:0], x.tail[:0], false
	if x.kinds.text() {
		p.arguments('"')
	}
}

func (x *xmlCall) readValue(p *Parser, c byte) result {
	const lined = "\n" + xmlParameterEnd
	x.tail = append(x.tail, c)
	for len(x.tail) > 0 {
		switch tail := string(x.tail); {
		case tail == lined, tail == xmlParameterEnd:
			x.endValue(p)
			x.place = xmlBody
			return more
		case strings.HasPrefix(lined, tail), strings.HasPrefix(xmlParameterEnd, tail):
			return more
		}
		first := x.tail[0]
		x.tail = append(x.tail[:0], x.tail[1:]...)
		x.addValue(p, first)
	}
	return more
}

func (x *xmlCall) addValue(p *Parser, c byte) {
	first := !x.anything
	x.anything = true
	switch {
	case first && c == '\n':
	case x.kinds.text():
		p.arguments(escape(c)...)
	case len(x.value) < maxValueBytes:
		x.value = append(x.value, c)
	default:
		x.kinds = textKind
		p.arguments('"')
		for _, c := range append(x.value, c) {
			p.arguments(escape(c)...)
		}
	}
}

func (x *xmlCall) endValue(p *Parser) {
	if x.kinds.text() {
		p.arguments('"')
		return
	}
	p.arguments(x.kinds.write(x.value)...)
}

// end completes a call that lacks its end tags; if it was cut off, it stays open, with what came of its last value.
func (x *xmlCall) end(p *Parser, cut bool) {
	switch {
	case !cut && x.place == xmlValue:
		x.endValue(p)
		p.arguments('}')
	case !cut && x.started:
		p.arguments('}')
	case x.place == xmlValue && !x.kinds.text():
		p.arguments(x.value...)
	case cut && !x.started && x.place >= xmlBody:
		p.begin(x.name)
	}
}

// quote writes a text in JSON.
func quote(s string) string {
	written := []byte{'"'}
	for i := range len(s) {
		written = append(written, escape(s[i])...)
	}
	return string(append(written, '"'))
}

// escape writes a byte within a text in JSON.
func escape(c byte) []byte {
	switch {
	case c == '"', c == '\\':
		return []byte{'\\', c}
	case c == '\n':
		return []byte(`\n`)
	case c == '\t':
		return []byte(`\t`)
	case c == '\r':
		return []byte(`\r`)
	case c < ' ':
		return fmt.Appendf(nil, `\u%04x`, c)
	}
	return []byte{c}
}

// kinds are the types that a schema allows, as bits. None: nobody knows, and values are texts.
type kinds int

const (
	nullKind kinds = 1 << iota
	boolKind
	numberKind
	arrayKind
	objectKind
	textKind
)

var kindNames = map[string]kinds{"null": nullKind, "boolean": boolKind, "number": numberKind, "integer": numberKind,
	"array": arrayKind, "object": objectKind, "string": textKind}

// text reports whether values are texts whatever they look like.
func (k kinds) text() bool { return k&^textKind == 0 }

// write gives a value the type that it has in JSON if the schema allows that, and else makes a text of it.
func (k kinds) write(value []byte) []byte {
	trimmed := strings.TrimSpace(string(value))
	if k&boolKind != 0 && (trimmed == "True" || trimmed == "False") {
		trimmed = strings.ToLower(trimmed)
	}
	if json.Valid([]byte(trimmed)) && (k&^textKind&kindOf(trimmed[0]) != 0 || trimmed == "null" && k&textKind == 0) {
		return []byte(trimmed)
	}
	if k&(arrayKind|objectKind) != 0 && trimmed != "" && k&kindOf(trimmed[0]) != 0 {
		if written, ok := translate(trimmed); ok {
			return written
		}
	}
	return []byte(quote(string(value)))
}

// kindOf tells a valid value's type by its first byte.
func kindOf(first byte) kinds {
	switch first {
	case 'n':
		return nullKind
	case 't', 'f':
		return boolKind
	case '[':
		return arrayKind
	case '{':
		return objectKind
	case '"':
		return textKind
	}
	return numberKind
}
