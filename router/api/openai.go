package api

import (
	"cmp"
	"fmt"
	"net/http"
	"strconv"
	"strings"

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
		respond(w, http.StatusOK, "", nil)
	case serve != nil:
		serve(w, r)
	case len(methods) == 0:
		respondOpenAI(w, &openAIError{status: http.StatusNotFound, message: "The requested path does not exist.", code: "unknown_url"})
	default:
		h["Allow"] = []string{strings.Join(methods, ", ")}
		respondOpenAI(w, &openAIError{status: http.StatusMethodNotAllowed, message: "The method is not allowed for this path.", code: "method_not_allowed"})
	}
}

// refuseOpenAI answers a request without a key.
func (s *Server) refuseOpenAI(w http.ResponseWriter, _ *http.Request) {
	respondOpenAI(w, &openAIError{status: http.StatusUnauthorized, message: "The API key is missing or wrong.", code: "invalid_api_key"})
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

// appendOpenAIError appends {"error":{"message":…,"type":…,"param":…,"code":…}, without the last brace.
func appendOpenAIError(b []byte, status int, err *openAIError) []byte {
	nullable := func(name, value string) {
		b = append(append(append(b, ",\""...), name...), "\":"...)
		if value == "" {
			b = append(b, "null"...)
		} else {
			b = appendText(b, value)
		}
	}
	b = appendText(append(b, `{"error":{"message":`...), err.message)
	nullable("type", openAIKind(status))
	nullable("param", err.param)
	nullable("code", err.code)
	return append(b, '}')
}

func respondOpenAI(w http.ResponseWriter, err *openAIError) {
	status := err.statusCode()
	respond(w, status, jsonType, append(appendOpenAIError(nil, status, err), '}'))
}

// serveModels answers GET /v1/models: a list of the one model.
func (s *Server) serveModels(w http.ResponseWriter, _ *http.Request) {
	model := s.backend.Model()
	if model == nil {
		s.refuseAsOpenAI(w, errNoModel)
		return
	}
	respond(w, http.StatusOK, jsonType, append(s.appendModel([]byte(`{"object":"list","data":[`), model), "]}"...))
}

// serveModel answers GET /v1/models/{id}.
func (s *Server) serveModel(w http.ResponseWriter, r *http.Request) {
	model := s.backend.Model()
	id := strings.TrimPrefix(r.URL.Path, "/v1/models/")
	switch {
	case model == nil:
		s.refuseAsOpenAI(w, errNoModel)
	case id != model.Card.ModelID && "/"+id != model.Card.ModelID: // a path's first slash is easily lost
		respondOpenAI(w, &openAIError{status: http.StatusNotFound, param: "model", code: "model_not_found",
			message: fmt.Sprintf("The model %q does not exist.", quoted(id))})
	default:
		respond(w, http.StatusOK, jsonType, s.appendModel(nil, model))
	}
}

var errNoModel = &request.Error{Class: request.Unavailable, Message: "no shard group is available"}

// appendModel appends a model as the list has it. TGI 3 knows neither owner, age nor length.
func (s *Server) appendModel(b []byte, model *Model) []byte {
	b = append(appendText(append(b, `{"id":`...), model.Card.ModelID), `,"object":"model","created":`...)
	if s.three() {
		b = appendText(append(b, `0,"owned_by":`...), model.Card.ModelID)
		return append(b, '}')
	}
	b = strconv.AppendInt(b, s.started.Unix(), 10)
	b = strconv.AppendInt(append(b, `,"owned_by":"lockstep","max_model_len":`...), int64(model.MaxTotalTokens), 10)
	return append(b, '}')
}

func (s *Server) serveVersion(w http.ResponseWriter, _ *http.Request) {
	respond(w, http.StatusOK, jsonType, append(appendText([]byte(`{"version":`), cmp.Or(s.config.Build, "unknown")), '}'))
}
