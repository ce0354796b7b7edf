package guide_test

import (
	"errors"
	"testing"

	"lockstep/protocol/guide"
	"lockstep/protocol/guide/cases"
	"lockstep/protocol/outside"
)

// The golden tests compare with an acceptor written separately. With LOCKSTEP_GOLDEN_OUT set to a file, one of them, chosen by -run, writes
// its answers there as check_guided.py reads them, one a case.

// goldenAnswer is what this package says of a case.
type goldenAnswer struct {
	ID     string `json:"id"`
	Accept []bool `json:"accept,omitempty"`
	DeadAt []*int `json:"dead_at,omitempty"`
	Error  string `json:"error,omitempty"`
}

func TestGoldenSchemas(t *testing.T)  { testGolden(t, "schema_cases.jsonl") }
func TestGoldenRegexes(t *testing.T)  { testGolden(t, "regex_cases.jsonl") }
func TestGoldenGrammars(t *testing.T) { testGolden(t, "ebnf_cases.jsonl") }

func testGolden(t *testing.T, file string) {
	var answers []goldenAnswer
	for _, c := range outside.Lines[cases.Case](t, outside.Shared(t, "golden", "guided", file)) {
		answers = append(answers, answerGolden(t, &c))
	}
	outside.WriteAnswers(t, answers)
}

func answerGolden(t *testing.T, c *cases.Case) (answer goldenAnswer) {
	t.Helper()
	answer.ID = c.ID
	program, err := guide.Compile(c.Source())
	if err != nil {
		var failure *guide.Error
		if answer.Error = err.Error(); !errors.As(err, &failure) || c.Refuse == "" || !sameReason(failure.Reason, c.Refuse) {
			t.Errorf("%s: got %v (%v), want %q", c.ID, err, failure, c.Refuse)
		}
		return answer
	}
	if c.Refuse != "" && c.Refuse != guide.Unsupported {
		t.Errorf("%s: compiled, want it refused as %s", c.ID, c.Refuse)
	}
	for _, instance := range c.Instances {
		accept, deadAt := read(t, program, instance.Text)
		answer.Accept, answer.DeadAt = append(answer.Accept, accept), append(answer.DeadAt, deadAt)
		if accept != instance.Accept && (c.Refuse == "" || accept) {
			t.Errorf("%s: %q: accepted %v, want %v", c.ID, instance.Text, accept, instance.Accept)
		} else if c.Refuse == "" && !accept && instance.DeadAt != nil && *deadAt != *instance.DeadAt {
			t.Errorf("%s: %q: dead at %d, want %d", c.ID, instance.Text, *deadAt, *instance.DeadAt)
		}
	}
	return answer
}

// sameReason takes a limit for what it may be called elsewhere.
func sameReason(got, want guide.Reason) bool {
	return got == want || got == guide.TooLarge && want == "limit"
}

// read reads a text, and tells how much of it can be read if it is not whole.
func read(t testing.TB, program *guide.Program, text string) (whole bool, deadAt *int) {
	t.Helper()
	m := guide.NewMachine(program)
	state := m.Start()
	for i := range len(text) {
		next, err := m.Next(state, text[i])
		if err != nil {
			t.Fatalf("%q at byte %d: %v", text, i, err)
		}
		if next == guide.Dead {
			return false, &i
		}
		state = next
	}
	if m.Complete(state) {
		return true, nil
	}
	return false, new(len(text))
}
