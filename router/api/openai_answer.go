package api

import (
	"context"
	"net/http"
	"strconv"
	"sync"
	"time"
	"unicode/utf8"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// wholeOpenAI answers with one body.
func (s *Server) wholeOpenAI(w http.ResponseWriter, r *http.Request, job *openAIJob) {
	var times times
	for _, c := range job.choices {
		for c.last == nil {
			tokens, err, outcome := c.next(r.Context().Done(), nil)
			switch {
			case outcome == request.Gone:
				return
			case err != nil:
				s.refuseAsOpenAI(w, err)
				return
			}
			for i := range tokens {
				var last *generation
				if i == len(tokens)-1 {
					last = c.last
				}
				c.keep(&tokens[i], last)
			}
		}
		s.leave(c.run)
		times = s.finished(&job.clock, c.last, c.events, len(c.ids))
	}
	if s.three() {
		job.setHeaders(w.Header(), times)
	}
	b := job.appendHead(nil, job.objectName())
	if job.body.returnTokenIDs && job.body.chat {
		b = append(wire.AppendIDs(append(b, `"prompt_token_ids":`...), job.prompts[0].ids), ',')
	}
	b = append(b, `"choices":[`...)
	for i, c := range job.chosen() {
		if i > 0 {
			b = append(b, ',')
		}
		b = c.appendWhole(b, i)
	}
	b = append(b, `],"usage":`...)
	wire.Respond(w, http.StatusOK, wire.JSONType, append(appendUsage(b, job.usage()), '}'))
}

// setHeaders tells what TGI 3 does.
func (job *openAIJob) setHeaders(h http.Header, t times) {
	u := job.usage()
	setTimings(h, t, job.characters())
	setTokens(h, u.prompt, u.completion)
	if job.body.chat {
		h["X-Compute-Time"] = []string{seconds(t.total)}
	}
}

// characters is the length of the prompts.
func (job *openAIJob) characters() (count int) {
	for i := range job.prompts {
		count += utf8.RuneCountInString(job.prompts[i].text)
	}
	return count
}

// keep notes a token for an answer in one body.
func (c *openAIChoice) keep(t *token, last *generation) {
	c.start()
	c.sum += float64(t.logprob)
	c.note(t)
	shown := c.show(t, last)
	c.runes += utf8.RuneCountInString(shown)
	c.text.WriteString(shown)
}

// start is called with the first token: what belongs to the prompt can be shown now.
func (c *openAIChoice) start() {
	if c.begun {
		return
	}
	c.begun = true
	if !c.job.body.echo {
		return
	}
	if c.job.body.logprobs {
		c.notePrompt()
	}
	c.text.WriteString(c.prompt.text)
	c.runes = utf8.RuneCountInString(c.prompt.text)
}

// note records a token's id and log-probabilities.
func (c *openAIChoice) note(t *token) {
	b := c.job.body
	switch {
	case c.silent():
		return
	case b.returnTokenIDs:
		c.tokenIDs = strconv.AppendInt(wire.AppendComma(c.tokenIDs), int64(t.id), 10)
	}
	switch {
	case !b.logprobs:
	case b.chat:
		c.records.chat = c.appendChatRecord(wire.AppendComma(c.records.chat), t)
	default:
		c.records.add(c.spelling(t.id), &t.logprob, c.runes, append([]token{*t}, t.top...), c.spelling)
	}
}

// chosen returns the answers that are shown: of each prompt's the n of the greatest mean log-probability, in their order
// of merit, or all in the order of their seeds.
func (job *openAIJob) chosen() []*openAIChoice {
	n, copies := job.body.n, job.body.copies()
	if n == copies {
		return job.choices
	}
	var chosen []*openAIChoice
	for from := 0; from < len(job.choices); from += copies {
		of := append([]*openAIChoice(nil), job.choices[from:from+copies]...)
		for i := range n {
			best := i
			for j := i + 1; j < copies; j++ {
				if of[j].sum/float64(len(of[j].ids)) > of[best].sum/float64(len(of[best].ids)) {
					best = j
				}
			}
			of[i], of[best] = of[best], of[i]
		}
		chosen = append(chosen, of[:n]...)
	}
	return chosen
}

func (job *openAIJob) objectName() string {
	switch {
	case !job.body.chat:
		return "text_completion"
	case job.body.stream:
		return "chat.completion.chunk"
	}
	return "chat.completion"
}

// appendHead appends what every answer and chunk begins with.
func (job *openAIJob) appendHead(b []byte, object string) []byte {
	b = append(append(append(b, `{"id":"`...), job.name...), `","object":"`...)
	b = append(append(b, object...), `","created":`...)
	b = strconv.AppendInt(b, job.created, 10)
	b = wire.AppendText(append(b, `,"model":`...), job.model.Card.ModelID)
	b = wire.AppendText(append(b, `,"system_fingerprint":`...), job.model.fingerprint())
	return append(b, ',')
}

// appendWhole appends the choice of an answer in one body.
func (c *openAIChoice) appendWhole(b []byte, index int) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), int64(index), 10)
	if c.job.body.chat {
		b = append(wire.AppendText(append(b, `,"message":{"role":"assistant","content":`...), c.text.String()), `,"refusal":null}`...)
	} else {
		b = wire.AppendText(append(b, `,"text":`...), c.text.String())
	}
	b = c.appendLogprobs(append(b, `,"logprobs":`...))
	b = wire.AppendText(append(b, `,"finish_reason":`...), c.finishReason())
	if c.job.body.returnTokenIDs {
		b = append(append(append(b, `,"token_ids":[`...), c.tokenIDs...), ']')
		if !c.job.body.chat {
			b = wire.AppendIDs(append(b, `,"prompt_token_ids":`...), c.prompt.ids)
		}
	}
	return append(b, '}')
}

