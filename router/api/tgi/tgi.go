// Package tgi answers as TGI 0.9.4 does, or as 3.3.7, byte for byte as they were recorded: what their routers accept, the order
// and words of their refusals, their events and headers. What the two do otherwise is in one table, version.
package tgi

import (
	_ "embed"
	"net/http"
	"strings"

	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/openapi"
	"lockstep/router/request"
)

// Name is the dialect's.
const Name = "tgi"

// Config of the dialect.
type Config struct {
	// Limits bound requests; /info tells them.
	Limits request.Limits
	// Form is one of Forms: the version whose form the dialect has.
	Form string
	// MaxWaitingTokens and WaitingServedRatio are what /info says.
	MaxWaitingTokens   int
	WaitingServedRatio float32
	// Build is the version of this program, which /info tells beside TGI's.
	Build string
	// CORSAllowOrigin are the origins that browsers may call from; empty: any.
	CORSAllowOrigin []string
}

// Dialect is TGI's, whose handlers another dialect's routes may borrow.
type Dialect struct {
	// Chats and Completions answer bodies with messages and with a prompt on the route of TGI 3 that takes all kinds. They are
	// set before Dialect is called.
	Chats, Completions http.HandlerFunc

	config  Config
	version *version
	answers *answer.Service
	cors    wire.CORS
}

// New returns the dialect.
func New(config Config, answers *answer.Service) *Dialect {
	v := versions[config.Form]
	return &Dialect{config: config, version: v, answers: answers, cors: wire.CORS{Origins: config.CORSAllowOrigin, Vary: v.vary}}
}

// CORS tells browsers from where they may call.
func (d *Dialect) CORS() wire.CORS { return d.cors }

//go:embed openapi.json
var spec []byte

//go:embed openapi_3.json
var specOf3 []byte

// apiDoc is what TGI 0.9.4 has at /api-doc/openapi.json, for those who make clients from it: its operations, schemas and
// their names, in OpenAPI 3.0.
//
//go:embed api_doc.json
var apiDoc []byte

// Spec describes the routes.
func (c Config) Spec() openapi.Spec {
	s := openapi.Spec{File: spec, Words: map[string]string{"$tgi_version": versions[c.Form].number}}
	if c.Form == Form3 {
		s.Changes = specOf3
	}
	return s
}

// Dialect is what the front door sees.
func (d *Dialect) Dialect() *wire.Dialect {
	v := d.version
	return &wire.Dialect{
		Frame: d.frame, Refuse: d.refuseFront, AllowSeparator: ",", Claim: claim, Shared: v.shared, Spec: d.config.Spec(),
		Routes: []wire.Route{
			wire.Post("/", d.route(form{version: v, compat: true})),
			wire.Post("/invocations", d.route(form{version: v, compat: true, untagged: v.untaggedInvocations})),
			wire.Post("/generate", d.route(form{version: v})),
			wire.Post("/generate_stream", d.route(form{version: v, stream: true})),
			wire.Get("/", d.Health),
			wire.Get("/health", d.Health),
			wire.Get("/ping", d.Health),
			wire.Get("/info", d.info),
			wire.Get("/metrics", d.answers.Metrics.Serve),
			wire.Get("/token_load", d.answers.Metrics.ServeTokenLoad),
			wire.Get("/api-doc/openapi.json", func(w http.ResponseWriter, _ *http.Request) {
				wire.Respond(w, http.StatusOK, wire.JSONType, apiDoc)
			}),
		},
	}
}

// frame sets the CORS headers, and answers OPTIONS.
func (d *Dialect) frame(w http.ResponseWriter, r *http.Request, methods []string) (answered bool) {
	h := w.Header()
	d.cors.Set(h, r)
	if r.Method != http.MethodOptions {
		return false
	}
	h["Access-Control-Allow-Methods"] = []string{"GET,POST"}
	h["Access-Control-Allow-Headers"] = []string{"content-type"}
	if len(methods) > 0 {
		h["Allow"] = []string{strings.Join(methods, ",")}
	}
	wire.Respond(w, http.StatusOK, "", nil)
	return true
}

