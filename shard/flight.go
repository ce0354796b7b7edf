package shard

import (
	"errors"
	"slices"

	"lockstep/protocol"
	"lockstep/shard/model"
	"lockstep/shard/sample"
	"lockstep/shard/schedule"
)

// flight is a step on its way: what it computes, and what became of it.
type flight struct {
	plan    stepPlan
	outputs []output
	wants   []wanted
	record  StepRecord // without its duration
}

// wanted says what to do with one row of logits.
type wanted struct {
	output int   // index into outputs
	next   int32 // the prompt token whose log-probability is wanted, or what follows
}

const (
	chosenNext  int32 = -1 // a token is chosen
	nothingNext int32 = -2 // the row is of no interest
)

// step computes one step and returns what it produced, valid until the next call; nil when there is nothing to do. Where the step behind
// it can be planned without its tokens, that one has begun when step returns.
func (e *engine) step() ([]output, error) {
	var work []schedule.Work
	if e.flying == nil {
		if work = e.schedule.Next(); len(work) == 0 {
			return nil, nil
		}
	}
	e.pace.begin()
	defer e.pace.end()
	if e.flying == nil {
		if err := e.launch(work); err != nil {
			return nil, err
		}
	}
	f := e.flying
	if err := e.land(); err != nil {
		return nil, err
	}
	e.record = f.record
	return f.outputs, nil
}

// settle ends what is flying when no sequence is left: nobody wants what it computes. The other ranks wait for it, so whoever goes to rest
// calls settle first.
func (e *engine) settle() error {
	if e.flying == nil || len(e.sequences) > 0 {
		return nil
	}
	e.pace.begin()
	defer e.pace.end()
	for e.flying != nil {
		if err := e.land(); err != nil {
			return err
		}
	}
	return nil
}

// launch begins a step.
func (e *engine) launch(work []schedule.Work) error {
	f := &e.flights[e.steps%2]
	e.steps++
	e.draft(work)
	e.prepare(f, work)
	f.plan.followed = e.speculate == 0 && e.goesOn(f) && e.backend.CanBeFollowed(f.plan.chunks)
	e.plan, e.flying = f.plan.appendTo(e.plan[:0]), f
	if err := e.broadcast(e.plan); err != nil {
		return err
	}
	return e.backend.Launch(f.plan.chunks, f.plan.followed)
}

// land ends the step that is flying, behind the launch of the next where it is followed: that one may be of no sequence.
func (e *engine) land() error {
	f := e.flying
	if e.flying = nil; f.plan.followed {
		e.foresee(f)
		if err := e.launch(e.schedule.Next()); err != nil {
			return err
		}
		e.flying.record.Ahead = true
	}
	if err := e.backend.Collect(e.consume(f)); err != nil {
		return err
	}
	e.finish(f)
	return nil
}

// goesOn reports whether a sequence of the step yields a token that cannot be its last for its length.
func (e *engine) goesOn(f *flight) bool {
	return slices.ContainsFunc(f.outputs, func(out output) bool {
		more := 1
		if out.sequence.foreseen { // the step before is not collected
			more = 2
		}
		return out.yields && !e.full(out.sequence, more)
	})
}

// full reports whether a sequence can have no more tokens when it has got so many.
func (e *engine) full(s *sequence, more int) bool {
	tokens := len(s.tokens) + more
	return tokens-len(s.request.Prompt) >= s.request.MaxNewTokens || tokens >= e.maxTokens
}

// foresee tells the scheduler of the tokens that a step is going to choose, so that the next can be planned.
func (e *engine) foresee(f *flight) {
	for row, want := range f.wants {
		out := &f.outputs[want.output]
		if s := out.sequence; out.yields && e.sequences[s.id] == s && !e.full(s, 1) {
			e.schedule.Append(s.id)
			s.foreseen, s.row = true, row
		}
	}
}

