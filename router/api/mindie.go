package api

import (
	"cmp"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lockstep/protocol/text"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// mindie is the table of MindIE's TGI interface. MindIE has its management and metrics on ports of their own and merges
// them where the ports are equal; so they are all here.
func (s *Server) mindie() []route {
	return []route{
		{post, "/", s.mindieRoute(false, true)},
		{post, "/generate", s.mindieRoute(false, false)},
		{post, "/generate_stream", s.mindieRoute(true, false)},
		{get, "/health", s.mindieHealth},
		{get, "/info", s.mindieInfo},
		{get, "/metrics", s.serveAliases(mindieNames)},
	}
}

// frameMindIE names every answer by a UUID, as MindIE's logs do.
func (s *Server) frameMindIE(w http.ResponseWriter, r *http.Request, methods []string, serve http.HandlerFunc) {
	w.Header()["RequestUUID"] = []string{wire.Of(w).ID}
	switch {
	case serve != nil:
		serve(w, r)
	case len(methods) == 0:
		s.mindieRespond(w, &request.Refusal{Class: request.NotFound})
	default:
		w.Header()["Allow"] = []string{strings.Join(methods, ",")}
		s.mindieRespond(w, &request.Refusal{Class: request.MethodNotAllowed})
	}
}

// mindieOutcomes maps the classes of refusals to MindIE's status, type and, where it has some of its own, message.
var mindieOutcomes = map[request.Class]struct {
	status        int
	kind, message string
}{
	request.Validation:       {status: http.StatusUnprocessableEntity, kind: "Input Validation Error"},
	request.Malformed:        {status: http.StatusUnprocessableEntity, kind: "Input Validation Error"},
	request.Unread:           {http.StatusBadRequest, "Bad Request", "The request body could not be read."},
	request.Unauthorized:     {http.StatusUnauthorized, "Unauthorized", "The API key is missing or wrong."},
	request.NotFound:         {http.StatusNotFound, "NotFoundError", "The requested path does not exist."},
	request.MethodNotAllowed: {http.StatusMethodNotAllowed, "Bad Request", "The method is not allowed for this path."},
	request.Overloaded:       {status: http.StatusTooManyRequests, kind: "Too Many Requests"},
	request.Generation:       {status: http.StatusFailedDependency, kind: "Generation Error"},
	request.Incomplete:       {status: http.StatusInternalServerError, kind: "Incomplete Generation"},
	request.Unavailable:      {status: http.StatusServiceUnavailable, kind: "Service Unavailable"},
}

// mindieRespond answers a refusal that is neither counted nor logged.
func (s *Server) mindieRespond(w http.ResponseWriter, refusal *request.Refusal) {
	outcome := mindieOutcomes[refusal.Class]
	switch {
	case refusal.Class == request.Left:
	case refusal.Class == request.TooLong: // in the form of another layer of the original
		b := strconv.AppendInt([]byte(`{"message":"Request body too large. Maximum allowed size is `), s.bodies.Longest(), 10)
		wire.Respond(w, http.StatusRequestEntityTooLarge, wire.JSONType, append(b, ` bytes."}`...))
	default:
		message := cmp.Or(outcome.message, wire.Bounded(refusal.Message))
		wire.Respond(w, outcome.status, wire.JSONType, appendError(nil, message, outcome.kind))
	}
}

func (s *Server) mindieRefuse(w http.ResponseWriter, refusal *request.Refusal) {
	switch refusal.Class {
	case request.Left, request.TooLong, request.Unread:
	default:
		s.metrics.failed(refusal.Class)
		s.log.Info().Str("request", wire.Of(w).ID).Str("type", mindieOutcomes[refusal.Class].kind).Str("error", wire.Bounded(refusal.Message)).Msg("request failed")
	}
	s.mindieRespond(w, refusal)
}

// mindieRoute returns the handler of a generate route. All that can be refused is refused before a stream begins.
func (s *Server) mindieRoute(stream, onRoot bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := clock{started: time.Now(), id: wire.Of(w).ID}
		data, refusal := s.bodies.Read(w, r)
		if refusal != nil {
			s.mindieRefuse(w, refusal)
			return
		}
		s.metrics.requests.Inc()
		var body *mindieBody
		refusal = s.bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
			body, refusal = decodeMindIE(data, stream, onRoot)
			return refusal
		})
		if refusal != nil {
			s.mindieRefuse(w, refusal)
			return
		}
		if !s.acquire(1) {
			s.mindieRefuse(w, request.NoRoom)
			return
		}
		defer s.permits.Add(-1)
		one, refusal := s.mindieBegin(r, body, &c)
		if refusal != nil {
			s.mindieRefuse(w, refusal)
			return
		}
		defer s.leave(one.run)
		if body.stream {
			s.mindieStream(w, r, one, &c)
		} else {
			s.mindieWhole(w, r, one, &c, onRoot)
		}
	}
}

