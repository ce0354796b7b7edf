// Package openai answers OpenAI's routes, with those that servers beside it have for the same clients: TGI's and vLLM's. It
// stands beside each other dialect. Where TGI 3 is answered as, it is so in TGI 3's form, which is in one table, form.
package openai

import (
	"cmp"
	_ "embed"
	"net/http"
	"strings"
	"time"

	"lockstep/protocol/text"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/openapi"
	"lockstep/router/request"
)

// Name is the dialect's.
const Name = "openai"

// Config of the dialect.
type Config struct {
	// Limits bound requests.
	Limits request.Limits
	// AsTGI3 answers as TGI 3 does, where that does otherwise than OpenAI and vLLM.
	AsTGI3 bool
	// Build is the version of this program, empty: unknown.
	Build string
	// CORS tells browsers from where they may call.
	CORS wire.CORS
	// Lent are what routes of TGI 3 need that stand here.
	Lent Lent
}

// Lent are TGI's functions for routes that stand beside OpenAI's; the two dialects do not know each other.
type Lent struct {
	// Health answers the health routes.
	Health http.HandlerFunc
	// Tokenize answers /tokenize for bodies that are not vLLM's.
	Tokenize http.HandlerFunc
	// CheckChat refuses a body of /chat_tokenize without messages; RefuseBody answers one that cannot be read, or that
	// CheckChat refuses.
	CheckChat  func(body []byte) *request.Refusal
	RefuseBody func(w http.ResponseWriter, refusal *request.Refusal)
	// AppendPlaces appends the tokens of a text with their places.
	AppendPlaces func(b []byte, text string, encoding text.Encoding) []byte
}

// form is what the dialect does otherwise where TGI 3 is answered as.
type form struct {
	// bareModels tells of models neither owner, age nor length.
	bareModels bool
	// timings tells times and tokens in headers, in place of the request's name.
	timings bool
	// eventsType is the content type of streams.
	eventsType string
	// cutsMaxTokens takes more tokens than there is room for as that room.
	cutsMaxTokens bool
	// continues the last message if it is the assistant's, unless the request says otherwise.
	continues bool
	// modelDefaults has requests that do not say take the model's defaults.
	modelDefaults bool
}

var (
	plainForm = form{eventsType: wire.EventsTypeUTF8, modelDefaults: true}
	formOfTGI = form{bareModels: true, timings: true, eventsType: wire.EventsType, cutsMaxTokens: true, continues: true}
)

// Dialect is OpenAI's, whose handlers another dialect's routes may borrow.
type Dialect struct {
	// Chats and Completions answer the two routes.
	Chats, Completions http.HandlerFunc

	config  Config
	form    form
	answers *answer.Service
	started time.Time
}

// New returns the dialect.
func New(config Config, answers *answer.Service) *Dialect {
	d := &Dialect{config: config, form: plainForm, answers: answers, started: time.Now()}
	if config.AsTGI3 {
		d.form = formOfTGI
	}
	d.Chats, d.Completions = d.route(plain{chat: true}), d.route(plain{})
	return d
}

//go:embed openapi.json
var spec []byte

// Spec describes the routes of a server with so many permits.
func Spec(permits int) openapi.Spec {
	return openapi.Spec{File: spec, Limits: map[string]int{"$max_answers": min(maxChoices, permits)}}
}

// Dialect is what the front door sees.
func (d *Dialect) Dialect() *wire.Dialect {
	return &wire.Dialect{
		Beside: true, Root: "/v1/", Frame: d.frame, Refuse: respond, AllowSeparator: ", ", Spec: Spec(d.answers.Permits()),
		Routes: []wire.Route{
			wire.Post("/v1/chat/completions", d.Chats),
			wire.Post("/v1/completions", d.Completions),
			wire.Post("/v1/responses", d.route(responses{})),
			wire.Post(messagesPath, d.route(anthropic{})),
			wire.Post(messagesPath+"/count_tokens", d.serveCountTokens),
			wire.Get("/v1/models", d.serveModels),
			wire.Get("/v1/models/*", d.serveModel),
			wire.Post("/tokenize", d.serveTokenize),
			wire.Post("/detokenize", d.serveDetokenize),
			wire.Post("/chat_tokenize", d.serveChatTokenize),
			wire.Get("/health", d.config.Lent.Health),
			wire.Get("/ping", d.config.Lent.Health),
			wire.Get("/metrics", d.answers.Metrics.Serve),
			wire.Get("/version", d.serveVersion),
			wire.Get("/token_load", d.answers.Metrics.ServeTokenLoad),
		},
	}
}

