package openai

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"lockstep/protocol"
	"lockstep/protocol/text"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/chat"
	"lockstep/router/request"
)

// work is one request on its way.
type work struct {
	answer.Clock
	form    reply
	body    *generateBody
	model   *answer.Model
	adapter string // empty: none
	name    string // of the answer, unique
	created int64  // seconds
	prompts []promptText
	speech  *speech   // nil: answers are text alone
	choices []*choice // those of the first prompt first
}

// route returns the handler of a route in a form.
func (d *Dialect) route(form reply) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		job := &work{Clock: answer.Clock{Started: time.Now(), ID: wire.Of(w).ID},
			form: form, name: form.prefix() + strings.ReplaceAll(wire.NewUUID(), "-", "")}
		job.created = job.Started.Unix()
		if !d.form.timings {
			w.Header()[wire.RequestIDHeader] = []string{job.ID}
		}
		_, err := d.answers.Bodies.ReadJSON(w, r)
		if err == nil {
			err = d.answers.Bodies.Decode(r.Context(), func() (err *request.Refusal) {
				job.body, err = d.decode(wire.Of(w), form)
				return err
			})
		}
		if err != nil {
			d.answers.Metrics.Received(1)
			d.refuseAs(w, form, err)
			return
		}
		copies := max(len(job.body.prompts), 1) * job.body.copies()
		d.answers.Metrics.Received(copies)
		if !d.answers.Acquire(copies) {
			d.refuseAs(w, form, request.NoRoom)
			return
		}
		defer d.answers.Release(copies)
		defer func() {
			for _, c := range job.choices {
				d.answers.Leave(c.Run)
			}
		}()
		switch failure := d.begin(r.Context(), job); {
		case failure != nil && r.Context().Err() != nil:
		case failure != nil:
			d.refuseAs(w, form, failure)
		case job.body.stream:
			d.stream(w, r, job)
		default:
			d.whole(w, r, job)
		}
	}
}