// mindieRun is a run whose text is shown without stop strings.
type mindieRun struct {
	*run
	body     *mindieBody
	holdback *text.Holdback
	shown    strings.Builder
}

func (s *Server) mindieBegin(r *http.Request, body *mindieBody, c *clock) (*mindieRun, *request.Refusal) {
	model, err := s.waitModel(r.Context())
	if err != nil {
		return nil, err
	}
	ids, err := s.encode(r.Context(), model, body.inputs)
	if err != nil {
		return nil, err
	}
	resolved, err := body.resolve(model, ids)
	if err != nil {
		return nil, err
	}
	s.metrics.inputLength.Observe(float64(len(resolved.Prompt)))
	s.metrics.maxNewTokens.Observe(float64(resolved.MaxNewTokens))
	c.validated = time.Now()
	one, err := s.begin(model, resolved, runOptions{stops: body.stops, keep: !body.stream})
	if err != nil {
		return nil, err
	}
	m := &mindieRun{run: one, body: body, holdback: text.NewHoldback(body.stops)}
	if body.returnFullText {
		m.shown.WriteString(body.inputs + " ")
	}
	return m, nil
}

// show returns what a token makes visible, with what is still held back if it is the last one.
func (m *mindieRun) show(t *token, last *generation) string {
	piece := t.text
	if t.special {
		piece = ""
	}
	shown, stopped := m.holdback.Push(piece)
	if last != nil && !stopped {
		shown += m.holdback.Rest()
	}
	m.shown.WriteString(shown)
	return shown
}

// finishReason is MindIE's word: a stop string counts as an end of sequence.
func (m *mindieRun) finishReason() string {
	if m.last.finish == "stop_sequence" {
		return "eos_token"
	}
	return m.last.finish
}

// mindieStream writes events; errors behind the first one are bare text, as MindIE has them.
func (s *Server) mindieStream(w http.ResponseWriter, r *http.Request, m *mindieRun, c *clock) {
	w.Header()["Content-Type"] = []string{wire.EventsType}
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()
	err := s.pump(w, r, m.run, c, "", func(b []byte, t *token, last *generation) []byte {
		shown := m.show(t, last)
		if m.body.fullText {
			shown = m.shown.String()
		}
		b = append(b, `data: {"token":`...)
		b = appendMindIEToken(b, t.id, shown)
		if last == nil {
			return append(b, `,"generated_text":null,"details":null}`+"\n\n"...)
		}
		b = append(b, `,"generated_text":`...)
		b = append(wire.AppendText(b, m.shown.String()), `,"details":`...)
		if !m.body.details {
			return append(b, "null}\n\n"...)
		}
		b = append(b, `{"prompt_tokens":`...)
		b = strconv.AppendInt(b, int64(len(m.request.Prompt)), 10)
		b = append(append(b, `,"finish_reason":"`...), m.finishReason()...)
		b = append(b, `","generated_tokens":`...)
		b = strconv.AppendInt(b, int64(len(m.ids)), 10)
		b = append(b, `,"seed":`...)
		return append(strconv.AppendUint(b, m.request.Sampling.Seed, 10), "}}\n\n"...)
	})
	if err != nil && r.Context().Err() == nil {
		s.metrics.failed(err.Class)
		io.WriteString(w, wire.Bounded(err.Message))
		http.NewResponseController(w).Flush()
	}
}