// prepare turns the scheduler's work into chunks, and lists which rows of logits are wanted for what.
func (e *engine) prepare(f *flight, work []schedule.Work) {
	f.plan.reset()
	f.outputs, f.wants, f.record = f.outputs[:0], f.wants[:0], StepRecord{Step: e.steps}
	for i := range work {
		w := &work[i]
		s := e.sequences[w.ID]
		if s.slot < 0 {
			s.slot = e.freeSlots[len(e.freeSlots)-1]
			e.freeSlots = e.freeSlots[:len(e.freeSlots)-1]
		}
		out := output{sequence: s, chosen: chosen{token: -1}, yields: w.Reaches, begun: w.Begins || w.Added > w.Fresh, known: len(s.tokens),
			cached: w.Cached}
		e.cachedTokens += (w.Added - w.Fresh) * e.blockTokens
		f.record.Add(w)
		chunk := e.chunk(w, s)
		f.want(&chunk, s, w, &out)
		f.plan.add(chunk, slotUse{slot: s.slot, begins: w.Begins, added: w.Added})
		f.outputs = append(f.outputs, out)
		if w.Reaches && !s.foreseen {
			f.speculate(&f.plan.chunks[i], s)
		}
	}
}

// chunk is the run of tokens that work is. One that is foreseen is alone: what came before is computed.
func (e *engine) chunk(w *schedule.Work, s *sequence) model.Chunk {
	c := model.Chunk{Start: w.Start, PromptTokens: len(s.request.Prompt), Adapter: s.adapter, Blocks: w.Blocks, Fresh: w.Fresh}
	if s.foreseen {
		c.Tokens = []int32{model.ChosenBy(s.row)}
	} else {
		c.Tokens = s.tokens[w.Start : w.Start+w.Count]
	}
	return c
}

// want lists the rows of logits that are wanted of a chunk, which are of the next output.
func (f *flight) want(chunk *model.Chunk, s *sequence, w *schedule.Work, out *output) {
	prompt, end := len(s.request.Prompt), w.Start+w.Count
	switch {
	case s.request.PromptLogprobs && s.sent < min(end+1, prompt) && w.Start < prompt:
		chunk.Logits, out.start = model.LogitsAll, max(s.sent, w.Start+1)
		for position := w.Start; position < end; position++ {
			next := nothingNext
			switch {
			case position+1 >= out.start && position+1 < prompt:
				next = s.tokens[position+1]
			case position == end-1 && w.Reaches:
				next = chosenNext
			}
			f.wants = append(f.wants, wanted{len(f.outputs), next})
		}
	case w.Reaches:
		if chunk.Logits = model.LogitsLast; s.wantsBest() {
			chunk.Logits = model.LogitsBest
		}
		f.wants = append(f.wants, wanted{len(f.outputs), chosenNext})
	}
}

// consume returns a function that chooses tokens and log-probabilities from scores as they come.
func (e *engine) consume(f *flight) func(model.Scores) {
	done := 0
	return func(scores model.Scores) {
		rows := scores.Rows()
		wants := f.wants[done : done+rows]
		done += rows
		results := make([]chosen, rows)
		e.share(rows, 1, func(worker, from, to int) {
			for i := from; i < to; i++ {
				r, out := &results[i], &f.outputs[wants[i].output]
				s := out.sequence
				switch next := wants[i].next; {
				case next >= 0:
					r.logprob, r.top = sample.Logprob(scores.Row(i), next, s.request.TopLogprobs)
				case s.request.Score:
					*r = chosen{token: protocol.ScoreToken, logprob: scores.Row(i)[0]}
				case next == chosenNext && s.wantsBest():
					r.token, r.logprob = scores.Best(i)
				case next == chosenNext:
					*r = e.choose(&e.samplers[worker], scores, i, out)
				}
			}
		})
		for i, want := range wants {
			out := &f.outputs[want.output]
			switch {
			case want.next >= 0:
				out.prompt, out.promptTop = append(out.prompt, results[i].logprob), append(out.promptTop, results[i].top)
			case want.next == chosenNext:
				out.chosen = results[i]
			}
		}
	}
}

