package answer

import (
	"slices"
	"strings"
	"time"

	"lockstep/protocol"
	"lockstep/protocol/text"
	"lockstep/router/api/metrics"
	"lockstep/router/request"
)

// Token is one generated token as a client may see it.
type Token struct {
	ID      int32
	Text    string
	Logprob float32
	Special bool
	Top     []Token // the likeliest at its place, where that was asked for
}

// Generation is one finished generation.
type Generation struct {
	Text         string // with Options.Prefix in front
	Finish       protocol.Finish
	Sampling     protocol.Sampling
	PromptTokens int
	Prompt       []PromptToken // only where log-probabilities were asked for
	Tokens       []Token       // only with Options.Keep
}

// PromptToken is one token of the prompt; the first has no log-probability.
type PromptToken struct {
	ID      int32
	Text    string
	Logprob float32
}

// MeanLogprob is that of the tokens.
func (g *Generation) MeanLogprob() float64 {
	sum := 0.0
	for i := range g.Tokens {
		sum += float64(g.Tokens[i].Logprob)
	}
	return sum / float64(len(g.Tokens))
}

// Preference is the order in which the reasons to end are preferred where several hold at once.
type Preference [3]protocol.Finish

var (
	// LengthFirst is that of the groups.
	LengthFirst = Preference{protocol.FinishLength, protocol.FinishEOS, protocol.FinishStop}
	// StopFirst lets a stop win over an end of sequence, and both over the length.
	StopFirst = Preference{protocol.FinishStop, protocol.FinishEOS, protocol.FinishLength}
)

// Options are a dialect's wishes for a run.
type Options struct {
	// Stops are strings at which the text ends.
	Stops []string
	// Prefix is put in front of the text.
	Prefix string
	// Keep keeps all tokens for the answer.
	Keep bool
	// Behind lets the text of tokens depend on the end of the prompt (text.Tokenizer.NewStream), also where that loses some.
	Behind bool
	// Follows takes the whole text as what follows the prompt, not as one of its own, which can lose the space that it begins
	// with.
	Follows bool
	// Prefer chooses among reasons to end.
	Prefer Preference
}

// stream returns what turns ids into text.
func (o *Options) stream(model *Model, prompt []int32) *text.Stream {
	if o.Behind {
		return model.Tokenizer.NewStream(prompt)
	}
	return model.Tokenizer.NewPlainStream(prompt)
}

// Run follows one generation: ids become text, and the end is found. It belongs to one goroutine.
type Run struct {
	Request *request.Request
	Model   *Model
	IDs     []int32     // of all tokens that have come
	Last    *Generation // set with the last token

	id       uint64
	options  Options
	events   *request.Events
	stream   *text.Stream
	stops    *text.StopMatcher // nil without stop strings
	cut      string            // what the text has from the end of the stop string on
	taken    []request.Token
	fresh    []Token
	tokens   []Token
	metrics  *metrics.Metrics
	began    time.Time
	lastCame time.Time // the newest token
}

// Begin submits a request. Whoever gets a run leaves it by Leave.
func (s *Service) Begin(model *Model, r *request.Request, o Options) (*Run, *request.Refusal) {
	if model.Card.Reward && !r.Score {
		return nil, request.Invalid("the model %s has a score head and generates no text", model.Card.ModelID)
	}
	for _, id := range r.Prompt { // a tokenizer may have tokens that the model lacks, and its group would refuse them one by one
		if int(id) >= model.Card.VocabularySize {
			return nil, request.Invalid("the prompt's token id %d (%q) is outside the vocabulary of %d",
				id, model.Tokenizer.Decode([]int32{id}, false), model.Card.VocabularySize)
		}
	}
	id, events, refusal := s.backend.Submit(r)
	if refusal != nil {
		return nil, refusal
	}
	run := &Run{Request: r, Model: model, id: id, options: o, events: events, stream: o.stream(model, r.Prompt), metrics: s.Metrics,
		began: time.Now()}
	if len(o.Stops) > 0 {
		run.stops = text.NewStopMatcher(o.Stops)
	}
	return run, nil
}

// Leave ends a run when its handler returns, by itself or because nobody waits any more; a second time does no harm.
func (s *Service) Leave(run *Run) {
	if run.Last != nil {
		s.backend.Done(run.id)
	} else {
		s.backend.Cancel(run.id)
	}
}

// Cached is how many of the prompt's tokens came from a prefix cache; complete once a token has come.
func (run *Run) Cached() int { return run.events.Cached() }

// PromptLogprobs are those of prompt tokens 1, 2, …, where they were asked for; complete once a token has come.
func (run *Run) PromptLogprobs() []request.PromptLogprob { return run.events.Prompt() }

// Held is the text that waits for the rest of its last character.
func (run *Run) Held() string { return run.stream.Held() }

// BehindStop is what the newest token's text has behind the stop string at which the run has ended.
func (run *Run) BehindStop() string { return run.cut }

// Interrupt makes Next return although nothing has come (request.Events.Interrupt). It may be called from any goroutine.
func (run *Run) Interrupt(outcome request.Outcome) { run.events.Interrupt(outcome) }

// Next waits for tokens, until it is interrupted, and returns those that are new, valid until the next call; after the last
// one, Last is set.
func (run *Run) Next() ([]Token, *request.Refusal, request.Outcome) {
	return run.follow(run.events.Take(run.taken[:0]))
}

// Poll is Next without waiting.
func (run *Run) Poll() ([]Token, *request.Refusal, request.Outcome) {
	return run.follow(run.events.Poll(run.taken[:0]))
}

