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

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// TGIVersion is one of the versions of TGI that are spoken.
type TGIVersion string

const (
	TGI094 TGIVersion = "0.9.4"
	// TGI3 is 3.3.7, the last one.
	TGI3 TGIVersion = "3"
)

// TGIVersions are those that can be chosen.
var TGIVersions = []string{string(TGI094), string(TGI3)}

// form says how one generate route reads its body and in which shape it answers.
type form struct {
	// three is TGI 3's form, else 0.9.4's.
	three bool
	// compat takes the field stream, and answers with an array of one.
	compat bool
	// untagged takes bodies of several kinds: one that does not fit is refused without a reason.
	untagged bool
	// stream answers with events whatever the body says.
	stream bool
}

// eventPrefix stands in front of the JSON of an event.
func (f form) eventPrefix() string {
	if f.three {
		return "data: "
	}
	return "data:"
}

func (s *Server) three() bool { return s.config.TGIVersion == TGI3 }

// tgi is the table of TGI.
func (s *Server) tgi() []route {
	three := s.three()
	return []route{
		{post, "/", s.generateRoute(form{three: three, compat: true})},
		{post, "/invocations", s.generateRoute(form{three: three, compat: true, untagged: three})},
		{post, "/generate", s.generateRoute(form{three: three})},
		{post, "/generate_stream", s.generateRoute(form{three: three, stream: true})},
		{get, "/", s.serveHealth},
		{get, "/health", s.serveHealth},
		{get, "/ping", s.serveHealth},
		{get, "/info", s.serveInfo},
		{get, "/metrics", s.serveMetrics},
	}
}

// frameTGI puts what every answer of TGI carries in front of the routes: CORS headers, and its way with unknown paths and
// methods.
func (s *Server) frameTGI(w http.ResponseWriter, r *http.Request, methods []string, serve http.HandlerFunc) {
	h := w.Header()
	s.setCORS(h, r)
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
	wire.Respond(w, status, "", nil)
}

// setCORS tells browsers from where they may call.
func (s *Server) setCORS(h http.Header, r *http.Request) {
	if len(s.config.CORSAllowOrigin) == 0 {
		h["Access-Control-Allow-Origin"] = []string{"*"}
	} else if origin := r.Header.Get("Origin"); origin != "" && slices.Contains(s.config.CORSAllowOrigin, origin) {
		h["Access-Control-Allow-Origin"] = []string{origin}
	}
	if s.three() {
		h["Vary"] = []string{"origin, access-control-request-method, access-control-request-headers"}
	} else {
		h["Vary"] = []string{"origin", "access-control-request-method", "access-control-request-headers"}
	}
}

// work is one generate request on its way through the handlers.
type work struct {
	clock
	form       // stream tells what the body asks for too
	body       *generateBody
	bestOf     uint64
	fullText   bool
	details    bool
	characters int
}

func (job *work) runOptions() runOptions {
	o := runOptions{stops: job.body.Parameters.Stop, keep: !job.stream, follows: job.three, asTGI: true}
	if job.fullText {
		o.prefix = job.body.Inputs
	}
	return o
}

// readTGI reads a body; if that fails it answers, and returns nil.
func (s *Server) readTGI(w http.ResponseWriter, r *http.Request, f form) *generateBody {
	data, refusal := s.bodies.ReadJSON(w, r)
	var body *generateBody
	if refusal == nil {
		refusal = s.bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
			body, refusal = decodeTGI(data, f)
			return refusal
		})
	}
	if refusal != nil {
		s.refuse(w, refusal, f)
		return nil
	}
	return body
}

// generateRoute returns the handler of a generate route.
func (s *Server) generateRoute(f form) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		if f.untagged && s.serveUntagged(w, r) {
			return
		}
		body := s.readTGI(w, r, f)
		if body == nil {
			return
		}
		p := &body.Parameters
		job := &work{
			body: body, clock: clock{started: started, id: wire.Of(w).ID}, form: f, bestOf: 1,
			details: p.Details || p.DecoderInputDetails, characters: utf8.RuneCountInString(body.Inputs),
			fullText: p.ReturnFullText != nil && *p.ReturnFullText,
		}
		job.stream = f.stream || body.Stream
		if p.ReturnFullText == nil && f.compat {
			tag := ""
			if model := s.backend.Model(); model != nil {
				tag = model.Card.PipelineTag
			}
			job.fullText = tag == "text-generation" || tag == "" && f.three
		}
		s.metrics.requests.Inc()
		if job.stream {
			s.stream(w, r, job)
		} else {
			s.whole(w, r, job)
		}
	}
}

