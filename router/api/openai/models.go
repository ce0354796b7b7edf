package openai

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// serveModels answers GET /v1/models: a list of the one model, and of its adapters as vLLM has them.
func (d *Dialect) serveModels(w http.ResponseWriter, _ *http.Request) {
	model := d.answers.Model()
	if model == nil {
		d.refuse(w, answer.NoModel)
		return
	}
	b := d.appendModel([]byte(`{"object":"list","data":[`), model, "")
	for _, adapter := range model.Adapters {
		b = d.appendModel(append(b, ','), model, adapter.Name)
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(b, "]}"...))
}

// serveModel answers GET /v1/models/{id}.
func (d *Dialect) serveModel(w http.ResponseWriter, r *http.Request) {
	model := d.answers.Model()
	id := strings.TrimPrefix(wire.Of(w).Path, "/v1/models/")
	switch {
	case model == nil:
		d.refuse(w, answer.NoModel)
	case isBase(model, id):
		wire.Respond(w, http.StatusOK, wire.JSONType, d.appendModel(nil, model, ""))
	case model.Has(id):
		wire.Respond(w, http.StatusOK, wire.JSONType, d.appendModel(nil, model, id))
	default:
		respond(w, noModel(id))
	}
}

// isBase reports whether a name is that of the model without an adapter; a path's first slash is easily lost.
func isBase(model *answer.Model, name string) bool {
	return name == model.Card.ModelID || "/"+name == model.Card.ModelID
}

func noModel(name string) *request.Refusal {
	return &request.Refusal{Class: request.NotFound, Param: "model", Code: "model_not_found",
		Message: fmt.Sprintf("The model %q does not exist.", wire.Quoted(name))}
}

// adapterOf returns the adapter that a request asks for by the name of a model, empty: none. A model without adapters answers to
// any name, since clients that were made for other servers must say one; with adapters, who mistypes one would get another
// model's answer. "tgi" is the model where TGI's clients must say a name.
func adapterOf(model *answer.Model, name string) (adapter string, refusal *request.Refusal) {
	switch {
	case name == "" || len(model.Adapters) == 0:
		return "", nil
	case model.Has(name):
		return name, nil
	case isBase(model, name) || name == "tgi":
		return "", nil
	}
	refusal = noModel(name)
	refusal.Message += fmt.Sprintf(" There are: %s, %s.", model.Card.ModelID, model.AdapterNames())
	return "", refusal
}

// appendModel appends a model as the list has it, or one of its adapters. TGI 3 knows neither owner, age nor length.
func (d *Dialect) appendModel(b []byte, model *answer.Model, adapter string) []byte {
	id := model.Card.ModelID
	if adapter != "" {
		id = adapter
	}
	b = append(wire.AppendText(append(b, `{"id":`...), id), `,"object":"model","created":`...)
	if d.form.bareModels {
		b = wire.AppendText(append(b, `0,"owned_by":`...), model.Card.ModelID)
		return append(b, '}')
	}
	b = strconv.AppendInt(b, d.started.Unix(), 10)
	b = append(b, `,"owned_by":"lockstep"`...)
	if adapter != "" {
		b = wire.AppendText(append(b, `,"root":`...), adapter)
		b = wire.AppendText(append(b, `,"parent":`...), model.Card.ModelID)
	}
	b = strconv.AppendInt(append(b, `,"max_model_len":`...), int64(model.MaxTotalTokens), 10)
	if model.Card.Numerics != "" {
		b = wire.AppendText(append(b, `,"numerics":`...), model.Card.Numerics)
	}
	if window := model.Card.SlidingWindow; window > 0 {
		b = strconv.AppendInt(append(b, `,"sliding_window":`...), int64(window), 10)
	}
	if len(model.Defaults) > 0 {
		b = append(append(b, `,"default_sampling_params":`...), model.Defaults...)
	}
	return append(b, '}')
}
