package lightllm

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lockstep/protocol"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// route returns the handler of a generate route; on the root the body says whether to stream.
func (d *dialect) route(stream, onRoot bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := answer.Clock{Started: time.Now(), ID: wire.Of(w).ID}
		stream := stream
		var body *generateBody
		err := d.object(w, r, func(top map[string]any) (err *request.Refusal) {
			d.answers.Metrics.Received(1)
			if flag, ok := top["stream"].(bool); ok && onRoot {
				stream = flag
			}
			body, err = decode(top, stream)
			return err
		})
		if err != nil {
			d.refuse(w, err)
			return
		}
		if !d.answers.Acquire(body.bestOf) {
			d.refuse(w, request.NoRoom)
			return
		}
		defer d.answers.Release(body.bestOf)
		runs, refusal := d.begin(r, body, &c)
		defer func() {
			for _, run := range runs {
				d.answers.Leave(run.Run)
			}
		}()
		switch {
		case refusal != nil:
			d.refuse(w, refusal)
		case stream:
			d.stream(w, r, runs[0], &c)
		default:
			d.whole(w, r, runs, &c)
		}
	}
}

// shownRun is a run in LightLLM's words.
type shownRun struct {
	*answer.Run
	body   *generateBody
	sum    float64 // of log-probabilities
	count  int     // of records
	text   strings.Builder
	tokens []byte // records, for return_details
}

// begin submits all answers of a body; those that were submitted are returned even with an error.
func (d *dialect) begin(r *http.Request, body *generateBody, c *answer.Clock) (runs []*shownRun, err *request.Refusal) {
	model, err := d.answers.WaitModel(r.Context())
	if err != nil {
		return nil, err
	}
	if ids, room := maxTextRunes*model.MaxTotalTokens, utf8.RuneCountInString(body.text); room > ids {
		return nil, request.Invalid("prompt text length %d exceeds the limit of %d characters", room, ids)
	}
	ids := body.ids
	if ids == nil {
		if ids, err = d.answers.Encode(r.Context(), model, body.text, body.addSpecialTokens); err != nil {
			return nil, err
		}
	}
	for i, list := range append([][]int32{ids}, body.stopTokens...) {
		for _, id := range list {
			if id < 0 || int(id) >= model.Card.VocabularySize {
				name := map[bool]string{true: "inputs", false: "stop_sequences"}[i == 0]
				return nil, request.Invalid("%s: token id %d is outside the vocabulary of %d", name, id, model.Card.VocabularySize)
			}
		}
	}
	room := model.MaxTotalTokens - len(ids)
	switch {
	case body.adapter != "" && !model.Has(body.adapter) && len(model.Adapters) == 0:
		return nil, request.Invalid("lora_dir: the server has no adapters, and so none of the name %s", wire.Quoted(body.adapter))
	case body.adapter != "" && !model.Has(body.adapter):
		return nil, request.Invalid("lora_dir must be one of: %s, got %s", model.AdapterNames(), wire.Quoted(body.adapter))
	case len(ids) == 0:
		return nil, request.Invalid("inputs have no tokens")
	case len(ids) > model.MaxInputLength || room < 1:
		return nil, request.Invalid("the input prompt has %d tokens, at most %d are possible", len(ids), model.MaxInputLength)
	}
	guided, err := d.guideOf(r.Context(), model, body)
	if err != nil {
		return nil, err
	}
	c.Validated = time.Now()
	for i := range body.bestOf {
		resolved := &request.Request{Request: protocol.Request{
			Prompt: ids, MaxNewTokens: min(body.maxNewTokens, room), Sampling: body.resolved(i),
			StopTokens: body.stopTokens, NoPrefixCache: body.disableCache, Guide: guided}}
		model.Use(resolved, body.adapter)
		resolved.Sampling.MinNewTokens = min(resolved.Sampling.MinNewTokens, resolved.MaxNewTokens)
		if err := resolved.Sampling.Validate(model.Card.VocabularySize); err != nil {
			return runs, request.Invalid("%v", err)
		}
		d.answers.Metrics.Validated(len(ids), resolved.MaxNewTokens)
		run, err := d.answers.Begin(model, resolved, answer.Options{Stops: body.stops, Prefer: answer.StopFirst})
		if err != nil {
			return runs, err
		}
		runs = append(runs, &shownRun{Run: run, body: body})
	}
	return runs, nil
}

// take notes a token and returns its text as clients see it.
func (l *shownRun) take(t *answer.Token) string {
	l.sum += float64(t.Logprob)
	shown := t.Text
	eos := slices.Contains(l.Model.Card.EOSTokenIDs, t.ID)
	if eos && !l.body.printEOS || t.Special && l.body.skipSpecialTokens && !(eos && l.body.printEOS) {
		shown = ""
	}
	l.text.WriteString(shown)
	return shown
}