// serveUntagged answers a body of OpenAI's on a route that takes bodies of all kinds.
func (s *Server) serveUntagged(w http.ResponseWriter, r *http.Request) bool {
	s.bodies.Read(w, r) // a refusal is told by who reads it next
	var messages, prompt bool
	s.bodies.Decode(r.Context(), func() *request.Refusal {
		top, ok := wire.Of(w).Members()
		ok = ok && wire.Find(top, "inputs") == nil
		messages, prompt = ok && wire.Find(top, "messages") != nil, ok && wire.Find(top, "prompt") != nil
		return nil
	})
	if messages || prompt {
		s.openAIRoute(messages)(w, r)
	}
	return messages || prompt
}

// whole answers a generate request with one body.
func (s *Server) whole(w http.ResponseWriter, r *http.Request, job *work) {
	generations, events, err := s.generateWhole(r.Context(), job)
	if r.Context().Err() != nil {
		return
	}
	if err != nil {
		s.refuse(w, err, job.form)
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
	setTimings(h, times, job.characters)
	h["X-Compute-Time"] = []string{milliseconds(times.total)}
	if job.three {
		h["X-Compute-Time"] = []string{seconds(times.total)}
		setTokens(h, winner.length, tokens)
	}
	var b []byte
	if job.compat {
		b = append(b, '[')
	}
	b = appendGeneration(b, winner, others, job.details)
	if job.compat {
		b = append(b, ']')
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, b)
}

// setTimings sets the headers that tell how long an answer took, and of how many characters its input was.
func setTimings(h http.Header, t times, characters int) {
	for _, pair := range [][2]string{
		{"X-Compute-Type", computeType},
		{"X-Compute-Characters", itoa(characters)},
		{"X-Total-Time", milliseconds(t.total)},
		{"X-Validation-Time", milliseconds(t.validation)},
		{"X-Queue-Time", milliseconds(t.queue)},
		{"X-Inference-Time", milliseconds(t.inference)},
		{"X-Time-Per-Token", milliseconds(t.perToken)},
	} {
		h[pair[0]] = []string{pair[1]}
	}
}

// computeType is what TGI says of every machine.
const computeType = "gpu+optimized"

// setTokens sets the headers of TGI 3 that count tokens.
func setTokens(h http.Header, prompt, generated int) {
	h["X-Prompt-Tokens"] = []string{itoa(prompt)}
	h["X-Generated-Tokens"] = []string{itoa(generated)}
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

func milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// generateWhole runs all copies of a request to their ends.
func (s *Server) generateWhole(ctx context.Context, job *work) ([]*generation, []*request.Events, *request.Refusal) {
	if bestOf := job.body.Parameters.BestOf; bestOf != nil && *bestOf > 1 {
		job.bestOf = *bestOf
		if err := s.validateBestOf(job.bestOf); err != nil {
			return nil, nil, err
		}
	}
	if !s.acquire(int64(job.bestOf)) {
		return nil, nil, request.NoRoom
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
				return nil, nil, request.ClientLeft
			}
		}
		s.leave(one)
		generations, events = append(generations, one.last), append(events, one.events)
	}
	return generations, events, nil
}

// tgiOutcomes maps the classes of refusals to TGI's status, type and words in front of the message; whole words stand for it.
// What has no type comes from the framework beneath the original, as plain text.
var tgiOutcomes = map[request.Class]struct {
	status      int
	kind, words string
	whole       bool
}{
	request.Validation: {status: http.StatusUnprocessableEntity, kind: "validation", words: "Input validation error: "},
	request.Misfit:     {status: http.StatusUnprocessableEntity, words: "Failed to deserialize the JSON body into the target type: "},
	request.Malformed:  {status: http.StatusBadRequest, words: "Failed to parse the request body as JSON: "},
	request.MediaType:  {status: http.StatusUnsupportedMediaType},
	request.TooLong:    {status: http.StatusRequestEntityTooLarge, words: "Failed to buffer the request body: length limit exceeded", whole: true},
	request.Unread:     {status: http.StatusBadRequest, words: "Failed to buffer the request body: "},
	request.Overloaded: {status: http.StatusTooManyRequests, kind: "overloaded"},
	request.Generation: {status: http.StatusFailedDependency, kind: "generation", words: "Request failed during generation: "},
	request.Incomplete: {status: http.StatusInternalServerError, kind: "incomplete_generation", words: "Incomplete generation", whole: true},
	// TGI has no word for this: its router does not start without shards.
	request.Unavailable: {status: http.StatusServiceUnavailable, kind: "unavailable", words: "Model is unavailable: "},
}

