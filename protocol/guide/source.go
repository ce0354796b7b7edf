package guide

import (
	"encoding/json"
	"fmt"
	"slices"
)

// Version is that of the languages that sources mean. Groups of unlike versions do not resume each other's guided streams.
const Version = 1

// Kind says what the text of a Source is.
type Kind string

const (
	Schema  Kind = "schema"  // a JSON schema
	Regex   Kind = "regex"   // a regular expression
	Grammar Kind = "grammar" // rules in GBNF
	Choice  Kind = "choice"  // a JSON array of texts, one of which is said
	Tools   Kind = "tools"   // Calls in JSON
	// Anything is no constraint but for the length of a thought.
	Anything Kind = "anything"
)

// WhiteSpace says what may stand between the tokens of a JSON document.
type WhiteSpace string

const (
	// Tidy, which the empty one stands for: nothing, one space, or one or two line feeds with up to 20 spaces or tabs behind them.
	Tidy WhiteSpace = "tidy"
	None WhiteSpace = "none"
	// Space is one space at most, TGI's and outlines' rule.
	Space WhiteSpace = "space"
	// Any is any number of spaces, tabs, line feeds and carriage returns. A model can say it without end.
	Any WhiteSpace = "any"
)

// Source is what a guide is compiled from.
type Source struct {
	Kind Kind   `json:"kind"`
	Text string `json:"text"`
	// WhiteSpace is of schemas.
	WhiteSpace WhiteSpace `json:"white_space,omitempty"`
	// Open lets objects have keys that their schema does not declare where it says nothing about them, and arrays items behind their
	// prefix, as the standard has it. Else that ends where something is declared.
	Open bool `json:"open,omitempty"`
	// Thought may come first.
	Thought Thought `json:"thought,omitzero"`
}

// Bytes are those of all its texts.
func (s *Source) Bytes() int {
	return len(s.Kind) + len(s.Text) + len(s.WhiteSpace) + len(s.Thought.Start) + len(s.Thought.End)
}

// MaxSourceBytes bounds the bytes of a source.
const MaxSourceBytes = 256 << 10

// Reason classifies an Error.
type Reason string

const (
	Invalid       Reason = "invalid"       // it is no schema, regular expression or grammar
	Unsatisfiable Reason = "unsatisfiable" // nothing fits it
	Unsupported   Reason = "unsupported"   // it means something that no guide can do here
	TooLarge      Reason = "too large"     // it takes more work or memory than a guide may
)

// Error says why a source cannot be compiled.
type Error struct {
	Reason Reason
	// Pointer is the JSON pointer of the place in a schema; "" stands for the whole and for other sources.
	Pointer string
	Message string
}

func (e *Error) Error() string {
	if e.Pointer != "" {
		return fmt.Sprintf("%s at %s", e.Message, e.Pointer)
	}
	return e.Message
}

// Compile makes the automaton of a source. Its errors are of type *Error.
func Compile(s Source) (*Program, error) {
	p, _, err := CompileWithin(s, MaxWork)
	return p, err
}

// CompileWithin is Compile where no more than most may be left of MaxWork, and tells how much it took: where that is more than most, the
// error is of want of it.
func CompileWithin(s Source, most int) (p *Program, took int, err error) {
	c := newCompiler(s)
	c.most = min(most, MaxWork)
	root := c.rule()
	c.define(root, c.behindThought(s.Thought, c.body(&s)))
	p, err = c.finish(root)
	return p, c.work, err
}

// body builds what a source means but for the thought before it.
func (c *compiler) body(s *Source) int32 {
	switch {
	case s.Bytes() > MaxSourceBytes:
		return c.fail(TooLarge, "it has %d bytes, at most %d", s.Bytes(), MaxSourceBytes)
	case !slices.Contains([]WhiteSpace{"", Tidy, None, Space, Any}, s.WhiteSpace):
		return c.fail(Invalid, "there is no white space %q: use tidy, none, space or any", s.WhiteSpace)
	case s.Kind == Schema:
		return c.schema(s.Text, endNode)
	case s.Kind == Regex:
		return c.regex(s.Text)
	case s.Kind == Grammar:
		return c.grammar(s.Text)
	case s.Kind == Choice:
		return c.choice(s.Text)
	case s.Kind == Anything:
		return c.anything()
	case s.Kind == Tools:
		return c.tools(s.Text)
	}
	return c.fail(Invalid, "there is no guide of the kind %q", s.Kind)
}

// anything is any bytes.
func (c *compiler) anything() int32 {
	n := c.add(node{kind: kindSplit})
	c.setSplit(n, endNode, c.bytes(edge{0, 255, n}))
	return n
}

// choice is one of the texts of a JSON array.
func (c *compiler) choice(text string) int32 {
	var choices []string
	if err := json.Unmarshal([]byte(text), &choices); err != nil {
		return c.fail(Invalid, "choices must be an array of strings: %v", err)
	}
	if len(choices) == 0 {
		return c.fail(Invalid, "there must be a choice at least")
	}
	return c.words(choices, endNode)
}

// regex is one that matches the whole text.
func (c *compiler) regex(text string) int32 {
	return c.spell(c.pattern(text, false), rawSpelling, endNode)
}
