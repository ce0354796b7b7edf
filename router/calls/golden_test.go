package calls_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"lockstep/protocol/outside"
	"lockstep/router/calls"
)

// The golden test compares with outcomes that the parsers of other servers gave too. With LOCKSTEP_GOLDEN_OUT set to a file, it
// writes its answers there, a JSON object a line.

type goldenCase struct {
	ID     string
	Family string
	Tools  []struct {
		Function calls.Tool
	}
	FinishReasonIn string `json:"finish_reason_in"`
	Think          *struct {
		Start, End   string
		StartsInside bool `json:"starts_inside"`
	}
	Text         string
	Pieces       []string
	Content      *string
	Reasoning    *string
	ToolCalls    []goldenCall `json:"tool_calls"`
	FinishReason string       `json:"finish_reason"`
	Alternatives []goldenOutcome
	MinContent   []int `json:"min_content"`
	ArgumentsBy  *int  `json:"arguments_by"`
	Markers      []string
}

type goldenOutcome struct {
	Content   *string
	ToolCalls []goldenCall `json:"tool_calls"`
	Partial   *struct {
		Name      string
		Arguments string `json:"arguments_prefix_of"`
	}
}

type goldenCall struct {
	Name      string
	Arguments json.RawMessage
}

func readGolden(t testing.TB) []goldenCase {
	t.Helper()
	folder := outside.Reference(t, "testdata", "golden", "guided")
	return outside.Lines[goldenCase](t, filepath.Join(folder, "tool_parse_cases.jsonl"))
}

func (c *goldenCase) options(t testing.TB) calls.Options {
	t.Helper()
	format, err := calls.Named(c.Family)
	if err != nil {
		t.Fatal(err)
	}
	options := calls.Options{Format: format}
	for _, tool := range c.Tools {
		options.Tools = append(options.Tools, tool.Function)
	}
	if c.Think != nil {
		options.Reasoning = calls.Reasoning{Start: c.Think.Start, End: c.Think.End, Inside: c.Think.StartsInside}
	}
	return options
}

func TestGolden(t *testing.T) {
	var answers []any
	for _, c := range readGolden(t) {
		parser := calls.NewParser(c.options(t))
		var deltas [][]calls.Delta
		for _, piece := range c.Pieces {
			deltas = append(deltas, parser.Add(piece))
		}
		deltas = append(deltas, parser.End(c.FinishReasonIn == "length"))
		if err := c.check(parser, deltas); err != nil {
			t.Errorf("%s: %v\ntext %q", c.ID, err, c.Text)
		}
		answers = append(answers, goldenAnswer(&c, parser, deltas))
	}
	outside.WriteAnswers(t, answers)
}

func (c *goldenCase) check(parser *calls.Parser, deltas [][]calls.Delta) error {
	var got spoken
	for i, group := range deltas {
		if err := got.add(group); err != nil {
			return err
		}
		switch {
		case i == len(c.Pieces):
		case utf8.RuneCountInString(got.content) < c.MinContent[i]:
			return fmt.Errorf("after piece %d got %q, want %d characters", i, got.content, c.MinContent[i])
		case c.ArgumentsBy != nil && i == *c.ArgumentsBy && !got.hasArguments():
			return fmt.Errorf("after piece %d got no arguments", i)
		}
	}
	if c.Reasoning != nil && strings.TrimSpace(got.reasoning) != strings.TrimSpace(*c.Reasoning) {
		return fmt.Errorf("got reasoning %q, want %q", got.reasoning, *c.Reasoning)
	}
	if len(c.Alternatives) > 0 {
		if !slices.ContainsFunc(c.Alternatives, func(o goldenOutcome) bool { return o.is(&got) }) {
			return fmt.Errorf("got %+v, want one of the alternatives", got)
		}
		return nil
	}
	if want := (goldenOutcome{Content: c.Content, ToolCalls: c.ToolCalls}); !want.is(&got) {
		return fmt.Errorf("got %+v, want content %s and calls %s", got, raw(c.Content), raw(c.ToolCalls))
	}
	if reason := finishReason(c, parser); reason != c.FinishReason {
		return fmt.Errorf("got finish reason %q, want %q", reason, c.FinishReason)
	}
	for _, marker := range c.Markers {
		if len(c.ToolCalls) > 0 && strings.Contains(got.content, marker) {
			return fmt.Errorf("got %q with the marker %q", got.content, marker)
		}
	}
	return nil
}

func (o *goldenOutcome) is(got *spoken) bool {
	want := ""
	if o.Content != nil {
		want = *o.Content
	}
	switch {
	case strings.TrimSpace(got.content) != strings.TrimSpace(want):
		return false
	case o.Partial != nil:
		narrow := func(s string) string { return strings.ReplaceAll(s, " ", "") }
		return len(got.calls) == 1 && got.calls[0].name == o.Partial.Name &&
			strings.HasPrefix(narrow(o.Partial.Arguments), strings.TrimRight(narrow(got.calls[0].arguments), "\n\t\r"))
	}
	return slices.EqualFunc(got.calls, o.ToolCalls, func(call said, want goldenCall) bool {
		return call.name == want.Name && compact(call.arguments) == compact(string(want.Arguments))
	})
}

// compact spells JSON in one way and keeps the order of its keys.
func compact(source string) string {
	var b strings.Builder
	decoder := json.NewDecoder(strings.NewReader(source))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if err != nil {
			fmt.Fprintf(&b, "%v", err)
			return b.String()
		}
		fmt.Fprintf(&b, "%T %q ", token, fmt.Sprint(token))
	}
}

func finishReason(c *goldenCase, parser *calls.Parser) string {
	if c.FinishReasonIn == "stop" && parser.Calls() > 0 {
		return "tool_calls"
	}
	return c.FinishReasonIn
}

func goldenAnswer(c *goldenCase, parser *calls.Parser, deltas [][]calls.Delta) any {
	type function struct {
		Name      string `json:"name,omitempty"`
		Arguments string `json:"arguments"`
	}
	type call struct {
		Index    int      `json:"index"`
		ID       string   `json:"id,omitempty"`
		Type     string   `json:"type,omitempty"`
		Function function `json:"function"`
	}
	type message struct {
		Content   string `json:"content,omitempty"`
		Reasoning string `json:"reasoning_content,omitempty"`
		ToolCalls []call `json:"tool_calls,omitempty"`
	}
	groups := make([][]message, len(deltas))
	var whole message
	for i, group := range deltas {
		groups[i] = []message{}
		for _, d := range group {
			m := message{Content: d.Content, Reasoning: d.Reasoning}
			whole.Content += d.Content
			whole.Reasoning += d.Reasoning
			if d.Call != nil {
				piece := call{Index: d.Call.Index, Function: function{d.Call.Name, d.Call.Arguments}}
				if d.Call.Name != "" {
					piece.ID, piece.Type = fmt.Sprintf("call_%d", d.Call.Index), "function"
					whole.ToolCalls = append(whole.ToolCalls, piece)
				} else {
					whole.ToolCalls[piece.Index].Function.Arguments += d.Call.Arguments
				}
				m.ToolCalls = []call{piece}
			}
			groups[i] = append(groups[i], m)
		}
	}
	return map[string]any{"id": c.ID, "message": whole, "finish_reason": finishReason(c, parser), "deltas": groups}
}

func raw(value any) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return err.Error()
	}
	return strings.TrimSpace(b.String())
}
