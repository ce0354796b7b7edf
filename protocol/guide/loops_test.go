package guide_test

import (
	"testing"

	"lockstep/protocol/guide"
)

// TestNestedCounts counts within counts: a text can be read in many ways, and is whole where arithmetic says so.
func TestNestedCounts(t *testing.T) {
	for grammar, c := range map[string]struct{ innerMin, innerMax, outerMin, outerMax int }{
		`root ::= ("a"{70,100} ","?){2,80} "z"`: {70, 100, 2, 80},
		`root ::= ("a"{3,90} ","?){66,70} "z"`:  {3, 90, 66, 70},
		`root ::= (("a" ","?){65,65}){0,3} "z"`: {65, 65, 0, 3},
	} {
		program, err := guide.Compile(guide.Source{Kind: guide.Grammar, Text: grammar})
		if err != nil {
			t.Fatal(err)
		}
		w := newWalker(program, nil)
		for n := range 450 {
			want := false
			for k := c.outerMin; k <= min(c.outerMax, 450); k++ {
				want = want || c.innerMin*k <= n && n <= c.innerMax*k
			}
			whole, err := w.machine.Next(w.state, 'z')
			if err != nil {
				t.Fatal(err)
			}
			if got := whole != guide.Dead; got != want {
				t.Errorf("%s of %d: got %v, want %v", grammar, n, got, want)
			}
			if w.state, err = w.machine.Next(w.state, 'a'); err != nil {
				t.Fatal(err)
			} else if w.state == guide.Dead {
				break
			}
		}
	}
}