// claim knows bodies by the parameters of TGI, which are MindIE's too.
func claim(k *wire.Keys) wire.Claim {
	if wire.Has(k.Parameters, "details", "decoder_input_details", "return_full_text", "truncate", "typical_p", "watermark", "stop",
		"adapter_id", "top_n_tokens", "grammar") {
		return wire.FamilyKeys
	}
	return wire.NoClaim
}

// refuseFront answers as TGI does what has no route or no key: by a bare status.
func (d *Dialect) refuseFront(w http.ResponseWriter, refusal *request.Refusal) {
	wire.Respond(w, outcomes[refusal.Class].status, "", nil)
}

// outcomes maps the classes of refusals to TGI's status, type and words in front of the message; whole words stand for it.
// What has no type comes from the framework beneath the original, as plain text.
var outcomes = map[request.Class]struct {
	status      int
	kind, words string
	whole       bool
}{
	request.Validation: {status: http.StatusUnprocessableEntity, kind: "validation", words: "Input validation error: "},
	request.Misfit:     {status: http.StatusUnprocessableEntity, words: "Failed to deserialize the JSON body into the target type: "},
	request.Malformed:  {status: http.StatusBadRequest, words: "Failed to parse the request body as JSON: "},
	request.MediaType:  {status: http.StatusUnsupportedMediaType},
	request.TooLong: {status: http.StatusRequestEntityTooLarge,
		words: "Failed to buffer the request body: length limit exceeded", whole: true},
	request.Unread:           {status: http.StatusBadRequest, words: "Failed to buffer the request body: "},
	request.Unauthorized:     {status: http.StatusUnauthorized},
	request.NotFound:         {status: http.StatusNotFound},
	request.MethodNotAllowed: {status: http.StatusMethodNotAllowed},
	request.Overloaded:       {status: http.StatusTooManyRequests, kind: "overloaded"},
	request.Generation:       {status: http.StatusFailedDependency, kind: "generation", words: "Request failed during generation: "},
	request.Incomplete: {status: http.StatusInternalServerError, kind: "incomplete_generation", words: "Incomplete generation",
		whole: true},
	// TGI has no word for this: its router does not start without shards.
	request.Unavailable: {status: http.StatusServiceUnavailable, kind: "unavailable", words: "Model is unavailable: "},
}

// describe puts a refusal into TGI's words and counts it; those of the framework are not counted.
func (d *Dialect) describe(id string, refusal *request.Refusal, f form) (status int, contentType string, body []byte) {
	outcome := outcomes[refusal.Class]
	message := outcome.words
	if !outcome.whole {
		message += wire.Bounded(refusal.Message)
	}
	if outcome.kind == "" {
		return outcome.status, wire.PlainType, []byte(message)
	}
	if refusal.Class == request.Incomplete && f.stream {
		message, outcome.kind = f.incompleteStreamWords, f.incompleteStream
	}
	d.answers.Refused(id, refusal, outcome.status)
	return outcome.status, wire.JSONType, wire.AppendError(nil, message, outcome.kind)
}

func (d *Dialect) refuse(w http.ResponseWriter, refusal *request.Refusal, f form) {
	if refusal.Class == request.Left {
		return
	}
	status, contentType, body := d.describe(wire.Of(w).ID, refusal, f)
	wire.Respond(w, status, contentType, body)
}

// Health answers the health routes. Where TGI asks its shards, all groups that take requests are asked to compute.
func (d *Dialect) Health(w http.ResponseWriter, r *http.Request) {
	if d.answers.Healthy(r) {
		wire.Respond(w, http.StatusOK, "", nil)
		return
	}
	wire.Respond(w, http.StatusServiceUnavailable, wire.JSONType, wire.AppendError(nil, "unhealthy", "healthcheck"))
}
