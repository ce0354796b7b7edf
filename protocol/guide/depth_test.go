package guide_test

import (
	"fmt"
	"testing"

	"lockstep/protocol/guide"
)

// TestDepth nests until no more may be begun: even there the text can be completed, though what completes it calls rules too.
func TestDepth(t *testing.T) {
	program, err := guide.Compile(guide.Source{Kind: guide.Schema, WhiteSpace: guide.None, Text: `{"$ref":"#/$defs/list",
		"$defs":{"list":{"type":"array","items":{"$ref":"#/$defs/item"},"minItems":2,"maxItems":2},
		"item":{"anyOf":[{"$ref":"#/$defs/list"},{"type":"object","properties":{"k":{"type":"array","items":{"minimum":3,"type":"integer"},
		"minItems":1}},"required":["k"]}]}}}`})
	if err != nil {
		t.Fatal(err)
	}
	w := newWalker(program, nil)
	depth := 0
	for {
		to, err := w.machine.Next(w.state, '[')
		if err != nil {
			t.Fatal(err)
		}
		if to == guide.Dead {
			break
		}
		w.state = to
		depth++
	}
	if depth < 500 || depth > 5000 {
		t.Errorf("%d arrays within one another", depth)
	}
	// Close all: each has two items, the first of which is closed already.
	for at := range depth {
		closing := `{"k":[3]}]`
		if at == 0 {
			closing = `{"k":[3]},{"k":[3]}]`
		} else {
			closing = "," + closing
		}
		for i := range len(closing) {
			to, err := w.machine.Next(w.state, closing[i])
			if err != nil || to == guide.Dead {
				t.Fatalf("array %d: %q at byte %d: %v", at, closing, i, err)
			}
			w.state = to
		}
	}
	if !w.machine.Complete(w.state) {
		t.Error("the text is not complete")
	}
}

// TestRequiredDepth refuses what nests deeper at its shallowest than anything may.
func TestRequiredDepth(t *testing.T) {
	schema := `{"type":"null"}`
	for range 200 {
		schema = `{"type":"array","items":` + schema + `,"minItems":1,"maxItems":1}`
	}
	program, err := guide.Compile(guide.Source{Kind: guide.Schema, Text: schema})
	if err != nil {
		t.Fatal(err)
	}
	if _, there, known := newWalker(program, nil).complete(t, 100000); !there || !known {
		t.Error("200 arrays within one another cannot be completed")
	}
	// A rule that calls another before a character of its own, 3000 deep: no machine goes so far.
	grammar := ""
	for i := range 3000 {
		grammar += fmt.Sprintf("r%d ::= \"(\" r%d \")\"\n", i, i+1)
	}
	grammar += "r3000 ::= \"x\"\nroot ::= r0\n"
	if _, err := guide.Compile(guide.Source{Kind: guide.Grammar, Text: grammar}); err == nil {
		t.Error("rules that call each other 3000 deep compile")
	}
}
