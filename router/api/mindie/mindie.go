// Package mindie answers as MindIE's TGI interface does.
package mindie

import (
	"cmp"
	_ "embed"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"lockstep/protocol"
	"lockstep/protocol/text"
	"lockstep/router/api/answer"
	"lockstep/router/api/metrics"
	"lockstep/router/api/wire"
	"lockstep/router/openapi"
	"lockstep/router/request"
)

// Name is the dialect's.
const Name = "mindie"

// Config of the dialect.
type Config struct {
	// Version is what /info says.
	Version string
	// MaxConcurrentRequests is what /info says.
	MaxConcurrentRequests int
}

// dialect has what the handlers share.
type dialect struct {
	config  Config
	answers *answer.Service
}

//go:embed openapi.json
var spec []byte

// Spec describes the routes.
var Spec = openapi.Spec{File: spec}

// New returns the dialect. MindIE has its management and metrics on ports of their own and merges them where the ports are
// equal; so they are all here.
func New(config Config, answers *answer.Service) *wire.Dialect {
	d := &dialect{config, answers}
	return &wire.Dialect{
		Frame: frame, Refuse: d.respond, AllowSeparator: ",", Claim: claim, Spec: Spec,
		Routes: []wire.Route{
			wire.Post("/", d.route(false, true)),
			wire.Post("/generate", d.route(false, false)),
			wire.Post("/generate_stream", d.route(true, false)),
			wire.Get("/health", d.health),
			wire.Get("/info", d.info),
			wire.Get("/metrics", answers.Metrics.ServeAliases(aliases, answers.ModelID)),
		},
	}
}

// frame names every answer by a UUID, as MindIE's logs do.
func frame(w http.ResponseWriter, _ *http.Request, _ []string) (answered bool) {
	w.Header()["RequestUUID"] = []string{wire.Of(w).ID}
	return false
}

// claim knows bodies by what only MindIE has: parts as inputs, cumulative text and its word for no adapter. TGI's parameters
// are MindIE's too.
func claim(k *wire.Keys) wire.Claim {
	switch {
	case k.Item == '{', wire.Has(k.Top, "fullTextEnabled"), string(wire.Find(k.Parameters, "adapter_id")) == `"None"`:
		return wire.OwnKeys
	case wire.Has(k.Parameters, "details", "decoder_input_details", "return_full_text", "truncate", "typical_p", "watermark", "stop",
		"adapter_id", "top_n_tokens", "grammar"):
		return wire.FamilyKeys
	}
	return wire.NoClaim
}

// aliases are MindIE's, which are vLLM's without their prefix.
var aliases = []metrics.Alias{
	{Name: "request_received_total", Of: "tgi_request_count"},
	{Name: "request_success_total", Of: "tgi_request_success"},
	{Name: "request_failed_total", Of: "tgi_request_failure", Unlabelled: true},
	{Name: "num_requests_running", Of: "tgi_batch_current_size"},
	{Name: "num_requests_waiting", Of: "tgi_queue_size"},
	{Name: "num_preemptions_total", Of: "lockstep_group_parked_total", Unlabelled: true},
	{Name: "time_to_first_token_seconds", Of: "lockstep_time_to_first_token_seconds"},
	{Name: "time_per_output_token_seconds", Of: "lockstep_inter_token_seconds"},
	{Name: "e2e_request_latency_seconds", Of: "tgi_request_duration"},
	{Name: "request_prompt_tokens", Of: "tgi_request_input_length"},
	{Name: "request_generation_tokens", Of: "tgi_request_generated_tokens"},
	{Name: "prompt_tokens_total", Of: "tgi_request_input_length", Sum: true},
	{Name: "generation_tokens_total", Of: "tgi_request_generated_tokens", Sum: true},
}

// outcomes maps the classes of refusals to MindIE's status, type and, where it has some of its own, message.
var outcomes = map[request.Class]struct {
	status        int
	kind, message string
}{
	request.Validation:       {status: http.StatusUnprocessableEntity, kind: "Input Validation Error"},
	request.Malformed:        {status: http.StatusUnprocessableEntity, kind: "Input Validation Error"},
	request.Misfit:           {status: http.StatusUnprocessableEntity, kind: "Input Validation Error"},
	request.MediaType:        {status: http.StatusUnsupportedMediaType, kind: "Bad Request"},
	request.TooLong:          {status: http.StatusRequestEntityTooLarge, kind: "Bad Request"},
	request.Unread:           {http.StatusBadRequest, "Bad Request", "The request body could not be read."},
	request.Unauthorized:     {status: http.StatusUnauthorized, kind: "Unauthorized"},
	request.NotFound:         {status: http.StatusNotFound, kind: "NotFoundError"},
	request.MethodNotAllowed: {status: http.StatusMethodNotAllowed, kind: "Bad Request"},
	request.Overloaded:       {status: http.StatusTooManyRequests, kind: "Too Many Requests"},
	request.Generation:       {status: http.StatusFailedDependency, kind: "Generation Error"},
	request.Incomplete:       {status: http.StatusInternalServerError, kind: "Incomplete Generation"},
	request.Unavailable:      {status: http.StatusServiceUnavailable, kind: "Service Unavailable"},
}

