package shard

import (
	"slices"

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
	adapter int     // as model.Chunk has it
	slot    int     // of the followers' block tables; -1 until it runs first
	tokens  []int32 // prompt and generated
	sent    int     // prompt positions whose log-probability was sent
	yielded bool    // a token was chosen here
	cached  bool    // its blocks have keys
	chain   protocol.KeyChain
}

// wantsBest says that the likeliest token is chosen, and nothing is told of others.
func (s *sequence) wantsBest() bool {
	return !s.request.Score && s.request.TopLogprobs == 0 && sample.Plain(&s.request.Sampling)
}

// output is what a step produced for one sequence.
type output struct {
	sequence *sequence
	token    int32
	logprob  float32
	top      []sample.Alternative
	yields   bool // a token was chosen
	finish   protocol.Finish
	prompt   []float32 // log-probabilities of prompt tokens start, …
	// promptTop are the likeliest tokens at the place of each, where they are wanted.
	promptTop [][]sample.Alternative
	start     int
	begun     bool // its computation has begun, or found more in the prefix cache; then known and cached tokens count
	known     int
	cached    int
}

// addTo adds what was produced to a frame.
func (out *output) addTo(frame *protocol.Frame) {
	s := out.sequence
	if out.begun {
		frame.Begun = append(frame.Begun, protocol.Begun{Request: s.origin.id, Tokens: uint32(out.known), Cached: uint32(out.cached)})
	}
	if len(out.prompt) > 0 {
		frame.Prompt = append(frame.Prompt, out.promptPart())
	}
	if out.yields {
		frame.Add(s.origin.id, len(s.tokens)-len(s.request.Prompt)-1, out.token, out.logprob, out.finish)
		for _, alternative := range out.top {
			frame.AddAlternative(alternative.Token, alternative.Logprob)
		}
	}
}

// promptPart is what a step found of a prompt's log-probabilities.
func (out *output) promptPart() protocol.PromptPart {
	part := protocol.PromptPart{Request: out.sequence.origin.id, Start: uint32(out.start), Logprob: out.prompt}
	if out.sequence.request.TopLogprobs == 0 {
		return part
	}
	for _, top := range out.promptTop {
		part.Alternatives = append(part.Alternatives, uint8(len(top)))
		for _, alternative := range top {
			part.TopToken, part.TopLogprob = append(part.TopToken, alternative.Token), append(part.TopLogprob, alternative.Logprob)
		}
	}
	return part
}

// newEngine returns the engine of a model whose backend is attached to its group. broadcast sends a plan to the other ranks.
func newEngine(b backend, shape model.Config, config Config, blocks int, team *workers.Team, broadcast func(plan []byte) error) *engine {
	e := &engine{backend: b, shape: shape, blockTokens: b.Describe().BlockTokens, broadcast: broadcast, share: team.Share,
		samplers: make([]sample.Sampler, team.Size()), maxTokens: config.MaxSequenceTokens, prefixCache: !config.DisablePrefixCache,
		sequences: make(map[schedule.ID]*sequence), byOrigin: make(map[origin]*sequence), accounts: make(map[string]*protocol.Account),
		adapters: make(map[string]int)}
	for i, adapter := range config.Adapters {
		e.adapters[adapter.Name] = i + 1
	}
	e.schedule = schedule.New(schedule.Limits{BlockTokens: e.blockTokens, Blocks: blocks,
		PrefillTokens: config.PrefillTokens, MaxSequences: config.MaxSequences})
	// A parked sequence keeps its slot. It runs again before anything that waits, so those that ever ran and have not ended
	// are never more than may run at once.
	for slot := config.MaxSequences - 1; slot >= 0; slot-- {
		e.freeSlots = append(e.freeSlots, slot)
	}
	return e
}

// load is the group's load as routers see it.
func (e *engine) load() protocol.Load {
	c := e.schedule.Counts()
	return protocol.Load{HeldTokens: c.HeldBlocks * e.blockTokens, CachedTokens: c.CachedBlocks * e.blockTokens,
		Running: c.Running, Waiting: c.Waiting, Parked: c.Parked}
}