func appendUsage(b []byte, u openAIUsage) []byte {
	b = strconv.AppendInt(append(b, `{"prompt_tokens":`...), int64(u.prompt), 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), int64(u.completion), 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), int64(u.prompt+u.completion), 10)
	b = strconv.AppendInt(append(b, `,"prompt_tokens_details":{"cached_tokens":`...), int64(u.cached), 10)
	return append(b, "}}"...)
}

// streamOpenAI answers with server-sent events. What fails before the first one is answered by its status.
func (s *Server) streamOpenAI(w http.ResponseWriter, r *http.Request, job *openAIJob) {
	h := w.Header()
	h["Content-Type"] = []string{wire.EventsTypeUTF8}
	if s.three() {
		h["Content-Type"] = []string{wire.EventsType} // as TGI 3
	}
	h["Cache-Control"] = []string{"no-cache"}
	h["X-Accel-Buffering"] = []string{"no"}
	if s.three() {
		h["X-Compute-Type"] = []string{computeType}
		h["X-Compute-Characters"] = []string{itoa(job.characters())}
	}
	head := job.appendHead([]byte("data: "), job.objectName())
	take, stop := job.takeOne(r.Context(), head), func() {}
	if len(job.choices) > 1 {
		take, stop = job.takeAny(r.Context(), head)
	}
	pumped, err := pump(w, r, ":\n\n", take)
	stop()
	switch {
	case pumped.complete:
		for _, c := range job.choices {
			s.finished(&job.clock, c.last, c.events, len(c.ids))
		}
	case err == nil || r.Context().Err() != nil:
	case !pumped.begun:
		s.refuseAsOpenAI(w, err)
	default:
		s.countOpenAI(job.id, err)
		b, status := appendOpenAIError([]byte("data: "), err)
		b = strconv.AppendInt(append(b[:len(b)-1], `,"http_status_code":`...), int64(status), 10)
		w.Write(append(b, "}}\n\ndata: [DONE]\n\n"...))
		http.NewResponseController(w).Flush()
		wire.Of(w).Complete()
	}
}

// takeOne waits for the events of the only answer.
func (job *openAIJob) takeOne(ctx context.Context, head []byte) takeEvents {
	c := job.choices[0]
	event := c.chunks(head)
	return func(b []byte, idle <-chan time.Time) ([]byte, bool, *request.Refusal, request.Outcome) {
		tokens, err, outcome := c.next(ctx.Done(), idle)
		b = c.appendEvents(b, tokens, event)
		if c.last != nil {
			b = job.appendEnd(b, head)
		}
		return b, c.last != nil, err, outcome
	}
}

// arrival is what one of several answers yielded at once.
type arrival struct {
	events []byte
	last   bool
	err    *request.Refusal
}

// takeAny waits for the events of any answer. Each has a goroutine that makes its events; stop ends those that are left.
func (job *openAIJob) takeAny(ctx context.Context, head []byte) (take takeEvents, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	arrivals := make(chan arrival)
	var running sync.WaitGroup
	for _, c := range job.choices {
		running.Go(func() { c.arrive(ctx, head, arrivals) })
	}
	left := len(job.choices)
	take = func(b []byte, idle <-chan time.Time) ([]byte, bool, *request.Refusal, request.Outcome) {
		select {
		case a := <-arrivals:
			for more := true; more; {
				b = append(b, a.events...)
				if a.last {
					left--
				}
				if a.err != nil {
					return b, false, a.err, request.Got
				}
				select {
				case a = <-arrivals:
				default:
					more = false
				}
			}
		case <-idle:
			return b, false, nil, request.Idle
		case <-ctx.Done():
			return b, false, nil, request.Gone
		}
		if left == 0 {
			b = job.appendEnd(b, head)
		}
		return b, left == 0, nil, request.Got
	}
	return take, func() {
		cancel()
		running.Wait()
	}
}

