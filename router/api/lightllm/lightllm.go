// Package lightllm answers as LightLLM does, also with the scores of reward models.
package lightllm

import (
	"cmp"
	_ "embed"
	"net/http"
	"strconv"
	"time"

	"lockstep/protocol"
	"lockstep/router/api/answer"
	"lockstep/router/api/metrics"
	"lockstep/router/api/wire"
	"lockstep/router/openapi"
	"lockstep/router/request"
)

// Name is the dialect's.
const Name = "lightllm"

// Config of the dialect.
type Config struct {
	// OldErrors answers errors as versions before 2026 did.
	OldErrors bool
}

// dialect has what the handlers share.
type dialect struct {
	config  Config
	answers *answer.Service
}

//go:embed openapi.json
var spec []byte

//go:embed openapi_old.json
var specOfOldErrors []byte

// Spec describes the routes.
func (c Config) Spec() openapi.Spec {
	if c.OldErrors {
		return openapi.Spec{File: spec, Changes: specOfOldErrors}
	}
	return openapi.Spec{File: spec}
}

// New returns the dialect.
func New(config Config, answers *answer.Service) *wire.Dialect {
	d := &dialect{config, answers}
	ok := func(w http.ResponseWriter, r *http.Request) {
		wire.Respond(w, http.StatusOK, wire.JSONType, []byte(`{"status":"ok"}`))
	}
	return &wire.Dialect{
		Frame: frame, Refuse: d.refuseFront, AllowSeparator: ", ", Claim: claim, Spec: config.Spec(),
		Routes: []wire.Route{
			wire.Post("/generate", d.route(false, false)),
			wire.Post("/generate_stream", d.route(true, false)),
			wire.Post("/", d.route(false, true)),
			wire.Post("/get_score", d.score),
			wire.GetOrPost("/tokens", d.tokens),
			wire.Get("/health", d.health),
			wire.Get("/healthz", d.health),
			wire.GetOrPost("/liveness", ok),
			wire.GetOrPost("/readiness", ok),
			wire.GetOrPost("/get_model_name", d.modelName),
			wire.Get("/token_load", answers.Metrics.ServeTokenLoad),
			wire.Get("/metrics", answers.Metrics.ServeAliases(aliases, answers.ModelID)),
		},
	}
}

// frame tells the name of the request.
func frame(w http.ResponseWriter, _ *http.Request, _ []string) (answered bool) {
	w.Header()[wire.RequestIDHeader] = []string{wire.Of(w).ID}
	return false
}

// claim knows bodies by ids as inputs and by parameters that TGI has not, or had not at first.
func claim(k *wire.Keys) wire.Claim {
	if k.Item >= '0' && k.Item <= '9' || wire.Has(k.Top, "multimodal_params", "lora_dir") || wire.Has(k.Parameters,
		"return_details", "stop_sequences", "input_penalty", "ignore_eos", "min_new_tokens", "allowed_token_ids", "guided_grammar",
		"guided_json",
		"regular_constraint", "exponential_decay_length_penalty", "print_eos_token", "skip_special_tokens", "add_special_tokens",
		"add_spaces_between_special_tokens", "group_request_id", "n", "logit_bias", "disable_prompt_cache", "prompt_logprobs",
		"presence_penalty", "frequency_penalty") {
		return wire.SomeKeys
	}
	return wire.NoClaim
}

// refuseFront answers unknown paths and methods as FastAPI does.
func (d *dialect) refuseFront(w http.ResponseWriter, refusal *request.Refusal) {
	switch refusal.Class {
	case request.NotFound:
		wire.Respond(w, http.StatusNotFound, wire.JSONType, []byte(`{"detail":"Not Found"}`))
	case request.MethodNotAllowed:
		wire.Respond(w, http.StatusMethodNotAllowed, wire.JSONType, []byte(`{"detail":"Method Not Allowed"}`))
	default:
		d.refuse(w, &request.Refusal{Class: refusal.Class, Message: "the API key is missing or wrong"})
	}
}

