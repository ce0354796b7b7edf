package tgi

import (
	"encoding/json"
	"math"
	"net/http"
	"strconv"

	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// Fleet is what GET /info tells of this router and its groups, behind the fields that TGI has. What is empty is left out.
type Fleet struct {
	// Version is this program's; TGI's is in a field of its own.
	Version string `json:"lockstep_version,omitempty"`
	// Numerics is the class of arithmetic of the model that is served; empty: not known.
	Numerics string `json:"numerics,omitempty"`
	// Groups are all that the router has found, those of other models among them, by name.
	Groups []Group `json:"groups,omitempty"`
}

// Group is a group as its last announcement has it. Tokens are positions of its KV cache.
type Group struct {
	Group   string `json:"group"`
	Node    string `json:"node"`
	ModelID string `json:"model_id"`
	// Serves says that it takes requests for the model that this router serves, or will once it is ready.
	Serves bool `json:"serves"`
	// State is one of protocol's, or StateSilent.
	State      string `json:"state"`
	Shards     int    `json:"shards"`
	DeviceType string `json:"device_type"`
	Device     string `json:"device,omitempty"`
	Numerics   string `json:"numerics,omitempty"`
	// FreeBytes is what its devices had left when it had taken all its memory; 0: not known.
	FreeBytes      int64 `json:"free_bytes,omitempty"`
	CapacityTokens int   `json:"capacity_tokens"`
	HeldTokens     int   `json:"held_tokens"`
	CachedTokens   int   `json:"cached_tokens"`
	// Running and Waiting are requests of all routers.
	Running int `json:"running"`
	Waiting int `json:"waiting"`
}

// StateSilent is the state of a group that has missed announcements.
const StateSilent = "silent"

// fleetOf is what is told of the groups while a model is served.
func fleetOf(build string, model *answer.Model, groups []request.GroupLoad) Fleet {
	f := Fleet{Version: build, Numerics: model.Card.Numerics, Groups: make([]Group, 0, len(groups))}
	for i := range groups {
		g := &groups[i]
		state := string(g.State)
		if g.Silent {
			state = StateSilent
		}
		f.Groups = append(f.Groups, Group{Group: g.Group, Node: g.Node, ModelID: g.ModelID, Serves: g.Kind == model.Kind, State: state,
			Shards: g.Shards, DeviceType: g.DeviceType, Device: g.Device.Name, Numerics: g.Numerics, FreeBytes: g.Device.FreeBytes,
			CapacityTokens: g.CapacityTokens, HeldTokens: g.HeldTokens, CachedTokens: g.CachedTokens, Running: g.Running,
			Waiting: g.Waiting})
	}
	return f
}

// info answers GET /info. TGI's fields come first, as its own router writes them; then ours.
func (d *Dialect) info(w http.ResponseWriter, r *http.Request) {
	model := d.answers.Model()
	if model == nil {
		wire.Respond(w, http.StatusServiceUnavailable, wire.JSONType, wire.AppendError(nil, "unhealthy", "healthcheck"))
		return
	}
	o := infoObject{'{'}
	d.tellModel(&o, model)
	if model.MaxBatchTotalReason != "" && d.version.batchInfo { // ours, as what follows
		o.text("max_batch_total_tokens_reason", model.MaxBatchTotalReason, false)
	}
	if window := model.Card.SlidingWindow; window > 0 {
		o.count("sliding_window", window)
	}
	if len(model.Defaults) > 0 { // of OpenAI's routes
		o = append(append(append(o, `"default_sampling_params":`...), model.Defaults...), ',')
	}
	fleet, err := json.Marshal(fleetOf(d.config.Build, model, d.answers.Groups()))
	if err != nil {
		panic(err) // our own types
	}
	if fleet = fleet[1:]; len(fleet) == 1 { // its end alone: it takes the place of the last comma
		o = o[:len(o)-1]
	}
	wire.Respond(w, http.StatusOK, wire.JSONType, append(o, fleet...))
}

// tellModel writes TGI's fields, in its order.
func (d *Dialect) tellModel(o *infoObject, model *answer.Model) {
	c := &d.config
	o.text("model_id", model.Card.ModelID, false)
	o.text("model_sha", model.Card.Revision, true)
	if d.version.batchInfo {
		o.text("model_dtype", model.Card.DataType, false)
		o.text("model_device_type", model.Card.DeviceType, false)
	}
	o.text("model_pipeline_tag", model.Card.PipelineTag, true)
	o.count("max_concurrent_requests", c.Limits.MaxConcurrentRequests)
	o.count("max_best_of", c.Limits.MaxBestOf)
	o.count("max_stop_sequences", c.Limits.MaxStopSequences)
	if !d.version.batchInfo {
		o.count("max_input_tokens", model.MaxInputLength)
		o.count("max_total_tokens", model.MaxTotalTokens)
		o.count("validation_workers", c.Limits.ValidationWorkers)
		o.count("max_client_batch_size", c.Limits.MaxClientBatchSize)
		o.text("router", "text-generation-router", false)
	} else {
		o.count("max_input_length", model.MaxInputLength)
		o.count("max_total_tokens", model.MaxTotalTokens)
		*o = append(wire.AppendFloat(append(*o, `"waiting_served_ratio":`...), c.WaitingServedRatio), ',')
		o.count("max_batch_total_tokens", min(model.MaxBatchTotalTokens, math.MaxUint32))
		o.count("max_waiting_tokens", c.MaxWaitingTokens)
		o.count("validation_workers", c.Limits.ValidationWorkers)
	}
	o.text("version", d.version.number, false)
	o.text("sha", "", true)
	o.text("docker_label", "", true)
}

// infoObject is a JSON object that is being written, a comma behind each field.
type infoObject []byte

func (o *infoObject) text(name, value string, nullable bool) {
	*o = append(wire.AppendExactText(*o, name), ':')
	if value == "" && nullable {
		*o = append(*o, "null,"...)
	} else {
		*o = append(wire.AppendExactText(*o, value), ',')
	}
}

func (o *infoObject) count(name string, value int) {
	*o = append(wire.AppendExactText(*o, name), ':')
	*o = append(strconv.AppendInt(*o, int64(value), 10), ',')
}
