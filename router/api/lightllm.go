package api

import (
	"cmp"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// lightLLM is LightLLM's table.
func (s *Server) lightLLM() []route {
	both := []string{http.MethodGet, http.MethodHead, http.MethodPost}
	ok := func(w http.ResponseWriter, r *http.Request) {
		wire.Respond(w, http.StatusOK, wire.JSONType, []byte(`{"status":"ok"}`))
	}
	return []route{
		{post, "/generate", s.lightLLMRoute(false, false)},
		{post, "/generate_stream", s.lightLLMRoute(true, false)},
		{post, "/", s.lightLLMRoute(false, true)},
		{post, "/get_score", s.lightLLMScore},
		{both, "/tokens", s.lightLLMTokens},
		{get, "/health", s.lightLLMHealth},
		{get, "/healthz", s.lightLLMHealth},
		{both, "/liveness", ok},
		{both, "/readiness", ok},
		{both, "/get_model_name", s.lightLLMModelName},
		{get, "/token_load", s.serveTokenLoad},
		{get, "/metrics", s.serveAliases(lightLLMNames)},
	}
}

// frameLightLLM answers unknown paths and methods as FastAPI does.
func (s *Server) frameLightLLM(w http.ResponseWriter, r *http.Request, methods []string, serve http.HandlerFunc) {
	w.Header()[wire.RequestIDHeader] = []string{wire.Of(w).ID}
	switch {
	case serve != nil:
		serve(w, r)
	case len(methods) == 0:
		wire.Respond(w, http.StatusNotFound, wire.JSONType, []byte(`{"detail":"Not Found"}`))
	default:
		w.Header()["Allow"] = []string{strings.Join(methods, ", ")}
		wire.Respond(w, http.StatusMethodNotAllowed, wire.JSONType, []byte(`{"detail":"Method Not Allowed"}`))
	}
}

// lightLLMKinds are the types of errors by status; all others are bad requests.
func lightLLMKind(status int) string {
	switch {
	case status >= 500:
		return "InternalServerError"
	case status == http.StatusNotFound:
		return "NotFoundError"
	case status == http.StatusTooManyRequests:
		return "RateLimitError"
	}
	return "BadRequestError"
}

// lightLLMOutcomes maps the classes of refusals to LightLLM's status, and to that of versions before 2026; where there is none
// it is 417.
var lightLLMOutcomes = map[request.Class]struct{ status, old int }{
	request.Validation:   {http.StatusBadRequest, http.StatusExpectationFailed},
	request.Unauthorized: {http.StatusUnauthorized, http.StatusUnauthorized},
	request.Overloaded:   {http.StatusTooManyRequests, http.StatusServiceUnavailable},
	request.Unavailable:  {http.StatusServiceUnavailable, http.StatusServiceUnavailable},
	request.Generation:   {http.StatusInternalServerError, http.StatusInternalServerError},
	request.Incomplete:   {http.StatusInternalServerError, http.StatusInternalServerError},
}

// lightLLMRefuse answers a refusal in the envelope of the version that is configured.
func (s *Server) lightLLMRefuse(w http.ResponseWriter, refusal *request.Refusal) {
	if refusal.Class == request.Left {
		return
	}
	outcome := lightLLMOutcomes[refusal.Class]
	status := outcome.status
	if s.config.OldLightLLMErrors {
		status = outcome.old
	}
	status = cmp.Or(status, http.StatusExpectationFailed)
	message := wire.Bounded(refusal.Message)
	s.metrics.failed(refusal.Class)
	s.log.Info().Str("request", wire.Of(w).ID).Int("status", status).Str("error", message).Msg("request failed")
	if s.config.OldLightLLMErrors {
		wire.Respond(w, status, wire.JSONType, append(wire.AppendText([]byte(`{"message":`), message), '}'))
		return
	}
	b := wire.AppendText([]byte(`{"error":{"message":`), message)
	b = append(append(b, `,"type":"`...), lightLLMKind(status)...)
	b = strconv.AppendInt(append(b, `","param":null,"code":`...), int64(status), 10)
	wire.Respond(w, status, wire.JSONType, append(b, "}}"...))
}

// lightLLMObject reads a body, whatever its content type, and has read take of it what it needs.
func (s *Server) lightLLMObject(w http.ResponseWriter, r *http.Request, read func(top object) *request.Refusal) *request.Refusal {
	data, refusal := s.bodies.Read(w, r)
	if refusal != nil {
		return refusal
	}
	return s.bodies.Decode(r.Context(), func() *request.Refusal {
		top, refusal := wire.Object(data)
		if refusal != nil {
			return refusal
		}
		return read(top)
	})
}

// lightLLMRoute returns the handler of a generate route; on the root the body says whether to stream.
func (s *Server) lightLLMRoute(stream, onRoot bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := clock{started: time.Now(), id: wire.Of(w).ID}
		stream := stream
		var body *lightLLMBody
		err := s.lightLLMObject(w, r, func(top object) (err *request.Refusal) {
			s.metrics.requests.Inc()
			if flag, ok := top["stream"].(bool); ok && onRoot {
				stream = flag
			}
			body, err = decodeLightLLM(top, stream)
			return err
		})
		if err != nil {
			s.lightLLMRefuse(w, err)
			return
		}
		if !s.acquire(int64(body.bestOf)) {
			s.lightLLMRefuse(w, request.NoRoom)
			return
		}
		defer s.permits.Add(-int64(body.bestOf))
		runs, refusal := s.lightLLMBegin(r, body, &c)
		defer func() {
			for _, one := range runs {
				s.leave(one.run)
			}
		}()
		switch {
		case refusal != nil:
			s.lightLLMRefuse(w, refusal)
		case stream:
			s.lightLLMStream(w, r, runs[0], &c)
		default:
			s.lightLLMWhole(w, r, runs, &c)
		}
	}
}

