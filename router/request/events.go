package request

import (
	"sync"
	"time"
)

// Events carries the answer of one request from the owner of the fleet to one consumer. Putting never blocks: what is
// held is bounded by MaxNewTokens tokens and the prompt's log-probabilities, so that a slow client holds up nobody.
type Events struct {
	notify chan struct{} // capacity 1: something has been put, or the consumer interrupted, since the last take

	mu         sync.Mutex
	tokens     []Token
	prompt     []PromptLogprob // of prompt tokens 1, 2, …
	err        *Refusal
	ended      bool
	dispatched time.Time
	cached     int
	idle, gone bool // the interrupts that were not taken yet; gone stays
	call       func()
}

// NewEvents returns the events of a request that wants promptLogprobs log-probabilities of its prompt.
func NewEvents(promptLogprobs int) *Events {
	return &Events{notify: make(chan struct{}, 1), prompt: make([]PromptLogprob, 0, promptLogprobs)}
}

// wake tells the consumer that there is more. The mutex is held.
func (e *Events) wake() {
	if e.call != nil {
		e.call()
		return
	}
	select {
	case e.notify <- struct{}{}:
	default:
	}
}

// PutToken adds the next token. Nothing may be put after a token that finishes.
func (e *Events) PutToken(token Token) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended {
		e.tokens = append(e.tokens, token)
		e.ended = token.Finish != 0
		e.wake()
	}
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
	defer e.mu.Unlock()
	if !e.ended {
		e.err, e.ended = err, true
		e.wake()
	}
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

// Outcome says why Take or Poll returned.
type Outcome int

const (
	// Got means that tokens or an error have come.
	Got Outcome = iota
	// Idle means that somebody wants the consumer to look up, as a timer does.
	Idle
	// Gone means that nobody wants the answer any more.
	Gone
	// Nothing means that there is nothing yet; Take does not return it.
	Nothing
)

// Interrupt makes Take return although nothing has come: once with Idle, from now on with Gone. What has come goes first.
func (e *Events) Interrupt(outcome Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.idle, e.gone = e.idle || outcome == Idle, e.gone || outcome == Gone
	e.wake()
}

// Tell has call called whenever Poll would find more, instead of waking Take, and at once if it would already; nil ends that, and
// there is no call any more when Tell returns. Calls come one at a time, from any goroutine; they do not block, nor use the events.
func (e *Events) Tell(call func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.call = call
	if call != nil && (len(e.tokens) > 0 || e.err != nil || e.idle || e.gone) {
		call()
	}
}

// Take waits until something has come or it is interrupted. It appends the tokens that have come to tokens, which is empty, and
// returns it. The error that ended the request is returned after all tokens before it.
//
// It waits for one channel: a consumer wakes for every token, and waiting for several costs thrice as much.
func (e *Events) Take(tokens []Token) ([]Token, *Refusal, Outcome) {
	for {
		if tokens, err, outcome := e.Poll(tokens); outcome != Nothing {
			return tokens, err, outcome
		}
		<-e.notify
	}
}

// Poll is Take without waiting.
func (e *Events) Poll(tokens []Token) ([]Token, *Refusal, Outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case len(e.tokens) > 0:
		tokens = append(tokens, e.tokens...)
		e.tokens = e.tokens[:0]
		if e.err != nil || e.idle || e.gone { // who was called once for all that has come polls once
			e.wake()
		}
		return tokens, nil, Got
	case e.err != nil:
		return tokens, e.err, Got
	case e.gone:
		return tokens, nil, Gone
	case e.idle:
		e.idle = false
		return tokens, nil, Idle
	}
	return tokens, nil, Nothing
}
