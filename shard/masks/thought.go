package masks

import (
	"slices"
	"strings"

	"lockstep/protocol/guide"
	"lockstep/shard/sample"
)

// thinking is how far a text has come with the thought that it begins with. It follows from the text alone.
type thinking struct {
	place thinkingPlace
	tail  string // the last bytes that a mark may begin in
}

type thinkingPlace int8

const (
	beforeThought thinkingPlace = iota
	withinThought
	behindThought
)

// add goes on by what a token says.
func (t *thinking) add(thought *guide.Thought, text string) {
	text = strings.ReplaceAll(text, guide.Special, "")
	if t.place == beforeThought {
		t.tail = strings.TrimLeft(t.tail+text, " \n")
		switch {
		case thought.Inside || strings.HasPrefix(t.tail, thought.Start):
			t.place, text, t.tail = withinThought, strings.TrimPrefix(t.tail, thought.Start), ""
		case !strings.HasPrefix(thought.Start, t.tail): // it answers at once
			t.place = behindThought
		}
	}
	if t.place != withinThought {
		return
	}
	if t.tail += text; strings.Contains(t.tail, thought.End) {
		*t = thinking{place: behindThought}
		return
	}
	t.tail = t.tail[max(0, len(t.tail)-len(thought.End)):]
}

// due is what must be said to end a thought that has its length; "": nothing.
func (t *thinking) due(thought *guide.Thought, tokens int) string {
	within := t.place == withinThought || t.place == beforeThought && thought.Inside
	if thought.Budget <= 0 || tokens < thought.Budget || !within {
		return ""
	}
	for said := min(len(thought.End)-1, len(t.tail)); said > 0; said-- {
		if strings.HasSuffix(t.tail, thought.End[:said]) {
			return thought.End[said:]
		}
	}
	return thought.End
}

// spelling is a mask of the tokens that say a text or its beginning: the special token alone, if the text is one.
func (v *Vocabulary) spelling(text string) *sample.Mask {
	if ids, whole := v.all.along(guide.Special + text); whole {
		return &sample.Mask{IDs: ids[len(ids)-1:]}
	}
	ids, _ := v.all.along(text)
	slices.Sort(ids)
	return &sample.Mask{IDs: ids}
}

// along are the tokens that spell a text or its beginning, the longest last; whole says that one spells all of it.
func (t *trie) along(text string) (ids []int32, whole bool) {
	n := int32(0)
	for i := range len(text) {
		if n = t.kid(n, text[i]); n == 0 {
			return ids, false
		}
		ids = append(ids, t.tokens(n)...)
	}
	return ids, len(t.tokens(n)) > 0
}
