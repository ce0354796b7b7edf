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
	loop   *loopAround // what break and continue mean; nil for nothing
}

// loopAround is a loop whose body is read.
type loopAround struct {
	conditional bool // it passes over items for which its condition does not hold
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

// chain returns what takes back all levels that are counted from now on: those of operators behind one another.
func (p *parser) chain() (leave func()) {
	depth := p.depth
	return func() { p.depth = depth }
}

func (p *parser) skipName(name string) bool { return p.skip(tokenName, name) }

func (p *parser) skipOperator(operator string) bool { return p.skip(tokenOperator, operator) }

func (p *parser) skip(kind tokenKind, text string) bool {
	if t := p.current(); t.kind != kind || t.text != text {
		return false
	}
	p.next()
	return true
}

func (p *parser) expected(what string) error {
	return p.fail("expected token '%s', got '%s'", what, p.current().describe())
}

func (p *parser) expect(kind tokenKind) (*token, error) {
	if p.current().kind != kind {
		return nil, p.expected(kindWords[kind])
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
func (p *parser) statements(ends ...string) ([]placed, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	var body []placed
	for {
		t := p.next()
		switch t.kind {
		case tokenEnd:
			if len(ends) > 0 {
				return nil, p.fail("Unexpected end of template, which lacks the tag '%s'.", strings.Join(ends, "' or '"))
			}
			return body, nil
		case tokenData:
			body = append(body, placed{&dataNode{t.text}, t.line})
		case tokenVariableBegin:
			value, err := p.tuple(true)
			if err != nil {
				return nil, err
			}
			body = append(body, placed{&outputNode{value}, t.line})
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
			body = append(body, placed{node, t.line})
			if _, err := p.expect(tokenBlockEnd); err != nil {
				return nil, err
			}
		}
	}
}

// body reads the rest of an opening tag, and statements up to one of the tags in ends.
func (p *parser) body(ends ...string) ([]placed, error) {
	p.skipOperator(":")
	if _, err := p.expect(tokenBlockEnd); err != nil {
		return nil, err
	}
	return p.statements(ends...)
}

// closed is body with the closing tag's name read as well.
func (p *parser) closed(end string) ([]placed, error) {
	body, err := p.body(end)
	p.next()
	return body, err
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
		if p.loop == nil {
			return nil, p.fail("'%s' outside loop", t.text)
		}
		return &jumpNode{map[string]jump{"break": jumpBreak, "continue": jumpContinue}[t.text]}, nil
	}
	if refusedTags[t.text] {
		return nil, p.refuse("tag", t.text)
	}
	return nil, p.fail("Encountered unknown tag '%s'.", t.text)
}

func (p *parser) forStatement() (statement, error) {
	p.next()
	node := &forNode{}
	var err error
	if node.target, err = p.target(false); err != nil {
		return nil, err
	}
	if err := p.expectName("in"); err != nil {
		return nil, err
	}
	if node.iterable, err = p.tuple(false); err != nil {
		return nil, err
	}
	if p.skipName("if") {
		if node.test, err = p.expression(); err != nil {
			return nil, err
		}
	}
	if p.current().name("recursive") {
		return nil, p.refuse("the mark of loops", "recursive")
	}
	outer := p.loop
	p.loop = &loopAround{conditional: node.test != nil}
	node.body, err = p.body("endfor", "else")
	p.loop = outer
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
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	p.next()
	test, err := p.tuple(false)
	if err != nil {
		return nil, err
	}
	node := &ifNode{test: test}
	if node.body, err = p.body("elif", "else", "endif"); err != nil {
		return nil, err
	}
	switch p.current().text {
	case "elif":
		line := p.current().line
		otherwise, err := p.ifStatement()
		node.otherwise = []placed{{otherwise, line}}
		return node, err
	case "else":
		p.next()
		node.otherwise, err = p.closed("endif")
		return node, err
	}
	p.next()
	return node, nil
}

func (p *parser) setStatement() (statement, error) {
	p.next()
	target, err := p.target(true)
	if err != nil {
		return nil, err
	}
	if p.skipOperator("=") {
		value, err := p.tuple(true)
		return &assignNode{target, value}, err
	}
	value := &bodyNode{}
	defer p.chain()()
	if value.filter, err = p.filters(nil); err != nil {
		return nil, err
	}
	value.body, err = p.inner("endset")
	return &assignNode{target, value}, err
}

func (p *parser) filterStatement() (statement, error) {
	p.next()
	filter, err := p.filter(nil)
	if err != nil {
		return nil, err
	}
	value := &bodyNode{}
	defer p.chain()()
	if value.filter, err = p.filters(filter); err != nil {
		return nil, err
	}
	value.body, err = p.inner("endfilter")
	return &outputNode{value}, err
}

// inner is closed for a body that no loop around it can be left from.
func (p *parser) inner(end string) ([]placed, error) {
	outer := p.loop
	p.loop = nil
	defer func() { p.loop = outer }()
	return p.closed(end)
}

func (p *parser) macroStatement() (statement, error) {
	p.next()
	name, err := p.nameTarget()
	if err != nil {
		return nil, err
	}
	node := &macroNode{functionNode: functionNode{name: name.name}, variable: name.variable}
	if err := p.signature(&node.functionNode); err != nil {
		return nil, err
	}
	node.body, err = p.inner("endmacro")
	return node, err
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
			value, err := p.expression()
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
	line := p.next().line
	node := &callBlockNode{}
	if p.current().operator("(") {
		if err := p.signature(&node.functionNode); err != nil {
			return nil, err
		}
	}
	value, err := p.expression()
	if err != nil {
		return nil, err
	}
	call, ok := value.(*callNode)
	if !ok {
		return nil, failAt(line, "expected call")
	}
	node.call = call
	node.body, err = p.inner("endcall")
	return node, err
}

func (p *parser) generationStatement() (statement, error) {
	p.next()
	node := &callBlockNode{}
	var err error
	node.body, err = p.inner("endgeneration")
	return node, err
}

// target reads what is assigned to: names with commas between or, where they are allowed, attributes of namespaces.
func (p *parser) target(attributes bool) (*target, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	t := &target{}
	for {
		var item *target
		var err error
		if p.skipOperator("(") {
			if item, err = p.target(false); err == nil {
				err = p.expectOperator(")")
			}
		} else if item, err = p.nameTarget(); err == nil && attributes && p.skipOperator(".") {
			var name *token
			if name, err = p.expect(tokenName); err == nil {
				item.attribute = name.text
			}
		}
		if err != nil {
			return nil, err
		}
		t.items = append(t.items, item)
		if !p.skipOperator(",") {
			break
		}
		t.isTuple = true
		if p.current().kind != tokenName && !p.current().operator("(") || p.current().name("in") {
			break
		}
	}
	if !t.isTuple {
		return t.items[0], nil
	}
	return t, nil
}

func (p *parser) nameTarget() (*target, error) {
	t, err := p.expect(tokenName)
	if err != nil {
		return nil, err
	}
	switch t.text {
	case "true", "false", "none", "True", "False", "None":
		return nil, failAt(t.line, "can't assign to 'const'")
	}
	return &target{variable: variable{name: t.text}}, nil
}