// engine is rank 0's state: the sequences, the scheduler, and the backend that computes their steps. One goroutine owns it.
type engine struct {
	backend   backend
	shape     model.Config
	broadcast func(plan []byte) error
	schedule  *schedule.Scheduler
	samplers  []sample.Sampler
	share     func(count, grain int, work func(worker, from, to int))

	blockTokens int
	maxTokens   int            // of a sequence
	adapters    map[string]int // by name, as model.Chunk counts them; it does not change
	prefixCache bool

	sequences map[schedule.ID]*sequence
	byOrigin  map[origin]*sequence
	accounts  map[string]*protocol.Account // by router
	freeSlots []int
	nextID    schedule.ID
	steps     uint64
	// cachedTokens is how many tokens were not computed because the prefix cache had them.
	cachedTokens int
	record       StepRecord // of the last step, without its duration
	pace         pace       // for other goroutines too

	planned stepPlan
	plan    []byte // planned, as it is sent
	outputs []output
	wants   []wanted
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

// add takes a request, and reports whether it is new. The caller has checked that it fits.
func (e *engine) add(router string, request protocol.Request) bool {
	if e.byOrigin[origin{router, request.ID}] != nil {
		return false
	}
	e.nextID++
	s := &sequence{origin: origin{router, request.ID}, request: request, id: e.nextID, slot: -1,
		adapter: e.adapters[request.Adapter]}
	room := min(len(request.Prompt)+request.MaxNewTokens, e.maxTokens)
	s.tokens = append(append(make([]int32, 0, room), request.Prompt...), request.Generated...)
	s.sent = 1
	e.sequences[s.id] = s
	e.byOrigin[s.origin] = s
	if e.accounts[router] == nil {
		e.accounts[router] = &protocol.Account{}
	}
	var keys []protocol.BlockKey
	if s.cached = e.prefixCache && !request.NoPrefixCache && !e.shape.KeysDependOnPrompt(len(request.Prompt)); s.cached {
		s.chain = protocol.NewKeyChain(request.Adapter, request.CacheSalt)
		keys = s.chain.Keys(make([]protocol.BlockKey, 0, cap(s.tokens)/e.blockTokens), s.tokens, e.blockTokens)
	}
	// Log-probabilities of the prompt need its rows computed.
	e.schedule.Add(s.id, len(s.tokens), keys, !request.PromptLogprobs)
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
	if s.yielded {
		account := e.accounts[s.router]
		account.Requests--
		account.Tokens -= len(s.tokens)
	}
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
	e.pace.begin()
	defer e.pace.end()
	e.steps++
	e.prepare(work)
	e.plan = e.planned.appendTo(e.plan[:0])
	if err := e.broadcast(e.plan); err != nil {
		return nil, err
	}
	if err := e.backend.Forward(e.planned.chunks, e.consume()); err != nil {
		return nil, err
	}
	e.finish()
	return e.outputs, nil
}

// prepare turns the scheduler's work into chunks, and lists which rows of logits are wanted for what.
func (e *engine) prepare(work []schedule.Work) {
	e.planned.reset()
	e.outputs, e.wants, e.record = e.outputs[:0], e.wants[:0], StepRecord{Step: e.steps}
	for _, w := range work {
		s := e.sequences[w.ID]
		if s.slot < 0 {
			s.slot = e.freeSlots[len(e.freeSlots)-1]
			e.freeSlots = e.freeSlots[:len(e.freeSlots)-1]
		}
		chunk := model.Chunk{Start: w.Start, PromptTokens: len(s.request.Prompt), Adapter: s.adapter,
			Tokens: s.tokens[w.Start : w.Start+w.Count], Blocks: w.Blocks, Fresh: w.Fresh}
		out := output{sequence: s, token: -1, yields: w.Reaches, begun: w.Begins || w.Added > w.Fresh, known: len(s.tokens),
			cached: w.Cached}
		e.cachedTokens += (w.Added - w.Fresh) * e.blockTokens
		e.record.Add(&w)
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
				e.wants = append(e.wants, wanted{len(e.outputs), next})
			}
		case w.Reaches:
			if chunk.Logits = model.LogitsLast; s.wantsBest() {
				chunk.Logits = model.LogitsBest
			}
			e.wants = append(e.wants, wanted{len(e.outputs), chosenNext})
		}
		e.planned.add(chunk, slotUse{slot: s.slot, begins: w.Begins, added: w.Added})
		e.outputs = append(e.outputs, out)
	}
}

// consume returns a function that chooses tokens and log-probabilities from scores as they come.
func (e *engine) consume() func(model.Scores) {
	done := 0
	type result struct {
		token   int32
		logprob float32
		top     []sample.Alternative
	}
	return func(scores model.Scores) {
		rows := scores.Rows()
		wants := e.wants[done : done+rows]
		done += rows
		results := make([]result, rows)
		e.share(rows, 1, func(worker, from, to int) {
			for i := from; i < to; i++ {
				r, s := &results[i], e.outputs[wants[i].output].sequence
				switch next := wants[i].next; {
				case next >= 0:
					r.logprob, r.top = sample.Logprob(scores.Row(i), next, s.request.TopLogprobs)
				case s.request.Score:
					*r = result{token: protocol.ScoreToken, logprob: scores.Row(i)[0]}
				case next == chosenNext && s.wantsBest():
					r.token, r.logprob = scores.Best(i)
				case next == chosenNext:
					context := sample.Context{Tokens: s.tokens, Prompt: len(s.request.Prompt), EOS: e.shape.EOSTokenIDs}
					r.token, r.logprob, r.top = e.samplers[worker].Choose(scores.Row(i), context, &s.request.Sampling,
						s.request.TopLogprobs, nil)
				}
			}
		})
		for i, want := range wants {
			out := &e.outputs[want.output]
			switch {
			case want.next >= 0:
				out.prompt, out.promptTop = append(out.prompt, results[i].logprob), append(out.promptTop, results[i].top)
			case want.next == chosenNext:
				out.token, out.logprob, out.top = results[i].token, results[i].logprob, results[i].top
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
		account := e.accounts[s.router]
		if account.Tokens++; !s.yielded {
			s.yielded = true
			account.Requests++
			account.Tokens += len(s.tokens) - 1
		}
		if out.finish = e.ends(s, out.token); out.finish != protocol.FinishNone {
			e.schedule.Remove(s.id)
			e.forget(s)
			continue
		}
		e.schedule.Append(s.id)
		if known := len(s.tokens); s.cached && known%e.blockTokens == 0 {
			e.schedule.AppendKey(s.id, s.chain.Next(s.tokens[known-e.blockTokens:]))
		}
	}
}

// ends says whether and why a sequence ends with its newest token.
func (e *engine) ends(s *sequence, token int32) protocol.Finish {
	generated := s.tokens[len(s.request.Prompt):]
	switch {
	case len(generated) >= s.request.MaxNewTokens, len(s.tokens) >= e.maxTokens:
		return protocol.FinishLength
	case !s.request.Sampling.IgnoreEOS && slices.Contains(e.shape.EOSTokenIDs, token):
		return protocol.FinishEOS
	}
	for _, stop := range s.request.StopTokens {
		if len(stop) <= len(generated) && slices.Equal(generated[len(generated)-len(stop):], stop) {
			return protocol.FinishStop
		}
	}
	return protocol.FinishNone
}
