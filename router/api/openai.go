package api

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// openAI is the table of OpenAI's routes, with those that servers beside it have for the same clients: TGI's and vLLM's.
func (s *Server) openAI() []route {
	return []route{
		{post, "/v1/chat/completions", s.openAIRoute(true)},
		{post, "/v1/completions", s.openAIRoute(false)},
		{get, "/v1/models", s.serveModels},
		{get, "/v1/models/*", s.serveModel},
		{post, "/tokenize", s.serveTokenize},
		{post, "/detokenize", s.serveDetokenize},
		{post, "/chat_tokenize", s.serveChatTokenize},
		{get, "/health", s.serveHealth},
		{get, "/ping", s.serveHealth},
		{get, "/metrics", s.serveMetrics},
		{get, "/version", s.serveVersion},
	}
}

// frameOpenAI lets browsers in and answers unknown paths and methods by error objects.
func (s *Server) frameOpenAI(w http.ResponseWriter, r *http.Request, methods []string, serve http.HandlerFunc) {
	h := w.Header()
	s.setCORS(h, r)
	switch {
	case r.Method == http.MethodOptions:
		h["Access-Control-Allow-Methods"] = []string{"GET,POST"}
		if asked := r.Header.Get("Access-Control-Request-Headers"); asked != "" { // a star would leave out Authorization
			h["Access-Control-Allow-Headers"] = []string{asked}
		}
		wire.Respond(w, http.StatusOK, "", nil)
	case serve != nil:
		serve(w, r)
	case len(methods) == 0:
		respondOpenAI(w, &request.Refusal{Class: request.NotFound, Message: "The requested path does not exist.", Code: "unknown_url"})
	default:
		h["Allow"] = []string{strings.Join(methods, ", ")}
		respondOpenAI(w, &request.Refusal{Class: request.MethodNotAllowed})
	}
}

// refuseOpenAI answers a request without a key.
func (s *Server) refuseOpenAI(w http.ResponseWriter, _ *http.Request) {
	respondOpenAI(w, &request.Refusal{Class: request.Unauthorized})
}

// openAIKind is the type of an error by its status.
func openAIKind(status int) string {
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

// openAIOutcomes maps the classes of refusals to statuses, codes where a refusal has none, and words in front of the message;
// whole words stand for it.
var openAIOutcomes = map[request.Class]struct {
	status      int
	code, words string
	whole       bool
}{
	request.Validation:       {status: http.StatusBadRequest, code: "invalid_value"},
	request.Misfit:           {status: http.StatusUnprocessableEntity, code: "invalid_type"},
	request.Malformed:        {status: http.StatusBadRequest, code: "invalid_json"},
	request.MediaType:        {status: http.StatusUnsupportedMediaType, code: "unsupported_media_type"},
	request.TooLong:          {status: http.StatusRequestEntityTooLarge, code: "request_too_large", words: "Failed to buffer the request body: length limit exceeded", whole: true},
	request.Unread:           {status: http.StatusBadRequest, words: "Failed to buffer the request body: "},
	request.Unauthorized:     {status: http.StatusUnauthorized, code: "invalid_api_key", words: "The API key is missing or wrong.", whole: true},
	request.NotFound:         {status: http.StatusNotFound, code: "unknown_url"},
	request.MethodNotAllowed: {status: http.StatusMethodNotAllowed, code: "method_not_allowed", words: "The method is not allowed for this path.", whole: true},
	request.Overloaded:       {status: http.StatusTooManyRequests, code: "rate_limit_exceeded"},
	request.Generation:       {status: http.StatusInternalServerError, code: "generation_failed"},
	request.Incomplete:       {status: http.StatusInternalServerError, code: "generation_incomplete"},
	request.Unavailable:      {status: http.StatusServiceUnavailable, code: "model_unavailable"},
}

// appendOpenAIError appends {"error":{"message":…,"type":…,"param":…,"code":…}, without the last brace, and returns the status.
func appendOpenAIError(b []byte, refusal *request.Refusal) ([]byte, int) {
	outcome := openAIOutcomes[refusal.Class]
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
	nullable("type", openAIKind(outcome.status))
	nullable("param", refusal.Param)
	nullable("code", cmp.Or(refusal.Code, outcome.code))
	return append(b, '}'), outcome.status
}

// respondOpenAI answers a refusal that is neither counted nor logged.
func respondOpenAI(w http.ResponseWriter, refusal *request.Refusal) {
	b, status := appendOpenAIError(nil, refusal)
	wire.Respond(w, status, wire.JSONType, append(b, '}'))
}

// countOpenAI counts and logs a refusal.
func (s *Server) countOpenAI(id string, refusal *request.Refusal) {
	s.metrics.failed(refusal.Class)
	s.log.Info().Str("request", id).Int("status", openAIOutcomes[refusal.Class].status).Str("error", wire.Bounded(refusal.Message)).Msg("request failed")
}

func (s *Server) refuseAsOpenAI(w http.ResponseWriter, refusal *request.Refusal) {
	if refusal.Class == request.Left {
		return
	}
	s.countOpenAI(wire.Of(w).ID, refusal)
	if refusal.Class == request.Overloaded {
		w.Header()["Retry-After"] = []string{"1"}
	}
	respondOpenAI(w, refusal)
}

// serveModels answers GET /v1/models: a list of the one model.
func (s *Server) serveModels(w http.ResponseWriter, _ *http.Request) {
	model := s.backend.Model()
	if model == nil {
		s.refuseAsOpenAI(w, errNoModel)
		return
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(s.appendModel([]byte(`{"object":"list","data":[`), model), "]}"...))
}

// serveModel answers GET /v1/models/{id}.
func (s *Server) serveModel(w http.ResponseWriter, r *http.Request) {
	model := s.backend.Model()
	id := strings.TrimPrefix(r.URL.Path, "/v1/models/")
	switch {
	case model == nil:
		s.refuseAsOpenAI(w, errNoModel)
	case id != model.Card.ModelID && "/"+id != model.Card.ModelID: // a path's first slash is easily lost
		respondOpenAI(w, &request.Refusal{Class: request.NotFound, Param: "model", Code: "model_not_found",
			Message: fmt.Sprintf("The model %q does not exist.", wire.Quoted(id))})
	default:
		wire.Respond(w, http.StatusOK, wire.JSONType, s.appendModel(nil, model))
	}
}

var errNoModel = &request.Refusal{Class: request.Unavailable, Message: "no shard group is available"}

// appendModel appends a model as the list has it. TGI 3 knows neither owner, age nor length.
func (s *Server) appendModel(b []byte, model *Model) []byte {
	b = append(wire.AppendText(append(b, `{"id":`...), model.Card.ModelID), `,"object":"model","created":`...)
	if s.three() {
		b = wire.AppendText(append(b, `0,"owned_by":`...), model.Card.ModelID)
		return append(b, '}')
	}
	b = strconv.AppendInt(b, s.started.Unix(), 10)
	b = strconv.AppendInt(append(b, `,"owned_by":"lockstep","max_model_len":`...), int64(model.MaxTotalTokens), 10)
	return append(b, '}')
}

func (s *Server) serveVersion(w http.ResponseWriter, _ *http.Request) {
	wire.Respond(w, http.StatusOK, wire.JSONType, append(wire.AppendText([]byte(`{"version":`), cmp.Or(s.config.Build, "unknown")), '}'))
}
