package calls

import "strings"

// surePythonBytes is how much of a first argument makes sure that a list of calls is meant, even if it goes on.
const surePythonBytes = 1 << 10

// pythonic reads [f(a=1, b="x"), g()]. A list may begin an answer that calls nothing, as [f() for x in y] does, so that no call
// begins before there is an argument whose value is a literal; calls without arguments wait for one, or for the end of an answer
// that is nothing but such a list.
type pythonic struct {
	marked  bool // a marker stood before: any name will do
	place   callPlace
	written []byte // of a name
	python  python
	some    bool          // the present call has arguments
	pending []pendingCall // while no call has begun
	started bool
}

// pendingCall is a call that may begin.
type pendingCall struct {
	name      string
	arguments []byte
}

type callPlace int

const (
	callOpening callPlace = iota
	callStart
	callName
	callParenthesis
	callArgument
	callKey
	callEquals
	callValue
	callAfterValue
	callAfter
	callClosed
)

func (y *pythonic) read(p *Parser, c byte) result {
	if y.place == callValue {
		return y.readValue(p, c)
	}
	if identifierByte(c) && (y.place == callName || y.place == callKey) {
		return y.within(c)
	}
	if isSpace(c) {
		switch y.place {
		case callName:
			y.place = callParenthesis
		case callKey:
			y.place = callEquals
		}
		return more
	}
	switch y.place {
	case callOpening:
		y.place = callStart
		if c != '[' {
			return wrong
		}
	case callStart, callArgument:
		return y.readStart(p, c)
	case callName, callParenthesis:
		if c != '(' {
			return wrong
		}
		return y.startCall(p)
	case callKey, callEquals:
		if c != '=' {
			return wrong
		}
		y.startArgument(p)
	case callAfterValue, callAfter:
		return y.readAfter(p, c)
	default:
		return wrong
	}
	return more
}

func identifierByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || c == '.' || c == '-' || c >= 0x80
}

func (y *pythonic) within(c byte) result {
	if len(y.written) == maxNameBytes {
		return wrong
	}
	y.written = append(y.written, c)
	return more
}

// readStart takes what stands where a call or an argument may begin.
func (y *pythonic) readStart(p *Parser, c byte) result {
	switch {
	case y.place == callArgument && c == ')':
		return y.endCall(p)
	case y.place == callStart && c == ']' && (y.started || len(y.pending) > 0):
		return y.endList(p)
	case !identifierByte(c):
		return wrong
	}
	if y.written = y.written[:0]; y.place == callStart {
		y.place = callName
	} else {
		y.place = callKey
	}
	return y.within(c)
}

func (y *pythonic) startCall(p *Parser) result {
	name := string(y.written)
	if !y.marked && !p.knownIdentifier(name) {
		return wrong
	}
	y.place, y.some = callArgument, false
	if y.started {
		p.begin(name)
	} else {
		y.pending = append(y.pending, pendingCall{name: name})
	}
	return more
}

// knownIdentifier reports whether a tool has the name, in which hyphens may have become underscores: Python's names have none.
func (p *Parser) knownIdentifier(name string) bool {
	if p.known(name) {
		return true
	}
	for tool := range p.tools {
		if strings.ReplaceAll(tool, "-", "_") == name {
			return true
		}
	}
	return false
}

func (y *pythonic) startArgument(p *Parser) {
	separator := ", "
	if !y.some {
		y.some, separator = true, "{"
	}
	y.write(p, []byte(separator+quote(string(y.written))+": "))
	y.python, y.place = python{}, callValue
}

func (y *pythonic) readValue(p *Parser, c byte) result {
	result := y.python.read(c)
	y.write(p, y.python.written)
	y.python.written = y.python.written[:0]
	switch result {
	case done:
		y.place = callAfterValue
		return more
	case past:
		y.place = callAfterValue
		if isSpace(c) {
			return more
		}
		return y.readAfter(p, c)
	case more:
		if !y.started && len(y.pending[len(y.pending)-1].arguments) > surePythonBytes {
			y.start(p)
		}
	}
	return result
}

// readAfter takes what stands behind an argument or a call.
func (y *pythonic) readAfter(p *Parser, c byte) result {
	switch {
	case y.place == callAfterValue && c == ',':
		y.start(p)
		y.place = callArgument
	case y.place == callAfterValue && c == ')':
		y.start(p)
		return y.endCall(p)
	case y.place == callAfter && c == ',':
		y.place = callStart
	case y.place == callAfter && c == ']':
		return y.endList(p)
	default:
		return wrong
	}
	return more
}

func (y *pythonic) endCall(p *Parser) result {
	end := "}"
	if !y.some {
		end = "{}"
	}
	y.write(p, []byte(end))
	y.place = callAfter
	return more
}

func (y *pythonic) endList(p *Parser) result {
	if y.marked {
		y.start(p)
	}
	if y.started {
		return done
	}
	y.place = callClosed
	return more
}

func (y *pythonic) write(p *Parser, arguments []byte) {
	if len(arguments) == 0 {
		return
	}
	if y.started {
		p.arguments(arguments...)
		return
	}
	last := &y.pending[len(y.pending)-1]
	last.arguments = append(last.arguments, arguments...)
}

// start begins the calls that waited.
func (y *pythonic) start(p *Parser) {
	for _, call := range y.pending {
		p.begin(call.name)
		p.arguments(call.arguments...)
	}
	y.pending, y.started = nil, true
}

// end begins calls that make up the answer or were cut off within a value.
func (y *pythonic) end(p *Parser, cut bool) {
	if y.place == callClosed || cut && (y.place == callValue || y.place == callAfterValue) {
		y.start(p)
	}
}