// decode reads a body and checks it against the server's limits.
func (d *Dialect) decode(x *wire.Exchange, form reply) (*generateBody, *request.Refusal) {
	top, ok := x.Members()
	if !ok {
		return nil, notAnObject
	}
	body, err := form.read(top)
	if err == nil {
		err = d.check(body)
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// check checks a body against the server's limits.
func (d *Dialect) check(b *generateBody) *request.Refusal {
	limit := d.config.Limits.MaxClientBatchSize
	switch {
	case len(b.stops) > d.config.Limits.MaxStopSequences:
		return wrongValue("stop", "expected at most %d stop strings, but got %d.", d.config.Limits.MaxStopSequences, len(b.stops))
	case len(b.prompts) > limit:
		return wrongValue("prompt", "expected at most %d prompts, but got %d.", limit, len(b.prompts))
	case max(len(b.prompts), 1)*b.copies() > d.answers.Permits():
		return wrongValue("n", "the prompts ask for %d answers together, at most %d are possible.", max(len(b.prompts), 1)*b.copies(),
			d.answers.Permits())
	}
	return nil
}

// begin makes the prompts and submits all answers. Those that were submitted are among the choices even with a
// refusal.
func (d *Dialect) begin(ctx context.Context, job *work) *request.Refusal {
	model, refusal := d.answers.WaitModel(ctx)
	if refusal != nil {
		return refusal
	}
	job.model = model
	if job.adapter, refusal = adapterOf(model, job.body.model); refusal != nil {
		return refusal
	}
	if err := d.makePrompts(ctx, job); err != nil {
		return err
	}
	if job.body.chat {
		job.speech = d.speechOf(model, job.body, job.prompts[0].text)
	}
	guided, refusal := d.guideOf(ctx, model, job.body, job.speech)
	if refusal != nil {
		return refusal
	}
	var defaults protocol.SamplingDefaults
	if d.form.modelDefaults {
		defaults = model.Card.Defaults
	}
	var resolved []*request.Request
	for i := range job.prompts {
		r, err := job.resolve(&job.prompts[i], &defaults, d.form.cutsMaxTokens)
		if err != nil {
			return err
		}
		r.Guide = guided
		resolved = append(resolved, r)
	}
	job.Validated = time.Now()
	for _, r := range resolved {
		for i := range job.body.copies() {
			copied := *r
			copied.Sampling = job.body.resolveSampling(i, r.MaxNewTokens, &defaults)
			if err := copied.Sampling.Validate(model.Card.VocabularySize); err != nil {
				return request.Invalid("%v", err)
			}
			d.answers.Metrics.Validated(len(r.Prompt), r.MaxNewTokens)
			run, refusal := d.answers.Begin(model, &copied, answer.Options{Stops: job.body.stops, Follows: true, Prefer: answer.StopFirst})
			if refusal != nil {
				return refusal
			}
			c := &choice{Run: run, job: job, index: len(job.choices), prompt: &job.prompts[len(job.choices)/job.body.copies()]}
			c.holdback = text.NewHoldback(job.body.stops)
			if job.speech != nil {
				c.said = &said{parser: job.speech.parser()}
			}
			job.choices = append(job.choices, c)
		}
	}
	return nil
}

// makePrompts fills in the ids of the prompts.
func (d *Dialect) makePrompts(ctx context.Context, job *work) *request.Refusal {
	b := job.body
	if b.chat {
		written, err := d.writeChat(ctx, job.model, b)
		if err != nil {
			return err
		}
		ids, refusal := d.answers.Encode(ctx, job.model, written, b.addsToChat())
		if refusal != nil {
			return refusal
		}
		job.prompts = []promptText{{text: written, ids: ids}}
		return nil
	}
	job.prompts = b.prompts
	special := b.addSpecialTokens == nil || *b.addSpecialTokens
	for i := range job.prompts {
		p := &job.prompts[i]
		if p.ids != nil {
			if b.echo {
				p.text = job.model.Tokenizer.Decode(p.ids, !b.showSpecial)
			}
			continue
		}
		var refusal *request.Refusal
		if b.echo && b.logprobs {
			var encoding text.Encoding
			encoding, refusal = d.answers.EncodeWithOffsets(ctx, job.model, p.text, special)
			p.ids, p.offsets = encoding.IDs, encoding.Offsets
		} else {
			p.ids, refusal = d.answers.Encode(ctx, job.model, p.text, special)
		}
		if refusal != nil {
			return refusal
		}
	}
	return nil
}

// addsToChat tells whether the tokenizer adds special tokens to what a template wrote: the template says where they stand,
// so that it does not unless it is asked to.
func (b *generateBody) addsToChat() bool { return b.addSpecialTokens != nil && *b.addSpecialTokens }

// writeChat has the model's template write a conversation.
func (d *Dialect) writeChat(ctx context.Context, model *answer.Model, b *generateBody) (written string, err *request.Refusal) {
	if model.Chat == nil {
		return "", &request.Refusal{Code: "chat_template_missing", Message: model.NoChat}
	}
	arguments, _ := wire.Members(b.templateArguments)
	for _, argument := range arguments {
		if model.Chat.Gives(argument.Name) {
			return "", wrongValue("chat_template_kwargs."+argument.Name,
				"the server gives this to the template; use the request's own field, where there is one.")
		}
	}
	tools := b.tools.raw
	if b.tools.choice == choiceNone && len(b.tools.list) > 0 {
		tools = nil
	}
	instruction := ""
	if tools != nil && b.tools.active() && !model.ChatReadsTools {
		instruction, tools = b.tools.instruction(), nil
	}
	conversation := &chat.Conversation{
		Messages:  b.conversation(model, instruction),
		Documents: b.documents, Tools: tools, Arguments: b.templateArguments, Now: time.Now(), AddGenerationPrompt: true,
		BlankContent: true,
	}
	switch {
	case b.continueFinal != nil:
		conversation.ContinueFinalMessage, conversation.AddGenerationPrompt = *b.continueFinal, !*b.continueFinal
	case b.generationPrompt == nil && b.assistantLast && d.form.continues:
		conversation.ContinueFinalMessage, conversation.AddGenerationPrompt = true, false // as TGI 3
	}
	if b.generationPrompt != nil {
		conversation.AddGenerationPrompt = *b.generationPrompt
	}
	written, refusal, failure := d.answers.WriteChat(ctx, model, conversation)
	switch {
	case refusal != nil:
		return "", refusal
	case failure != nil:
		return "", &request.Refusal{Param: "messages", Code: "chat_template_error",
			Message: fmt.Sprintf("The chat template cannot write these messages: %v", failure)}
	}
	return written, nil
}

// resolve checks a prompt and makes its request, but for how tokens are chosen. Chats that do not say how long their answer may be
// have the model's default: it bounds no request that says more, as in vLLM. Where clamp is set, as with TGI 3, more tokens than
// there is room for are no error.
func (job *work) resolve(p *promptText, defaults *protocol.SamplingDefaults, clamp bool) (*request.Request, *request.Refusal) {
	b, model, param := job.body, job.model, "prompt"
	if b.chat {
		param = "messages"
	}
	if err := checkTokens(param, p.ids, model); err != nil {
		return nil, err
	}
	for _, stop := range b.stopTokens {
		if err := checkTokens("stop_token_ids", stop, model); err != nil {
			return nil, err
		}
	}
	if err := checkTokens("allowed_token_ids", b.sampling.AllowedTokenIDs, model); err != nil {
		return nil, err
	}
	for _, bias := range b.sampling.LogitBias {
		if err := checkTokens("logit_bias", []int32{bias.ID}, model); err != nil {
			return nil, err
		}
	}
	if n := b.truncateTokens; n > 0 && len(p.ids) > n {
		p.ids = p.ids[len(p.ids)-n:]
		p.offsets = p.offsets[max(len(p.offsets)-n, 0):]
	}
	room := model.MaxTotalTokens - len(p.ids)
	newTokens := room
	switch {
	case b.maxTokens != nil:
		newTokens = max(*b.maxTokens, 1)
	case !b.chat:
		newTokens = min(completionTokens, room)
	case defaults.MaxTokens > 0:
		newTokens = min(defaults.MaxTokens, room)
	}
	switch {
	case len(p.ids) == 0:
		return nil, wrongValue(param, "it has no tokens.")
	case room < 1, len(p.ids) > model.MaxInputLength:
		return nil, contextExceeded(b.chat, model, len(p.ids), 0)
	case newTokens > room && clamp:
		newTokens = room
	case newTokens > room:
		return nil, contextExceeded(b.chat, model, len(p.ids), newTokens)
	}
	resolved := &request.Request{Request: protocol.Request{
		Prompt: p.ids, MaxNewTokens: newTokens, PromptLogprobs: b.echo && b.logprobs, TopLogprobs: b.topLogprobs,
		StopTokens: b.stopTokens, CacheSalt: b.cacheSalt,
	}}
	model.Use(resolved, job.adapter)
	return resolved, nil
}

// contextExceeded refuses a prompt, or with new tokens what was asked for behind it, in OpenAI's words: clients tell by
// their beginning, and by the numbers, that a shorter request would do.
func contextExceeded(chat bool, model *answer.Model, prompt, newTokens int) *request.Refusal {
	param, wanted, shorter := "prompt", "(%d in your prompt; %d for the completion)", "Please reduce your prompt; or completion length."
	resulted, shorten := "your prompt resulted in", "Please reduce the length of your prompt."
	if chat {
		param, wanted = "messages", "(%d in the messages, %d in the completion)"
		shorter = "Please reduce the length of the messages or completion."
		resulted, shorten = "your messages resulted in", "Please reduce the length of the messages."
	}
	message := fmt.Sprintf("This model's maximum context length is %d tokens. However, ", model.MaxTotalTokens)
	switch {
	case newTokens > 0:
		message += fmt.Sprintf("you requested %d tokens "+wanted+". %s", prompt+newTokens, prompt, newTokens, shorter)
	case prompt < model.MaxTotalTokens:
		message += fmt.Sprintf("%s %d tokens, and the longest input is %d tokens. %s", resulted, prompt, model.MaxInputLength, shorten)
	default:
		message += fmt.Sprintf("%s %d tokens. %s", resulted, prompt, shorten)
	}
	return &request.Refusal{Param: param, Code: "context_length_exceeded", Message: message}
}

// checkTokens refuses ids outside the vocabulary.
func checkTokens(param string, ids []int32, model *answer.Model) *request.Refusal {
	for _, id := range ids {
		if int(id) >= model.Card.VocabularySize {
			return wrongValue(param, "token id %d is outside the vocabulary of %d.", id, model.Card.VocabularySize)
		}
	}
	return nil
}

// resolveSampling says how the copy-th answer of a prompt is chosen: with a seed, as a request of its own with that seed
// plus copy would be. What the request does not say is the model's default, or else off.
func (b *generateBody) resolveSampling(copy, maxNewTokens int, defaults *protocol.SamplingDefaults) protocol.Sampling {
	s, one := b.sampling, new(float32(1))
	s.MinNewTokens = min(s.MinNewTokens, maxNewTokens)
	s.Temperature = *cmp.Or(b.chosen.Temperature, defaults.Temperature, one)
	s.TopP = *cmp.Or(b.chosen.TopP, defaults.TopP, one)
	s.TopK = *cmp.Or(b.chosen.TopK, defaults.TopK, new(0))
	s.MinP = *cmp.Or(b.chosen.MinP, defaults.MinP, new(float32(0)))
	s.RepetitionPenalty = *cmp.Or(b.chosen.RepetitionPenalty, defaults.RepetitionPenalty, new(float32(0)))
	s.Sample = s.Temperature >= greedyBelow && s.TopK != 1 && s.TopP > 0
	if !s.Sample {
		s.Temperature, s.TopP, s.TopK, s.MinP, s.TypicalP = 0, 0, 0, 0, 0
		return s
	}
	if s.Seed = rand.Uint64(); b.seed != nil {
		s.Seed = *b.seed + uint64(copy)
	}
	return s
}

// choice is one answer.
type choice struct {
	*answer.Run
	job      *work
	index    int
	prompt   *promptText
	holdback *text.Holdback
	said     *said   // nil: text alone
	parts    []*part // where the form tells of them
	events   int     // that were told, where they are counted
	begun    bool    // the first token has come
	text     strings.Builder
	runes    int // of the text and, with echo, the prompt's, for text_offset
	sum      float64
	records  logprobRecords
	tokenIDs []byte
}

// silent tells that only the prompt is wanted: max_tokens 0. One token is computed then, and not shown.
func (c *choice) silent() bool {
	return c.job.body.maxTokens != nil && *c.job.body.maxTokens == 0
}

// show returns the text that a token makes visible: without special tokens, without what may be the beginning of a stop
// string, and with all that is still held back when it is the last one.
func (c *choice) show(t *answer.Token, last *answer.Generation) string {
	b, shown := c.job.body, t.Text
	if c.silent() {
		return ""
	}
	hidden := !b.showSpecial && (c.said == nil || !slices.Contains(c.job.speech.kept, t.ID))
	if t.Special && (hidden || last != nil && last.Finish == protocol.FinishEOS) {
		shown = strings.TrimSuffix(shown, c.Model.Tokenizer.Decode([]int32{t.ID}, false))
	}
	stopped := false
	switch {
	case !b.showStop:
		shown, stopped = c.holdback.Push(shown)
	case last != nil && last.Finish == protocol.FinishStop:
		shown = strings.TrimSuffix(shown, c.BehindStop())
	}
	if last != nil && !stopped {
		shown += c.holdback.Rest()
		if last.Finish == protocol.FinishLength {
			shown += c.Held()
		}
	}
	return shown
}

// finishReason is OpenAI's word.
func (c *choice) finishReason() string {
	if c.Last.Finish == protocol.FinishLength || c.silent() {
		return "length"
	}
	return cmp.Or(c.calledReason(), "stop")
}

// generated is how many tokens there are, as far as the client is concerned.
func (c *choice) generated() int {
	if c.silent() {
		return 0
	}
	return len(c.IDs)
}

// tokenUsage is what a request used.
type tokenUsage struct{ prompt, completion, cached int }

// usage counts every prompt once and all answers, also those that were not chosen.
func (job *work) usage() (u tokenUsage) {
	for i, c := range job.choices {
		if i%job.body.copies() == 0 {
			u.prompt += len(c.Request.Prompt)
			u.cached += c.Cached()
		}
		u.completion += c.generated()
	}
	return u
}

// fingerprint names what the answers depend on beside the request: weights, numerics, tokenizer and template.
func fingerprint(m *answer.Model) string { return "fp_" + m.Digest[:min(len(m.Digest), 12)] }
