package api

import (
	"context"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"lockstep/router/request"
)

// form says how one generate route reads its body and in which shape it answers.
type form struct {
	// compat takes the field stream, and answers with an array of one.
	compat bool
	// stream answers with events whatever the body says.
	stream bool
}

// tgi094 is the table of TGI 0.9.4.
func (s *Server) tgi094() []route {
	compat := s.generateRoute(form{compat: true})
	return []route{
		{post, "/", compat},
		{post, "/invocations", compat},
		{post, "/generate", s.generateRoute(form{})},
		{post, "/generate_stream", s.generateRoute(form{stream: true})},
		{get, "/", s.serveHealth},
		{get, "/health", s.serveHealth},
		{get, "/ping", s.serveHealth},
		{get, "/info", s.serveInfo},
		{get, "/metrics", s.serveMetrics},
		{get, "/docs", serveDocsRedirect},
		{get, "/docs/", serveDocs},
		{get, "/api-doc/openapi.json", serveOpenAPI},
	}
}

// frameTGI puts what every answer of TGI carries in front of the routes: CORS headers, and its way with unknown paths and
// methods.
func (s *Server) frameTGI(w http.ResponseWriter, r *http.Request, methods []string, serve http.HandlerFunc) {
	h := w.Header()
	if len(s.config.CORSAllowOrigin) == 0 {
		h["Access-Control-Allow-Origin"] = []string{"*"}
	} else if origin := r.Header.Get("Origin"); origin != "" && slices.Contains(s.config.CORSAllowOrigin, origin) {
		h["Access-Control-Allow-Origin"] = []string{origin}
	}
	h["Vary"] = []string{"origin", "access-control-request-method", "access-control-request-headers"}
	status := http.StatusMethodNotAllowed
	switch {
	case r.Method == http.MethodOptions:
		h["Access-Control-Allow-Methods"] = []string{"GET,POST"}
		h["Access-Control-Allow-Headers"] = []string{"content-type"}
		status = http.StatusOK
	case len(methods) == 0:
		status = http.StatusNotFound
	case serve != nil:
		serve(w, r)
		return
	}
	if len(methods) > 0 {
		h["Allow"] = []string{strings.Join(methods, ",")}
	}
	respond(w, status, "", nil)
}

// work is one generate request on its way through the handlers.
type work struct {
	clock
	body           *generateBody
	bestOf         uint64
	fullText       bool
	details        bool
	characters     int
	compat, stream bool
}

func (job *work) runOptions() runOptions {
	o := runOptions{stops: job.body.Parameters.Stop, keep: !job.stream}
	if job.fullText {
		o.prefix = job.body.Inputs
	}
	return o
}

// generateRoute returns the handler of a generate route.
func (s *Server) generateRoute(f form) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		data, plain := readBody(w, r, s.config.PayloadLimit)
		if plain != nil {
			respondPlain(w, plain)
			return
		}
		body, err := decodeTGI094(data, f.compat)
		if err != nil {
			respondPlain(w, decodeFailure(err))
			return
		}
		p := &body.Parameters
		job := &work{
			body: body, clock: clock{started: started}, bestOf: 1, compat: f.compat, stream: f.stream || body.Stream,
			details: p.Details || p.DecoderInputDetails, characters: utf8.RuneCountInString(body.Inputs),
			fullText: p.ReturnFullText != nil && *p.ReturnFullText,
		}
		if p.ReturnFullText == nil && f.compat {
			model := s.backend.Model()
			job.fullText = model != nil && model.Card.PipelineTag == "text-generation"
		}
		s.metrics.requests.Inc()
		if job.stream {
			s.stream(w, r, job)
		} else {
			s.whole(w, r, job)
		}
	}
}