// follow goes on with what has come.
func (run *Run) follow(taken []request.Token, refusal *request.Refusal, outcome request.Outcome) ([]Token, *request.Refusal,
	request.Outcome) {
	run.taken, run.fresh = taken, run.fresh[:0]
	if refusal != nil || outcome != request.Got {
		return nil, refusal, outcome
	}
	run.measure(len(taken))
	for _, t := range taken {
		run.IDs = append(run.IDs, t.ID)
		token := Token{ID: t.ID, Text: run.stream.Next(t.ID), Logprob: t.Logprob, Special: run.Model.Tokenizer.IsSpecial(t.ID)}
		for _, other := range t.Top {
			token.Top = append(token.Top, Token{ID: other.ID, Text: run.Model.Tokenizer.Decode([]int32{other.ID}, false),
				Logprob: other.Logprob, Special: run.Model.Tokenizer.IsSpecial(other.ID)})
		}
		finish := run.finish(t.Finish, &token)
		run.fresh = append(run.fresh, token)
		if run.options.Keep {
			run.tokens = append(run.tokens, token)
		}
		if finish != protocol.FinishNone {
			run.end(finish)
			break
		}
	}
	return run.fresh, nil, request.Got
}

// measure counts the time until the first token, and between those that follow: of several at once the first has waited.
func (run *Run) measure(tokens int) {
	now := time.Now()
	if run.lastCame.IsZero() {
		run.metrics.FirstToken(now.Sub(run.began))
	} else {
		run.metrics.NextToken(now.Sub(run.lastCame))
	}
	for range tokens - 1 {
		run.metrics.NextToken(0)
	}
	run.lastCame = now
}

// finish tells why the newest token is the last one: the preferred of all reasons that hold. The group tells one only.
func (run *Run) finish(reason protocol.Finish, token *Token) protocol.Finish {
	stop, found := stopPlace{}, false
	if run.stops != nil {
		stop, found = run.findStop(token)
	}
	eos := !run.Request.Sampling.IgnoreEOS && slices.Contains(run.Model.Card.EOSTokenIDs, token.ID)
	holds := [...]bool{protocol.FinishLength: len(run.IDs) >= run.Request.MaxNewTokens, protocol.FinishEOS: eos, protocol.FinishStop: found}
	for _, finish := range run.options.Prefer {
		if !holds[finish] && reason != finish {
			continue
		}
		if finish == protocol.FinishStop && found {
			run.cut = stop.cut
			if stop.text != "" {
				token.Text = stop.text
			}
		}
		return finish
	}
	return protocol.FinishNone
}

// stopPlace is where a stop string has ended.
type stopPlace struct {
	cut  string // what the text has behind it
	text string // of the token, where it had none; else ""
}

// findStop tells whether a stop string ends in the newest token. One that ends before the incomplete character for which the
// token's text is held back makes the text before that character visible.
func (run *Run) findStop(token *Token) (place stopPlace, found bool) {
	behind, found := run.stops.Append(token.Text)
	if found && !token.Special { // the final text has nothing of special tokens that could be cut
		place.cut = token.Text[len(token.Text)-behind:]
	}
	if found || token.Text != "" {
		return place, found
	}
	held := run.stream.Held()
	complete := strings.TrimRight(held, "\ufffd")
	if behind, found = run.stops.Find(complete); found {
		place = stopPlace{cut: held[len(complete)-behind:], text: complete}
	}
	return place, found
}

// end makes the generation from what has come.
func (run *Run) end(finish protocol.Finish) {
	prompt := run.Request.Prompt
	var decoded string
	if run.options.Follows {
		decoded = run.Model.Tokenizer.DecodeAfter(prompt[len(prompt)-1], run.IDs)
	} else {
		decoded = run.Model.Tokenizer.Decode(run.IDs, true)
	}
	run.Last = &Generation{Text: run.options.Prefix + strings.TrimSuffix(decoded, run.cut), Finish: finish,
		Sampling: run.Request.Sampling, PromptTokens: len(prompt), Tokens: run.tokens}
	if !run.Request.PromptLogprobs {
		return
	}
	logprobs := run.events.Prompt()
	for i, id := range prompt {
		t := PromptToken{ID: id, Text: run.Model.Tokenizer.Decode([]int32{id}, false)}
		if i > 0 && i <= len(logprobs) {
			t.Logprob = logprobs[i-1].Logprob
		}
		run.Last.Prompt = append(run.Last.Prompt, t)
	}
}

// Clock has the moments of a request's way.
type Clock struct {
	Started, Validated time.Time
	ID                 string // of the request, for logs
}

// finishNames are for logs.
var finishNames = map[protocol.Finish]string{
	protocol.FinishLength: "length", protocol.FinishEOS: "end of sequence", protocol.FinishStop: "stop",
}

// Finished counts and logs a run that has come to its end.
func (s *Service) Finished(c *Clock, run *Run) metrics.Times {
	now, tokens, dispatched := time.Now(), len(run.IDs), run.events.Dispatched()
	t := metrics.Times{
		Total: now.Sub(c.Started), Validation: c.Validated.Sub(c.Started),
		Queue: max(dispatched.Sub(c.Validated), 0), Inference: now.Sub(dispatched),
	}
	t.PerToken = t.Inference / time.Duration(max(tokens, 1))
	s.Metrics.Finished(t, tokens)
	s.log.Info().Str("request", c.ID).Dur("total", t.Total).Dur("queue", t.Queue).Dur("inference", t.Inference).
		Int("tokens", tokens).Str("finish", finishNames[run.Last.Finish]).Msg("generated")
	return t
}
