package shard

import (
	"lockstep/protocol"
	"lockstep/shard/draft"
	"lockstep/shard/masks"
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
	// foreseen says that the scheduler knows of a token that is not among tokens yet: the likeliest of a wanted row of the last step.
	foreseen bool
	row      int
	lookup   draft.Lookup
	cached   bool         // its blocks have keys
	guide    *masks.Guide // nil: none
	place    masks.Place  // of the tokens behind the prompt, all or all but the last
	chain    protocol.KeyChain
}

// wantsBest says that the likeliest token is chosen, and nothing is told of others. It depends on the request alone: log-probabilities
// that a backend computes itself are rounded otherwise, so all of a request's must come from one of the two.
func (s *sequence) wantsBest() bool {
	return s.guide == nil && !s.request.Score && !s.request.PromptLogprobs && s.request.TopLogprobs == 0 &&
		sample.Plain(&s.request.Sampling)
}

// output is what a step produced for one sequence. Where tokens are drafted there is one more for each of them, behind it.
type output struct {
	sequence *sequence
	ahead    int   // drafted tokens that the output's is chosen behind
	drafted  int32 // the last of them: if it was not chosen, the output is of no worth
	position int   // of the token among the generated ones
	chosen
	yields bool // a token was chosen
	finish protocol.Finish
	prompt []float32 // log-probabilities of prompt tokens start, …
	// promptTop are the likeliest tokens at the place of each, where they are wanted.
	promptTop [][]sample.Alternative
	start     int
	begun     bool // its computation has begun, or found more in the prefix cache; then known and cached tokens count
	known     int
	cached    int
}

// chosen is what was chosen from a row of logits.
type chosen struct {
	token   int32
	logprob float32
	top     []sample.Alternative
	place   masks.Place // of the sequence's guide behind the tokens before
	failure error       // of the guide
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
		frame.Add(s.origin.id, out.position, out.token, out.logprob, out.finish)
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
	e := &engine{backend: pipelinedOf(b), shape: shape, blockTokens: b.Describe().BlockTokens, broadcast: broadcast, share: team.Share,
		samplers: make([]sample.Sampler, team.Size()), maxTokens: config.MaxSequenceTokens, prefixCache: !config.DisablePrefixCache,
		speculate: config.Speculate, forced: !TraitsOf(config.Backend).Cards, propose: lookUp, draftRows: min(draftRows, config.rows()),
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
	backend   pipelined
	shape     model.Config
	broadcast func(plan []byte) error
	schedule  *schedule.Scheduler
	samplers  []sample.Sampler
	share     func(count, grain int, work func(worker, from, to int))

	blockTokens int
	maxTokens   int            // of a sequence
	adapters    map[string]int // by name, as model.Chunk counts them; it does not change
	prefixCache bool
	speculate   int // drafted tokens of a sequence in a step
	// forced has tokens guessed that a guide leaves no choice of. A card's steps take no guesses.
	forced    bool
	draftRows int // the rows of a step to which drafts may fill it up
	// propose appends up to count guesses of what follows a sequence.
	propose func(to []int32, s *sequence, count int) []int32

	sequences map[schedule.ID]*sequence
	byOrigin  map[origin]*sequence
	accounts  map[string]*protocol.Account // by router
	freeSlots []int
	nextID    schedule.ID
	steps     uint64 // that were launched
	// cachedTokens is how many tokens were not computed because the prefix cache had them.
	cachedTokens int
	speculation  protocol.Speculation
	record       StepRecord // of the last step, without its duration
	pace         pace       // for other goroutines too

	// flights are used in turn; flying is launched and not collected.
	flights [2]flight
	flying  *flight
	plan    []byte // as it is sent
}

// add takes a request, with its guide if it has one, and reports whether it is new. The caller has checked that it fits.
func (e *engine) add(router string, request protocol.Request, guide *masks.Guide) bool {
	if e.byOrigin[origin{router, request.ID}] != nil {
		return false
	}
	e.nextID++
	s := &sequence{origin: origin{router, request.ID}, request: request, id: e.nextID, slot: -1,
		adapter: e.adapters[request.Adapter], guide: guide}
	room := min(len(request.Prompt)+request.MaxNewTokens, e.maxTokens)
	s.tokens = append(append(make([]int32, 0, room), request.Prompt...), request.Generated...)
	s.sent = 1 + request.PromptLogprobsKnown
	e.sequences[s.id] = s
	e.byOrigin[s.origin] = s
	e.open(router)
	var keys []protocol.BlockKey
	if s.cached = e.prefixCache && !request.NoPrefixCache && !e.shape.KeysDependOnPrompt(len(request.Prompt)); s.cached {
		s.chain = protocol.NewKeyChain(request.Adapter, request.CacheSalt)
		keys = s.chain.Keys(make([]protocol.BlockKey, 0, cap(s.tokens)/e.blockTokens), s.tokens, e.blockTokens)
	}
	// Log-probabilities of the prompt need its rows computed.
	e.schedule.Add(s.id, len(s.tokens), keys, !request.PromptLogprobs || s.sent == len(request.Prompt))
	return true
}

// open begins the account of a router that has none.
func (e *engine) open(router string) {
	if e.accounts[router] == nil {
		e.accounts[router] = &protocol.Account{}
	}
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
