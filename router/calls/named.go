package calls

import "strings"

// literal matches one of several texts, byte by byte.
type literal struct {
	matched []byte
}

// next returns the text that is whole with this byte, and whether what came may still become one.
func (l *literal) next(c byte, texts ...string) (whole string, partly bool) {
	l.matched = append(l.matched, c)
	for _, candidate := range texts {
		if strings.HasPrefix(candidate, string(l.matched)) {
			if len(l.matched) == len(candidate) {
				l.matched = l.matched[:0]
				return candidate, true
			}
			partly = true
		}
	}
	return "", partly
}

// plainName takes what a name may be where no quotation marks hold it, without white space around it.
func plainName(written []byte) (string, bool) {
	name := strings.TrimSpace(string(written))
	return name, name != "" && !strings.ContainsAny(name, " \t\r\n<>[]{}()\"',")
}

// pass reads arguments in JSON that pass through, up to their end.
type pass struct {
	scan  scanner
	begun bool
}

// read begins the call with the first brace.
func (a *pass) read(p *Parser, name string, c byte) result {
	switch {
	case a.begun:
	case isSpace(c):
		return more
	case c != '{':
		return wrong
	default:
		a.begun = true
		p.begin(name)
	}
	result := a.scan.next(c)
	if result != wrong {
		p.arguments(c)
	}
	return result
}

// mistral reads N[ARGS]{…}, N[CALL_ID]id[ARGS]{…} and N{…}, and the older list of objects, which the first byte tells apart.
type mistral struct {
	written []byte // of the name
	name    string
	literal literal
	place   mistralPlace
	pass    pass
}

type mistralPlace int

const (
	mistralName mistralPlace = iota
	mistralTag
	mistralID
	mistralArguments
)

func (m *mistral) read(p *Parser, c byte) result {
	switch m.place {
	case mistralName:
		return m.readName(p, c)
	case mistralID:
		if c == '[' {
			m.place = mistralTag
			break
		}
		return m.within(c)
	case mistralArguments:
		return m.pass.read(p, m.name, c)
	}
	switch tag, partly := m.literal.next(c, "[ARGS]", "[CALL_ID]"); {
	case tag == "[ARGS]":
		m.place = mistralArguments
	case tag != "":
		m.written, m.place = m.written[:0], mistralID
	case !partly:
		return wrong
	}
	return more
}

func (m *mistral) readName(p *Parser, c byte) result {
	switch {
	case len(m.written) == 0 && isSpace(c):
		return more
	case len(m.written) == 0 && (c == '[' || c == '{'):
		p.reader = &objects{}
		return p.reader.read(p, c)
	case c != '[' && c != '{':
		return m.within(c)
	}
	name, ok := plainName(m.written)
	if !ok {
		return wrong
	}
	if m.name, m.place = name, mistralTag; c == '{' {
		m.place = mistralArguments
	}
	return m.read(p, c)
}

// within takes a byte of a name or an id.
func (m *mistral) within(c byte) result {
	if len(m.written) == maxNameBytes || c == '\n' {
		return wrong
	}
	m.written = append(m.written, c)
	return more
}

func (m *mistral) end(p *Parser, cut bool) {
	if cut && m.place != mistralName && !m.pass.begun {
		p.begin(m.name)
	}
}

const (
	deepseekCalls = "<｜tool▁calls▁begin｜>"
	deepseekCall  = "<｜tool▁call▁begin｜>"
	deepseekSep   = "<｜tool▁sep｜>"
)

// deepseek reads N<sep>{…} and, if no brace follows the separator, function<sep>N, a line's end and {…} in a fence.
type deepseek struct {
	place   deepseekPlace
	literal literal
	written []byte
	name    string
	pass    pass
}

type deepseekPlace int

const (
	deepseekOpening deepseekPlace = iota // the call's own marker is due
	deepseekFirst                        // up to the separator
	deepseekSeparator
	deepseekSecond // behind it
	deepseekFence
	deepseekArguments
)

func (d *deepseek) read(p *Parser, c byte) result {
	switch d.place {
	case deepseekOpening:
		if len(d.literal.matched) == 0 && isSpace(c) {
			return more
		}
		return d.match(c, deepseekCall, deepseekFirst)
	case deepseekFirst:
		if c != '<' {
			return d.within(c)
		}
		d.place = deepseekSeparator
		return d.match(c, deepseekSep, deepseekSecond)
	case deepseekSeparator:
		return d.match(c, deepseekSep, deepseekSecond)
	case deepseekSecond:
		return d.readSecond(p, c)
	case deepseekFence:
		if c != '{' {
			if !isSpace(c) && strings.IndexByte("`json", c) < 0 {
				return wrong
			}
			return more
		}
		d.place = deepseekArguments
	}
	return d.pass.read(p, d.name, c)
}

func (d *deepseek) readSecond(p *Parser, c byte) result {
	switch blank := strings.TrimSpace(string(d.written)) == ""; {
	case c == '{' && blank:
		d.place = deepseekArguments
		return d.pass.read(p, d.name, c)
	case c != '\n' || blank:
		return d.within(c)
	}
	name, ok := plainName(d.written)
	if !ok {
		return wrong
	}
	d.name, d.place = name, deepseekFence
	return more
}

// match takes a byte of a marker, which leads to another place.
func (d *deepseek) match(c byte, marker string, next deepseekPlace) result {
	whole, partly := d.literal.next(c, marker)
	switch {
	case !partly:
		return wrong
	case whole == "":
		return more
	case next == deepseekSecond:
		name, ok := plainName(d.written)
		if !ok {
			return wrong
		}
		d.name = name
	}
	d.written, d.place = d.written[:0], next
	return more
}

func (d *deepseek) within(c byte) result {
	if len(d.written) == maxNameBytes {
		return wrong
	}
	d.written = append(d.written, c)
	return more
}

func (d *deepseek) end(p *Parser, cut bool) {
	if cut && d.place == deepseekFence {
		p.begin(d.name)
	}
}