// aliases are LightLLM's metrics as far as there is something to measure; buckets are those of TGI's.
var aliases = []metrics.Alias{
	{Name: "lightllm_request_count_total", Of: "tgi_request_count"},
	{Name: "lightllm_request_success_total", Of: "tgi_request_success"},
	{Name: "lightllm_request_failure_total", Of: "tgi_request_failure", Unlabelled: true},
	{Name: "lightllm_batch_inference_count_total", Of: "tgi_batch_inference_count"},
	{Name: "lightllm_queue_size", Of: "tgi_queue_size"},
	{Name: "lightllm_batch_current_size", Of: "tgi_batch_current_size"},
	{Name: "lightllm_num_running_reqs", Of: "tgi_batch_current_size"},
	{Name: "lightllm_batch_current_max_tokens", Of: "tgi_batch_current_max_tokens"},
	{Name: "lightllm_request_duration", Of: "tgi_request_duration"},
	{Name: "lightllm_request_validation_duration", Of: "tgi_request_validation_duration"},
	{Name: "lightllm_request_inference_duration", Of: "tgi_request_inference_duration"},
	{Name: "lightllm_request_mean_time_per_token_duration", Of: "tgi_request_mean_time_per_token_duration"},
	{Name: "lightllm_request_first_token_duration", Of: "lockstep_time_to_first_token_seconds"},
	{Name: "lightllm_request_queue_duration_bucket", Of: "tgi_request_queue_duration"},
	{Name: "lightllm_batch_inference_duration_bucket", Of: "tgi_batch_inference_duration"},
	{Name: "lightllm_request_input_length", Of: "tgi_request_input_length"},
	{Name: "lightllm_request_max_new_tokens", Of: "tgi_request_max_new_tokens"},
	{Name: "lightllm_request_generated_tokens", Of: "tgi_request_generated_tokens"},
	{Name: "lightllm_batch_next_size", Of: "tgi_batch_next_size"},
	{Name: "lightllm_prompt_tokens_total", Of: "tgi_request_input_length", Sum: true},
	{Name: "lightllm_generation_tokens_total", Of: "tgi_request_generated_tokens", Sum: true},
	{Name: "lightllm_batch_pause_size", Of: "lockstep_group_parked_total", Unlabelled: true},
}

