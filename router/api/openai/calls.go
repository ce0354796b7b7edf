package openai

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"strings"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/calls"
	"lockstep/router/request"
)

// speech is how an answer is read: what of it is thought, said and called.
type speech struct {
	format    *calls.Format // nil: there are no calls
	tools     []calls.Tool
	reasoning calls.Reasoning
	forced    bool    // calls are all that may be said
	constrain bool    // calls are made as the format writes them
	kept      []int32 // special tokens that are read
	shortIDs  bool
}

// speechOf finds how an answer to a chat is read; nil: it is text alone. prompt is what the template wrote.
func (d *Dialect) speechOf(model *answer.Model, b *generateBody, prompt string) *speech {
	s := &speech{reasoning: d.answers.Reasoning(model).Opened(prompt)}
	if b.tools.active() {
		s.format = d.answers.CallFormat(model)
		s.forced = b.tools.choice == choiceRequired || b.tools.choice == choiceNamed
		s.shortIDs = strings.HasPrefix(s.format.Name(), "mistral")
		frame, ok := s.format.Frame()
		if !ok && s.forced { // its arguments are no JSON
			s.format = calls.Generic
			frame, ok = s.format.Frame()
		}
		s.constrain = s.forced || ok && !frame.Bare
		for _, f := range b.tools.callable() {
			s.tools = append(s.tools, calls.Tool{Name: f.name, Parameters: f.parameters})
		}
	}
	if s.format == nil && s.reasoning.End == "" {
		return nil
	}
	for _, token := range s.tokens() {
		if id, ok := model.Tokenizer.TokenID(token); ok {
			s.kept = append(s.kept, id)
		}
	}
	return s
}

// tokens are the texts that may be special tokens and that a reader wants to see.
func (s *speech) tokens() []string {
	tokens := s.reasoning.Tokens()
	if s.format != nil {
		tokens = append(tokens, s.format.Tokens()...)
	}
	return tokens
}

func (s *speech) parser() *calls.Parser {
	return calls.NewParser(calls.Options{Format: s.format, Tools: s.tools, Reasoning: s.reasoning})
}

// thought is what a guide lets come before the answer.
func (s *speech) thought() guide.Thought {
	return guide.Thought{Start: s.reasoning.Start, End: s.reasoning.End, Inside: s.reasoning.Inside}
}

// callsSource is what calls are compiled from. otherwise is what may be said in place of them, nil: anything.
func (d *Dialect) callsSource(ctx context.Context, model *answer.Model, b *generateBody, s *speech,
	otherwise *guide.Source) (source guide.Source, err *request.Refusal) {
	frame, _ := s.format.Frame()
	c := guide.Calls{Open: frame.Open, BeforeName: frame.BeforeName, BeforeArguments: frame.BeforeArguments,
		AfterArguments: frame.AfterArguments, Between: frame.Between, Close: frame.Close, Tokens: s.format.Tokens(),
		Single: frame.Single || !b.tools.parallel || b.tools.choice == choiceNamed}
	switch {
	case s.forced:
	case otherwise != nil:
		c.Otherwise = otherwise
	default:
		c.Marker = frame.Marker
	}
	wishes, left := d.answers.Guides(), guide.MaxWork
	for _, f := range b.tools.callable() {
		parameters, err := d.parametersOf(ctx, model, &f, &left)
		if err != nil {
			return source, err
		}
		c.Tools = append(c.Tools, guide.Function{Name: f.name, Parameters: parameters})
	}
	space := wishes.WhiteSpace
	if b.whiteSpace != "" {
		space = b.whiteSpace
	}
	source, failure := c.Source(space, wishes.Open)
	if failure != nil {
		return source, request.Invalid("%v", failure)
	}
	return source, nil
}

// parametersOf checks the schema of a function. One that means more than a guide can do holds the arguments to an object only, unless the
// function is to be held to strictly. left is what is left of the work that all functions of a request may be.
func (d *Dialect) parametersOf(ctx context.Context, model *answer.Model, f *tool, left *int) (json.RawMessage, *request.Refusal) {
	if f.parameters == nil {
		return nil, nil
	}
	refusal, failure := d.answers.CheckGuideWithin(ctx, model, d.answers.Guides().Schema(string(f.parameters)), left)
	var why *guide.Error
	switch {
	case refusal != nil:
		return nil, refusal
	case *left < 0:
		failure = errors.New("compiling it, and what stands before it, takes more work than the functions of a request may")
	case failure == nil:
		return f.parameters, nil
	case errors.As(failure, &why) && why.Reason != guide.Invalid && !f.strict:
		return json.RawMessage(anyObject), nil
	}
	return nil, &request.Refusal{Param: f.param, Code: "invalid_function_parameters",
		Message: "Invalid schema for function '" + f.name + "': " + failure.Error()}
}

// said is what an answer has come to.
type said struct {
	parser  *calls.Parser
	thought strings.Builder
	calls   []*madeCall
}