// mindieWhole answers with one body.
func (s *Server) mindieWhole(w http.ResponseWriter, r *http.Request, m *mindieRun, c *clock, onRoot bool) {
	var tokens []byte
	for m.last == nil {
		fresh, err, outcome := m.next(r.Context().Done(), nil)
		switch {
		case outcome == request.Gone:
			return
		case err != nil:
			s.mindieRefuse(w, err)
			return
		}
		for i := range fresh {
			var last *generation
			if i == len(fresh)-1 {
				last = m.last
			}
			if len(tokens) > 0 {
				tokens = append(tokens, ',')
			}
			tokens = appendMindIERecord(tokens, fresh[i].id, m.show(&fresh[i], last))
		}
	}
	s.finished(c, m.last, m.events, len(m.ids))
	var b []byte
	if onRoot {
		b = append(b, '[')
	}
	b = append(b, '{')
	if m.body.details || m.body.decoderInputDetails {
		b = append(append(b, `"details":{"finish_reason":"`...), m.finishReason()...)
		b = append(b, `","generated_tokens":`...)
		b = strconv.AppendInt(b, int64(len(m.ids)), 10)
		b = append(b, `,"prefill":[`...)
		if m.body.decoderInputDetails {
			for i, id := range m.request.Prompt {
				if i > 0 {
					b = append(b, ',')
				}
				b = appendMindIERecord(b, id, m.model.Tokenizer.Decode([]int32{id}, false))
			}
		}
		b = append(b, `],"prompt_tokens":`...)
		b = strconv.AppendInt(b, int64(len(m.request.Prompt)), 10)
		b = append(b, `,"seed":`...)
		b = strconv.AppendUint(b, m.request.Sampling.Seed, 10)
		b = append(append(append(b, `,"tokens":[`...), tokens...), "]},"...)
	}
	b = append(wire.AppendText(append(b, `"generated_text":`...), m.shown.String()), '}')
	if onRoot {
		b = append(b, ']')
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, b)
}

// appendMindIEToken appends a token as streams have it, appendMindIERecord as lists have it.
func appendMindIEToken(b []byte, id int32, text string) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), int64(id), 10)
	return append(wire.AppendText(append(b, `,"text":`...), text), `,"logprob":null,"special":null}`...)
}

func appendMindIERecord(b []byte, id int32, text string) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), int64(id), 10)
	return append(wire.AppendText(append(b, `,"logprob":null,"special":null,"text":`...), text), '}')
}

// mindieHealth answers with a bare status.
func (s *Server) mindieHealth(w http.ResponseWriter, r *http.Request) {
	if s.healthy(r) {
		wire.Respond(w, http.StatusOK, "", nil)
		return
	}
	wire.Respond(w, http.StatusServiceUnavailable, "", nil)
}

// mindieInfo answers GET /info with the model within a list, as MindIE does.
func (s *Server) mindieInfo(w http.ResponseWriter, r *http.Request) {
	model := s.backend.Model()
	if model == nil {
		s.mindieRespond(w, &request.Refusal{Class: request.Unavailable, Message: "The service is not ready."})
		return
	}
	b := []byte(`{"docker_label":null,"max_batch_total_tokens":`)
	b = strconv.AppendInt(b, int64(model.MaxBatchTotalTokens), 10)
	b = strconv.AppendInt(append(b, `,"max_best_of":1,"max_concurrent_requests":`...), int64(s.config.MaxConcurrentRequests), 10)
	b = strconv.AppendInt(append(b, `,"max_stop_sequences":null,"max_waiting_tokens":null,"max_input_length":`...), int64(model.MaxInputLength), 10)
	b = wire.AppendText(append(b, `,"models":[{"model_device_type":`...), model.Card.DeviceType)
	b = wire.AppendText(append(b, `,"model_dtype":`...), model.Card.DataType)
	b = wire.AppendText(append(b, `,"model_id":`...), model.Card.ModelID)
	b = strconv.AppendInt(append(b, `,"model_pipeline_tag":"text-generation","model_sha":null,"max_total_tokens":`...), int64(model.MaxTotalTokens), 10)
	b = wire.AppendText(append(b, `}],"sha":null,"validation_workers":null,"version":`...), s.config.Version)
	wire.Respond(w, http.StatusOK, wire.JSONType, append(b, `,"waiting_served_ratio":null}`...))
}