// lightLLMRun is a run in LightLLM's words.
type lightLLMRun struct {
	*run
	body   *lightLLMBody
	sum    float64 // of log-probabilities
	text   strings.Builder
	tokens []byte // records, for return_details
}

// lightLLMBegin submits all answers of a body; those that were submitted are returned even with an error.
func (s *Server) lightLLMBegin(r *http.Request, body *lightLLMBody, c *clock) (runs []*lightLLMRun, err *request.Refusal) {
	model, err := s.waitModel(r.Context())
	if err != nil {
		return nil, err
	}
	if ids, room := lightLLMMaxTextRunes*model.MaxTotalTokens, utf8.RuneCountInString(body.text); room > ids {
		return nil, request.Invalid("prompt text length %d exceeds the limit of %d characters", room, ids)
	}
	ids := body.ids
	if ids == nil {
		if ids, err = s.encodeWith(r.Context(), model, body.text, body.addSpecialTokens); err != nil {
			return nil, err
		}
	}
	for i, list := range append([][]int32{ids}, body.stopTokens...) {
		for _, id := range list {
			if id < 0 || int(id) >= model.Card.VocabularySize {
				name := map[bool]string{true: "inputs", false: "stop_sequences"}[i == 0]
				return nil, request.Invalid("%s: token id %d is outside the vocabulary of %d", name, id, model.Card.VocabularySize)
			}
		}
	}
	room := model.MaxTotalTokens - len(ids)
	switch {
	case len(ids) == 0:
		return nil, request.Invalid("inputs have no tokens")
	case len(ids) > model.MaxInputLength || room < 1:
		return nil, request.Invalid("the input prompt has %d tokens, at most %d are possible", len(ids), model.MaxInputLength)
	}
	c.validated = time.Now()
	for i := range body.bestOf {
		resolved := &request.Request{Prompt: ids, MaxNewTokens: min(body.maxNewTokens, room), Sampling: body.resolved(i), CardDigest: model.Digest,
			StopTokens: body.stopTokens, NoPrefixCache: body.disableCache}
		resolved.Sampling.MinNewTokens = min(resolved.Sampling.MinNewTokens, resolved.MaxNewTokens)
		if err := resolved.Sampling.Validate(model.Card.VocabularySize); err != nil {
			return runs, request.Invalid("%v", err)
		}
		s.metrics.inputLength.Observe(float64(len(ids)))
		s.metrics.maxNewTokens.Observe(float64(resolved.MaxNewTokens))
		one, err := s.begin(model, resolved, runOptions{stops: body.stops, stopFirst: true})
		if err != nil {
			return runs, err
		}
		runs = append(runs, &lightLLMRun{run: one, body: body})
	}
	return runs, nil
}

// take notes a token and returns its text as clients see it.
func (l *lightLLMRun) take(t *token) string {
	l.sum += float64(t.logprob)
	shown := t.text
	eos := false
	for _, id := range l.model.Card.EOSTokenIDs {
		eos = eos || id == t.id
	}
	if eos && !l.body.printEOS || t.special && l.body.skipSpecialTokens && !(eos && l.body.printEOS) {
		shown = ""
	}
	l.text.WriteString(shown)
	return shown
}

// finishReason is LightLLM's word.
func (l *lightLLMRun) finishReason() string {
	if l.last.finish == "length" {
		return "length"
	}
	return "stop"
}

