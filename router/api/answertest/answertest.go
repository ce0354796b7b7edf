// Package answertest serves dialects without shard groups: over a model whose tokens follow from prompt, seed and position
// alone. Tests of the dialects use it, beside them.
package answertest

import (
	"context"
	"encoding/json"
	"hash/fnv"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/protocol/text"
	"lockstep/router/api"
	"lockstep/router/api/answer"
	"lockstep/router/api/metrics"
	"lockstep/router/api/tgi"
	"lockstep/router/request"
)

// Options of a model.
type Options struct {
	// Card is the model's, without a model id that of the demo model, but for its chat template if there is one here; Tokens are the
	// ids that answers are made of.
	Card   protocol.ModelCard
	Tokens []int32
	// MaxInputLength and MaxTotalTokens are the model's; 0: 1024 and 2048.
	MaxInputLength, MaxTotalTokens int
	// Says is the text that is answered, up to an end of sequence, in place of what follows from the tokens; "": none.
	Says string
	// Asked is called with each request.
	Asked func(*request.Request)
	// Step lies between two tokens; 0: all come at once.
	Step time.Duration
	// NoGroups leaves out what is told of the one group, which originals do not tell.
	NoGroups bool
}

// Serve serves all dialects over a model until the test ends, and returns the URL. The configuration is the default one,
// which change may change.
func Serve(t testing.TB, options Options, change ...func(*api.Config)) (url string) {
	t.Helper()
	config := configOf(tgi.Form094, change)
	if config.TGIVersion != tgi.Form094 { // which has other limits
		config = configOf(config.TGIVersion, change)
	}
	config.Permits = config.MaxConcurrentRequests
	b := newBackend(t, options)
	measured := metrics.New(metrics.Config{MaxInputLength: b.model.MaxInputLength, MaxTotalTokens: b.model.MaxTotalTokens,
		TGI3: config.TGIVersion == tgi.Form3})
	server := httptest.NewServer(api.New(config, b, measured, zerolog.Nop()))
	t.Cleanup(func() {
		server.Close()
		b.running.Wait()
	})
	return server.URL
}

func configOf(form string, change []func(*api.Config)) api.Config {
	config := api.Config{Limits: tgi.Limits(form, request.DefaultMaxConcurrentRequests), Dialect: api.Auto, DefaultDialect: tgi.Name,
		TGIVersion: form, WaitingServedRatio: 1.2,
		MaxWaitingTokens: 20, ModelTimeout: time.Minute}
	for _, c := range change {
		c(&config)
	}
	return config
}

// backend is an answer.Backend.
type backend struct {
	options Options
	model   *answer.Model
	said    []int32 // the tokens of Options.Says; nil: there are none
	known   chan struct{}
	running sync.WaitGroup

	mu     sync.Mutex // guards all below
	last   uint64
	cancel map[uint64]chan struct{} // of what runs
}

var _ answer.Backend = (*backend)(nil)

