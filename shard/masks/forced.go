package masks

import "lockstep/protocol/guide"

// maxForcedBytes bounds how far Forced looks.
const maxForcedBytes = 128

// Forced appends up to count tokens that spell what must follow a text: where its guide leaves one byte at each place. A model may spell
// it by other tokens, or by one that goes beyond it, so they are guesses; the last token of the run, which a longer one may take the place
// of, is left out.
func (g *Guide) Forced(to []int32, at Place, tokens []int32, count int) []int32 {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.follow(&at, tokens) != nil {
		return to
	}
	var run []byte
	for s := at.state; len(run) < maxForcedBytes && !g.machine.Complete(s); {
		spans := g.machine.Spans(s)
		if len(spans) != 1 || spans[0].Low != spans[0].High {
			break
		}
		b := spans[0].Low
		next, err := g.machine.Next(s, b)
		if err != nil || next == guide.Dead {
			break
		}
		run, s = append(run, b), next
	}
	g.measure()
	for count > 0 && len(run) > 0 {
		id, length := g.vocabulary.all.longest(run)
		if length == 0 || length == len(run) {
			break
		}
		to, run = append(to, id), run[length:]
		count--
	}
	return to
}

// longest is the token that spells most of the beginning of a text; its length is 0 where there is none.
func (t *trie) longest(text []byte) (id int32, length int) {
	n := int32(0)
	for i, b := range text {
		if n = t.kid(n, b); n == 0 {
			break
		}
		if said := t.tokens(n); len(said) > 0 {
			id, length = said[0], i+1
		}
	}
	return id, length
}
