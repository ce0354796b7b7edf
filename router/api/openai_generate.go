package api

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"lockstep/protocol"
	"lockstep/protocol/text"
	"lockstep/router/api/wire"
	"lockstep/router/chat"
	"lockstep/router/request"
)

// openAIJob is one request on its way.
type openAIJob struct {
	clock
	body    *openAIBody
	model   *Model
	name    string // of the answer, unique
	created int64  // seconds
	prompts []openAIPrompt
	choices []*openAIChoice // those of the first prompt first
}

// openAIRoute returns the handler of chats or completions.
func (s *Server) openAIRoute(chat bool) http.HandlerFunc {
	prefix := "cmpl-"
	if chat {
		prefix = "chatcmpl-"
	}
	return func(w http.ResponseWriter, r *http.Request) {
		job := &openAIJob{clock: clock{started: time.Now(), id: wire.Of(w).ID}, name: prefix + strings.ReplaceAll(wire.NewUUID(), "-", "")}
		job.created = job.started.Unix()
		if !s.three() {
			w.Header()[wire.RequestIDHeader] = []string{job.id}
		}
		_, err := s.bodies.ReadJSON(w, r)
		if err == nil {
			err = s.bodies.Decode(r.Context(), func() (err *request.Refusal) {
				job.body, err = s.decodeOpenAI(wire.Of(w), chat)
				return err
			})
		}
		if err != nil {
			s.metrics.requests.Inc()
			s.refuseAsOpenAI(w, err)
			return
		}
		copies := max(len(job.body.prompts), 1) * job.body.copies()
		s.metrics.requests.Add(float64(copies))
		if !s.acquire(int64(copies)) {
			s.refuseAsOpenAI(w, request.NoRoom)
			return
		}
		defer s.permits.Add(-int64(copies))
		defer func() {
			for _, c := range job.choices {
				s.leave(c.run)
			}
		}()
		switch failure := s.beginOpenAI(r.Context(), job); {
		case failure != nil && r.Context().Err() != nil:
		case failure != nil:
			s.refuseAsOpenAI(w, failure)
		case job.body.stream:
			s.streamOpenAI(w, r, job)
		default:
			s.wholeOpenAI(w, r, job)
		}
	}
}

// decodeOpenAI reads a body and checks it against the server's limits.
func (s *Server) decodeOpenAI(x *wire.Exchange, chat bool) (*openAIBody, *request.Refusal) {
	top, ok := x.Members()
	if !ok {
		return nil, notAnObject
	}
	body, err := readOpenAI(top, chat, nil)
	if err == nil {
		err = s.checkOpenAI(body)
	}
	if err != nil {
		return nil, err
	}
	return body, nil
}

// checkOpenAI checks a body against the server's limits.
func (s *Server) checkOpenAI(b *openAIBody) *request.Refusal {
	limit := s.config.MaxClientBatchSize
	switch {
	case len(b.stops) > s.config.MaxStopSequences:
		return wrongValue("stop", "expected at most %d stop strings, but got %d.", s.config.MaxStopSequences, len(b.stops))
	case limit > 0 && len(b.prompts) > limit:
		return wrongValue("prompt", "expected at most %d prompts, but got %d.", limit, len(b.prompts))
	case max(len(b.prompts), 1)*b.copies() > s.config.Permits:
		return wrongValue("n", "the prompts ask for %d answers together, at most %d are possible.", max(len(b.prompts), 1)*b.copies(), s.config.Permits)
	}
	return nil
}