// arrive sends the events of an answer until its end.
func (c *openAIChoice) arrive(ctx context.Context, head []byte, arrivals chan<- arrival) {
	event := c.chunks(head)
	for c.last == nil {
		tokens, err, outcome := c.next(ctx.Done(), nil)
		if outcome == request.Gone {
			return
		}
		a := arrival{events: c.appendEvents(nil, tokens, event), last: c.last != nil, err: err}
		select {
		case arrivals <- a:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// appendEnd appends what follows the last chunk.
func (job *openAIJob) appendEnd(b, head []byte) []byte {
	if job.body.includeUsage {
		b = append(append(b, head...), `"choices":[],"usage":`...)
		b = append(appendUsage(b, job.usage()), "}\n\n"...)
	}
	return append(b, "data: [DONE]\n\n"...)
}

// openAIChunk is what a chunk tells beside what was noted since the one before.
type openAIChunk struct {
	delta string // a chat's, in place of shown as its content
	shown string
	count int // tokens that have come by then
	first bool
	last  bool
}

// chunks returns what appends the chunks of a token. The first has the role or, with echo, the prompt; a chat's last one is
// empty but for the reason of its end.
func (c *openAIChoice) chunks(head []byte) func(b []byte, t *token, last *generation) []byte {
	chat, count, first := c.job.body.chat, 0, true
	return func(b []byte, t *token, last *generation) []byte {
		add := func(chunk openAIChunk) {
			chunk.count, chunk.first = count, first
			b, first = c.appendChunk(b, head, chunk), false
		}
		if !c.begun {
			c.start()
			switch {
			case chat:
				add(openAIChunk{delta: `{"role":"assistant","content":""}`})
			case c.text.Len() > 0:
				add(openAIChunk{shown: c.text.String()})
			}
			c.text.Reset()
		}
		c.note(t)
		if !c.silent() {
			count++
		}
		shown := c.show(t, last)
		c.runes += utf8.RuneCountInString(shown)
		switch {
		case !chat:
			add(openAIChunk{shown: shown, last: last != nil})
			return b
		case last == nil || shown != "" || len(c.records.chat) > 0 || len(c.tokenIDs) > 0:
			add(openAIChunk{shown: shown})
		}
		if last != nil {
			add(openAIChunk{delta: "{}", last: true})
		}
		return b
	}
}

// appendChunk appends one chunk.
func (c *openAIChoice) appendChunk(b, head []byte, chunk openAIChunk) []byte {
	body := c.job.body
	first := chunk.first && body.returnTokenIDs
	b = append(b, head...)
	if first && body.chat {
		b = append(wire.AppendIDs(append(b, `"prompt_token_ids":`...), c.prompt.ids), ',')
	}
	b = strconv.AppendInt(append(b, `"choices":[{"index":`...), int64(c.index), 10)
	switch {
	case !body.chat:
		b = wire.AppendText(append(b, `,"text":`...), chunk.shown)
	case chunk.delta != "":
		b = append(append(b, `,"delta":`...), chunk.delta...)
	default:
		b = append(wire.AppendText(append(b, `,"delta":{"content":`...), chunk.shown), '}')
	}
	b = c.appendLogprobs(append(b, `,"logprobs":`...))
	if b = append(b, `,"finish_reason":`...); chunk.last {
		b = wire.AppendText(b, c.finishReason())
	} else {
		b = append(b, "null"...)
	}
	if body.returnTokenIDs {
		b = append(append(append(b, `,"token_ids":[`...), c.tokenIDs...), ']')
		if first && !body.chat {
			b = wire.AppendIDs(append(b, `,"prompt_token_ids":`...), c.prompt.ids)
		}
	}
	b = append(b, "}]"...)
	c.records, c.tokenIDs = logprobRecords{}, c.tokenIDs[:0]
	switch {
	case body.continuousUsage:
		used := openAIUsage{prompt: len(c.request.Prompt), completion: chunk.count, cached: c.events.Cached()}
		b = appendUsage(append(b, `,"usage":`...), used)
	case body.includeUsage:
		b = append(b, `,"usage":null`...)
	}
	return append(b, "}\n\n"...)
}
