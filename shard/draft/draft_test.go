package draft_test

import (
	"slices"
	"testing"

	"lockstep/shard/draft"
)

func TestPropose(t *testing.T) {
	for _, test := range []struct {
		name  string
		text  []int32
		count int
		want  []int32
	}{
		{"empty", nil, 3, nil},
		{"all new", []int32{1, 2, 3, 4, 5, 6}, 3, nil},
		{"too short to have occurred", []int32{1, 1, 1}, 3, nil},
		{"two tokens are not enough", []int32{1, 2, 3, 9, 2, 3}, 3, nil},
		{"what followed", []int32{1, 2, 3, 7, 8, 9, 1, 2, 3}, 2, []int32{7, 8}},
		{"the last time", []int32{1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3}, 1, []int32{8}},
		{"into what is proposed", []int32{1, 2, 3, 7, 1, 2, 3}, 6, []int32{7, 1, 2, 3, 7, 1}},
		{"a token again and again", []int32{5, 5, 5, 5}, 3, []int32{5, 5, 5}},
		{"none are wanted", []int32{5, 5, 5, 5}, 0, nil},
	} {
		var l draft.Lookup
		if got := l.Propose([]int32{-1}, test.text, test.count); !slices.Equal(got[1:], test.want) || got[0] != -1 {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

// Three misses end the guessing for 32 steps; a hit between them does not count them together.
func TestRest(t *testing.T) {
	var l draft.Lookup
	text := []int32{1, 1, 1, 1}
	guesses := func() bool { return len(l.Propose(nil, text, 1)) > 0 }
	for i := range 10 {
		if !guesses() {
			t.Fatalf("no guess %d, though each was right", i)
		}
		l.Accept()
	}
	for i := range 3 {
		if !guesses() {
			t.Fatalf("no guess behind %d misses", i)
		}
	}
	for i := range 32 {
		if guesses() {
			t.Fatalf("a guess in step %d of the rest", i)
		}
	}
	if !guesses() {
		t.Error("the rest has no end")
	}
	l.Accept()
	for i := range 3 {
		if !guesses() {
			t.Errorf("no guess behind %d misses after the rest", i)
		}
	}
}

// The last guess before a rest may be right.
func TestRightAtLast(t *testing.T) {
	var l draft.Lookup
	for range 5 {
		for range 3 {
			if len(l.Propose(nil, []int32{1, 1, 1, 1}, 1)) == 0 {
				t.Fatal("it rests, though every third guess was right")
			}
		}
		l.Accept()
	}
}