// beginOpenAI makes the prompts and submits all answers. Those that were submitted are among the choices even with a
// refusal.
func (s *Server) beginOpenAI(ctx context.Context, job *openAIJob) *request.Refusal {
	model, refusal := s.waitModel(ctx)
	if refusal != nil {
		return refusal
	}
	job.model = model
	if err := s.makePrompts(ctx, job); err != nil {
		return err
	}
	var resolved []*request.Request
	for i := range job.prompts {
		one, err := job.resolve(&job.prompts[i], s.three())
		if err != nil {
			return err
		}
		resolved = append(resolved, one)
	}
	job.validated = time.Now()
	for _, one := range resolved {
		for i := range job.body.copies() {
			copied := *one
			copied.Sampling = job.body.resolveSampling(i, one.MaxNewTokens)
			if err := copied.Sampling.Validate(model.Card.VocabularySize); err != nil {
				return request.Invalid("%v", err)
			}
			s.metrics.inputLength.Observe(float64(len(one.Prompt)))
			s.metrics.maxNewTokens.Observe(float64(one.MaxNewTokens))
			o, refusal := s.begin(model, &copied, runOptions{stops: job.body.stops, stopFirst: true, follows: true})
			if refusal != nil {
				return refusal
			}
			c := &openAIChoice{run: o, job: job, index: len(job.choices), prompt: &job.prompts[len(job.choices)/job.body.copies()]}
			c.holdback = text.NewHoldback(job.body.stops)
			job.choices = append(job.choices, c)
		}
	}
	return nil
}

// makePrompts fills in the ids of the prompts.
func (s *Server) makePrompts(ctx context.Context, job *openAIJob) *request.Refusal {
	b := job.body
	if b.chat {
		written, err := s.writeChat(ctx, job.model, b)
		if err != nil {
			return err
		}
		ids, refusal := s.encodeWith(ctx, job.model, written, b.addsToChat())
		if refusal != nil {
			return refusal
		}
		job.prompts = []openAIPrompt{{text: written, ids: ids}}
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
			encoding, refusal = s.encodeOn(ctx, job.model, p.text, special, true)
			p.ids, p.offsets = encoding.IDs, encoding.Offsets
		} else {
			p.ids, refusal = s.encodeWith(ctx, job.model, p.text, special)
		}
		if refusal != nil {
			return refusal
		}
	}
	return nil
}

// addsToChat tells whether the tokenizer adds special tokens to what a template wrote: the template says where they stand,
// so that it does not unless it is asked to.
func (b *openAIBody) addsToChat() bool { return b.addSpecialTokens != nil && *b.addSpecialTokens }

// writeChat has the model's template write a conversation.
func (s *Server) writeChat(ctx context.Context, model *Model, b *openAIBody) (written string, err *request.Refusal) {
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
	conversation := &chat.Conversation{
		Messages:  b.conversation(model.ChatReadsParts, strings.Contains(model.Card.Chat.Template, "developer")),
		Documents: b.documents, Tools: b.tools, Arguments: b.templateArguments, Now: time.Now(), AddGenerationPrompt: true,
		BlankContent: true,
	}
	switch {
	case b.continueFinal != nil:
		conversation.ContinueFinalMessage, conversation.AddGenerationPrompt = *b.continueFinal, !*b.continueFinal
	case b.generationPrompt == nil && b.assistantLast && s.three():
		conversation.ContinueFinalMessage, conversation.AddGenerationPrompt = true, false // as TGI 3
	}
	if b.generationPrompt != nil {
		conversation.AddGenerationPrompt = *b.generationPrompt
	}
	var failure error
	refusal := s.onWorker(ctx, len(conversation.Messages), func(ctx context.Context) error {
		conversation.Done = ctx.Done()
		written, failure = model.Chat.Render(conversation)
		return nil
	})
	switch {
	case refusal != nil:
		return "", refusal
	case failure != nil:
		return "", &request.Refusal{Param: "messages", Code: "chat_template_error", Message: fmt.Sprintf("The chat template cannot write these messages: %v", failure)}
	}
	return written, nil
}

// resolve checks a prompt and makes its request, but for how tokens are chosen. Where clamp is set, as with TGI 3, more
// tokens than there is room for are no error.
func (job *openAIJob) resolve(p *openAIPrompt, clamp bool) (*request.Request, *request.Refusal) {
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
		newTokens = min(openAICompletionTokens, room)
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
	return &request.Request{
		Prompt: p.ids, MaxNewTokens: newTokens, PromptLogprobs: b.echo && b.logprobs, TopLogprobs: b.topLogprobs,
		StopTokens: b.stopTokens, CacheSalt: b.cacheSalt, CardDigest: model.Digest,
	}, nil
}