// describe puts a refusal into TGI's words and counts it; those of the framework are not counted.
func (s *Server) describe(id string, refusal *request.Refusal, f form) (status int, contentType string, body []byte) {
	outcome := tgiOutcomes[refusal.Class]
	message := outcome.words
	if !outcome.whole {
		message += wire.Bounded(refusal.Message)
	}
	if outcome.kind == "" {
		return outcome.status, wire.PlainType, []byte(message)
	}
	if refusal.Class == request.Incomplete && f.three && f.stream {
		message, outcome.kind = "Incomplete generation stream", "incomplete_generation_stream"
	}
	s.metrics.failed(refusal.Class)
	s.log.Info().Str("request", id).Str("type", outcome.kind).Str("error", message).Msg("request failed")
	return outcome.status, wire.JSONType, appendError(nil, message, outcome.kind)
}

func (s *Server) refuse(w http.ResponseWriter, refusal *request.Refusal, f form) {
	if refusal.Class == request.Left {
		return
	}
	status, contentType, body := s.describe(wire.Of(w).ID, refusal, f)
	wire.Respond(w, status, contentType, body)
}

// serveHealth answers the health routes. Where TGI asks its shards, all groups that take requests are asked to compute.
func (s *Server) serveHealth(w http.ResponseWriter, r *http.Request) {
	if s.healthy(r) {
		wire.Respond(w, http.StatusOK, "", nil)
		return
	}
	wire.Respond(w, http.StatusServiceUnavailable, wire.JSONType, appendError(nil, "unhealthy", "healthcheck"))
}

// serveInfo answers GET /info.
func (s *Server) serveInfo(w http.ResponseWriter, r *http.Request) {
	model := s.backend.Model()
	if model == nil {
		wire.Respond(w, http.StatusServiceUnavailable, wire.JSONType, appendError(nil, "unhealthy", "healthcheck"))
		return
	}
	c := &s.config
	b := []byte{'{'}
	text := func(name, value string, nullable bool) {
		b = append(wire.AppendExactText(b, name), ':')
		if value == "" && nullable {
			b = append(b, "null,"...)
		} else {
			b = append(wire.AppendExactText(b, value), ',')
		}
	}
	count := func(name string, value int) {
		b = append(wire.AppendExactText(b, name), ':')
		b = append(strconv.AppendInt(b, int64(value), 10), ',')
	}
	text("model_id", model.Card.ModelID, false)
	text("model_sha", model.Card.Revision, true)
	if !s.three() {
		text("model_dtype", model.Card.DataType, false)
		text("model_device_type", model.Card.DeviceType, false)
	}
	text("model_pipeline_tag", model.Card.PipelineTag, true)
	count("max_concurrent_requests", c.MaxConcurrentRequests)
	count("max_best_of", c.MaxBestOf)
	count("max_stop_sequences", c.MaxStopSequences)
	if s.three() {
		count("max_input_tokens", model.MaxInputLength)
		count("max_total_tokens", model.MaxTotalTokens)
		count("validation_workers", c.ValidationWorkers)
		count("max_client_batch_size", c.MaxClientBatchSize)
		text("router", "text-generation-router", false)
	} else {
		count("max_input_length", model.MaxInputLength)
		count("max_total_tokens", model.MaxTotalTokens)
		b = append(wire.AppendFloat(append(b, `"waiting_served_ratio":`...), c.WaitingServedRatio), ',')
		count("max_batch_total_tokens", min(model.MaxBatchTotalTokens, math.MaxUint32))
		count("max_waiting_tokens", c.MaxWaitingTokens)
		count("validation_workers", c.ValidationWorkers)
	}
	text("version", c.Version, false)
	text("sha", "", true)
	text("docker_label", "", true)
	b[len(b)-1] = '}'
	wire.Respond(w, http.StatusOK, wire.JSONType, b)
}
