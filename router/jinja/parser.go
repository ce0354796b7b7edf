package jinja

import (
	"fmt"
	"slices"
	"strings"
)

// parser turns tokens into a tree. It descends once; depth bounds how far.
type parser struct {
	tokens []token
	at     int
	depth  int
	loops  int        // loops around that break and continue can mean
	ends   [][]string // closing tags that are due, the innermost last
}

func (p *parser) current() *token { return &p.tokens[p.at] }

func (p *parser) ahead() *token { return &p.tokens[min(p.at+1, len(p.tokens)-1)] }

func (p *parser) next() *token {
	t := p.current()
	if p.at < len(p.tokens)-1 {
		p.at++
	}
	return t
}

func (p *parser) fail(format string, values ...any) error {
	return failAt(p.current().line, format, values...)
}

func failAt(line int, format string, values ...any) error {
	return &Error{Line: line, Message: fmt.Sprintf(format, values...)}
}

// enter counts one more level; leave takes it back.
func (p *parser) enter() error {
	p.depth++
	if p.depth > maxParseDepth {
		return &LimitError{"nesting in the source"}
	}
	return nil
}

func (p *parser) leave() { p.depth-- }

func (p *parser) skipName(name string) bool {
	if p.current().name(name) {
		p.next()
		return true
	}
	return false
}

func (p *parser) skipOperator(operator string) bool {
	if p.current().operator(operator) {
		p.next()
		return true
	}
	return false
}

func (p *parser) expected(what string) error {
	if p.current().kind == tokenEnd {
		return p.fail("unexpected end of template, expected '%s'.", what)
	}
	return p.fail("expected token '%s', got '%s'", what, p.current().describe())
}

func (p *parser) expect(kind tokenKind) (*token, error) {
	if p.current().kind != kind {
		return nil, p.expected(describeKind(kind))
	}
	return p.next(), nil
}

func (p *parser) expectOperator(operator string) error {
	if !p.skipOperator(operator) {
		return p.expected(operator)
	}
	return nil
}

func (p *parser) expectName(name string) error {
	if !p.skipName(name) {
		return p.expected(name)
	}
	return nil
}

// statements reads up to a tag of one of the names in ends, whose name becomes the current token; with no ends, to the
// end of the source.
func (p *parser) statements(ends ...string) ([]statement, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	if len(ends) > 0 {
		p.ends = append(p.ends, ends)
		defer func() { p.ends = p.ends[:len(p.ends)-1] }()
	}
	var body []statement
	for {
		t := p.next()
		switch t.kind {
		case tokenEnd:
			if len(ends) > 0 {
				return nil, p.unknownTag("")
			}
			return body, nil
		case tokenData:
			body = append(body, &dataNode{t.text})
		case tokenVariableBegin:
			value, err := p.tuple(tupleOptions{condition: true})
			if err != nil {
				return nil, err
			}
			body = append(body, &outputNode{value, t.line})
			if _, err := p.expect(tokenVariableEnd); err != nil {
				return nil, err
			}
		case tokenBlockBegin:
			if p.current().kind == tokenName && slices.Contains(ends, p.current().text) {
				return body, nil
			}
			node, err := p.statement()
			if err != nil {
				return nil, err
			}
			body = append(body, node)
			if _, err := p.expect(tokenBlockEnd); err != nil {
				return nil, err
			}
		}
	}
}

// root reads an expression that is part of no other.
func (p *parser) root() (expression, error) { return p.whole(p.expression()) }

// whole passes an expression on, unless its tree is too deep.
func (p *parser) whole(value expression, err error) (expression, error) {
	if err == nil && value != nil && tooDeep(value) {
		return nil, &LimitError{"operators in one expression"}
	}
	return value, err
}

// body reads the rest of an opening tag, and statements up to one of the tags in ends.
func (p *parser) body(ends ...string) ([]statement, error) {
	p.skipOperator(":")
	if _, err := p.expect(tokenBlockEnd); err != nil {
		return nil, err
	}
	return p.statements(ends...)
}

// closed is body with the closing tag's name read as well.
func (p *parser) closed(end string) ([]statement, error) {
	body, err := p.body(end)
	p.next()
	return body, err
}

func (p *parser) unknownTag(name string) error {
	message := "Unexpected end of template."
	if name != "" {
		message = fmt.Sprintf("Encountered unknown tag '%s'.", name)
	}
	if len(p.ends) > 0 {
		message += fmt.Sprintf(" Jinja was looking for the following tags: '%s'.", strings.Join(p.ends[len(p.ends)-1], "' or '"))
	}
	return p.fail("%s", message)
}

