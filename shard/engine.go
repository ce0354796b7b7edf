package shard

import (
	"lockstep/protocol"
	"lockstep/shard/model"
	"lockstep/shard/sample"
	"lockstep/shard/schedule"
	"lockstep/shard/workers"
)

// origin names a request: ids are unique within their router.
type origin struct {
	router string
	id     uint64
}

// sequence is a request that rank 0 holds.
type sequence struct {
	origin
	request protocol.Request
	id      schedule.ID
	slot    int     // of the followers' block tables; -1 until it runs first
	tokens  []int32 // prompt and generated
	sent    int     // prompt positions whose log-probability was sent
}

// output is what a step produced for one sequence.
type output struct {
	sequence *sequence
	token    int32
	logprob  float32
	yields   bool // a token was chosen
	finish   protocol.Finish
	prompt   []float32 // log-probabilities of prompt tokens promptStart, …
	start    int
}

// newEngine returns the engine of a model that is attached to its group. broadcast sends a plan to the other ranks.
func newEngine(m *model.Model, config Config, blocks int, team *workers.Team, broadcast func(plan []byte) error) *engine {
	e := &engine{model: m, broadcast: broadcast, share: team.Share, samplers: make([]sample.Sampler, team.Size()),
		eos: make(map[int32]bool), maxTokens: config.MaxSequenceTokens, sequences: make(map[schedule.ID]*sequence), byOrigin: make(map[origin]*sequence)}
	e.schedule = schedule.New(schedule.Limits{BlockTokens: model.BlockTokens, Blocks: blocks, StepTokens: config.StepTokens, MaxSequences: config.MaxSequences})
	for _, id := range m.Config().EOSTokenIDs {
		e.eos[id] = true
	}
	// A parked sequence keeps its slot. It runs again before anything that waits, so those that ever ran and have not ended
	// are never more than may run at once.
	for slot := config.MaxSequences - 1; slot >= 0; slot-- {
		e.freeSlots = append(e.freeSlots, slot)
	}
	return e
}

// load is the group's load as routers see it.
func (e *engine) load() protocol.Load {
	running, waiting, blocks, _ := e.schedule.Counts()
	return protocol.Load{HeldTokens: blocks * model.BlockTokens, Running: running, Waiting: waiting}
}

// engine is rank 0's state: the sequences, the scheduler, and the model that computes their steps. One goroutine owns it.
type engine struct {
	model     *model.Model
	broadcast func(plan []byte) error
	schedule  *schedule.Scheduler
	samplers  []sample.Sampler
	share     func(count, grain int, work func(worker, from, to int))

	eos       map[int32]bool
	maxTokens int // of a sequence

	sequences map[schedule.ID]*sequence
	byOrigin  map[origin]*sequence
	freeSlots []int
	nextID    schedule.ID
	steps     uint64

	plan    []byte
	chunks  []slotChunk
	outputs []output
	wants   []wanted
}

// wanted says what to do with one row of logits.
type wanted struct {
	output int   // index into outputs
	next   int32 // the prompt token whose log-probability is wanted; -1: choose a token
}

// add takes a request, and reports whether it is new. The caller has checked that it fits.
func (e *engine) add(router string, request protocol.Request) bool {
	if e.byOrigin[origin{router, request.ID}] != nil {
		return false
	}
	e.nextID++
	s := &sequence{origin: origin{router, request.ID}, request: request, id: e.nextID, slot: -1}
	s.tokens = append(append(make([]int32, 0, len(request.Prompt)+request.MaxNewTokens), request.Prompt...), request.Generated...)
	s.sent = 1
	e.sequences[s.id] = s
	e.byOrigin[s.origin] = s
	e.schedule.Add(s.id, len(s.tokens))
	return true
}

// remove forgets a request and frees its blocks, and reports whether it was here.
func (e *engine) remove(o origin) bool {
	s := e.byOrigin[o]
	if s != nil {
		e.schedule.Remove(s.id)
		e.forget(s)
	}
	return s != nil
}

func (e *engine) forget(s *sequence) {
	if s.slot >= 0 {
		e.freeSlots = append(e.freeSlots, s.slot)
		s.slot = -1
	}
	delete(e.sequences, s.id)
	delete(e.byOrigin, s.origin)
}