// whole answers a generate request with one body.
func (s *Server) whole(w http.ResponseWriter, r *http.Request, job *work) {
	generations, events, err := s.generateWhole(r.Context(), job)
	if r.Context().Err() != nil {
		s.log.Debug().Msg("client left")
		return
	}
	if err != nil {
		s.respondError(w, job, err)
		return
	}
	best := 0
	for i, g := range generations {
		if g.meanLogprob() > generations[best].meanLogprob() {
			best = i
		}
	}
	winner := generations[best]
	others := append(append([]*generation(nil), generations[:best]...), generations[best+1:]...)
	tokens := len(winner.tokens)
	times := s.finished(&job.clock, winner, events[best], tokens)
	h := w.Header()
	for _, pair := range [][2]string{
		{"X-Compute-Type", "gpu+optimized"},
		{"X-Compute-Time", milliseconds(times.total)},
		{"X-Compute-Characters", strconv.Itoa(job.characters)},
		{"X-Total-Time", milliseconds(times.total)},
		{"X-Validation-Time", milliseconds(times.validation)},
		{"X-Queue-Time", milliseconds(times.queue)},
		{"X-Inference-Time", milliseconds(times.inference)},
		{"X-Time-Per-Token", milliseconds(times.perToken)},
	} {
		h[pair[0]] = []string{pair[1]}
	}
	var b []byte
	if job.compat {
		b = append(b, '[')
	}
	b = appendGeneration(b, winner, others, job.details)
	if job.compat {
		b = append(b, ']')
	}
	respond(w, http.StatusOK, jsonType, b)
}

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// generateWhole runs all copies of a request to their ends.
func (s *Server) generateWhole(ctx context.Context, job *work) ([]*generation, []*request.Events, *request.Error) {
	if bestOf := job.body.Parameters.BestOf; bestOf != nil && *bestOf > 1 {
		job.bestOf = *bestOf
		if err := s.validateBestOf(job.bestOf); err != nil {
			return nil, nil, err
		}
	}
	if !s.acquire(int64(job.bestOf)) {
		return nil, nil, &request.Error{Class: request.Overloaded, Message: "Model is overloaded"}
	}
	defer s.permits.Add(-int64(job.bestOf))
	r, model, err := s.validate(ctx, job.body, job.bestOf)
	if err != nil {
		return nil, nil, err
	}
	job.validated = time.Now()
	var runs []*run
	for i := range job.bestOf {
		copied := *r
		if i > 0 {
			copied.Sampling = resolveSampling(&job.body.Parameters)
		}
		one, err := s.begin(model, &copied, job.runOptions())
		if err != nil {
			return nil, nil, err
		}
		defer s.leave(one)
		runs = append(runs, one)
	}
	var generations []*generation
	var events []*request.Events
	for _, one := range runs {
		for one.last == nil {
			if _, err, outcome := one.next(ctx.Done(), nil); err != nil {
				return nil, nil, err
			} else if outcome == request.Gone {
				return nil, nil, &request.Error{Class: request.Incomplete, Message: "the client has left"}
			}
		}
		s.leave(one)
		generations, events = append(generations, one.last), append(events, one.events)
	}
	return generations, events, nil
}

// tgi094Errors maps the classes of errors to TGI's status, type and the words in front of the message.
var tgi094Errors = map[request.Class]struct {
	status              int
	kind, prefix, label string
}{
	request.Validation: {http.StatusUnprocessableEntity, "validation", "Input validation error: ", "validation"},
	request.Overloaded: {http.StatusTooManyRequests, "overloaded", "", "overloaded"},
	request.Generation: {http.StatusFailedDependency, "generation", "Request failed during generation: ", "generation"},
	request.Incomplete: {http.StatusInternalServerError, "incomplete_generation", "Incomplete generation", "incomplete"},
	// TGI has no word for this: its router does not start without shards.
	request.Unavailable: {http.StatusServiceUnavailable, "unavailable", "Model is unavailable: ", "unavailable"},
}

// describe puts an error into TGI's words and counts it.
func (s *Server) describe(err *request.Error) (status int, body []byte) {
	entry := tgi094Errors[err.Class]
	s.metrics.failures.WithLabelValues(entry.label).Inc()
	message := entry.prefix + err.Message
	if err.Class == request.Incomplete {
		message = entry.prefix
	}
	s.log.Info().Str("type", entry.kind).Str("error", message).Msg("request failed")
	return entry.status, appendError(nil, message, entry.kind)
}

func (s *Server) respondError(w http.ResponseWriter, job *work, err *request.Error) {
	status, body := s.describe(err)
	respond(w, status, jsonType, body)
}

// serveHealth answers the health routes. Where TGI asks its shards, all groups that take requests are asked to compute.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	if s.backend.Healthy(r.Context()) {
		respond(w, http.StatusOK, "", nil)
		return
	}
	respond(w, http.StatusServiceUnavailable, jsonType, appendError(nil, "unhealthy", "healthcheck"))
}

// serveInfo answers GET /info.
func (s *Server) serveInfo(w http.ResponseWriter, r *http.Request) {
	model := s.backend.Model()
	if model == nil {
		respond(w, http.StatusServiceUnavailable, jsonType, appendError(nil, "unhealthy", "healthcheck"))
		return
	}
	c := &s.config
	b := []byte{'{'}
	text := func(name, value string, nullable bool) {
		b = append(appendText(b, name), ':')
		if value == "" && nullable {
			b = append(b, "null,"...)
		} else {
			b = append(appendText(b, value), ',')
		}
	}
	count := func(name string, value int) {
		b = append(appendText(b, name), ':')
		b = append(strconv.AppendInt(b, int64(value), 10), ',')
	}
	text("model_id", model.Card.ModelID, false)
	text("model_sha", model.Card.Revision, true)
	text("model_dtype", model.Card.DataType, false)
	text("model_device_type", model.Card.DeviceType, false)
	text("model_pipeline_tag", model.Card.PipelineTag, true)
	count("max_concurrent_requests", c.MaxConcurrentRequests)
	count("max_best_of", c.MaxBestOf)
	count("max_stop_sequences", c.MaxStopSequences)
	count("max_input_length", model.MaxInputLength)
	count("max_total_tokens", model.MaxTotalTokens)
	b = append(appendFloat(append(b, `"waiting_served_ratio":`...), c.WaitingServedRatio), ',')
	count("max_batch_total_tokens", min(model.MaxBatchTotalTokens, math.MaxUint32))
	count("max_waiting_tokens", c.MaxWaitingTokens)
	count("validation_workers", c.ValidationWorkers)
	text("version", c.Version, false)
	text("sha", "", true)
	text("docker_label", "", true)
	b[len(b)-1] = '}'
	respond(w, http.StatusOK, jsonType, b)
}