// frame lets browsers in.
func (d *Dialect) frame(w http.ResponseWriter, r *http.Request, _ []string) (answered bool) {
	h := w.Header()
	d.config.CORS.Set(h, r)
	if r.Method != http.MethodOptions {
		return false
	}
	h["Access-Control-Allow-Methods"] = []string{"GET,POST"}
	if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" { // a star would leave out Authorization
		h["Access-Control-Allow-Headers"] = []string{asked}
	}
	wire.Respond(w, http.StatusOK, "", nil)
	return true
}

// kindOf is the type of an error by its status.
func kindOf(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request_error"
}

// outcomes maps the classes of refusals to statuses, codes where a refusal has none, and words in front of the message;
// whole words stand for it.
var outcomes = map[request.Class]struct {
	status      int
	code, words string
	whole       bool
}{
	request.Validation: {status: http.StatusBadRequest, code: "invalid_value"},
	request.Misfit:     {status: http.StatusUnprocessableEntity, code: "invalid_type"},
	request.Malformed:  {status: http.StatusBadRequest, code: "invalid_json"},
	request.MediaType:  {status: http.StatusUnsupportedMediaType, code: "unsupported_media_type"},
	request.TooLong: {status: http.StatusRequestEntityTooLarge, code: "request_too_large",
		words: "Failed to buffer the request body: length limit exceeded", whole: true},
	request.Unread:           {status: http.StatusBadRequest, words: "Failed to buffer the request body: "},
	request.Unauthorized:     {status: http.StatusUnauthorized, code: "invalid_api_key"},
	request.NotFound:         {status: http.StatusNotFound, code: "unknown_url"},
	request.MethodNotAllowed: {status: http.StatusMethodNotAllowed, code: "method_not_allowed"},
	request.Overloaded:       {status: http.StatusTooManyRequests, code: "rate_limit_exceeded"},
	request.Generation:       {status: http.StatusInternalServerError, code: "generation_failed"},
	request.Incomplete:       {status: http.StatusInternalServerError, code: "generation_incomplete"},
	request.Unavailable:      {status: http.StatusServiceUnavailable, code: "model_unavailable"},
}

// appendRefusal appends {"error":{"message":…,"type":…,"param":…,"code":…}, without the last brace, and returns the status.
func appendRefusal(b []byte, refusal *request.Refusal) ([]byte, int) {
	outcome := outcomes[refusal.Class]
	message := outcome.words
	if !outcome.whole {
		message += wire.Bounded(refusal.Message)
	}
	nullable := func(name, value string) {
		b = append(append(append(b, ",\""...), name...), "\":"...)
		if value == "" {
			b = append(b, "null"...)
		} else {
			b = wire.AppendText(b, value)
		}
	}
	b = wire.AppendText(append(b, `{"error":{"message":`...), message)
	nullable("type", kindOf(outcome.status))
	nullable("param", refusal.Param)
	nullable("code", cmp.Or(refusal.Code, outcome.code))
	return append(b, '}'), outcome.status
}

// respond answers a refusal that is neither counted nor logged, in the form of the path that was asked for.
func respond(w http.ResponseWriter, refusal *request.Refusal) {
	var form reply = plain{}
	if path := wire.Of(w).Path; path == messagesPath || strings.HasPrefix(path, messagesPath+"/") {
		form = anthropic{}
	}
	b, status := form.appendRefusal(nil, refusal)
	wire.Respond(w, status, wire.JSONType, b)
}

func (d *Dialect) serveVersion(w http.ResponseWriter, _ *http.Request) {
	wire.Respond(w, http.StatusOK, wire.JSONType, append(wire.AppendText([]byte(`{"version":`), cmp.Or(d.config.Build, "unknown")), '}'))
}
