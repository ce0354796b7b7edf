package guide_test

import (
	"errors"
	"math/rand/v2"
	"testing"

	"lockstep/protocol/guide"
)

// walker goes through a program at random.
type walker struct {
	machine *guide.Machine
	random  *rand.Rand
	text    []byte
	state   guide.State
}

func newWalker(program *guide.Program, random *rand.Rand) *walker {
	m := guide.NewMachine(program)
	return &walker{machine: m, random: random, state: m.Start()}
}

// step takes a byte that is allowed, any; false: there is none, or there are too many ways to read it.
func (w *walker) step(t testing.TB) bool {
	spans := append([]guide.Span(nil), w.machine.Spans(w.state)...)
	w.random.Shuffle(len(spans), func(i, j int) { spans[i], spans[j] = spans[j], spans[i] })
	for _, span := range spans {
		b := span.Low + byte(w.random.IntN(int(span.High-span.Low)+1))
		to, err := w.machine.Next(w.state, b)
		switch {
		case errors.Is(err, guide.ErrAmbiguous):
			return false
		case err != nil:
			t.Fatal(err)
		case to != guide.Dead:
			w.text, w.state = append(w.text, b), to
			return true
		}
	}
	return false
}

// complete is what can be said behind the walk so that the text is complete, found by a search in width. known is false where it is given
// up at most states, or where there are too many ways to read the text; else it is there, or the walk is at a dead end.
func (w *walker) complete(t testing.TB, most int) (rest []byte, there, known bool) {
	type visit struct {
		state guide.State
		from  int
		by    byte
	}
	visits := []visit{{state: w.state, from: -1}}
	seen := map[guide.State]bool{w.state: true}
	for at := 0; at < len(visits); at++ {
		if w.machine.Complete(visits[at].state) {
			for v := visits[at]; v.from >= 0; v = visits[v.from] {
				rest = append([]byte{v.by}, rest...)
			}
			return rest, true, true
		}
		if len(visits) > most {
			return nil, false, false
		}
		for _, span := range append([]guide.Span(nil), w.machine.Spans(visits[at].state)...) {
			to, err := w.machine.Next(visits[at].state, span.Low)
			if err != nil {
				if !errors.Is(err, guide.ErrAmbiguous) {
					t.Fatal(err)
				}
				return nil, false, false
			}
			if to != guide.Dead && !seen[to] {
				seen[to] = true
				visits = append(visits, visit{to, at, span.Low})
			}
		}
	}
	return nil, false, true
}

// walkToEnd takes so many bytes at random, and then the fewest that make the text complete. Where that takes too long, ok is false.
func walkToEnd(t testing.TB, program *guide.Program, random *rand.Rand, bytes int) (text string, ok bool) {
	t.Helper()
	w := newWalker(program, random)
	for range bytes {
		if !w.step(t) {
			break
		}
	}
	rest, there, known := w.complete(t, 20000)
	if known && !there {
		t.Fatalf("%q cannot be completed", w.text)
	}
	return string(w.text) + string(rest), there
}
