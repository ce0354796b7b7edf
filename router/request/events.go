package request

import (
	"sync"
	"time"
)

// Events carries the answer of one request from the owner of the fleet to one consumer. Putting never blocks: what is
// held is bounded by MaxNewTokens tokens and the prompt's log-probabilities, so that a slow client holds up nobody.
type Events struct {
	notify chan struct{} // capacity 1: something has been put since the last take

	mu         sync.Mutex
	tokens     []Token
	prompt     []PromptLogprob // of prompt tokens 1, 2, …
	err        *Refusal
	ended      bool
	dispatched time.Time
	cached     int
}

// NewEvents returns the events of a request that wants promptLogprobs log-probabilities of its prompt.
func NewEvents(promptLogprobs int) *Events {
	return &Events{notify: make(chan struct{}, 1), prompt: make([]PromptLogprob, 0, promptLogprobs)}
}

func (e *Events) wake() {
	select {
	case e.notify <- struct{}{}:
	default:
	}
}

// PutToken adds the next token. Nothing may be put after a token that finishes.
func (e *Events) PutToken(token Token) {
	e.mu.Lock()
	if !e.ended {
		e.tokens = append(e.tokens, token)
		e.ended = token.Finish != 0
	}
	e.mu.Unlock()
	e.wake()
}

// PutPrompt adds log-probabilities of prompt tokens from start on. What is known already is passed over, so that parts
// may overlap after a resume.
func (e *Events) PutPrompt(start int, logprobs []PromptLogprob) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, value := range logprobs {
		if start+i == len(e.prompt)+1 && len(e.prompt) < cap(e.prompt) {
			e.prompt = append(e.prompt, value)
		}
	}
}

// Fail ends the events with an error, unless they have ended.
func (e *Events) Fail(err *Refusal) {
	e.mu.Lock()
	if !e.ended {
		e.err, e.ended = err, true
	}
	e.mu.Unlock()
	e.wake()
}

// MarkDispatched records the first moment at which a group was given the request.
func (e *Events) MarkDispatched(now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.dispatched.IsZero() {
		e.dispatched = now
	}
}

// Dispatched returns the moment of the first dispatch, zero when there was none.
func (e *Events) Dispatched() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.dispatched
}

// PutCached records how many tokens of the prompt came from a prefix cache. It is put before the first token.
func (e *Events) PutCached(tokens int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cached = tokens
}

// Cached returns how many tokens of the prompt came from a prefix cache; complete once a token has come.
func (e *Events) Cached() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.cached
}

// Prompt returns the log-probabilities of prompt tokens 1, 2, … that have come so far; complete once a token has come.
func (e *Events) Prompt() []PromptLogprob {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.prompt[:len(e.prompt):len(e.prompt)]
}

// Outcome says why Take returned.
type Outcome int

const (
	// Got means that tokens or an error have come.
	Got Outcome = iota
	// Idle means that the caller's timer fired first.
	Idle
	// Gone means that done was closed first.
	Gone
)

// Take waits until something has come, idle fires or done is closed; both may be nil. It appends the tokens that have
// come to tokens and returns it. The error that ended the request is returned after all tokens before it.
func (e *Events) Take(done <-chan struct{}, idle <-chan time.Time, tokens []Token) ([]Token, *Refusal, Outcome) {
	for {
		e.mu.Lock()
		tokens = append(tokens, e.tokens...)
		e.tokens = e.tokens[:0]
		err := e.err
		e.mu.Unlock()
		switch {
		case len(tokens) > 0:
			return tokens, nil, Got
		case err != nil:
			return tokens, err, Got
		}
		select {
		case <-e.notify:
		case <-idle:
			return tokens, nil, Idle
		case <-done:
			return tokens, nil, Gone
		}
	}
}