func (p *parser) statement() (statement, error) {
	t := p.current()
	if t.kind != tokenName {
		return nil, p.fail("tag name expected")
	}
	switch t.text {
	case "for":
		return p.forStatement()
	case "if":
		return p.ifStatement()
	case "set":
		return p.setStatement()
	case "macro":
		return p.macroStatement()
	case "call":
		return p.callStatement()
	case "generation":
		return p.generationStatement()
	case "filter":
		return p.filterStatement()
	case "break", "continue":
		p.next()
		if p.loops == 0 {
			return nil, p.fail("'%s' outside loop", t.text)
		}
		return &jumpNode{map[string]jump{"break": jumpBreak, "continue": jumpContinue}[t.text]}, nil
	}
	if refusedTags[t.text] {
		return nil, p.refuse("tag", t.text)
	}
	return nil, p.unknownTag(t.text)
}

func (p *parser) forStatement() (statement, error) {
	node := &forNode{line: p.next().line}
	var err error
	if node.target, err = p.target(targetOptions{end: "in"}); err != nil {
		return nil, err
	}
	if err := p.expectName("in"); err != nil {
		return nil, err
	}
	if node.iterable, err = p.tuple(tupleOptions{end: "recursive"}); err != nil {
		return nil, err
	}
	if p.skipName("if") {
		if node.test, err = p.root(); err != nil {
			return nil, err
		}
	}
	if p.current().name("recursive") {
		return nil, p.refuse("the mark of loops", "recursive")
	}
	p.loops++
	node.body, err = p.body("endfor", "else")
	p.loops--
	if err != nil {
		return nil, err
	}
	if p.next().text == "else" {
		node.hasElse = true
		node.otherwise, err = p.closed("endfor")
	}
	return node, err
}

func (p *parser) ifStatement() (statement, error) {
	node := &ifNode{}
	for {
		node.lines = append(node.lines, p.next().line)
		test, err := p.tuple(tupleOptions{})
		if err != nil {
			return nil, err
		}
		body, err := p.body("elif", "else", "endif")
		if err != nil {
			return nil, err
		}
		node.tests, node.bodies = append(node.tests, test), append(node.bodies, body)
		switch p.current().text {
		case "elif":
			continue
		case "else":
			p.next()
			body, err := p.closed("endif")
			node.bodies = append(node.bodies, body)
			return node, err
		}
		p.next()
		node.bodies = append(node.bodies, nil)
		return node, nil
	}
}

func (p *parser) setStatement() (statement, error) {
	line := p.next().line
	target, err := p.target(targetOptions{namespace: true})
	if err != nil {
		return nil, err
	}
	if p.skipOperator("=") {
		value, err := p.tuple(tupleOptions{condition: true})
		return &assignNode{target: target, value: value, line: line}, err
	}
	filter, err := p.whole(p.filters(nil))
	if err != nil {
		return nil, err
	}
	body, err := p.closed("endset")
	return &assignBlockNode{target: target, filter: filter, body: body, line: line}, err
}

// function reads the body of a function: loops around it end at its door.
func (p *parser) function(node *functionNode, end string) error {
	loops := p.loops
	p.loops = 0
	var err error
	node.body, err = p.closed(end)
	p.loops = loops
	return err
}

func (p *parser) macroStatement() (statement, error) {
	node := &macroNode{functionNode: functionNode{line: p.next().line}}
	name, err := p.nameTarget()
	if err != nil {
		return nil, err
	}
	node.name, node.variable.name = name.name, name.name
	if err := p.signature(&node.functionNode); err != nil {
		return nil, err
	}
	return node, p.function(&node.functionNode, "endmacro")
}

func (p *parser) signature(node *functionNode) error {
	if err := p.expectOperator("("); err != nil {
		return err
	}
	for !p.current().operator(")") {
		if len(node.parameters) > 0 {
			if err := p.expectOperator(","); err != nil {
				return err
			}
		}
		parameter, err := p.nameTarget()
		if err != nil {
			return err
		}
		if len(node.parameters) >= maxArguments {
			return &LimitError{"parameters of one function"}
		}
		for _, other := range node.parameters {
			if other.name == parameter.name {
				return p.fail("duplicate argument '%s' in function definition", other.name)
			}
		}
		if p.skipOperator("=") {
			value, err := p.root()
			if err != nil {
				return err
			}
			node.defaults = append(node.defaults, value)
		} else if len(node.defaults) > 0 {
			return p.fail("non-default argument follows default argument")
		}
		node.parameters = append(node.parameters, parameter)
	}
	return p.expectOperator(")")
}

func (p *parser) callStatement() (statement, error) {
	node := &callBlockNode{functionNode: functionNode{line: p.next().line}}
	if p.current().operator("(") {
		if err := p.signature(&node.functionNode); err != nil {
			return nil, err
		}
	}
	value, err := p.root()
	if err != nil {
		return nil, err
	}
	call, ok := value.(*callNode)
	if !ok {
		return nil, failAt(node.line, "expected call")
	}
	node.call = call
	return node, p.function(&node.functionNode, "endcall")
}

func (p *parser) generationStatement() (statement, error) {
	node := &callBlockNode{functionNode: functionNode{line: p.next().line}}
	return node, p.function(&node.functionNode, "endgeneration")
}
