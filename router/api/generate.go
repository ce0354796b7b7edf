package api

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"lockstep/protocol"
	"lockstep/protocol/text"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// keepAliveInterval is how long a stream is silent before it sends a comment.
const keepAliveInterval = 15 * time.Second

// deadlineStep is how old a write deadline may get before it is moved: moving it has a cost.
const deadlineStep = 10 * time.Second

// run follows one generation: ids become text, and the end is found as TGI finds it.
type run struct {
	id        uint64
	events    *request.Events
	request   *request.Request
	model     *Model
	stream    *text.Stream
	stops     *text.StopMatcher // nil without stop strings
	behind    string            // what the text has behind the stop string
	prefix    string            // put in front of the text
	keep      bool              // all tokens are kept for the answer
	stopFirst bool
	follows   bool
	taken     []request.Token
	fresh     []token
	ids       []int32
	tokens    []token
	last      *generation // set with the last token
	metrics   *Metrics
	began     time.Time
	came      time.Time // when the newest token came
}

// runOptions are a dialect's wishes for a run.
type runOptions struct {
	stops  []string
	prefix string // put in front of the text
	keep   bool   // all tokens are kept for the answer
	asTGI  bool   // text comes as TGI shows it behind short prompts
	// follows takes the text as what follows the prompt, not as one of its own, which can lose the space that it begins with.
	follows bool
	// stopFirst lets a stop win over an end of sequence, and both over the length; else it is the other way round.
	stopFirst bool
}

// stream returns what turns ids into text.
func (o *runOptions) stream(model *Model, prompt []int32) *text.Stream {
	if o.asTGI {
		return model.Tokenizer.NewStream(prompt)
	}
	return model.Tokenizer.NewPlainStream(prompt)
}

// begin submits a request.
func (s *Server) begin(model *Model, r *request.Request, o runOptions) (*run, *request.Refusal) {
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
	one := &run{id: id, events: events, request: r, model: model, stream: o.stream(model, r.Prompt), keep: o.keep, prefix: o.prefix,
		stopFirst: o.stopFirst, follows: o.follows, metrics: s.metrics, began: time.Now()}
	if len(o.stops) > 0 {
		one.stops = text.NewStopMatcher(o.stops)
	}
	return one, nil
}

// next waits for tokens and returns those that are new, valid until the next call; after the last one, last is set.
func (o *run) next(done <-chan struct{}, idle <-chan time.Time) ([]token, *request.Refusal, request.Outcome) {
	taken, err, outcome := o.events.Take(done, idle, o.taken[:0])
	o.taken, o.fresh = taken, o.fresh[:0]
	if err != nil || outcome != request.Got {
		return nil, err, outcome
	}
	o.measure(len(taken))
	for _, t := range taken {
		o.ids = append(o.ids, t.ID)
		piece := token{id: t.ID, text: o.stream.Next(t.ID), logprob: t.Logprob, special: o.model.Tokenizer.IsSpecial(t.ID)}
		for _, other := range t.Top {
			piece.top = append(piece.top, token{id: other.ID, text: o.model.Tokenizer.Decode([]int32{other.ID}, false),
				logprob: other.Logprob, special: o.model.Tokenizer.IsSpecial(other.ID)})
		}
		finish := o.finish(t.Finish, &piece)
		o.fresh = append(o.fresh, piece)
		if o.keep {
			o.tokens = append(o.tokens, piece)
		}
		if finish != "" {
			o.end(finish)
			break
		}
	}
	return o.fresh, nil, request.Got
}

// measure counts the time until the first token, and between those that follow: of several at once the first has waited.
func (o *run) measure(tokens int) {
	now := time.Now()
	if o.came.IsZero() {
		o.metrics.firstToken.Observe(now.Sub(o.began).Seconds())
	} else {
		o.metrics.betweenTokens.Observe(now.Sub(o.came).Seconds())
	}
	for range tokens - 1 {
		o.metrics.betweenTokens.Observe(0)
	}
	o.came = now
}

