package lightllm

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// LightLLM's limits of a request.
const (
	maxBestOf        = 8
	maxStops         = 10
	maxStopBytes     = 255
	maxBanned        = 10
	maxAllowed       = 256
	maxTextRunes     = 8 // times the longest sequence in tokens
	defaultNewTokens = 65535
	greedyBelow      = 1e-5
)

// badType refuses a value of another type. The original raises a ValueError only for values out of range, and answers these
// by another status.
func badType(key, want string) *request.Refusal {
	return &request.Refusal{Class: request.Misfit, Message: fmt.Sprintf("%s must be %s", key, want)}
}

// generateBody is a checked body of LightLLM.
type generateBody struct {
	text              string
	ids               []int32 // instead of text
	bestOf            int
	doSample          bool
	sampling          protocol.Sampling
	seed              int64 // -1: drawn
	maxNewTokens      int
	stops             []string
	stopTokens        [][]int32
	skipSpecialTokens bool
	addSpecialTokens  bool
	printEOS          bool
	returnDetails     bool
	disableCache      bool
	inputPenalty      bool
	adapter           string
	guides            []guide.Source // what constrains the output
}

// decode reads a body and checks it; stream forbids several answers.
func decode(top map[string]any, stream bool) (*generateBody, *request.Refusal) {
	b := &generateBody{bestOf: 1, seed: -1, maxNewTokens: defaultNewTokens, skipSpecialTokens: true, addSpecialTokens: true}
	for _, key := range []string{"inputs", "parameters"} {
		if _, ok := top[key]; !ok {
			return nil, &request.Refusal{Class: request.Misfit, Message: "'" + key + "'"}
		}
	}
	parameters, ok := top["parameters"].(map[string]any)
	if !ok {
		return nil, badType("parameters", "an object")
	}
	if err := checkMultimodal(top["multimodal_params"]); err != nil {
		return nil, err
	}
	if adapter := top["lora_dir"]; adapter != nil { // S-LoRA's, which is a LightLLM with adapters
		if b.adapter, ok = adapter.(string); !ok {
			return nil, badType("lora_dir", "a string")
		}
	}
	switch v := top["inputs"].(type) {
	case string:
		b.text = v
	case []any:
		for _, item := range v {
			id, err := wholeNumber("inputs", item)
			if err != nil {
				return nil, err
			}
			b.ids = append(b.ids, int32(min(max(id, -1), math.MaxInt32)))
		}
	default:
		return nil, badType("inputs", "a string or a list of token ids")
	}
	if err := b.read(parameters); err != nil {
		return nil, err
	}
	if stream && b.bestOf != 1 {
		return nil, &request.Refusal{Class: request.Misfit, Message: "stream api only support best_of == 1"}
	}
	return b, b.verify()
}

// checkMultimodal refuses content: an empty object is fine.
func checkMultimodal(value any) *request.Refusal {
	if value == nil {
		return nil
	}
	o, ok := value.(map[string]any)
	if !ok {
		return badType("multimodal_params", "an object")
	}
	for _, key := range []string{"images", "audios"} {
		if list, ok := o[key].([]any); o[key] != nil && !ok || len(list) > 0 {
			return request.Invalid("multimodal_params: this model takes no %s", key)
		}
	}
	return nil
}

func wholeNumber(key string, value any) (int64, *request.Refusal) {
	number, ok := value.(json.Number)
	if !ok || strings.ContainsAny(string(number), ".eE") {
		return 0, badType(key, "an integer")
	}
	v, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		return 0, request.Invalid("%s is out of range: %s", key, wire.Quoted(number))
	}
	return v, nil
}

func realNumber(key string, value any) (float32, *request.Refusal) {
	number, ok := value.(json.Number)
	if !ok {
		return 0, badType(key, "a number")
	}
	v, err := number.Float64()
	if err != nil {
		return 0, request.Invalid("%s is out of range: %s", key, wire.Quoted(number))
	}
	return float32(min(max(v, -math.MaxFloat32), math.MaxFloat32)), nil
}