// kindOf is the type of an error by its status.
func kindOf(status int) string {
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

// outcomes maps the classes of refusals to LightLLM's status, and to that of versions before 2026; where there is none
// it is 417.
var outcomes = map[request.Class]struct{ status, old int }{
	request.Validation:   {http.StatusBadRequest, http.StatusExpectationFailed},
	request.Unauthorized: {http.StatusUnauthorized, http.StatusUnauthorized},
	request.Overloaded:   {http.StatusTooManyRequests, http.StatusServiceUnavailable},
	request.Unavailable:  {http.StatusServiceUnavailable, http.StatusServiceUnavailable},
	request.Generation:   {http.StatusInternalServerError, http.StatusInternalServerError},
	request.Incomplete:   {http.StatusInternalServerError, http.StatusInternalServerError},
}

// refuse answers a refusal in the envelope of the version that is configured.
func (d *dialect) refuse(w http.ResponseWriter, refusal *request.Refusal) {
	if refusal.Class == request.Left {
		return
	}
	outcome := outcomes[refusal.Class]
	status := outcome.status
	if d.config.OldErrors {
		status = outcome.old
	}
	status = cmp.Or(status, http.StatusExpectationFailed)
	d.answers.Refused(wire.Of(w).ID, refusal, status)
	message := wire.Bounded(refusal.Message)
	if d.config.OldErrors {
		wire.Respond(w, status, wire.JSONType, append(wire.AppendText([]byte(`{"message":`), message), '}'))
		return
	}
	b := wire.AppendText([]byte(`{"error":{"message":`), message)
	b = append(append(b, `,"type":"`...), kindOf(status)...)
	b = strconv.AppendInt(append(b, `","param":null,"code":`...), int64(status), 10)
	wire.Respond(w, status, wire.JSONType, append(b, "}}"...))
}

// object reads a body, whatever its content type, and has read take of it what it needs.
func (d *dialect) object(w http.ResponseWriter, r *http.Request, read func(top map[string]any) *request.Refusal) *request.Refusal {
	data, refusal := d.answers.Bodies.Read(w, r)
	if refusal != nil {
		return refusal
	}
	return d.answers.Bodies.Decode(r.Context(), func() *request.Refusal {
		top, refusal := wire.Object(data)
		if refusal != nil {
			return refusal
		}
		return read(top)
	})
}

// tokens counts the tokens of a text.
func (d *dialect) tokens(w http.ResponseWriter, r *http.Request) {
	var text string
	special := true
	err := d.object(w, r, func(top map[string]any) *request.Refusal {
		parameters, ok := top["parameters"].(map[string]any)
		special = !ok || parameters["add_special_tokens"] != false
		if text, ok = top["text"].(string); !ok {
			return badType("text", "a string")
		}
		return nil
	})
	var ids []int32
	var model *answer.Model
	if err == nil {
		model, err = d.answers.WaitModel(r.Context())
	}
	if err == nil {
		ids, err = d.answers.Encode(r.Context(), model, text, special)
	}
	switch {
	case err == nil:
	case err.Class == request.Left, err.Class == request.Overloaded:
		d.refuse(w, err)
		return
	default:
		d.refuse(w, &request.Refusal{Class: request.Misfit, Message: "error: " + err.Message})
		return
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(strconv.AppendInt([]byte(`{"ntokens":`), int64(len(ids)), 10), '}'))
}

// health answers the health routes.
func (d *dialect) health(w http.ResponseWriter, r *http.Request) {
	if d.answers.Healthy(r) {
		wire.Respond(w, http.StatusOK, wire.JSONType, []byte(`{"message":"Ok"}`))
		return
	}
	wire.Respond(w, http.StatusServiceUnavailable, wire.JSONType, []byte(`{"message":"Error"}`))
}

func (d *dialect) modelName(w http.ResponseWriter, r *http.Request) {
	wire.Respond(w, http.StatusOK, wire.JSONType, append(wire.AppendText([]byte(`{"model_name":`), d.answers.ModelID()), '}'))
}

// score answers POST /get_score: a finished prompt is scored by a reward model.
func (d *dialect) score(w http.ResponseWriter, r *http.Request) {
	c := answer.Clock{Started: time.Now(), ID: wire.Of(w).ID}
	var chat string
	err := d.object(w, r, func(top map[string]any) (err *request.Refusal) {
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
		d.refuse(w, err)
		return
	}
	d.answers.Metrics.Received(1)
	if !d.answers.Acquire(1) {
		d.refuse(w, request.NoRoom)
		return
	}
	defer d.answers.Release(1)
	run, refusal := d.beginScore(r, chat, &c)
	if refusal == nil {
		defer d.answers.Leave(run)
		var gone bool
		if refusal, gone = run.Whole(r.Context(), nil); gone {
			return
		}
	}
	switch {
	case refusal != nil && refusal.Class == request.Left:
		return
	case refusal != nil:
		// All failures of this route are 417 in the original.
		d.refuse(w, &request.Refusal{Class: request.Misfit, Message: refusal.Message})
		return
	}
	d.answers.Finished(&c, run)
	b := wire.AppendPythonFloat([]byte(`{"score":`), float64(run.Last.Tokens[0].Logprob))
	b = strconv.AppendInt(append(b, `,"prompt_tokens":`...), int64(len(run.Request.Prompt)), 10)
	w.Header()["Content-Type"] = nil // as the original
	wire.Respond(w, http.StatusOK, "", append(b, `,"finish_reason":"stop"}`...))
}

func (d *dialect) beginScore(r *http.Request, chat string, c *answer.Clock) (*answer.Run, *request.Refusal) {
	model, err := d.answers.WaitModel(r.Context())
	if err != nil {
		return nil, err
	}
	if !model.Card.Reward {
		return nil, request.Invalid("'score': the model %s has no score head", model.Card.ModelID)
	}
	ids, err := d.answers.Encode(r.Context(), model, chat, true)
	if err != nil {
		return nil, err
	}
	if len(ids) == 0 || len(ids) > model.MaxInputLength {
		return nil, request.Invalid("the input prompt has %d tokens, possible are 1 to %d", len(ids), model.MaxInputLength)
	}
	c.Validated = time.Now()
	score := &request.Request{CardDigest: model.Digest, Request: protocol.Request{Prompt: ids, MaxNewTokens: 1, Score: true}}
	return d.answers.Begin(model, score, answer.Options{Keep: true, Prefer: answer.LengthFirst})
}
