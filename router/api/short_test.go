package api

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"lockstep/router/api/metrics"
	"lockstep/router/api/tgi"
	"lockstep/router/request"
)

// No value of a request makes a long answer or log line of an error.
func TestErrorsAreShort(t *testing.T) {
	const long = 400_000
	number, text := "-"+strings.Repeat("9", long), `"`+strings.Repeat("é\u2028", long/5)+`"`
	parameter := func(name, value string) string { return `{"inputs":"a","parameters":{"` + name + `":` + value + `}}` }
	field := func(name, value string) string { return `{"prompt":"a","` + name + `":` + value + `}` }
	message := func(value string) string { return `{"messages":[` + value + `]}` }
	for i, c := range [][2]string{
		{"/tgi/generate", parameter("top_k", number)}, {"/tgi/generate", parameter("seed", text)},
		{"/tgi/generate", `{"inputs":` + number + `}`},
		{"/tgi/generate", `{` + text + `:tru}`}, {"/tgi/generate", `{"inputs":"a","parameters":{` + text + `:tru}}`},
		{"/tgi/generate", parameter("stop", `[`+number+`]`)}, {"/tgi/generate", parameter("logit_bias", `{`+text+`:1}`)},
		{"/tgi/generate", parameter("grammar", `{"type":`+text+`,"value":1}`)},
		{"/mindie/generate", parameter("top_k", number)}, {"/mindie/generate", parameter("temperature", number)},
		{"/mindie/generate", parameter("seed", number)},
		{"/mindie/generate", `{"inputs":[{"type":` + text + `,"text":"a"}]}`}, {"/mindie/generate", parameter("adapter_id", text)},
		{"/mindie/generate", `{"inputs":` + number + `x}`},
		{"/lightllm/generate", parameter("top_k", number)}, {"/lightllm/generate", parameter("temperature", number+"e"+number[1:])},
		{"/lightllm/generate", parameter("logit_bias", `{`+text+`:1}`)}, {"/lightllm/generate", parameter("seed", number)},
		{"/lightllm/generate", number},
		{"/v1/completions", field("max_tokens", number)}, {"/v1/completions", field("temperature", number)},
		{"/v1/completions", field("seed", number)},
		{"/v1/completions", field("logit_bias", `{`+text+`:1}`)}, {"/v1/completions", field("logit_bias", `{"1":`+number+`}`)},
		{"/v1/completions", field("stop_token_ids", `[`+number+`]`)}, {"/v1/completions", `{"prompt":[` + number + `]}`},
		{"/v1/completions", field("logit_bias", `{"`+number[1:]+`":1}`)},
		{"/v1/chat/completions", message(`{"role":"user","content":[{"type":` + text + `}]}`)}, {"/v1/chat/completions", message(number)},
		{"/v1/chat/completions", `{"messages":` + text + `}`},
		{"/tokenize", `{"inputs":` + number + `}`}, {"/detokenize", `{"tokens":[` + number + `]}`},
		{"/chat_tokenize", `{"messages":[],` + text + `:tru}`},
		{"/get_score", `{"chat":` + number + `}`}, {"/tokens", `{"text":` + number + `}`},
	} {
		var log bytes.Buffer
		s := New(Config{Dialect: Auto, DefaultDialect: tgi.Name, TGIVersion: tgi.Form3, Permits: 8, Limits: request.DefaultLimits()},
			startingBackend{}, metrics.New(metrics.Config{MaxInputLength: 1024, MaxTotalTokens: 2048}), zerolog.New(&log))
		r := httptest.NewRequest(http.MethodPost, c[0], strings.NewReader(c[1]))
		r.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		s.ServeHTTP(answer, r)
		if answer.Code < 400 || answer.Code >= 500 || answer.Body.Len() > 800 || log.Len() > 1600 {
			t.Errorf("%d %s: got status %d, %d bytes and %d in the log: %.300s", i, c[0], answer.Code, answer.Body.Len(), log.Len(),
				answer.Body)
		}
		for line := range bytes.Lines(log.Bytes()) {
			if !json.Valid(line) {
				t.Errorf("%d %s: the log has %.200s", i, c[0], line)
			}
		}
	}
}