func newBackend(t testing.TB, o Options) *backend {
	t.Helper()
	if o.Card.ModelID == "" {
		template := o.Card.Chat.Template
		if o.Card, _, o.Tokens = DemoCard(t); template != "" {
			o.Card.Chat.Template = template
		}
	}
	if o.Says != "" {
		o.Card.EOSTokenIDs = []int32{demoEnd}
	}
	model, err := answer.NewModel("0123456789abcdef", &o.Card)
	if err != nil {
		t.Fatal(err)
	}
	model.MaxInputLength, model.MaxTotalTokens, model.MaxBatchTotalTokens = o.MaxInputLength, o.MaxTotalTokens, 16384
	if o.MaxTotalTokens == 0 {
		model.MaxInputLength, model.MaxTotalTokens = 1024, 2048
	}
	b := &backend{options: o, model: model, known: make(chan struct{}), cancel: map[uint64]chan struct{}{}}
	close(b.known)
	if o.Says != "" {
		if b.said, err = model.Tokenizer.Encode(o.Says, false); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func (b *backend) Model() *answer.Model         { return b.model }
func (b *backend) ModelKnown() <-chan struct{}  { return b.known }
func (b *backend) Healthy(context.Context) bool { return true }
func (b *backend) Load() request.Load {
	if b.options.NoGroups {
		return request.Load{}
	}
	return request.Load{Groups: []request.GroupLoad{{Group: "group-1", CapacityTokens: b.model.MaxBatchTotalTokens,
		About: request.About{Node: "group-1", ModelID: b.model.Card.ModelID, Kind: b.model.Kind, DeviceType: b.model.Card.DeviceType,
			Device: protocol.Device{Name: "a table of words"}, Shards: 1, State: protocol.StateReady}}}}
}

func (b *backend) Submit(r *request.Request) (uint64, *request.Events, *request.Refusal) {
	if b.options.Asked != nil {
		b.options.Asked(r)
	}
	if err := r.Sampling.Validate(b.model.Card.VocabularySize); err != nil {
		return 0, nil, &request.Refusal{Class: request.Generation, Message: err.Error()}
	}
	prompted := 0
	if r.PromptLogprobs {
		prompted = len(r.Prompt) - 1
	}
	events := request.NewEvents(prompted)
	events.MarkDispatched(time.Now())
	if r.PromptLogprobs {
		events.PutPrompt(1, promptLogprobs(r))
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last++
	if b.options.Step == 0 {
		for position := range r.MaxNewTokens {
			token := b.token(r, position)
			if events.PutToken(token); token.Finish != protocol.FinishNone {
				break
			}
		}
		return b.last, events, nil
	}
	cancelled := make(chan struct{})
	b.cancel[b.last] = cancelled
	b.running.Go(func() { b.run(r, events, cancelled) })
	return b.last, events, nil
}

// run gives a request its tokens until it ends or is cancelled.
func (b *backend) run(r *request.Request, events *request.Events, cancelled <-chan struct{}) {
	ticker := time.NewTicker(b.options.Step)
	defer ticker.Stop()
	for position := range r.MaxNewTokens {
		select {
		case <-ticker.C:
		case <-cancelled:
			return
		}
		token := b.token(r, position)
		if events.PutToken(token); token.Finish != protocol.FinishNone {
			return
		}
	}
}

// Cancel and Done end a request.
func (b *backend) Cancel(id uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cancelled := b.cancel[id]; cancelled != nil {
		close(cancelled)
		delete(b.cancel, id)
	}
}

func (b *backend) Done(id uint64) { b.Cancel(id) }

// token is the next token of a request.
func (b *backend) token(r *request.Request, position int) request.Token {
	token := request.Token{}
	if b.said != nil {
		return b.say(r, position)
	}
	token.ID, token.Logprob = Token(b.options.Tokens, Under(r.Prompt, r.Adapter), r.Sampling.Seed, position)
	for i := range int32(r.TopLogprobs) {
		token.Top = append(token.Top, request.Alternative{ID: token.ID + i, Logprob: token.Logprob - float32(i)})
	}
	if position+1 == r.MaxNewTokens {
		token.Finish = protocol.FinishLength
	}
	for _, stop := range r.StopTokens { // the test's are of one token
		if slices.Equal(stop, []int32{token.ID}) {
			token.Finish = protocol.FinishStop
		}
	}
	return token
}

// say is the next token of the text that is answered.
func (b *backend) say(r *request.Request, position int) request.Token {
	token := request.Token{ID: demoEnd}
	if position < len(b.said) {
		token.ID = b.said[position]
	} else {
		token.Finish = protocol.FinishEOS
	}
	if position+1 == r.MaxNewTokens {
		token.Finish = protocol.FinishLength
	}
	return token
}

// Under is the prompt whose answer, as Token has it, is that of a prompt under an adapter; empty: none.
func Under(prompt []int32, adapter string) []int32 {
	prompt = slices.Clone(prompt)
	for _, letter := range adapter {
		prompt = append(prompt, -letter)
	}
	return prompt
}

func promptLogprobs(r *request.Request) (list []request.PromptLogprob) {
	for _, id := range r.Prompt[1:] {
		p := request.PromptLogprob{Logprob: -float32(id%100+1) / 64}
		for i := range int32(r.TopLogprobs) {
			p.Top = append(p.Top, request.Alternative{ID: id + i, Logprob: p.Logprob - float32(i)})
		}
		list = append(list, p)
	}
	return list
}

// Token is what is answered at a position of a generation.
func Token(tokens []int32, prompt []int32, seed uint64, position int) (id int32, logprob float32) {
	h := fnv.New64a()
	data, _ := json.Marshal([]any{prompt, seed, position})
	h.Write(data)
	sum := h.Sum64()
	sum ^= sum >> 29
	return tokens[sum%uint64(len(tokens))], -float32(sum>>40%1000) / 256
}

// demoEnd ends a sequence of the demo model.
const demoEnd = 2

const chatTemplate = `{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools here') }}{% endif %}` +
	`{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}{% endfor %}` +
	`{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}`

// DemoCard is the card of a model with the demo model's tokenizer that answers with the words of words.
func DemoCard(t testing.TB) (card protocol.ModelCard, tokenizer *text.Tokenizer, words []int32) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	data, err := os.ReadFile(filepath.Join(filepath.Dir(here), "../../../launcher/demo/model/tokenizer.json"))
	if err != nil {
		t.Fatal(err) // it is part of the tree: a skip would hide every test of the router
	}
	card = protocol.ModelCard{
		ModelID: "demo", DataType: "torch.float32", DeviceType: "cpu", NumericsID: "test", GuideVersion: guide.Version,
		Tokenizer: protocol.TokenizerSource{HuggingFace: data}, Chat: protocol.ChatSource{Template: chatTemplate},
	}
	if tokenizer, err = text.New(card.Tokenizer); err != nil {
		t.Fatal(err)
	}
	card.VocabularySize = tokenizer.VocabularySize()
	for id := range int32(card.VocabularySize) {
		if word := tokenizer.Decode([]int32{id}, true); len(word) > 2 && strings.Trim(word, " abcdefghijklmnopqrstuvwxyz") == "" {
			words = append(words, id)
		}
	}
	if len(words) < 10 {
		t.Fatalf("the demo tokenizer has %d words", len(words))
	}
	return card, tokenizer, words
}

// Monotone is a card of a model that always answers with the token 1, "ab hello", 2, the incomplete "END" and the first byte of
// a character, or 3, the special "<stop me>".
func Monotone() protocol.ModelCard {
	return protocol.ModelCard{
		ModelID: "monotone", DataType: "torch.float32", DeviceType: "cpu", NumericsID: "test", VocabularySize: 5,
		Tokenizer: protocol.TokenizerSource{HuggingFace: json.RawMessage(`{
			"model":{"vocab":{"a":0,"abĠhello":1,"ENDä":2,"END":4},"merges":[]},
			"added_tokens":[{"id":3,"content":"<stop me>","special":true}],
			"pre_tokenizer":{"type":"ByteLevel"},"decoder":{"type":"ByteLevel"}}`)},
	}
}

// Post sends a body and returns the answer.
func Post(t testing.TB, url, body string) (status int, answer string) {
	t.Helper()
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	return read(t, response, err)
}

// Get returns the answer to a GET.
func Get(t testing.TB, url string) (status int, answer string) {
	t.Helper()
	response, err := http.Get(url)
	return read(t, response, err)
}

func read(t testing.TB, response *http.Response, err error) (status int, answer string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(data)
}
