package text_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"lockstep/protocol/text"
)

func TestStopMatcher(t *testing.T) {
	for _, c := range []struct {
		stops  []string
		parts  string // separated by |
		want   int    // index of the part with which it matches, or -1
		behind string // what the part has behind the match
	}{
		{nil, "a|b", -1, ""},
		{[]string{""}, "|a", 0, ""},
		{[]string{"x", ""}, "abc|x", 0, ""},
		{[]string{"", "b"}, "abc|x", 0, "c"},
		{[]string{"END"}, "E|N|D|x", 2, ""},
		{[]string{"END"}, "xEND|", 0, ""},
		{[]string{"END"}, "|xE|NDx|y", 2, "x"},
		{[]string{"END"}, "xENDxEND|y", 0, "xEND"},
		{[]string{"END"}, "E|ND\n", 1, ""},
		{[]string{"END"}, "END\n\n|x", 0, "\n\n"},
		{[]string{"END"}, "END\nx", 0, "\nx"},
		{[]string{"END\n"}, "END|\n", 1, ""},
		{[]string{"END", "EN"}, "xENDx", 0, "Dx"},
		{[]string{"cd", "abcde", "bcd"}, "abcdef", 0, "ef"},
		{[]string{"long stop", "op"}, "long st|o|p", 2, ""},
		{[]string{"aab"}, "aa|a|ab", 2, ""},
		{[]string{"ab"}, strings.Repeat("a|", 500) + "b", 500, ""},
		{[]string{"模型"}, "模|型号", 1, "号"},
	} {
		matcher, got, behind := text.NewStopMatcher(c.stops), -1, ""
		for i, part := range strings.Split(c.parts, "|") {
			if count, found := matcher.Append(part); found {
				got, behind = i, part[len(part)-count:]
				break
			}
		}
		if got != c.want || behind != c.behind {
			t.Errorf("%q in %.40q: got a match at %d before %q, want %d before %q", c.stops, c.parts, got, behind, c.want, c.behind)
		}
	}
}

// Find sees what Append would, but leaves no trace.
func TestStopMatcherFind(t *testing.T) {
	matcher := text.NewStopMatcher([]string{"END"})
	matcher.Append("xE")
	if behind, found := matcher.Find("ND\n"); !found || behind != 1 {
		t.Errorf("got %v, %d bytes behind it, want a match before the newline", found, behind)
	}
	if _, found := matcher.Find("N"); found {
		t.Error("found a part of a stop string")
	}
	if _, found := matcher.Append("D"); found {
		t.Error("what Find was given has been added")
	}
}

// FuzzStopMatcher compares with a search of the whole text, however it is split.
func FuzzStopMatcher(f *testing.F) {
	f.Add("abcabcabd", "abd", "cab", uint64(1))
	f.Add("aaaaab\n", "aab", "", uint64(2))
	f.Add("模型\xff模", "型\xff", "\xa8", uint64(3))
	random := rand.New(rand.NewPCG(4, 4))
	letters := func(most int) string {
		b := make([]byte, random.IntN(most+1))
		for i := range b {
			b[i] = "aab\n"[random.IntN(4)]
		}
		return string(b)
	}
	for range 500 {
		f.Add(letters(40), "a"+letters(5), letters(3), random.Uint64())
	}
	f.Fuzz(func(t *testing.T, whole, first, second string, seed uint64) {
		stops := []string{first, second}
		end := -1 // of the stop string that ends first
		for _, stop := range stops {
			if i := strings.Index(whole, stop); stop != "" && i >= 0 && (end < 0 || i+len(stop) < end) {
				end = i + len(stop)
			}
		}
		random := rand.New(rand.NewPCG(seed, 0))
		matcher := text.NewStopMatcher(stops)
		for read := 0; read < len(whole); {
			size := min(random.IntN(6), len(whole)-read)
			part := whole[read : read+size]
			read += size
			behind, found := matcher.Append(part)
			want, rest := end >= 0 && end <= read, read-end
			if first == "" || second == "" {
				if !want {
					want, rest = true, 0
				}
			}
			if want && rest == 1 && part[len(part)-1] == '\n' {
				rest = 0
			}
			if found != want || found && behind != rest {
				t.Fatalf("%q up to %d, stops %q: got %v, %d bytes behind it, want %v, %d", whole, read, stops, found, behind, want, rest)
			}
			if found {
				return
			}
		}
	})
}