// finish tells why the newest token is the last one, in the dialect's order, or "".
func (o *run) finish(reason protocol.Finish, piece *token) string {
	if o.stopFirst {
		switch eos := slices.Contains(o.model.Card.EOSTokenIDs, piece.id) && !o.request.Sampling.IgnoreEOS; {
		case o.stops != nil && o.stopped(piece), reason == protocol.FinishStop:
			return "stop_sequence"
		case eos:
			return "eos_token"
		}
	}
	switch {
	case len(o.ids) >= o.request.MaxNewTokens:
		return "length"
	case reason == protocol.FinishEOS:
		return "eos_token"
	case !o.stopFirst && o.stops != nil && o.stopped(piece), reason == protocol.FinishStop:
		return "stop_sequence"
	case reason == protocol.FinishLength:
		return "length"
	}
	return ""
}

// stopped tells whether a stop string ends in the newest token, and sets behind. A stop string that ends before the
// incomplete character for which the token's text is held back makes the text before that character visible.
func (o *run) stopped(piece *token) bool {
	behind, found := o.stops.Append(piece.text)
	if found && !piece.special { // the final text has nothing of special tokens that could be cut
		o.behind = piece.text[len(piece.text)-behind:]
	}
	if found || piece.text != "" {
		return found
	}
	held := o.stream.Held()
	complete := strings.TrimRight(held, "\ufffd")
	if behind, found = o.stops.Find(complete); found {
		piece.text, o.behind = complete, held[len(complete)-behind:]
	}
	return found
}

// end makes the generation from what has come.
func (o *run) end(finish string) {
	prompt := o.request.Prompt
	var decoded string
	if o.follows {
		decoded = o.model.Tokenizer.DecodeAfter(prompt[len(prompt)-1], o.ids)
	} else {
		decoded = o.model.Tokenizer.Decode(o.ids, true)
	}
	o.last = &generation{
		text: o.prefix + strings.TrimSuffix(decoded, o.behind), finish: finish,
		sampling: o.request.Sampling, length: len(prompt), tokens: o.tokens,
	}
	if !o.request.PromptLogprobs {
		return
	}
	logprobs := o.events.Prompt()
	for i, id := range prompt {
		t := promptToken{id: id, text: o.model.Tokenizer.Decode([]int32{id}, false)}
		if i > 0 && i <= len(logprobs) {
			t.logprob = logprobs[i-1].Logprob
		}
		o.last.prompt = append(o.last.prompt, t)
	}
}

// times are what the headers and metrics tell of a finished request.
type times struct {
	total, validation, queue, inference, perToken time.Duration
}

// clock has the moments of a request's way.
type clock struct {
	started, validated time.Time
	id                 string // of the request, for logs
}

// finished counts and logs a finished generation.
func (s *Server) finished(c *clock, g *generation, events *request.Events, tokens int) times {
	now := time.Now()
	dispatched := events.Dispatched()
	t := times{
		total: now.Sub(c.started), validation: c.validated.Sub(c.started),
		queue: max(dispatched.Sub(c.validated), 0), inference: now.Sub(dispatched),
	}
	t.perToken = t.inference / time.Duration(max(tokens, 1))
	m := s.metrics
	m.successes.Inc()
	m.duration.Observe(t.total.Seconds())
	m.validation.Observe(t.validation.Seconds())
	m.queueing.Observe(t.queue.Seconds())
	m.inference.Observe(t.inference.Seconds())
	m.perToken.Observe(t.perToken.Seconds())
	m.generatedTokens.Observe(float64(tokens))
	s.log.Info().Str("request", c.id).Dur("total", t.total).Dur("queue", t.queue).Dur("inference", t.inference).
		Int("tokens", tokens).Str("finish", g.finish).Msg("generated")
	return t
}

