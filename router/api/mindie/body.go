package mindie

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"regexp"
	"strings"
	"unicode/utf8"

	"lockstep/protocol"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// generateBody is a checked body of MindIE's TGI interface.
type generateBody struct {
	adapter             string // as it stands; empty: none
	inputs              string
	stream, fullText    bool // of the body's top: stream counts on "/" only; fullText makes token.text cumulative
	stops               []string
	doSample            *bool
	sampling            protocol.Sampling // Seed resolved, Sample too
	maxNewTokens        int
	truncate            int // 0: off
	returnFullText      bool
	details             bool
	decoderInputDetails bool
}

// MindIE's limits of a request.
const (
	maxStops          = 1024
	maxStopRunes      = 1024
	maxStopsRunes     = 32768
	defaultNewTokens  = 20
	maxAdapterIDBytes = 256
)

var adapterID = regexp.MustCompile(`^[A-Za-z0-9._/-]+$`)

// object is a JSON object as MindIE sees it: null is absent, unknown keys are ignored.
type object map[string]any

func (o object) null(key string) bool { return o[key] == nil }

// misfit says that a value has another type, in MindIE's words.
func misfit(key, kind string) *request.Refusal {
	return request.Invalid("%s must be %s type.", key, kind)
}

func (o object) boolean(key string) (value *bool, err *request.Refusal) {
	if o.null(key) {
		return nil, nil
	}
	b, ok := o[key].(bool)
	if !ok {
		return nil, misfit(key, "boolean")
	}
	return &b, nil
}

// float reads a number between low and high; open says which bounds are outside.
func (o object) float(key string, low, high float64, openLow, openHigh bool, words string) (value *float64, err *request.Refusal) {
	if o.null(key) {
		return nil, nil
	}
	number, ok := o[key].(json.Number)
	if !ok {
		return nil, misfit(key, "float")
	}
	v, wrong := number.Float64()
	if wrong != nil || v < low || v > high || openLow && v == low || openHigh && v == high {
		return nil, request.Invalid("Parameter %s must be in %s, got %s.", key, words, wire.Quoted(number))
	}
	return &v, nil
}

// integer reads an integer in (0, 2147483647].
func (o object) integer(key string) (value *int, err *request.Refusal) {
	if o.null(key) {
		return nil, nil
	}
	number, ok := o[key].(json.Number)
	if !ok || strings.ContainsAny(string(number), ".eE") {
		return nil, misfit(key, "integer")
	}
	v, wrong := number.Int64()
	if wrong != nil || v <= 0 || v > math.MaxInt32 {
		return nil, request.Invalid("%s must be in (0,2147483647], got %s.", key, wire.Quoted(number))
	}
	i := int(v)
	return &i, nil
}

// decode reads a body and checks it in MindIE's order; errors are for its clients.
func decode(data []byte, stream bool, onRoot bool) (*generateBody, *request.Refusal) {
	members, err := wire.Object(data)
	if err != nil {
		return nil, err
	}
	top := object(members)
	switch {
	case !top.null("prompt"):
		return nil, request.Invalid("The request form with prompt is not supported; use inputs.")
	case top.null("inputs"):
		return nil, request.Invalid("Either prompt or inputs must be given.")
	}
	b := &generateBody{stream: stream, maxNewTokens: defaultNewTokens}
	if b.inputs, err = readInputs(top["inputs"]); err != nil {
		return nil, err
	}
	streams, err := top.boolean("stream")
	if err != nil {
		return nil, err
	}
	if streams != nil && onRoot {
		b.stream = *streams
	}
	cumulative, err := top.boolean("fullTextEnabled")
	if err != nil {
		return nil, err
	}
	b.fullText = cumulative != nil && *cumulative
	parameters := object{}
	if !top.null("parameters") {
		o, ok := top["parameters"].(map[string]any)
		if !ok {
			return nil, misfit("parameters", "object")
		}
		parameters = o
	}
	return b, b.read(parameters)
}

// readInputs reads a text, or a list of parts that must all be text.
func readInputs(value any) (string, *request.Refusal) {
	switch v := value.(type) {
	case string:
		if v == "" {
			return "", request.Invalid("inputs must not be empty.")
		}
		return v, nil
	case []any:
		var text strings.Builder
		for _, part := range v {
			o, _ := part.(map[string]any)
			kind, _ := o["type"].(string)
			piece, ok := o["text"].(string)
			if kind != "text" || !ok {
				return "", request.Invalid("inputs of type %q are not supported; only text is.", wire.Quoted(kind))
			}
			text.WriteString(piece)
		}
		if text.Len() > 0 {
			return text.String(), nil
		}
	}
	return "", misfit("inputs", "string or list")
}