// respond answers a refusal that is neither counted nor logged.
func (d *dialect) respond(w http.ResponseWriter, refusal *request.Refusal) {
	outcome := outcomes[refusal.Class]
	switch {
	case refusal.Class == request.Left:
	case refusal.Class == request.TooLong: // in the form of another layer of the original
		b := strconv.AppendInt([]byte(`{"message":"Request body too large. Maximum allowed size is `), d.answers.Bodies.Longest(), 10)
		wire.Respond(w, outcome.status, wire.JSONType, append(b, ` bytes."}`...))
	default:
		message := cmp.Or(outcome.message, wire.Bounded(refusal.Message))
		wire.Respond(w, outcome.status, wire.JSONType, wire.AppendError(nil, message, outcome.kind))
	}
}

func (d *dialect) refuse(w http.ResponseWriter, refusal *request.Refusal) {
	switch refusal.Class {
	case request.Left, request.TooLong, request.Unread:
	default:
		d.answers.Refused(wire.Of(w).ID, refusal, outcomes[refusal.Class].status)
	}
	d.respond(w, refusal)
}

// route returns the handler of a generate route. All that can be refused is refused before a stream begins.
func (d *dialect) route(stream, onRoot bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c := answer.Clock{Started: time.Now(), ID: wire.Of(w).ID}
		data, refusal := d.answers.Bodies.Read(w, r)
		if refusal != nil {
			d.refuse(w, refusal)
			return
		}
		d.answers.Metrics.Received(1)
		var body *generateBody
		refusal = d.answers.Bodies.Decode(r.Context(), func() (refusal *request.Refusal) {
			body, refusal = decode(data, stream, onRoot)
			return refusal
		})
		if refusal != nil {
			d.refuse(w, refusal)
			return
		}
		if !d.answers.Acquire(1) {
			d.refuse(w, request.NoRoom)
			return
		}
		defer d.answers.Release(1)
		run, refusal := d.begin(r, body, &c)
		if refusal != nil {
			d.refuse(w, refusal)
			return
		}
		defer d.answers.Leave(run.Run)
		if body.stream {
			d.stream(w, r, run, &c)
		} else {
			d.whole(w, r, run, &c, onRoot)
		}
	}
}

// shownRun is a run whose text is shown without stop strings.
type shownRun struct {
	*answer.Run
	body     *generateBody
	holdback *text.Holdback
	shown    strings.Builder
}

func (d *dialect) begin(r *http.Request, body *generateBody, c *answer.Clock) (*shownRun, *request.Refusal) {
	model, err := d.answers.WaitModel(r.Context())
	if err != nil {
		return nil, err
	}
	ids, err := d.answers.Encode(r.Context(), model, body.inputs, true)
	if err != nil {
		return nil, err
	}
	resolved, err := body.resolve(model, ids)
	if err != nil {
		return nil, err
	}
	d.answers.Metrics.Validated(len(resolved.Prompt), resolved.MaxNewTokens)
	c.Validated = time.Now()
	run, err := d.answers.Begin(model, resolved, answer.Options{Stops: body.stops, Keep: !body.stream, Prefer: answer.LengthFirst})
	if err != nil {
		return nil, err
	}
	m := &shownRun{Run: run, body: body, holdback: text.NewHoldback(body.stops)}
	if body.returnFullText {
		m.shown.WriteString(body.inputs + " ")
	}
	return m, nil
}

// show returns what a token makes visible, with what is still held back if it is the last one.
func (m *shownRun) show(t *answer.Token, last *answer.Generation) string {
	piece := t.Text
	if t.Special {
		piece = ""
	}
	shown, stopped := m.holdback.Push(piece)
	if last != nil && !stopped {
		shown += m.holdback.Rest()
	}
	m.shown.WriteString(shown)
	return shown
}

// finishReasons are MindIE's words: a stop string counts as an end of sequence.
var finishReasons = map[protocol.Finish]string{
	protocol.FinishLength: "length", protocol.FinishEOS: "eos_token", protocol.FinishStop: "eos_token",
}