// readers read one parameter each. Unknown ones are ignored.
var readers = map[string]func(b *generateBody, key string, value any) *request.Refusal{
	"best_of":            intoWhole(func(b *generateBody) *int { return &b.bestOf }),
	"max_new_tokens":     intoWhole(func(b *generateBody) *int { return &b.maxNewTokens }),
	"min_new_tokens":     intoWhole(func(b *generateBody) *int { return &b.sampling.MinNewTokens }),
	"top_k":              intoWhole(func(b *generateBody) *int { return &b.sampling.TopK }),
	"presence_penalty":   intoReal(func(b *generateBody) *float32 { return &b.sampling.PresencePenalty }),
	"frequency_penalty":  intoReal(func(b *generateBody) *float32 { return &b.sampling.FrequencyPenalty }),
	"repetition_penalty": intoReal(func(b *generateBody) *float32 { return &b.sampling.RepetitionPenalty }),
	"temperature":        intoReal(func(b *generateBody) *float32 { return &b.sampling.Temperature }),
	"top_p":              intoReal(func(b *generateBody) *float32 { return &b.sampling.TopP }),

	"do_sample":            intoFlag(func(b *generateBody) *bool { return &b.doSample }),
	"ignore_eos":           intoFlag(func(b *generateBody) *bool { return &b.sampling.IgnoreEOS }),
	"input_penalty":        intoFlag(func(b *generateBody) *bool { return &b.inputPenalty }),
	"skip_special_tokens":  intoFlag(func(b *generateBody) *bool { return &b.skipSpecialTokens }),
	"add_special_tokens":   intoFlag(func(b *generateBody) *bool { return &b.addSpecialTokens }),
	"print_eos_token":      intoFlag(func(b *generateBody) *bool { return &b.printEOS }),
	"return_details":       intoFlag(func(b *generateBody) *bool { return &b.returnDetails }),
	"disable_prompt_cache": intoFlag(func(b *generateBody) *bool { return &b.disableCache }),

	"seed": func(b *generateBody, key string, value any) (err *request.Refusal) {
		if value != nil {
			b.seed, err = wholeNumber(key, value)
		}
		return err
	},
	"stop_sequences":                   (*generateBody).readStops,
	"logit_bias":                       (*generateBody).readBanned,
	"allowed_token_ids":                (*generateBody).readAllowed,
	"exponential_decay_length_penalty": (*generateBody).readDecay,
	"regular_constraint":               intoGuide(guide.Regex, "Regular constraint"),
	"guided_grammar":                   intoGuide(guide.Grammar, "Guided grammar"),
	"guided_json":                      intoGuide(guide.Schema, "Guided json schema"),
	"prompt_logprobs": func(_ *generateBody, key string, value any) *request.Refusal {
		if value == nil {
			return nil
		}
		if v, err := wholeNumber(key, value); err != nil || v == -1 {
			return err
		}
		return request.Invalid("prompt_logprobs is not enabled")
	},
}

func intoWhole(target func(*generateBody) *int) func(*generateBody, string, any) *request.Refusal {
	return func(b *generateBody, key string, value any) *request.Refusal {
		v, err := wholeNumber(key, value)
		*target(b) = int(min(max(v, math.MinInt32), math.MaxInt32))
		return err
	}
}

func intoReal(target func(*generateBody) *float32) func(*generateBody, string, any) *request.Refusal {
	return func(b *generateBody, key string, value any) (err *request.Refusal) {
		*target(b), err = realNumber(key, value)
		return err
	}
}

func intoFlag(target func(*generateBody) *bool) func(*generateBody, string, any) *request.Refusal {
	return func(b *generateBody, key string, value any) *request.Refusal {
		v, ok := value.(bool)
		if !ok {
			return badType(key, "a boolean")
		}
		*target(b) = v
		return nil
	}
}

// read takes the parameters; the values that LightLLM has for absent ones are set first.
func (b *generateBody) read(parameters map[string]any) *request.Refusal {
	b.sampling = protocol.Sampling{Temperature: 1, TopP: 1, TopK: -1, RepetitionPenalty: 1, MinNewTokens: 1}
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		if read := readers[key]; read != nil {
			if err := read(b, key, parameters[key]); err != nil {
				return err
			}
		}
	}
	if n, ok := parameters["n"]; ok {
		if v, err := wholeNumber("n", n); err != nil {
			return err
		} else if int(v) != b.bestOf && parameters["best_of"] != nil || v < 1 {
			return request.Invalid("n must equal best_of, got n %d and best_of %d", v, b.bestOf)
		} else {
			b.bestOf = int(v)
		}
	}
	return nil
}

