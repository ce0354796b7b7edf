package jinja

import (
	"errors"
	"strings"
	"time"
)

// Template is a parsed template. It is immutable.
type Template struct {
	body  []placed
	scope scopeNode
	slots int
}

// Parse reads a template. Its errors are *Error, with the line, and *LimitError.
func Parse(source string) (*Template, error) {
	if len(source) > MaxSourceBytes {
		return nil, &LimitError{"source bytes"}
	}
	tokens, err := scan(strings.ToValidUTF8(source, "\ufffd"))
	if err != nil {
		return nil, err
	}
	p := &parser{tokens: tokens}
	body, err := p.statements()
	if err != nil {
		return nil, err
	}
	r := &resolver{budget: &budget{maxNameWork}}
	t := &Template{body: body}
	t.scope, t.slots = r.resolve(body)
	if r.budget.left < 0 {
		return nil, &LimitError{"names in the source"}
	}
	if r.err != nil {
		return nil, r.err
	}
	return t, nil
}

// run is one call of Render.
type run struct {
	limits    Limits
	now       time.Time
	variables map[string]Value
	steps     int // left
	memory    int // left
	nextCheck int // how many steps are left when it is looked whether the text is still wanted
	done      <-chan struct{}
	depth     int
	blockText Value // what the filter of a block is applied to
}

// Render returns the template's text with the variables given, which it does not change. Its errors are *RaisedError,
// *LimitError and *Error.
func (t *Template) Render(variables map[string]Value, options Options) (string, error) {
	limits := options.Limits.withDefaults()
	r := &run{limits: limits, now: options.Now, done: options.Done, variables: variables,
		steps: limits.Steps, memory: limits.MemoryBytes, nextCheck: limits.Steps - stepsPerCheck}
	s := &scope{run: r, slots: make([]Value, t.slots)}
	out := &output{run: r}
	s.enter(&t.scope)
	if _, err := runAll(t.body, s, out); err != nil {
		return "", err
	}
	return string(out.text), nil
}

// stepsPerCheck lie between two looks at whether the text is still wanted.
const stepsPerCheck = 1 << 14

// step pays for n operations.
func (r *run) step(n int) error {
	r.steps -= n
	switch {
	case r.steps < 0:
		return &LimitError{"steps"}
	case r.steps < r.nextCheck:
		r.nextCheck = r.steps - stepsPerCheck
		select {
		case <-r.done:
			return &LimitError{"time"}
		default:
		}
	}
	return nil
}

// pay pays for n operations; where that was too much, the next step fails.
func (r *run) pay(n int) { r.steps -= n }

// work pays for reading n bytes.
func (r *run) work(n int) error { return r.step(1 + n/bytesPerStep) }

// allocate pays for making n bytes.
func (r *run) allocate(n int) error {
	r.memory -= n + valueBytes
	if r.memory < 0 || n < 0 {
		return &LimitError{"memory"}
	}
	return r.step(1 + n/bytesPerStep)
}

// allocateValues pays for making a list of n values.
func (r *run) allocateValues(n int) error {
	if n > r.memory/valueBytes {
		return &LimitError{"memory"}
	}
	if err := r.allocate(n * valueBytes); err != nil {
		return err
	}
	return r.step(n)
}

// enter counts one more call within calls; leave takes it back.
func (r *run) enter() error {
	r.depth++
	if r.depth > r.limits.Depth {
		return &LimitError{"depth of calls"}
	}
	return nil
}

func (r *run) leave() { r.depth-- }

// resolve returns nil for a name that is not there.
func (r *run) resolve(name string) Value {
	if v, ok := r.variables[name]; ok {
		return v
	}
	return globals[name]
}

// scope holds the variables of one call of a function.
type scope struct {
	run    *run
	slots  []Value // nil stands for undefined
	parent *scope  // of the function around
}

func (s *scope) inner(slots int) *scope {
	return &scope{run: s.run, slots: make([]Value, slots), parent: s}
}

// enter sets the scope's own variables. It pays for that; the next payment fails where that was too much.
func (s *scope) enter(node *scopeNode) {
	s.run.steps -= len(node.loads) / 4
	for i := range node.loads {
		switch l := &node.loads[i]; l.kind {
		case loadResolve:
			s.slots[l.slot] = s.run.resolve(l.source.name)
		case loadAlias:
			s.slots[l.slot] = s.get(&l.source)
		default:
			s.slots[l.slot] = nil
		}
	}
}

func (s *scope) get(v *variable) Value {
	for range v.hops {
		s = s.parent
	}
	return s.slots[v.slot]
}

func (s *scope) set(v *variable, value Value) {
	for range v.hops {
		s = s.parent
	}
	s.slots[v.slot] = value
}

// output collects text.
type output struct {
	run  *run
	text []byte
}

func (o *output) write(text string) error {
	if len(o.text)+len(text) > o.run.limits.OutputBytes {
		return &LimitError{"output bytes"}
	}
	o.text = append(o.text, text...)
	return o.run.work(len(text))
}

// writeText writes what must be text: the reference converts what blocks make no further.
func (o *output) writeText(value Value) error {
	s, ok := text(value)
	if !ok {
		return failf("expected str instance, %s found", value.typeName())
	}
	return o.write(s)
}

// value is what was collected, as a value.
func (o *output) value() (Value, error) {
	return String(o.text), o.run.allocate(len(o.text))
}

// located gives an error the line where it came about, if it has none.
func located(err error, line int) error {
	if e := new(Error); errors.As(err, &e) && e.Line == 0 {
		return &Error{Line: line, Message: e.Message}
	}
	return err
}