// stream writes events; errors behind the first one are bare text, as MindIE has them.
func (d *dialect) stream(w http.ResponseWriter, r *http.Request, m *shownRun, c *answer.Clock) {
	w.Header()["Content-Type"] = []string{wire.EventsType}
	w.WriteHeader(http.StatusOK)
	http.NewResponseController(w).Flush()
	err := d.answers.Stream(w, r, m.Run, c, "", func(b []byte, t *answer.Token, last *answer.Generation) []byte {
		shown := m.show(t, last)
		if m.body.fullText {
			shown = m.shown.String()
		}
		b = append(b, `data: {"token":`...)
		b = appendToken(b, t.ID, shown)
		if last == nil {
			return append(b, `,"generated_text":null,"details":null}`+"\n\n"...)
		}
		b = append(b, `,"generated_text":`...)
		b = append(wire.AppendText(b, m.shown.String()), `,"details":`...)
		if !m.body.details {
			return append(b, "null}\n\n"...)
		}
		b = append(b, `{"prompt_tokens":`...)
		b = strconv.AppendInt(b, int64(len(m.Request.Prompt)), 10)
		b = append(append(b, `,"finish_reason":"`...), finishReasons[m.Last.Finish]...)
		b = append(b, `","generated_tokens":`...)
		b = strconv.AppendInt(b, int64(len(m.IDs)), 10)
		b = append(b, `,"seed":`...)
		return append(strconv.AppendUint(b, m.Request.Sampling.Seed, 10), "}}\n\n"...)
	})
	if err != nil && r.Context().Err() == nil {
		d.answers.Metrics.Failed(err.Class)
		io.WriteString(w, wire.Bounded(err.Message))
		http.NewResponseController(w).Flush()
	}
}

// whole answers with one body.
func (d *dialect) whole(w http.ResponseWriter, r *http.Request, m *shownRun, c *answer.Clock, onRoot bool) {
	var tokens []byte
	refusal, gone := m.Whole(r.Context(), func(t *answer.Token, last *answer.Generation) {
		tokens = appendRecord(wire.AppendComma(tokens), t.ID, m.show(t, last))
	})
	switch {
	case gone:
		return
	case refusal != nil:
		d.refuse(w, refusal)
		return
	}
	d.answers.Finished(c, m.Run)
	var b []byte
	if onRoot {
		b = append(b, '[')
	}
	b = append(b, '{')
	if m.body.details || m.body.decoderInputDetails {
		b = append(append(b, `"details":{"finish_reason":"`...), finishReasons[m.Last.Finish]...)
		b = append(b, `","generated_tokens":`...)
		b = strconv.AppendInt(b, int64(len(m.IDs)), 10)
		b = append(b, `,"prefill":[`...)
		if m.body.decoderInputDetails {
			for i, id := range m.Request.Prompt {
				if i > 0 {
					b = append(b, ',')
				}
				b = appendRecord(b, id, m.Model.Tokenizer.Decode([]int32{id}, false))
			}
		}
		b = append(b, `],"prompt_tokens":`...)
		b = strconv.AppendInt(b, int64(len(m.Request.Prompt)), 10)
		b = append(b, `,"seed":`...)
		b = strconv.AppendUint(b, m.Request.Sampling.Seed, 10)
		b = append(append(append(b, `,"tokens":[`...), tokens...), "]},"...)
	}
	b = append(wire.AppendText(append(b, `"generated_text":`...), m.shown.String()), '}')
	if onRoot {
		b = append(b, ']')
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, b)
}

// appendToken appends a token as streams have it, appendRecord as lists have it.
func appendToken(b []byte, id int32, text string) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), int64(id), 10)
	return append(wire.AppendText(append(b, `,"text":`...), text), `,"logprob":null,"special":null}`...)
}

func appendRecord(b []byte, id int32, text string) []byte {
	b = strconv.AppendInt(append(b, `{"id":`...), int64(id), 10)
	return append(wire.AppendText(append(b, `,"logprob":null,"special":null,"text":`...), text), '}')
}

// health answers with a bare status.
func (d *dialect) health(w http.ResponseWriter, r *http.Request) {
	if d.answers.Healthy(r) {
		wire.Respond(w, http.StatusOK, "", nil)
		return
	}
	wire.Respond(w, http.StatusServiceUnavailable, "", nil)
}

// info answers GET /info with the model within a list, as MindIE does.
func (d *dialect) info(w http.ResponseWriter, r *http.Request) {
	model := d.answers.Model()
	if model == nil {
		d.respond(w, &request.Refusal{Class: request.Unavailable, Message: "The service is not ready."})
		return
	}
	b := []byte(`{"docker_label":null,"max_batch_total_tokens":`)
	b = strconv.AppendInt(b, int64(model.MaxBatchTotalTokens), 10)
	b = strconv.AppendInt(append(b, `,"max_best_of":1,"max_concurrent_requests":`...), int64(d.config.MaxConcurrentRequests), 10)
	b = strconv.AppendInt(append(b, `,"max_stop_sequences":null,"max_waiting_tokens":null,"max_input_length":`...),
		int64(model.MaxInputLength), 10)
	b = wire.AppendText(append(b, `,"models":[{"model_device_type":`...), model.Card.DeviceType)
	b = wire.AppendText(append(b, `,"model_dtype":`...), model.Card.DataType)
	b = wire.AppendText(append(b, `,"model_id":`...), model.Card.ModelID)
	b = strconv.AppendInt(append(b, `,"model_pipeline_tag":"text-generation","model_sha":null,"max_total_tokens":`...),
		int64(model.MaxTotalTokens), 10)
	b = wire.AppendText(append(b, `}],"sha":null,"validation_workers":null,"version":`...), d.config.Version)
	wire.Respond(w, http.StatusOK, wire.JSONType, append(b, `,"waiting_served_ratio":null}`...))
}