func (s *Server) lightLLMStream(w http.ResponseWriter, r *http.Request, l *lightLLMRun, c *clock) {
	w.Header()["Content-Type"] = []string{wire.EventsTypeUTF8}
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()
	count := 0
	err := s.pump(w, r, l.run, c, "", func(b []byte, t *token, last *generation) []byte {
		count++
		b = strconv.AppendInt(append(b, `data:{"token": {"id": `...), int64(t.id), 10)
		b = wire.AppendText(append(b, `, "text": `...), l.take(t))
		b = wire.AppendPythonFloat(append(b, `, "logprob": `...), float64(t.logprob))
		b = strconv.AppendBool(append(b, `, "special": `...), t.special)
		b = strconv.AppendInt(append(b, `, "count_output_tokens": `...), int64(count), 10)
		b = strconv.AppendInt(append(b, `, "prompt_tokens": `...), int64(len(l.request.Prompt)), 10)
		if last == nil {
			return append(b, `}, "generated_text": null, "finished": false, "finish_reason": null, "details": null}`+"\n\n"...)
		}
		b = append(append(b, `}, "generated_text": null, "finished": true, "finish_reason": "`...), l.finishReason()...)
		return append(b, `", "details": null}`+"\n\n"...)
	})
	if err == nil || r.Context().Err() != nil {
		return
	}
	s.metrics.failed(err.Class)
	b := wire.AppendText([]byte(`data: {"error":{"message":`), wire.Bounded(err.Message))
	w.Write(append(b, `,"type":"server_error","code":"stream_error"}}`+"\n\n"...))
	http.NewResponseController(w).Flush()
}

// lightLLMWhole answers with one body: with several answers the fields are arrays.
func (s *Server) lightLLMWhole(w http.ResponseWriter, r *http.Request, runs []*lightLLMRun, c *clock) {
	for _, l := range runs {
		if err, gone := l.finishAll(r); gone {
			return
		} else if err != nil {
			s.lightLLMRefuse(w, err)
			return
		}
		s.finished(c, l.last, l.events, len(l.ids))
	}
	several := len(runs) > 1
	list := func(b []byte, always bool, each func(b []byte, l *lightLLMRun) []byte) []byte {
		if several || always {
			b = append(b, '[')
		}
		for i, l := range runs {
			if i > 0 {
				b = append(b, ", "...)
			}
			b = each(b, l)
		}
		if several || always {
			b = append(b, ']')
		}
		return b
	}
	b := list([]byte(`{"generated_text": `), true, func(b []byte, l *lightLLMRun) []byte { return wire.AppendText(b, l.text.String()) })
	b = list(append(b, `, "count_output_tokens": `...), false, func(b []byte, l *lightLLMRun) []byte { return strconv.AppendInt(b, int64(len(l.ids)), 10) })
	b = list(append(b, `, "finish_reason": `...), false, func(b []byte, l *lightLLMRun) []byte { return wire.AppendText(b, l.finishReason()) })
	b = strconv.AppendInt(append(b, `, "prompt_tokens": `...), int64(len(runs[0].request.Prompt)), 10)
	if runs[0].body.returnDetails {
		b = list(append(b, `, "tokens": `...), false, func(b []byte, l *lightLLMRun) []byte { return append(append(append(b, '['), l.tokens...), ']') })
	}
	w.Header()["Content-Type"] = nil // as the original
	wire.Respond(w, http.StatusOK, "", append(b, '}'))
}

// finishAll waits for the end of a run and keeps its records.
func (l *lightLLMRun) finishAll(r *http.Request) (err *request.Refusal, gone bool) {
	for count := 0; l.last == nil; {
		fresh, refusal, outcome := l.next(r.Context().Done(), nil)
		switch {
		case outcome == request.Gone:
			return nil, true
		case refusal != nil:
			return refusal, false
		}
		for i := range fresh {
			t := &fresh[i]
			count++
			shown := l.take(t)
			b := l.tokens
			if len(b) > 0 {
				b = append(b, ", "...)
			}
			b = strconv.AppendInt(append(b, `{"id": `...), int64(t.id), 10)
			b = wire.AppendPythonFloat(append(b, `, "logprob": `...), float64(t.logprob))
			b = wire.AppendPythonFloat(append(b, `, "cumlogprob": `...), l.sum/float64(count))
			b = strconv.AppendBool(append(b, `, "special": `...), t.special)
			b = strconv.AppendInt(append(b, `, "count_output_tokens": `...), int64(count), 10)
			b = strconv.AppendInt(append(b, `, "prompt_cache_len": `...), int64(l.events.Cached()), 10)
			b = append(b, `, "cpu_prompt_cache_len": 0, "disk_prompt_cache_len": 0, "mtp_accepted_token_num": 0, "prompt_tokens": `...)
			b = strconv.AppendInt(b, int64(len(l.request.Prompt)), 10)
			l.tokens = append(wire.AppendText(append(b, `, "text": `...), shown), '}')
		}
	}
	return nil, false
}