// verify checks ranges.
func (b *generateBody) verify() *request.Refusal {
	if err := b.verifyGuides(); err != nil {
		return err
	}
	s := &b.sampling
	switch {
	case b.bestOf < 1 || b.bestOf > maxBestOf:
		return request.Invalid("best_of must be in [1, %d], got %d", maxBestOf, b.bestOf)
	case s.PresencePenalty < 0:
		return request.Invalid("presence_penalty must >= 0.0, got %v", s.PresencePenalty)
	case s.FrequencyPenalty < 0:
		return request.Invalid("frequency_penalty must >= 0.0, got %v", s.FrequencyPenalty)
	case s.RepetitionPenalty < 1:
		return request.Invalid("repetition_penalty must >= 1.0, got %v", s.RepetitionPenalty)
	case s.Temperature < 0:
		return request.Invalid("temperature must > 0.0, got %v", s.Temperature)
	case s.TopP <= 0 || s.TopP > 1:
		return request.Invalid("top_p must be in (0.0, 1.0], got %v", s.TopP)
	case s.TopK < -1 || s.TopK == 0:
		return request.Invalid("top_k must be -1 (disable), or at least 1, got %d.", s.TopK)
	case b.maxNewTokens < 1:
		return request.Invalid("max_new_tokens must be at least 1, got %d.", b.maxNewTokens)
	case s.MinNewTokens < 1 || s.MinNewTokens > b.maxNewTokens:
		return request.Invalid("min_new_tokens must be in [1, max_new_tokens], got %d and max_new_tokens %d.", s.MinNewTokens,
			b.maxNewTokens)
	case b.seed < -1:
		return request.Invalid("seed must be at least -1, got %d", b.seed)
	}
	return nil
}

// readStops takes a string, a list of strings, a list of lists of ids, or both mixed.
func (b *generateBody) readStops(key string, value any) *request.Refusal {
	list, ok := value.([]any)
	switch v := value.(type) {
	case nil:
		return nil
	case string:
		list, ok = []any{v}, true
	}
	if !ok || len(list) > maxStops {
		return request.Invalid("stop_sequences must be a string or a list of at most %d", maxStops)
	}
	for _, item := range list {
		switch v := item.(type) {
		case string:
			if v == "" || len(v) > maxStopBytes {
				return request.Invalid("a stop sequence must have 1 to %d bytes, got %d", maxStopBytes, len(v))
			}
			b.stops = append(b.stops, v)
		case []any:
			ids, err := tokenIDs(key, v, protocol.MaxStopTokens)
			if err != nil {
				return err
			}
			if len(ids) > 0 {
				b.stopTokens = append(b.stopTokens, ids)
			}
		default:
			return badType(key, "made of strings or lists of token ids")
		}
	}
	return nil
}

func tokenIDs(key string, value any, most int) ([]int32, *request.Refusal) {
	list, ok := value.([]any)
	if !ok {
		return nil, badType(key, "a list of token ids")
	}
	if len(list) > most {
		return nil, request.Invalid("%s has %d ids, at most %d", key, len(list), most)
	}
	var ids []int32
	for _, item := range list {
		id, err := wholeNumber(key, item)
		if err != nil {
			return nil, err
		}
		ids = append(ids, int32(min(max(id, -1), math.MaxInt32)))
	}
	return ids, nil
}

// readBanned takes logit_bias, of which LightLLM looks at the keys only: these ids are never chosen.
func (b *generateBody) readBanned(key string, value any) *request.Refusal {
	o, ok := value.(map[string]any)
	if !ok {
		return badType(key, "an object")
	}
	if len(o) > maxBanned {
		return request.Invalid("logit_bias has %d ids, at most %d", len(o), maxBanned)
	}
	for _, text := range slices.Sorted(maps.Keys(o)) {
		id, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return request.Invalid("logit_bias: %q is no token id", wire.Quoted(text))
		}
		b.sampling.BannedTokenIDs = append(b.sampling.BannedTokenIDs, int32(id))
	}
	return nil
}

func (b *generateBody) readAllowed(key string, value any) (err *request.Refusal) {
	b.sampling.AllowedTokenIDs, err = tokenIDs(key, value, maxAllowed)
	return err
}

func (b *generateBody) readDecay(key string, value any) *request.Refusal {
	pair, ok := value.([]any)
	if !ok || len(pair) != 2 {
		return badType(key, "a list of start and factor")
	}
	start, err := wholeNumber(key, pair[0])
	if err != nil {
		return err
	}
	factor, err := realNumber(key, pair[1])
	if err != nil {
		return err
	}
	if start < 0 || factor < 1 {
		return request.Invalid("exponential_decay_length_penalty must be (>= 0, >= 1.0), got (%d, %v)", start, factor)
	}
	b.sampling.LengthPenaltyStart, b.sampling.LengthPenaltyFactor = int(min(start, math.MaxInt32)), factor
	return nil
}

// resolved returns the sampling of the copy-th answer.
func (b *generateBody) resolved(copy int) protocol.Sampling {
	s := b.sampling
	s.RepetitionSkipsPrompt, s.PenaltiesCountPrompt = !b.inputPenalty, b.inputPenalty
	s.Sample = b.doSample && s.Temperature >= greedyBelow && s.TopK != 1
	if !s.Sample {
		s.Temperature, s.TopP, s.TopK = 0, 0, 0
		return s
	}
	s.TopK = max(s.TopK, 0)
	if s.Seed = rand.Uint64(); b.seed >= 0 {
		s.Seed = uint64(b.seed) + uint64(copy)
	}
	return s
}