// contextExceeded refuses a prompt, or with new tokens what was asked for behind it, in OpenAI's words: clients tell by
// their beginning, and by the numbers, that a shorter request would do.
func contextExceeded(chat bool, model *Model, prompt, newTokens int) *request.Refusal {
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
func checkTokens(param string, ids []int32, model *Model) *request.Refusal {
	for _, id := range ids {
		if int(id) >= model.Card.VocabularySize {
			return wrongValue(param, "token id %d is outside the vocabulary of %d.", id, model.Card.VocabularySize)
		}
	}
	return nil
}

// resolveSampling says how the copy-th answer of a prompt is chosen: with a seed, as a request of its own with that seed
// plus copy would be.
func (b *openAIBody) resolveSampling(copy, maxNewTokens int) protocol.Sampling {
	s := b.sampling
	s.MinNewTokens = min(s.MinNewTokens, maxNewTokens)
	s.Temperature = b.temperature
	s.Sample = s.Temperature >= openAIGreedyBelow && s.TopK != 1 && !b.topPZero
	if !s.Sample {
		s.Temperature, s.TopP, s.TopK, s.MinP, s.TypicalP = 0, 0, 0, 0, 0
		return s
	}
	if s.Seed = rand.Uint64(); b.seed != nil {
		s.Seed = *b.seed + uint64(copy)
	}
	return s
}

// openAIChoice is one answer.
type openAIChoice struct {
	*run
	job      *openAIJob
	index    int
	prompt   *openAIPrompt
	holdback *text.Holdback
	begun    bool // the first token has come
	text     strings.Builder
	runes    int // of the text and, with echo, the prompt's, for text_offset
	sum      float64
	records  logprobRecords
	tokenIDs []byte
}

// silent tells that only the prompt is wanted: max_tokens 0. One token is computed then, and not shown.
func (c *openAIChoice) silent() bool {
	return c.job.body.maxTokens != nil && *c.job.body.maxTokens == 0
}

// show returns the text that a token makes visible: without special tokens, without what may be the beginning of a stop
// string, and with all that is still held back when it is the last one.
func (c *openAIChoice) show(t *token, last *generation) string {
	b, shown := c.job.body, t.text
	if c.silent() {
		return ""
	}
	if t.special && (!b.showSpecial || last != nil && last.finish == "eos_token") {
		shown = strings.TrimSuffix(shown, c.model.Tokenizer.Decode([]int32{t.id}, false))
	}
	stopped := false
	switch {
	case !b.showStop:
		shown, stopped = c.holdback.Push(shown)
	case last != nil && last.finish == "stop_sequence":
		shown = strings.TrimSuffix(shown, c.behind)
	}
	if last != nil && !stopped {
		shown += c.holdback.Rest()
		if last.finish == "length" {
			shown += c.stream.Held()
		}
	}
	return shown
}

// finishReason is OpenAI's word.
func (c *openAIChoice) finishReason() string {
	if c.last.finish == "length" || c.silent() {
		return "length"
	}
	return "stop"
}

// generated is how many tokens there are, as far as the client is concerned.
func (c *openAIChoice) generated() int {
	if c.silent() {
		return 0
	}
	return len(c.ids)
}

// openAIUsage is what a request used.
type openAIUsage struct{ prompt, completion, cached int }

// usage counts every prompt once and all answers, also those that were not chosen.
func (job *openAIJob) usage() (u openAIUsage) {
	for i, c := range job.choices {
		if i%job.body.copies() == 0 {
			u.prompt += len(c.request.Prompt)
			u.cached += c.events.Cached()
		}
		u.completion += c.generated()
	}
	return u
}

// fingerprint names what the answers depend on beside the request: weights, numerics, tokenizer and template.
func (m *Model) fingerprint() string { return "fp_" + m.Digest[:min(len(m.Digest), 12)] }
