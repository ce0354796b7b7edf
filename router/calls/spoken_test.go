package calls_test

import (
	"errors"
	"fmt"
	"slices"

	"lockstep/router/calls"
)

// spoken is an answer put together from its deltas.
type spoken struct {
	reasoning string
	content   string
	calls     []said
}

type said struct {
	name      string
	arguments string
}

func (s *spoken) hasArguments() bool {
	return slices.ContainsFunc(s.calls, func(call said) bool { return call.arguments != "" })
}

// add takes deltas and finds what no client could make sense of.
func (s *spoken) add(deltas []calls.Delta) error {
	for _, d := range deltas {
		parts := 0
		for _, set := range []bool{d.Reasoning != "", d.Content != "", d.Call != nil} {
			if set {
				parts++
			}
		}
		switch {
		case parts != 1:
			return fmt.Errorf("got %d parts in one delta: %+v", parts, d)
		case d.Content != "" && len(s.calls) > 0:
			return fmt.Errorf("got content %q after a call", d.Content)
		case d.Reasoning != "" && (s.content != "" || len(s.calls) > 0):
			return fmt.Errorf("got reasoning %q after the answer began", d.Reasoning)
		}
		s.reasoning += d.Reasoning
		s.content += d.Content
		if d.Call == nil {
			continue
		}
		switch c := d.Call; {
		case c.Index == len(s.calls) && c.Name != "":
			s.calls = append(s.calls, said{c.Name, c.Arguments})
		case c.Index == len(s.calls)-1 && c.Name == "" && c.Arguments != "":
			s.calls[c.Index].arguments += c.Arguments
		default:
			return fmt.Errorf("got a piece of call %d with name %q while %d calls have begun", c.Index, c.Name, len(s.calls))
		}
	}
	return nil
}

// listen gives a parser the pieces and puts together what it says.
func listen(options calls.Options, cut bool, pieces ...string) (spoken, error) {
	parser := calls.NewParser(options)
	var s spoken
	var failures []error
	for _, piece := range pieces {
		failures = append(failures, s.add(parser.Add(piece)))
	}
	failures = append(failures, s.add(parser.End(cut)))
	if parser.Calls() != len(s.calls) {
		failures = append(failures, fmt.Errorf("got %d calls, and Calls says %d", len(s.calls), parser.Calls()))
	}
	return s, errors.Join(failures...)
}