// finishReason is LightLLM's word.
func (l *shownRun) finishReason() string {
	if l.Last.Finish == protocol.FinishLength {
		return "length"
	}
	return "stop"
}

func (d *dialect) stream(w http.ResponseWriter, r *http.Request, l *shownRun, c *answer.Clock) {
	w.Header()["Content-Type"] = []string{wire.EventsTypeUTF8}
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()
	count := 0
	err := d.answers.Stream(w, r, l.Run, c, "", func(b []byte, t *answer.Token, last *answer.Generation) []byte {
		count++
		b = strconv.AppendInt(append(b, `data:{"token": {"id": `...), int64(t.ID), 10)
		b = wire.AppendText(append(b, `, "text": `...), l.take(t))
		b = wire.AppendPythonFloat(append(b, `, "logprob": `...), float64(t.Logprob))
		b = strconv.AppendBool(append(b, `, "special": `...), t.Special)
		b = strconv.AppendInt(append(b, `, "count_output_tokens": `...), int64(count), 10)
		b = strconv.AppendInt(append(b, `, "prompt_tokens": `...), int64(len(l.Request.Prompt)), 10)
		if last == nil {
			return append(b, `}, "generated_text": null, "finished": false, "finish_reason": null, "details": null}`+"\n\n"...)
		}
		b = append(append(b, `}, "generated_text": null, "finished": true, "finish_reason": "`...), l.finishReason()...)
		return append(b, `", "details": null}`+"\n\n"...)
	})
	if err == nil || r.Context().Err() != nil {
		return
	}
	d.answers.Metrics.Failed(err.Class)
	b := wire.AppendText([]byte(`data: {"error":{"message":`), wire.Bounded(err.Message))
	w.Write(append(b, `,"type":"server_error","code":"stream_error"}}`+"\n\n"...))
	http.NewResponseController(w).Flush()
}

// whole answers with one body: with several answers the fields are arrays.
func (d *dialect) whole(w http.ResponseWriter, r *http.Request, runs []*shownRun, c *answer.Clock) {
	for _, l := range runs {
		switch refusal, gone := l.Whole(r.Context(), l.record); {
		case gone:
			return
		case refusal != nil:
			d.refuse(w, refusal)
			return
		}
		d.answers.Finished(c, l.Run)
	}
	several := len(runs) > 1
	list := func(b []byte, always bool, each func(b []byte, l *shownRun) []byte) []byte {
		if several || always {
			b = append(b, '[')
		}
		for i, l := range runs {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = each(b, l)
		}
		if several || always {
			b = append(b, ']')
		}
		return b
	}
	b := list([]byte(`{"generated_text": `), true, func(b []byte, l *shownRun) []byte { return wire.AppendText(b, l.text.String()) })
	b = list(append(b, `, "count_output_tokens": `...), false,
		func(b []byte, l *shownRun) []byte { return strconv.AppendInt(b, int64(len(l.IDs)), 10) })
	b = list(append(b, `, "finish_reason": `...), false, func(b []byte, l *shownRun) []byte { return wire.AppendText(b, l.finishReason()) })
	b = strconv.AppendInt(append(b, `, "prompt_tokens": `...), int64(len(runs[0].Request.Prompt)), 10)
	if runs[0].body.returnDetails {
		b = list(append(b, `, "tokens": `...), false,
			func(b []byte, l *shownRun) []byte { return append(append(append(b, '['), l.tokens...), ']') })
	}
	w.Header()["Content-Type"] = nil // as the original
	wire.Respond(w, http.StatusOK, "", append(b, '}'))
}

// record keeps a token for return_details.
func (l *shownRun) record(t *answer.Token, _ *answer.Generation) {
	l.count++
	shown, b := l.take(t), l.tokens
	if len(b) > 0 {
		b = append(b, ", "...)
	}
	b = strconv.AppendInt(append(b, `{"id": `...), int64(t.ID), 10)
	b = wire.AppendPythonFloat(append(b, `, "logprob": `...), float64(t.Logprob))
	b = wire.AppendPythonFloat(append(b, `, "cumlogprob": `...), l.sum/float64(l.count))
	b = strconv.AppendBool(append(b, `, "special": `...), t.Special)
	b = strconv.AppendInt(append(b, `, "count_output_tokens": `...), int64(l.count), 10)
	b = strconv.AppendInt(append(b, `, "prompt_cache_len": `...), int64(l.Cached()), 10)
	b = append(b, `, "cpu_prompt_cache_len": 0, "disk_prompt_cache_len": 0, "mtp_accepted_token_num": 0, "prompt_tokens": `...)
	b = strconv.AppendInt(b, int64(len(l.Request.Prompt)), 10)
	l.tokens = append(wire.AppendText(append(b, `, "text": `...), shown), '}')
}
