package api

import (
	"net/http"
	"strings"
)

// openAI is the table of OpenAI's routes, with those that servers beside it have for the same clients: TGI's and vLLM's.
func (s *Server) openAI() []route {
	return []route{
		{get, "/v1/models", s.serveModels},
		{post, "/tokenize", s.serveTokenize},
	}
}

// frameOpenAI lets browsers in and answers unknown paths and methods by error objects.
func (s *Server) frameOpenAI(w http.ResponseWriter, r *http.Request, methods []string, serve http.HandlerFunc) {
	h := w.Header()
	s.setCORS(h, r)
	switch {
	case r.Method == http.MethodOptions:
		h["Access-Control-Allow-Methods"] = []string{"GET,POST"}
		h["Access-Control-Allow-Headers"] = []string{"*"}
		respond(w, http.StatusOK, "", nil)
	case serve != nil:
		serve(w, r)
	case len(methods) == 0:
		respondOpenAI(w, http.StatusNotFound, &openAIError{message: "The requested path does not exist.", code: "unknown_url"})
	default:
		h["Allow"] = []string{strings.Join(methods, ", ")}
		respondOpenAI(w, http.StatusMethodNotAllowed, &openAIError{message: "The method is not allowed for this path.", code: "method_not_allowed"})
	}
}

// refuseOpenAI answers a request without a key.
func (s *Server) refuseOpenAI(w http.ResponseWriter, _ *http.Request) {
	respondOpenAI(w, http.StatusUnauthorized, &openAIError{message: "The API key is missing or wrong.", code: "invalid_api_key"})
}

// openAIError is what OpenAI's error object tells.
type openAIError struct {
	message string
	param   string // the field at fault; "": null
	code    string // "": null
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

// appendOpenAIError appends {"error":{"message":…,"type":…,"param":…,"code":…}}.
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
	return append(b, "}}"...)
}

func respondOpenAI(w http.ResponseWriter, status int, err *openAIError) {
	respond(w, status, jsonType, appendOpenAIError(nil, status, err))
}
