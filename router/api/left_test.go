package api

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"lockstep/router/api/metrics"
	"lockstep/router/api/tgi"
	"lockstep/router/request"
)

// startingBackend has no model yet, and is as well as the context that asks.
type startingBackend struct{ noBackend }

func (startingBackend) ModelKnown() <-chan struct{}      { return nil }
func (startingBackend) Healthy(ctx context.Context) bool { return ctx.Err() == nil }

// askAndLeave has a request served whose client has left, and returns what was written and logged.
func askAndLeave(method, path, body string) (answer *httptest.ResponseRecorder, logged string, aborted bool) {
	var log bytes.Buffer
	s := New(Config{Dialect: Auto, DefaultDialect: tgi.Name, TGIVersion: tgi.Form3, Permits: 8, Limits: request.DefaultLimits(),
		ModelTimeout: 1 << 40},
		startingBackend{}, metrics.New(metrics.Config{MaxInputLength: 1024, MaxTotalTokens: 2048}), zerolog.New(&log))
	ctx, leave := context.WithCancel(context.Background())
	leave()
	r := httptest.NewRequestWithContext(ctx, method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	answer = httptest.NewRecorder()
	func() {
		defer func() { aborted = recover() == http.ErrAbortHandler }()
		s.ServeHTTP(answer, r)
	}()
	return answer, log.String(), aborted
}

// A client that has left gets no answer that says something else, and stands in the log as what it is.
func TestClientsThatLeave(t *testing.T) {
	const inputs = `{"inputs":"a","parameters":{}}`
	for path, body := range map[string]string{
		"/tgi/generate": inputs, "/tgi/": inputs, "/tgi/invocations": inputs, "/mindie/generate": inputs, "/mindie/generate_stream": inputs,
		"/lightllm/generate": inputs, "/lightllm/generate_stream": inputs, "/get_score": `{"chat":"a"}`, "/tokens": `{"text":"a"}`,
		"/tokenize": inputs, "/openai/tokenize": `{"prompt":"a"}`, "/detokenize": `{"tokens":[1]}`,
		"/chat_tokenize":  `{"messages":[{"role":"user","content":"a"}]}`,
		"/v1/completions": `{"prompt":"a"}`, "/v1/chat/completions": `{"messages":[{"role":"user","content":"a"}],"stream":true}`,
	} {
		answer, logged, aborted := askAndLeave(http.MethodPost, path, body)
		if !aborted || answer.Body.Len() > 0 || strings.Count(logged, `"status":`) != 1 || !strings.Contains(logged, `"status":499`) {
			t.Errorf("%s: got %q, aborted %v and the log %s", path, answer.Body, aborted, logged)
		}
	}
}

// A probe that closes its side has still asked about the groups.
func TestHealthForClientsThatLeave(t *testing.T) {
	for _, path := range []string{"/health", "/ping", "/", "/tgi/health", "/mindie/health", "/lightllm/health", "/healthz",
		"/openai/health"} {
		if answer, logged, aborted := askAndLeave(http.MethodGet, path, ""); aborted || answer.Code != http.StatusOK {
			t.Errorf("%s: got status %d, aborted %v and the log %s", path, answer.Code, aborted, logged)
		}
	}
}