// choose chooses the token of an output from its logits. A guide follows the tokens before it, guesses too; that it is lost behind a wrong
// one does no harm, for then the output is of no worth.
func (e *engine) choose(sampler *sample.Sampler, scores model.Scores, row int, out *output) (c chosen) {
	s, logits := out.sequence, scores.Row(row)
	prompt := len(s.request.Prompt)
	context := sample.Context{Tokens: s.tokens[:len(s.tokens)+out.ahead], Prompt: prompt, EOS: e.shape.EOSTokenIDs}
	if s.guide != nil {
		c.place = s.place
		if context.Allowed, c.failure = s.guide.Mask(&c.place, context.Tokens[prompt:]); c.failure != nil {
			return c
		}
		if s.request.TopLogprobs == 0 {
			if masked := sampler.Masked(logits, context, &s.request.Sampling); masked != nil {
				if c.token, c.logprob = scores.BestOf(masked); context.Allowed.Has(c.token) { // else none has a number
					return c
				}
			}
		}
	}
	c.token, c.logprob, c.top = sampler.Choose(logits, context, &s.request.Sampling, s.request.TopLogprobs, nil)
	if c.token == sample.NoToken {
		c.failure = errNothingAllowed
	}
	return c
}

// errNothingAllowed ends a request whose parameters forbid what its guide allows.
var errNothingAllowed = errors.New("the parameters of the request leave none of the tokens that its guide allows")

// finish takes the chosen tokens into their sequences and ends those that are done. Outputs of sequences that ended, or were cancelled,
// while the step was flying are dropped, and those behind a guess that was wrong.
func (e *engine) finish(f *flight) {
	kept, right := f.outputs[:0], true
	for i := range f.outputs {
		out := &f.outputs[i]
		s := out.sequence
		if right = right || out.ahead == 0; !right || e.sequences[s.id] != s {
			continue
		}
		if out.ahead > 0 {
			s.lookup.Accept()
			f.record.Accepted++
			f.record.Yields++
		}
		right = f.confirms(i)
		e.take(out, right)
		kept = append(kept, *out)
	}
	f.outputs = kept
	e.speculation.Drafted += f.record.Drafted
	e.speculation.Accepted += f.record.Accepted
}

// take takes a live sequence's output. drafted says that its token was guessed.
func (e *engine) take(out *output, drafted bool) {
	s := out.sequence
	if s.sent += len(out.prompt); !out.yields {
		return
	}
	out.position = len(s.tokens) - len(s.request.Prompt)
	if s.place = out.place; out.failure != nil {
		out.token, out.logprob, out.top, out.finish = sample.NoToken, 0, nil, protocol.FinishGuide
		e.schedule.Remove(s.id)
		e.forget(s)
		return
	}
	s.tokens = append(s.tokens, out.token)
	account := e.accounts[s.router]
	if account.Tokens++; !s.yielded {
		s.yielded = true
		account.Requests++
		account.Tokens += len(s.tokens) - 1
	}
	if out.finish = e.ends(s, out.token); out.finish != protocol.FinishNone {
		e.schedule.Remove(s.id)
		e.forget(s)
		return
	}
	switch {
	case drafted:
		e.schedule.AppendDrafted(s.id)
	case !s.foreseen:
		e.schedule.Append(s.id)
	}
	s.foreseen = false
	if known := len(s.tokens); s.cached && known%e.blockTokens == 0 {
		e.schedule.AppendKey(s.id, s.chain.Next(s.tokens[known-e.blockTokens:]))
	}
}

// ends says whether and why a sequence ends with its newest token.
func (e *engine) ends(s *sequence, token int32) protocol.Finish {
	generated := s.tokens[len(s.request.Prompt):]
	switch {
	case e.full(s, 0):
		return protocol.FinishLength
	case (!s.request.Sampling.IgnoreEOS || s.guide != nil) && slices.Contains(e.shape.EOSTokenIDs, token):
		return protocol.FinishEOS
	case s.guide != nil && len(e.shape.EOSTokenIDs) == 0: // nothing can be chosen that says so
		if ended, _ := s.guide.Ended(&s.place, generated); ended {
			return protocol.FinishEOS
		}
	}
	for _, stop := range s.request.StopTokens {
		if len(stop) <= len(generated) && slices.Equal(generated[len(generated)-len(stop):], stop) {
			return protocol.FinishStop
		}
	}
	return protocol.FinishNone
}
