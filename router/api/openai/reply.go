package openai

import (
	"cmp"
	"context"
	"net/http"
	"strconv"
	"sync"
	"unicode/utf8"

	"lockstep/router/api/answer"
	"lockstep/router/api/metrics"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// whole answers with one body.
func (d *Dialect) whole(w http.ResponseWriter, r *http.Request, job *work) {
	var times metrics.Times
	for _, c := range job.choices {
		switch refusal, gone := c.Whole(r.Context(), func(t *answer.Token, last *answer.Generation) { job.form.take(c, t, last) }); {
		case gone:
			return
		case refusal != nil:
			d.refuseAs(w, job.form, refusal)
			return
		}
		d.answers.Leave(c.Run)
		times = d.answers.Finished(&job.Clock, c.Run)
	}
	if d.form.timings {
		job.setHeaders(w.Header(), times)
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, job.form.appendWhole(nil, job))
}

// setHeaders tells what TGI 3 does.
func (job *work) setHeaders(h http.Header, t metrics.Times) {
	u := job.usage()
	t.SetHeaders(h, job.characters())
	metrics.SetTokens(h, u.prompt, u.completion)
	if job.body.chat {
		h["X-Compute-Time"] = []string{metrics.Seconds(t.Total)}
	}
}

// characters is the length of the prompts.
func (job *work) characters() (count int) {
	for i := range job.prompts {
		count += utf8.RuneCountInString(job.prompts[i].text)
	}
	return count
}

// keep notes a token for an answer in one body.
func (c *choice) keep(t *answer.Token, last *answer.Generation) {
	c.start()
	c.sum += float64(t.Logprob)
	c.note(t)
	shown := c.show(t, last)
	c.runes += utf8.RuneCountInString(shown)
	if c.said != nil {
		c.hear(shown, last)
	} else {
		c.text.WriteString(shown)
	}
}

// start is called with the first token: what belongs to the prompt can be shown now.
func (c *choice) start() {
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
func (c *choice) note(t *answer.Token) {
	b := c.job.body
	switch {
	case c.silent():
		return
	case b.returnTokenIDs:
		c.tokenIDs = strconv.AppendInt(wire.AppendComma(c.tokenIDs), int64(t.ID), 10)
	}
	switch {
	case !b.logprobs:
	case b.chat:
		c.records.chat = c.appendChatRecord(wire.AppendComma(c.records.chat), t)
	default:
		c.records.add(c.spelling(t.ID), &t.Logprob, c.runes, append([]answer.Token{*t}, t.Top...), c.spelling)
	}
}

// chosen returns the answers that are shown: of each prompt's the n of the greatest mean log-probability, in their order
// of merit, or all in the order of their seeds.
func (job *work) chosen() []*choice {
	n, copies := job.body.n, job.body.copies()
	if n == copies {
		return job.choices
	}
	var chosen []*choice
	for from := 0; from < len(job.choices); from += copies {
		of := append([]*choice(nil), job.choices[from:from+copies]...)
		for i := range n {
			best := i
			for j := i + 1; j < copies; j++ {
				if of[j].sum/float64(len(of[j].IDs)) > of[best].sum/float64(len(of[best].IDs)) {
					best = j
				}
			}
			of[i], of[best] = of[best], of[i]
		}
		chosen = append(chosen, of[:n]...)
	}
	return chosen
}

func (job *work) objectName() string {
	switch {
	case !job.body.chat:
		return "text_completion"
	case job.body.stream:
		return "chat.completion.chunk"
	}
	return "chat.completion"
}

// appendHead appends what every answer and chunk begins with.
func (job *work) appendHead(b []byte, object string) []byte {
	b = append(append(append(b, `{"id":"`...), job.name...), `","object":"`...)
	b = append(append(b, object...), `","created":`...)
	b = strconv.AppendInt(b, job.created, 10)
	b = wire.AppendText(append(b, `,"model":`...), cmp.Or(job.adapter, job.model.Card.ModelID))
	b = wire.AppendText(append(b, `,"system_fingerprint":`...), fingerprint(job.model))
	return append(b, ',')
}

// appendWhole appends the choice of an answer in one body.
func (c *choice) appendWhole(b []byte, index int) []byte {
	b = strconv.AppendInt(append(b, `{"index":`...), int64(index), 10)
	if c.job.body.chat {
		b = c.appendMessage(append(b, `,"message":`...))
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

func appendUsage(b []byte, u tokenUsage) []byte {
	b = strconv.AppendInt(append(b, `{"prompt_tokens":`...), int64(u.prompt), 10)
	b = strconv.AppendInt(append(b, `,"completion_tokens":`...), int64(u.completion), 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), int64(u.prompt+u.completion), 10)
	b = strconv.AppendInt(append(b, `,"prompt_tokens_details":{"cached_tokens":`...), int64(u.cached), 10)
	return append(b, "}}"...)
}

// stream answers with server-sent events. What fails before the first one is answered by its status.
func (d *Dialect) stream(w http.ResponseWriter, r *http.Request, job *work) {
	h := w.Header()
	h["Content-Type"] = []string{d.form.eventsType}
	h["Cache-Control"] = []string{"no-cache"}
	h["X-Accel-Buffering"] = []string{"no"}
	if d.form.timings {
		h["X-Compute-Type"] = []string{metrics.ComputeType}
		h["X-Compute-Characters"] = []string{strconv.Itoa(job.characters())}
	}
	head := job.form.head(job)
	first := job.choices[0]
	source, stop := first.Source(job.form.chunks(first, head), func(b []byte) []byte { return job.form.appendEnd(b, job, head) }), func() {}
	if len(job.choices) > 1 {
		source, stop = job.takeAny(r.Context(), head)
	}
	pumped, err := d.answers.Pump(w, r, ":\n\n", source)
	stop()
	switch {
	case pumped.Complete:
		for _, c := range job.choices {
			d.answers.Finished(&job.Clock, c.Run)
		}
	case err == nil || r.Context().Err() != nil:
	case !pumped.Begun:
		d.refuseAs(w, job.form, err)
	default:
		b, status := job.form.appendFailure(nil, job, err)
		d.answers.Refused(job.ID, err, status)
		w.Write(b)
		http.NewResponseController(w).Flush()
		wire.Of(w).Complete()
	}
}

// arrival is what one of several answers yielded at once.
type arrival struct {
	events []byte
	last   bool
	err    *request.Refusal
}

// takeAny yields the events of all answers. Each has a goroutine that makes its events; stop ends those that are left.
func (job *work) takeAny(ctx context.Context, head []byte) (source answer.Source, stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	arrivals, interrupts := make(chan arrival), make(chan request.Outcome, 2) // one of each kind
	var running sync.WaitGroup
	for _, c := range job.choices {
		running.Go(func() { c.arrive(ctx, head, arrivals) })
	}
	left := len(job.choices)
	source.Interrupt = func(outcome request.Outcome) { interrupts <- outcome }
	source.Take = func(b []byte) answer.Taken {
		select {
		case a := <-arrivals:
			for more := true; more; {
				b = append(b, a.events...)
				if a.last {
					left--
				}
				if a.err != nil {
					return answer.Taken{Events: b, Err: a.err}
				}
				select {
				case a = <-arrivals:
				default:
					more = false
				}
			}
		case outcome := <-interrupts:
			return answer.Taken{Events: b, Outcome: outcome}
		}
		if left == 0 {
			b = job.form.appendEnd(b, job, head)
		}
		return answer.Taken{Events: b, Last: left == 0}
	}
	return source, func() {
		cancel()
		running.Wait()
	}
}

// arrive sends the events of an answer until its end.
func (c *choice) arrive(ctx context.Context, head []byte, arrivals chan<- arrival) {
	defer context.AfterFunc(ctx, func() { c.Interrupt(request.Gone) })()
	event := c.job.form.chunks(c, head)
	for c.Last == nil {
		tokens, err, outcome := c.Next()
		if outcome == request.Gone {
			return
		}
		a := arrival{events: c.AppendEvents(nil, tokens, event), last: c.Last != nil, err: err}
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
func (job *work) appendEnd(b, head []byte) []byte {
	if job.body.includeUsage {
		b = append(append(b, head...), `"choices":[],"usage":`...)
		b = append(appendUsage(b, job.usage()), "}\n\n"...)
	}
	return append(b, "data: [DONE]\n\n"...)
}

// chunkParts are what a chunk tells beside what was noted since the one before.
type chunkParts struct {
	delta string // a chat's, in place of shown as its content
	shown string
	count int // tokens that have come by then
	first bool
	last  bool
}

// chunks returns what appends the chunks of a token. The first has the role or, with echo, the prompt; a chat's last one is
// empty but for the reason of its end.
func (c *choice) chunks(head []byte) func(b []byte, t *answer.Token, last *answer.Generation) []byte {
	chat, count, first := c.job.body.chat, 0, true
	return func(b []byte, t *answer.Token, last *answer.Generation) []byte {
		add := func(chunk chunkParts) {
			chunk.count, chunk.first = count, first
			b, first = c.appendChunk(b, head, chunk), false
		}
		if !c.begun {
			c.start()
			switch {
			case chat:
				add(chunkParts{delta: c.opening()})
			case c.text.Len() > 0:
				add(chunkParts{shown: c.text.String()})
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
			add(chunkParts{shown: shown, last: last != nil})
			return b
		case c.said != nil:
			for _, delta := range c.hear(shown, last) {
				add(chunkParts{delta: string(c.appendDelta(nil, delta))})
			}
			if len(c.records.chat) > 0 || len(c.tokenIDs) > 0 {
				add(chunkParts{delta: "{}"})
			}
		case last == nil || shown != "" || len(c.records.chat) > 0 || len(c.tokenIDs) > 0:
			add(chunkParts{shown: shown})
		}
		if last != nil {
			add(chunkParts{delta: "{}", last: true})
		}
		return b
	}
}

// opening is the delta of a chat's first chunk.
func (c *choice) opening() string {
	if c.said != nil && c.job.speech.forced {
		return `{"role":"assistant","content":null}`
	}
	return `{"role":"assistant","content":""}`
}

// appendChunk appends one chunk.
func (c *choice) appendChunk(b, head []byte, chunk chunkParts) []byte {
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
		used := tokenUsage{prompt: len(c.Request.Prompt), completion: chunk.count, cached: c.Cached()}
		b = appendUsage(append(b, `,"usage":`...), used)
	case body.includeUsage:
		b = append(b, `,"usage":null`...)
	}
	return append(b, "}\n\n"...)
}
