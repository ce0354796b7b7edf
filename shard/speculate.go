package shard

import (
	"lockstep/shard/model"
	"lockstep/shard/schedule"
)

// draftRows is how many rows a step may have for which tokens are guessed: so many cost little more than one, for the weights are read
// once; more cost what they compute.
const draftRows = 8

// draft has the step guess what follows where that helps: in small steps, of sequences that only lack their next token. Guesses are
// computed beside it as if they were known, and each place of them chooses its token by its own logits, with its own seed and behind the
// tokens that it supposes: so what is chosen as long as guesses are right is what would have been chosen anyway, by whatever rule. The
// guesses lie behind a sequence's known tokens, in the room that it has.
func (e *engine) draft(work []schedule.Work) {
	if e.speculate == 0 && !e.forced {
		return
	}
	rows := 0
	for i := range work {
		rows += work[i].Count
	}
	for i := range work {
		w := &work[i]
		s := e.sequences[w.ID]
		known := len(s.tokens)
		// The last place of a sequence is for a token that is chosen.
		most := min((e.draftRows-rows)/(len(work)-i), e.room(s)-1)
		if most < 1 || w.Count != 1 || !w.Reaches || known == len(s.request.Prompt) || s.request.Score {
			continue
		}
		rows += e.schedule.Draft(w, len(e.guess(s.tokens[known:known], s, most)))
	}
}

// guess appends up to count guesses of what follows a sequence: what its guide forces, else what looks likely.
func (e *engine) guess(to []int32, s *sequence, count int) []int32 {
	if s.guide != nil && e.forced {
		if forced := s.guide.Forced(to, s.place, s.tokens[len(s.request.Prompt):], count); len(forced) > len(to) {
			return forced
		}
	}
	if count = min(count, e.speculate); count == 0 {
		return to
	}
	return e.propose(to, s, count)
}

// lookUp guesses what follows by what a sequence has said before.
func lookUp(to []int32, s *sequence, count int) []int32 { return s.lookup.Propose(to, s.tokens, count) }

// room is how many tokens a sequence can still get.
func (e *engine) room(s *sequence) int {
	return min(len(s.request.Prompt)+s.request.MaxNewTokens, e.maxTokens) - len(s.tokens)
}

// speculate lists what is wanted behind each guess of a chunk, whose own output is the last.
func (f *flight) speculate(chunk *model.Chunk, s *sequence) {
	chunk.Drafted = chunk.Start + len(chunk.Tokens) - len(s.tokens)
	for i := range chunk.Drafted {
		f.wants = append(f.wants, wanted{len(f.outputs), chosenNext})
		f.outputs = append(f.outputs, output{sequence: s, chosen: chosen{token: -1}, yields: true, ahead: i + 1,
			drafted: chunk.Tokens[len(chunk.Tokens)-chunk.Drafted+i]})
	}
	f.record.Drafted += chunk.Drafted
}

// confirms reports whether an output of a step has the token that the one behind it supposes.
func (f *flight) confirms(index int) bool {
	next := index + 1
	return next < len(f.outputs) && f.outputs[next].ahead > 0 && f.outputs[next].drafted == f.outputs[index].token
}
