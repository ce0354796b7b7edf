package calls

import (
	"bytes"
	"encoding/json"
)

// scanner finds the end of an array or object by its strings, brackets and braces. What else stands in it is the model's
// affair.
type scanner struct {
	depth   int
	quoted  bool
	escaped bool
}

// next reports done with the last byte. Outside of texts no JSON has the bytes with which closing marks begin: such a one stands
// behind JSON that lacks its end.
func (s *scanner) next(c byte) result {
	switch {
	case s.escaped:
		s.escaped = false
	case s.quoted:
		s.escaped, s.quoted = c == '\\', c != '"'
	case c == '"':
		s.quoted = true
	case c == '{', c == '[':
		s.depth++
	case c == '}', c == ']':
		s.depth--
	case c == '<', c == '`':
		return wrong
	}
	if s.depth == 0 {
		return done
	}
	return more
}

// text gathers a JSON text, quotation marks and all.
type text struct {
	written []byte
	escaped bool
}

// next reports whether the byte is the closing mark.
func (t *text) next(c byte) bool {
	t.written = append(t.written, c)
	switch {
	case t.escaped:
		t.escaped = false
		return false
	case c == '\\':
		t.escaped = true
	}
	return c == '"' && len(t.written) > 1
}

func (t *text) value() (string, bool) {
	var s string
	err := json.Unmarshal(t.written, &s)
	return s, err == nil
}

// envelope reads a call that is an object with the members name, and arguments or parameters, in any order.
type envelope struct {
	// bare is an object that no marker announced: the name must be a tool's, arguments must be there, and of other members only
	// such are let through as calls have, so that an answer in JSON is not held up.
	bare bool

	place   place
	member  member
	text    text
	scan    scanner
	name    string
	early   []byte // arguments, as far as they came before the name
	whole   bool   // early is all of them
	started bool   // the call has begun
}

// place is where in the object the next byte stands.
type place int

const (
	atStart place = iota
	atMember
	inKey
	atColon
	atValue
	inText
	inNested
	inScalar
	atComma
)

// member is what a value is to the call.
type member int

const (
	otherMember member = iota
	nameMember
	argumentsMember
)

func (e *envelope) read(p *Parser, c byte) result {
	switch e.place {
	case inKey, inText:
		return e.readText(p, c)
	case inNested:
		return e.readNested(p, c)
	case inScalar:
		if c != ',' && c != '}' && !isSpace(c) {
			return e.gather(c)
		}
		if e.endScalar(p) == wrong {
			return wrong
		}
		e.place = atComma
	}
	if isSpace(c) && e.place != atStart {
		return more
	}
	switch {
	case e.place == atStart && c == '{':
		e.place = atMember
	case e.place == atMember && c == '"':
		e.text, e.place = text{written: []byte{c}}, inKey
	case e.place == atColon && c == ':':
		e.place = atValue
	case e.place == atValue:
		return e.readValue(p, c)
	case e.place == atComma && c == ',':
		e.place = atMember
	case (e.place == atComma || e.place == atMember) && c == '}':
		return e.close(p)
	default:
		return wrong
	}
	return more
}

// readText takes a byte of a key or of a value that is a text.
func (e *envelope) readText(p *Parser, c byte) result {
	limit := maxNameBytes
	if e.place == inText && e.member == argumentsMember {
		limit = maxHeldBytes
	}
	last := e.text.next(c)
	if len(e.text.written) > limit && (e.place == inKey || e.member != otherMember || e.bare) {
		return wrong
	}
	if e.place == inText && e.member == otherMember {
		e.text.written = e.text.written[:min(len(e.text.written), maxNameBytes)]
	}
	if !last {
		return more
	}
	value, ok := e.text.value()
	if e.place == inKey {
		e.place = atColon
		return e.setMember(value, ok)
	}
	e.place = atComma
	switch e.member {
	case nameMember:
		if e.name = value; !ok || value == "" || e.bare && !p.known(value) {
			return wrong
		}
		e.start(p, false)
	case argumentsMember:
		return e.takeWhole(p, []byte(value))
	}
	return more
}

func (e *envelope) setMember(key string, ok bool) result {
	e.member = otherMember
	switch {
	case !ok:
		return wrong
	case key == "name" && e.name == "":
		e.member = nameMember
	case (key == "arguments" || key == "parameters") && !e.started && e.early == nil:
		e.member = argumentsMember
	case e.bare && !e.started && key != "type" && key != "id":
		return wrong
	}
	return more
}

// readValue takes a value's first byte.
func (e *envelope) readValue(p *Parser, c byte) result {
	switch {
	case c == '"':
		e.text, e.place = text{written: []byte{c}}, inText
		return more
	case e.member == nameMember:
		return wrong
	case c == '{', c == '[':
		if e.member == argumentsMember && c != '{' || e.member == otherMember && e.bare && !e.started {
			return wrong
		}
		e.scan, e.place = scanner{}, inNested
		if e.member == argumentsMember {
			e.early = []byte{}
			e.start(p, true)
		}
		return e.readNested(p, c)
	}
	e.text, e.place = text{}, inScalar
	return e.gather(c)
}

func (e *envelope) gather(c byte) result {
	word := c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '+' || c == '.'
	if !word || len(e.text.written) == maxNameBytes {
		return wrong
	}
	e.text.written = append(e.text.written, c)
	return more
}

func (e *envelope) readNested(p *Parser, c byte) result {
	result := e.scan.next(c)
	if result == wrong {
		return wrong
	}
	if e.member == argumentsMember {
		if e.started {
			p.arguments(c)
		} else if e.early = append(e.early, c); len(e.early) > maxHeldBytes {
			return wrong
		}
	}
	if result == done {
		e.place = atComma
		e.whole = e.whole || e.member == argumentsMember
	}
	return more
}

func (e *envelope) endScalar(p *Parser) result {
	switch {
	case e.member == otherMember:
		return more
	case string(e.text.written) != "null":
		return wrong
	}
	return e.takeWhole(p, []byte("{}"))
}

// takeWhole takes arguments that did not pass through.
func (e *envelope) takeWhole(p *Parser, arguments []byte) result {
	if arguments = bytes.TrimSpace(arguments); !json.Valid(arguments) || arguments[0] != '{' {
		return wrong
	}
	e.early, e.whole = arguments, true
	e.start(p, false)
	return more
}

// start begins the call once there are a name and arguments; those may be about to pass through.
func (e *envelope) start(p *Parser, passing bool) {
	if e.name == "" || !passing && !e.whole || e.started {
		return
	}
	e.started = true
	p.begin(e.name)
	p.arguments(e.early...)
}

func (e *envelope) close(p *Parser) result {
	if !e.started {
		if e.name == "" || e.bare {
			return wrong
		}
		e.takeWhole(p, []byte("{}"))
	}
	return done
}

// end begins a call whose arguments were cut off; a bare one may as well be an answer in JSON.
func (e *envelope) end(p *Parser, cut bool) {
	if cut && !e.bare && !e.started && e.name != "" && e.early == nil && !(e.place == inText && e.member == argumentsMember) {
		p.begin(e.name)
	}
}
