package text_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"lockstep/protocol/text"
)

// Whatever the pieces, all that is shown together is the text before the first stop string, and what is shown early never
// has to be taken back.
func TestHoldback(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	letters := func(length int) string {
		var b strings.Builder
		for range length {
			b.WriteByte("ab"[random.IntN(2)])
		}
		return b.String()
	}
	stopped := 0
	for round := range 5000 {
		stops := make([]string, random.IntN(3))
		for i := range stops {
			stops[i] = letters(1 + random.IntN(4))
		}
		whole := letters(random.IntN(20))
		want, hit := whole, false
		for _, stop := range stops {
			if before, _, found := strings.Cut(whole, stop); found && len(before) <= len(want) {
				want, hit = before, true
			}
		}
		h := text.NewHoldback(stops)
		got, done := "", false
		for rest := whole; rest != "" && !done; {
			length := 1 + random.IntN(len(rest))
			var shown string
			shown, done = h.Push(rest[:length])
			got += shown
			rest = rest[length:]
		}
		if !done {
			got += h.Rest()
		} else {
			stopped++
		}
		// A stop string that begins first may end behind another one that ended the text already.
		if done != hit || !strings.HasPrefix(want, got) && !strings.HasPrefix(got, want) || !done && got != whole {
			t.Fatalf("round %d: stops %q in %q: got %q, %v, want %q, %v", round, stops, whole, got, done, want, hit)
		}
		for _, stop := range stops {
			if done && strings.Contains(got, stop) {
				t.Fatalf("round %d: %q is shown in %q", round, stop, got)
			}
		}
	}
	if stopped < 1000 {
		t.Errorf("only %d texts were stopped", stopped)
	}
}