// step computes one step and returns what it produced, valid until the next call; nil when there is nothing to do.
func (e *engine) step() ([]output, error) {
	work := e.schedule.Next()
	if len(work) == 0 {
		return nil, nil
	}
	e.steps++
	e.prepare(work)
	e.plan = appendStep(e.plan[:0], e.chunks)
	if err := e.broadcast(e.plan); err != nil {
		return nil, err
	}
	if err := compute(e.model, e.chunks, e.consume()); err != nil {
		return nil, err
	}
	e.finish()
	return e.outputs, nil
}

// prepare turns the scheduler's work into chunks, and lists which rows of logits are wanted for what.
func (e *engine) prepare(work []schedule.Work) {
	e.chunks, e.outputs, e.wants = e.chunks[:0], e.outputs[:0], e.wants[:0]
	for _, w := range work {
		s := e.sequences[w.ID]
		if s.slot < 0 {
			s.slot = e.freeSlots[len(e.freeSlots)-1]
			e.freeSlots = e.freeSlots[:len(e.freeSlots)-1]
		}
		chunk := slotChunk{slot: s.slot, newBlocks: w.NewBlocks, Chunk: model.Chunk{Start: w.Start, PromptTokens: len(s.request.Prompt),
			Tokens: s.tokens[w.Start : w.Start+w.Count], Blocks: w.Blocks}}
		out := output{sequence: s, token: -1, yields: w.Reaches}
		prompt, end := len(s.request.Prompt), w.Start+w.Count
		switch {
		case s.request.PromptLogprobs && s.sent < min(end+1, prompt) && w.Start < prompt:
			chunk.Logits, out.start = model.LogitsAll, max(s.sent, w.Start+1)
			for position := w.Start; position < end; position++ {
				next := int32(-2) // of no interest
				switch {
				case position+1 >= out.start && position+1 < prompt:
					next = s.tokens[position+1]
				case position == end-1 && w.Reaches:
					next = -1
				}
				e.wants = append(e.wants, wanted{len(e.outputs), next})
			}
		case w.Reaches:
			chunk.Logits = model.LogitsLast
			e.wants = append(e.wants, wanted{len(e.outputs), -1})
		}
		e.chunks = append(e.chunks, chunk)
		e.outputs = append(e.outputs, out)
	}
}

// compute is what every rank does with a step's chunks.
func compute(m *model.Model, chunks []slotChunk, consume func([]float32, int)) error {
	plain := make([]model.Chunk, len(chunks))
	for i, c := range chunks {
		if len(c.newBlocks) > 0 {
			m.ZeroBlocks(c.newBlocks)
		}
		plain[i] = c.Chunk
	}
	return m.Forward(plain, consume)
}

// consume returns a function that chooses tokens and log-probabilities from rows of logits as they come.
func (e *engine) consume() func(logits []float32, rows int) {
	done := 0
	type result struct {
		token   int32
		logprob float32
	}
	return func(logits []float32, rows int) {
		vocabulary := len(logits) / rows
		wants := e.wants[done : done+rows]
		done += rows
		results := make([]result, rows)
		e.share(rows, 1, func(worker, from, to int) {
			for i := from; i < to; i++ {
				row, s := logits[i*vocabulary:][:vocabulary], e.outputs[wants[i].output].sequence
				switch next := wants[i].next; {
				case next >= 0:
					results[i] = result{next, sample.Logprob(row, next)}
				case next == -1:
					results[i].token, results[i].logprob = e.samplers[worker].Choose(row, s.tokens, s.request.Sampling, len(s.tokens))
				}
			}
		})
		for i, want := range wants {
			out := &e.outputs[want.output]
			switch {
			case want.next >= 0:
				out.prompt = append(out.prompt, results[i].logprob)
			case want.next == -1:
				out.token, out.logprob = results[i].token, results[i].logprob
			}
		}
	}
}

// finish takes the chosen tokens into their sequences and ends those that are done.
func (e *engine) finish() {
	for i := range e.outputs {
		out := &e.outputs[i]
		s := out.sequence
		s.sent += len(out.prompt)
		if !out.yields {
			continue
		}
		s.tokens = append(s.tokens, out.token)
		generated := len(s.tokens) - len(s.request.Prompt)
		switch {
		case generated >= s.request.MaxNewTokens, len(s.tokens) >= e.maxTokens:
			out.finish = protocol.FinishLength
		case e.eos[out.token] && !s.request.Sampling.IgnoreEOS:
			out.finish = protocol.FinishEOS
		}
		if out.finish != protocol.FinishNone {
			e.schedule.Remove(s.id)
			e.forget(s)
		} else {
			e.schedule.Append(s.id)
		}
	}
}
