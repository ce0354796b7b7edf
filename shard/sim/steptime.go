package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"lockstep/protocol/regular"
	"lockstep/shard/schedule"
)

// StepModel says how long a step takes: a sum of what it computes, each times a duration in seconds.
type StepModel struct {
	Name         string  `json:"name"`
	Base         float64 `json:"base"`
	PrefillToken float64 `json:"prefill_token"`
	PrefillPair  float64 `json:"prefill_pair"`
	Decode       float64 `json:"decode"` // a sequence's next token
	DecodePair   float64 `json:"decode_pair"`
}

// DefaultStepModel is a roofline of Llama-2-7B in 16 bits on one A100 with 80 GB: 13.5 GB of weights at 2.0 TB/s and an
// overhead a step; 14 GFLOP a token at 60% of 312 TFLOP/s; 0.5 MB of keys and values a position at 2.0 TB/s. It has room
// for about 120,000 tokens: the set-up of the past-future paper (https://arxiv.org/abs/2507.10150).
var DefaultStepModel = StepModel{Name: "Llama-2-7B on A100-80GB, roofline", Base: 0.008, PrefillToken: 75e-6, PrefillPair: 2.8e-9,
	Decode: 75e-6, DecodePair: 0.26e-6}

// Seconds is how long a step takes.
func (m *StepModel) Seconds(c *schedule.Cost) float64 {
	return m.Base + m.PrefillToken*float64(c.PrefillTokens) + m.PrefillPair*float64(c.PrefillPairs) +
		m.Decode*float64(c.Decodes) + m.DecodePair*float64(c.DecodePairs)
}

// maxStepModelBytes bounds a step model's file, which has six lines.
const maxStepModelBytes = 64 << 10

// ReadStepModel reads a model that `lockstep simulate --fit` wrote.
func ReadStepModel(path string) (model StepModel, err error) {
	data, err := regular.Read(path, maxStepModelBytes)
	if err != nil {
		return model, err
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields() // a misspelt duration would be none
	if err = decoder.Decode(&model); err != nil {
		return model, fmt.Errorf("step model %s: %w: it has name, and in seconds base, prefill_token, prefill_pair, decode and decode_pair",
			path, err)
	}
	values := []float64{model.Base, model.PrefillToken, model.PrefillPair, model.Decode, model.DecodePair}
	if !(model.Base > 0) {
		return model, fmt.Errorf("step model %s: base, the seconds of every step, must be above 0, got %v", path, model.Base)
	}
	for _, v := range values {
		if !(v >= 0 && v < 3600) {
			return model, fmt.Errorf("step model %s: a duration is none in %v", path, values)
		}
	}
	return model, nil
}

// ParseStepModel reads what a flag says: a duration that every step takes ("10ms"), or the path of a step model; nothing means
// DefaultStepModel.
func ParseStepModel(text string) (StepModel, error) {
	if text == "" {
		return DefaultStepModel, nil
	}
	if each, err := time.ParseDuration(text); err == nil {
		if each < 0 || each > time.Hour {
			return StepModel{}, fmt.Errorf("steps of %v: want 0s to 1h", each)
		}
		return StepModel{Name: text, Base: each.Seconds()}, nil
	}
	model, err := ReadStepModel(text)
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%q is neither a time, such as 10ms, nor a file", text)
	}
	return model, err
}
