package masks_test

import (
	"slices"
	"strings"
	"testing"

	"lockstep/protocol/guide"
	"lockstep/shard/masks"
)

// A thought is ended when it has its length, by the special token where there is one, else by what spells its end.
func TestThoughtBudget(t *testing.T) {
	spelled := []string{"a", "b", "<", "<t>", "</", "</t", "</t>", "t>", "{", "}", ""}
	special := append(slices.Clone(spelled), guide.Special+"</t>")
	const end = 10 // of spelled, the token that ends a sequence
	object := guide.Source{Kind: guide.Regex, Text: "{}"}
	for name, test := range map[string]struct {
		words   []string
		source  guide.Source
		inside  bool
		said    string // tokens, with spaces between them
		allowed string // "*": as without a budget
	}{
		"short":             {spelled, guide.Source{Kind: guide.Anything}, true, "a b", "*"},
		"long":              {spelled, guide.Source{Kind: guide.Anything}, true, "a b a", "< </ </t </t>"},
		"end begun":         {spelled, guide.Source{Kind: guide.Anything}, true, "a b </", "t>"},
		"special":           {special, guide.Source{Kind: guide.Anything}, true, "a b a", guide.Special + "</t>"},
		"ended":             {spelled, guide.Source{Kind: guide.Anything}, true, "a </t> a b a", "*"},
		"ended by two":      {spelled, guide.Source{Kind: guide.Anything}, true, "a </ t> b a", "*"},
		"ended by itself":   {special, guide.Source{Kind: guide.Anything}, true, "a " + guide.Special + "</t> b a", "*"},
		"begun by itself":   {spelled, guide.Source{Kind: guide.Anything}, false, "<t> b a", "< </ </t </t>"},
		"begun by two":      {spelled, guide.Source{Kind: guide.Anything}, false, "< t> a", "< </ </t </t>"},
		"none":              {spelled, guide.Source{Kind: guide.Anything}, false, "a b a b", "*"},
		"behind it a guide": {spelled, object, true, "a b a", "< </ </t </t>"},
		"the guide":         {spelled, object, true, "a b a </t>", "{"},
	} {
		test.source.Thought = guide.Thought{Start: "<t>", End: "</t>", Inside: test.inside}
		program, err := guide.Compile(test.source)
		if err != nil {
			t.Fatal(err)
		}
		vocabulary := newVocabulary(test.words, []int32{end})
		free := masks.New(vocabulary, program)
		test.source.Thought.Budget = 3
		g := masks.NewThinking(vocabulary, program, test.source.Thought)
		var tokens []int32
		for word := range strings.SplitSeq(test.said, " ") {
			tokens = append(tokens, int32(slices.Index(test.words, word)))
		}
		mask, err := g.Mask(new(masks.Place), tokens)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got := idsOf(mask, len(test.words))
		var want []int32
		if test.allowed == "*" {
			unbounded, err := free.Mask(new(masks.Place), tokens)
			if err != nil {
				t.Fatal(err)
			}
			want = idsOf(unbounded, len(test.words))
		} else {
			for word := range strings.SplitSeq(test.allowed, " ") {
				want = append(want, int32(slices.Index(test.words, word)))
			}
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %v allowed, want %v", name, got, want)
		}
	}
}