// lightLLMTokens counts the tokens of a text.
func (s *Server) lightLLMTokens(w http.ResponseWriter, r *http.Request) {
	var text string
	special := true
	err := s.lightLLMObject(w, r, func(top object) *request.Refusal {
		parameters, ok := top["parameters"].(map[string]any)
		special = !ok || parameters["add_special_tokens"] != false
		if text, ok = top["text"].(string); !ok {
			return badType("text", "a string")
		}
		return nil
	})
	var ids []int32
	var model *Model
	if err == nil {
		model, err = s.waitModel(r.Context())
	}
	if err == nil {
		ids, err = s.encodeWith(r.Context(), model, text, special)
	}
	switch {
	case err == nil:
	case err.Class == request.Left, err.Class == request.Overloaded:
		s.lightLLMRefuse(w, err)
		return
	default:
		s.lightLLMRefuse(w, &request.Refusal{Class: request.Misfit, Message: "error: " + err.Message})
		return
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(strconv.AppendInt([]byte(`{"ntokens":`), int64(len(ids)), 10), '}'))
}

// lightLLMHealth answers the health routes.
func (s *Server) lightLLMHealth(w http.ResponseWriter, r *http.Request) {
	if s.healthy(r) {
		wire.Respond(w, http.StatusOK, wire.JSONType, []byte(`{"message":"Ok"}`))
		return
	}
	wire.Respond(w, http.StatusServiceUnavailable, wire.JSONType, []byte(`{"message":"Error"}`))
}

func (s *Server) lightLLMModelName(w http.ResponseWriter, r *http.Request) {
	name := ""
	if model := s.backend.Model(); model != nil {
		name = model.Card.ModelID
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(wire.AppendText([]byte(`{"model_name":`), name), '}'))
}

// lightLLMScore answers POST /get_score: a finished prompt is scored by a reward model.
func (s *Server) lightLLMScore(w http.ResponseWriter, r *http.Request) {
	c := clock{started: time.Now(), id: wire.Of(w).ID}
	var chat string
	err := s.lightLLMObject(w, r, func(top object) (err *request.Refusal) {
		switch text, ok := top["chat"].(string); {
		case top["chat"] == nil:
			return &request.Refusal{Class: request.Misfit, Message: "'chat'"}
		case !ok:
			return badType("chat", "a string")
		default:
			chat = text
			return checkMultimodal(top["multimodal_params"])
		}
	})
	if err != nil {
		s.lightLLMRefuse(w, err)
		return
	}
	s.metrics.requests.Inc()
	if !s.acquire(1) {
		s.lightLLMRefuse(w, request.NoRoom)
		return
	}
	defer s.permits.Add(-1)
	one, refusal := s.lightLLMBeginScore(r, chat, &c)
	if refusal == nil {
		defer s.leave(one)
		for one.last == nil && refusal == nil {
			var outcome request.Outcome
			if _, refusal, outcome = one.next(r.Context().Done(), nil); outcome == request.Gone {
				return
			}
		}
	}
	switch {
	case refusal != nil && refusal.Class == request.Left:
		return
	case refusal != nil:
		// All failures of this route are 417 in the original.
		s.lightLLMRefuse(w, &request.Refusal{Class: request.Misfit, Message: refusal.Message})
		return
	}
	s.finished(&c, one.last, one.events, 1)
	b := wire.AppendPythonFloat([]byte(`{"score":`), float64(one.last.tokens[0].logprob))
	b = strconv.AppendInt(append(b, `,"prompt_tokens":`...), int64(len(one.request.Prompt)), 10)
	w.Header()["Content-Type"] = nil // as the original
	wire.Respond(w, http.StatusOK, "", append(b, `,"finish_reason":"stop"}`...))
}

func (s *Server) lightLLMBeginScore(r *http.Request, chat string, c *clock) (*run, *request.Refusal) {
	model, err := s.waitModel(r.Context())
	if err != nil {
		return nil, err
	}
	if !model.Card.Reward {
		return nil, request.Invalid("'score': the model %s has no score head", model.Card.ModelID)
	}
	ids, err := s.encode(r.Context(), model, chat)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 || len(ids) > model.MaxInputLength {
		return nil, request.Invalid("the input prompt has %d tokens, possible are 1 to %d", len(ids), model.MaxInputLength)
	}
	c.validated = time.Now()
	return s.begin(model, &request.Request{Prompt: ids, MaxNewTokens: 1, Score: true, CardDigest: model.Digest}, runOptions{keep: true})
}
