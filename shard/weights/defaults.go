package weights

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"

	"lockstep/protocol"
)

// samplingKey is a sampling parameter that a model's files may recommend.
type samplingKey struct {
	name string // in generation_config.json, as transformers writes it
	gguf string // behind general.sampling., as llama.cpp writes it; empty: nobody does
	want string
	fits func(value float64) bool
	set  func(d *protocol.SamplingDefaults, value float64)
}

// samplingKeys are those that vLLM takes from generation_config.json.
var samplingKeys = []samplingKey{
	{"temperature", "temp", "a number that is not negative", func(v float64) bool { return v >= 0 && v <= math.MaxFloat32 },
		func(d *protocol.SamplingDefaults, v float64) { d.Temperature = new(float32(v)) }},
	{"top_p", "top_p", "a number from 0 to 1", isShare, func(d *protocol.SamplingDefaults, v float64) { d.TopP = new(float32(v)) }},
	{"top_k", "top_k", "a whole number", func(v float64) bool { return v == math.Trunc(v) && v >= -1 && v <= math.MaxInt32 },
		func(d *protocol.SamplingDefaults, v float64) { d.TopK = new(max(0, int(v))) }},
	{"min_p", "min_p", "a number from 0 to 1", isShare, func(d *protocol.SamplingDefaults, v float64) { d.MinP = new(float32(v)) }},
	{"repetition_penalty", "penalty_repeat", "a number above 0",
		func(v float64) bool { return float32(v) > 0 && v <= math.MaxFloat32 },
		func(d *protocol.SamplingDefaults, v float64) { d.RepetitionPenalty = new(float32(v)) }},
	{"max_new_tokens", "", "a whole number above 0", func(v float64) bool { return v == math.Trunc(v) && v >= 1 && v <= math.MaxInt32 },
		func(d *protocol.SamplingDefaults, v float64) { d.MaxTokens = int(v) }},
}

func isShare(v float64) bool { return v >= 0 && v <= 1 }

// take sets one default to a value as a file has it, nil where it has none. What cannot be it goes to Doubts.
func (f *Files) take(key samplingKey, source string, value any) {
	var number float64
	switch value := value.(type) {
	case nil:
		return
	case float64:
		number = value
	case int64:
		number = float64(value)
	default:
		number = math.NaN()
	}
	if !key.fits(number) {
		shown, err := json.Marshal(value)
		if err != nil { // a number that JSON does not have
			shown = fmt.Append(nil, value)
		}
		f.doubt("%s is %.60s, and %s is wanted: requests that do not say have no such default", source, shown, key.want)
		return
	}
	key.set(&f.Defaults, number)
}

// defaultsOfDirectory reads generation_config.json.
func (f *Files) defaultsOfDirectory(dir fs.FS) error {
	var config map[string]json.RawMessage
	if _, err := readJSON(dir, "generation_config.json", &config); err != nil {
		return err
	}
	for _, key := range samplingKeys {
		var value any
		if raw := config[key.name]; len(raw) > 0 && json.Unmarshal(raw, &value) != nil {
			value = string(raw) // a number that is too large
		}
		f.take(key, "generation_config.json: "+key.name, value)
	}
	return nil
}

// defaultsOfGGUF reads the keys general.sampling. of a GGUF file, which the specification does not have.
func (f *Files) defaultsOfGGUF(meta *Metadata) {
	for _, key := range samplingKeys {
		if name := "general.sampling." + key.gguf; key.gguf != "" {
			f.take(key, name, meta.values[name])
		}
	}
}