// madeCall is a call of an answer.
type madeCall struct {
	id, name  string
	arguments strings.Builder
}

// hear reads what became visible of an answer, which has ended if last is set.
func (c *choice) hear(shown string, last *answer.Generation) []calls.Delta {
	deltas := c.said.parser.Add(shown)
	if last != nil {
		deltas = append(deltas, c.said.parser.End(last.Finish == protocol.FinishLength)...)
	}
	if !c.job.body.tools.parallel {
		deltas = slices.DeleteFunc(deltas, func(delta calls.Delta) bool { return delta.Call != nil && delta.Call.Index > 0 })
	}
	for _, delta := range deltas {
		switch {
		case delta.Call == nil:
			c.said.thought.WriteString(delta.Reasoning)
			c.text.WriteString(delta.Content)
		case delta.Call.Index == len(c.said.calls):
			c.said.calls = append(c.said.calls, &madeCall{id: newCallID(c.job.speech.shortIDs), name: delta.Call.Name})
			fallthrough
		default:
			c.said.calls[delta.Call.Index].arguments.WriteString(delta.Call.Arguments)
		}
	}
	return deltas
}

// newCallID names a call. Some families' templates take nine letters and digits only.
func newCallID(short bool) string {
	id := rand.Text()
	if short {
		return id[:9]
	}
	return "call_" + id[:24]
}

// called reports whether an answer has calls that can be made: a stop string may have cut the arguments of the last.
func (c *choice) called() bool {
	if c.said == nil || len(c.said.calls) == 0 {
		return false
	}
	newest := c.said.calls[len(c.said.calls)-1]
	return c.Last.Finish != protocol.FinishStop || json.Valid([]byte(newest.arguments.String()))
}

// calledReason is why an answer with calls has ended; "": it has none, or was cut.
func (c *choice) calledReason() string {
	switch {
	case !c.called() || c.Last.Finish == protocol.FinishLength:
		return ""
	case c.job.body.tools.choice == choiceNamed: // as OpenAI has it
		return "stop"
	case c.job.body.tools.legacy:
		return "function_call"
	}
	return "tool_calls"
}

// appendMessage appends the message of an answer.
func (c *choice) appendMessage(b []byte) []byte {
	b = append(b, `{"role":"assistant","content":`...)
	if content := c.text.String(); content == "" && c.said != nil && len(c.said.calls) > 0 {
		b = append(b, "null"...)
	} else {
		b = wire.AppendText(b, content)
	}
	if c.said != nil {
		if thought := c.said.thought.String(); thought != "" {
			b = wire.AppendText(append(b, `,"reasoning_content":`...), thought)
		}
		b = c.appendCalls(b)
	}
	return append(b, `,"refusal":null}`...)
}

func (c *choice) appendCalls(b []byte) []byte {
	if len(c.said.calls) == 0 {
		return b
	}
	if c.job.body.tools.legacy {
		call := c.said.calls[0]
		b = wire.AppendText(append(b, `,"function_call":{"name":`...), call.name)
		return append(wire.AppendText(append(b, `,"arguments":`...), call.arguments.String()), '}')
	}
	b = append(b, `,"tool_calls":[`...)
	for i, call := range c.said.calls {
		if i > 0 {
			b = append(b, ',')
		}
		b = wire.AppendText(append(b, `{"id":`...), call.id)
		b = wire.AppendText(append(b, `,"type":"function","function":{"name":`...), call.name)
		b = append(wire.AppendText(append(b, `,"arguments":`...), call.arguments.String()), "}}"...)
	}
	return append(b, ']')
}

// appendDelta appends a chunk's delta: of a call first its name, and then its arguments as they come.
func (c *choice) appendDelta(b []byte, delta calls.Delta) []byte {
	switch {
	case delta.Call == nil && delta.Reasoning != "":
		return append(wire.AppendText(append(b, `{"reasoning_content":`...), delta.Reasoning), '}')
	case delta.Call == nil:
		return append(wire.AppendText(append(b, `{"content":`...), delta.Content), '}')
	case c.job.body.tools.legacy:
		b = append(b, `{"function_call":{`...)
		if delta.Call.Name != "" {
			b = append(wire.AppendText(append(b, `"name":`...), delta.Call.Name), ',')
		}
		return append(wire.AppendText(append(b, `"arguments":`...), delta.Call.Arguments), "}}"...)
	}
	b = strconv.AppendInt(append(b, `{"tool_calls":[{"index":`...), int64(delta.Call.Index), 10)
	b = append(b, ',')
	if delta.Call.Name != "" {
		b = wire.AppendText(append(b, `"id":`...), c.said.calls[delta.Call.Index].id)
		b = append(wire.AppendText(append(b, `,"type":"function","function":{"name":`...), delta.Call.Name), ',')
	} else {
		b = append(b, `"function":{`...)
	}
	return append(wire.AppendText(append(b, `"arguments":`...), delta.Call.Arguments), "}}]}"...)
}