// stream answers a generate request with server-sent events. The status is 200 whatever comes: errors are events.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, job *work) {
	h := w.Header()
	h["Content-Type"] = []string{wire.EventsType}
	h["Cache-Control"] = []string{"no-cache"}
	h["X-Compute-Type"] = []string{computeType}
	h["X-Compute-Characters"] = []string{itoa(job.characters)}
	h["X-Accel-Buffering"] = []string{"no"}
	w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(w)
	out.Flush()
	err := s.streamEvents(w, r, job)
	if err != nil && r.Context().Err() == nil {
		_, _, body := s.describe(job.id, err, job.form)
		b := append([]byte(job.eventPrefix()), body...)
		w.Write(append(b, "\n\n"...))
		out.Flush()
	}
}

// streamEvents writes the events of a generation.
func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request, job *work) *request.Refusal {
	if err := validateStream(&job.body.Parameters); err != nil {
		return err
	}
	if !s.acquire(1) {
		return request.NoRoom
	}
	defer s.permits.Add(-1)
	resolved, model, err := s.validate(r.Context(), job.body, 1)
	if err != nil {
		return err
	}
	job.validated = time.Now()
	one, err := s.begin(model, resolved, job.runOptions())
	if err != nil {
		return err
	}
	defer s.leave(one)
	details, index := job.body.Parameters.Details, 0
	return s.pump(w, r, one, &job.clock, ":\n\n", func(b []byte, t *token, last *generation) []byte {
		index++
		return appendEvent(b, t, last, index, job.form, details)
	})
}

// pump writes what a run yields as events until its end. event appends that of a token; last is set with the last one. idle
// is what a silent stream sends from time to time. The client's leaving is no error.
func (s *Server) pump(w http.ResponseWriter, r *http.Request, one *run, c *clock, idle string, event func(b []byte, t *token, last *generation) []byte) *request.Refusal {
	pumped, err := pump(w, r, idle, func(b []byte, idle <-chan time.Time) ([]byte, bool, *request.Refusal, request.Outcome) {
		tokens, err, outcome := one.next(r.Context().Done(), idle)
		return one.appendEvents(b, tokens, event), one.last != nil, err, outcome
	})
	if pumped.complete {
		s.finished(c, one.last, one.events, len(one.ids))
	}
	return err
}

// appendEvents appends the events of tokens.
func (o *run) appendEvents(b []byte, tokens []token, event func(b []byte, t *token, last *generation) []byte) []byte {
	for i := range tokens {
		var last *generation
		if i == len(tokens)-1 {
			last = o.last
		}
		b = event(b, &tokens[i], last)
	}
	return b
}

// pumped tells how far a stream came.
type pumped struct {
	begun    bool // something was written
	complete bool // all of it was
}

// takeEvents waits for events, until idle fires, and appends them; last tells that there are no more.
type takeEvents func(b []byte, idle <-chan time.Time) (events []byte, last bool, err *request.Refusal, outcome request.Outcome)

// pump writes a stream of events, one write and flush for all that have come at once. Nothing is written before the first events or idle, so that what fails before
// can still be answered by a status.
func pump(w http.ResponseWriter, r *http.Request, idle string, take takeEvents) (p pumped, err *request.Refusal) {
	out := http.NewResponseController(w)
	timer := time.NewTimer(keepAliveInterval)
	defer timer.Stop()
	buffer := make([]byte, 0, 512)
	defer out.SetWriteDeadline(time.Time{})
	var deadlineSet time.Time
	for {
		events, last, err, outcome := take(buffer[:0], timer.C)
		switch {
		case err != nil:
			return p, err
		case outcome == request.Gone:
			return p, nil
		case outcome == request.Idle:
			events = append(events, idle...)
		}
		if buffer = events; len(buffer) > 0 || last {
			if now := time.Now(); now.Sub(deadlineSet) > deadlineStep {
				deadlineSet = now
				out.SetWriteDeadline(now.Add(wire.WriteTimeout))
			}
			p.begun = true
			if _, err := w.Write(buffer); err != nil || out.Flush() != nil {
				return p, nil
			}
		}
		timer.Reset(keepAliveInterval)
		if last {
			wire.Of(w).Complete()
			p.complete = true
			return p, nil
		}
	}
}