// read takes the parameters, in the order in which MindIE reports the first failure.
func (b *generateBody) read(o object) (err *request.Refusal) {
	if b.stops, err = readStops(o["stop"]); err != nil {
		return err
	}
	s := &b.sampling
	if v, err := o.float("temperature", 0, math.MaxFloat32, true, false, "(0.0,3.402823e+38]"); err != nil {
		return err
	} else if v != nil {
		s.Temperature = float32(*v)
	}
	topK, err := o.integer("top_k")
	if err != nil {
		return err
	}
	topP, err := o.float("top_p", 0, 1, true, true, "(0.0,1.0]")
	if err != nil {
		return err
	}
	if _, err := o.float("typical_p", 0, 1, true, false, "(0.0,1.0]"); err != nil {
		return err
	}
	if b.doSample, err = o.boolean("do_sample"); err != nil {
		return err
	}
	if s.Seed, err = readSeed(o["seed"]); err != nil {
		return err
	}
	penalty, err := o.float("repetition_penalty", 0, math.MaxFloat32, true, false, "(0.0,3.402823e+38]")
	if err != nil {
		return err
	}
	if topK != nil {
		s.TopK = *topK
	}
	if topP != nil {
		s.TopP = float32(*topP)
	}
	if penalty != nil {
		s.RepetitionPenalty = float32(*penalty)
	}
	s.Sample = topK != nil || topP != nil || s.Temperature != 0 && s.Temperature != 1
	if b.doSample != nil {
		s.Sample = *b.doSample
	}
	return b.readRest(o)
}

func (b *generateBody) readRest(o object) *request.Refusal {
	if _, err := o.boolean("watermark"); err != nil { // accepted without effect, as typical_p is
		return err
	}
	if !o.null("adapter_id") {
		id, ok := o["adapter_id"].(string)
		if !ok {
			return misfit("adapter_id", "string")
		}
		if len(id) > maxAdapterIDBytes || !adapterID.MatchString(id) {
			return request.Invalid("The format of adapter_id is invalid.")
		}
		b.adapter = id
	}
	tokens, err := o.integer("max_new_tokens")
	if err != nil {
		return err
	}
	if tokens != nil {
		b.maxNewTokens = *tokens
	}
	for _, flag := range []struct {
		key    string
		target *bool
	}{{"details", &b.details}, {"decoder_input_details", &b.decoderInputDetails}, {"return_full_text", &b.returnFullText}} {
		value, err := o.boolean(flag.key)
		if err != nil {
			return err
		}
		*flag.target = value != nil && *value
	}
	truncate, err := o.integer("truncate")
	if err != nil {
		return err
	}
	if truncate != nil {
		b.truncate = *truncate
	}
	if b.stream && b.decoderInputDetails {
		return request.Invalid("The decoder_input_details must not be true when stream is true.")
	}
	return nil
}

func readStops(value any) ([]string, *request.Refusal) {
	var stops []string
	switch v := value.(type) {
	case nil:
		return nil, nil
	case string:
		stops = []string{v}
	case []any:
		for _, item := range v {
			stop, ok := item.(string)
			if !ok {
				return nil, misfit("stop", "string or list[string]")
			}
			stops = append(stops, stop)
		}
	default:
		return nil, misfit("stop", "string or list[string]")
	}
	total := 0
	for _, stop := range stops {
		runes := utf8.RuneCountInString(stop)
		if total += runes; runes < 1 || runes > maxStopRunes {
			return nil, request.Invalid("The length of each item of stop must be in [1,%d], got %d.", maxStopRunes, runes)
		}
	}
	if len(stops) > maxStops || total > maxStopsRunes {
		return nil, request.Invalid("stop must have at most %d items of %d characters in all, got %d of %d.", maxStops, maxStopsRunes,
			len(stops), total)
	}
	return stops, nil
}

// readSeed reads a seed, or draws one.
func readSeed(value any) (uint64, *request.Refusal) {
	if value == nil {
		return rand.Uint64() >> 1, nil
	}
	number, ok := value.(json.Number)
	if !ok {
		return 0, misfit("seed", "unsigned integer")
	}
	var seed uint64
	if _, err := fmt.Sscanf(string(number), "%d", &seed); err != nil || fmt.Sprint(seed) != string(number) {
		return 0, request.Invalid("seed must be in [0,18446744073709551615], got %s.", wire.Quoted(number))
	}
	return seed, nil
}

// resolve makes the request of a body whose prompt has these ids; it cuts both to what the model takes.
func (b *generateBody) resolve(model *answer.Model, ids []int32) (*request.Request, *request.Refusal) {
	if b.truncate > 0 && len(ids) > b.truncate {
		ids = ids[len(ids)-b.truncate:]
	}
	if len(ids) == 0 {
		return nil, request.Invalid("inputs must have at least one token.")
	}
	if len(ids) > model.MaxInputLength {
		return nil, &request.Refusal{Class: request.Generation,
			Message: fmt.Sprintf("Failed to enqueue inferRequest. This model's maximum input ids length cannot be greater than %d,the "+
				"input ids length is %d",
				model.MaxInputLength, len(ids))}
	}
	adapter := b.adapter
	if !model.Has(adapter) { // "None", or a name that is unknown: the base model answers
		adapter = ""
	}
	sampling := b.sampling
	sampling.TopK = min(sampling.TopK, model.Card.VocabularySize)
	resolved := &request.Request{Request: protocol.Request{
		Prompt: ids, MaxNewTokens: min(b.maxNewTokens, model.MaxTotalTokens-len(ids)), Sampling: sampling}}
	model.Use(resolved, adapter)
	return resolved, nil
}
