package tgi

import (
	"errors"
	"math"
	"slices"

	"lockstep/router/api/answer"
	"lockstep/router/request"
)

// parameters are the generation parameters of TGI as they stand in a body; nil is null or absent.
type parameters struct {
	BestOf              *uint64
	Temperature         *float32
	RepetitionPenalty   *float32
	TopK                *int32
	TopP                *float32
	TypicalP            *float32
	DoSample            bool
	MaxNewTokens        *uint64 // nil, with TGI 3 only: as many as there is room for
	ReturnFullText      *bool
	Stop                []string
	Truncate            *uint64
	Watermark           bool
	Details             bool
	DecoderInputDetails bool
	Seed                *uint64
	TopNTokens          *uint64 // from here on TGI 3 only
	Grammar             *grammar
	AdapterID           *string
	Extensions          extensions
}

// adapter is the adapter that is asked for, empty: none. "None" is what MindIE's clients say for it. TGI 0.9.4 knows no adapters:
// its clients' word for one counts where the model has any.
func (p *parameters) adapter(model *answer.Model) string {
	name := ""
	switch {
	case p.AdapterID != nil:
		name = *p.AdapterID
	case len(model.Adapters) > 0:
		name = p.Extensions.adapterID
	}
	if name == "None" {
		return ""
	}
	return name
}

// generateBody is the body of the generate routes; Stream counts on the compatible routes only.
type generateBody struct {
	Inputs     string
	Parameters parameters
	Stream     bool
}

func intoSize(target *uint64) func(*bodyDecoder) error {
	return intoUnsigned(target, "usize", math.MaxUint64)
}

func intoU32(target *uint64) func(*bodyDecoder) error {
	return intoUnsigned(target, "u32", math.MaxUint32)
}

func intoU64(target *uint64) func(*bodyDecoder) error {
	return intoUnsigned(target, "u64", math.MaxUint64)
}

// parameterFields is the structure of parameters in the order in which an array holds them.
func parameterFields(p *parameters, v *version) structure {
	fields := []field{
		{"best_of", nullable(&p.BestOf, intoSize)},
		{"temperature", nullable(&p.Temperature, intoFloat)},
		{"repetition_penalty", nullable(&p.RepetitionPenalty, intoFloat)},
		{"top_k", nullable(&p.TopK, intoSigned)},
		{"top_p", nullable(&p.TopP, intoFloat)},
		{"typical_p", nullable(&p.TypicalP, intoFloat)},
		{"do_sample", intoBool(&p.DoSample)},
		{"max_new_tokens", func(d *bodyDecoder) error { return intoU32(p.MaxNewTokens)(d) }},
		{"return_full_text", nullable(&p.ReturnFullText, intoBool)},
		{"stop", intoList(&p.Stop, intoText)},
		{"truncate", nullable(&p.Truncate, intoSize)},
		{"watermark", intoBool(&p.Watermark)},
		{"details", intoBool(&p.Details)},
		{"decoder_input_details", intoBool(&p.DecoderInputDetails)},
		{"seed", nullable(&p.Seed, intoU64)},
	}
	if v.laterParameters {
		fields[7] = field{"max_new_tokens", nullable(&p.MaxNewTokens, intoU32)}
		// Fields go before extensions of the same name.
		fields = slices.Insert(fields, 3, field{"frequency_penalty", optional(intoFloat(&p.Extensions.sampling.RelativeFrequencyPenalty))})
		fields = append(fields,
			field{"top_n_tokens", nullable(&p.TopNTokens, intoU32)},
			field{"grammar", nullable(&p.Grammar, intoGrammar)},
			field{"adapter_id", nullable(&p.AdapterID, intoText)})
	}
	return structure{name: "GenerateParameters", fields: fields, extensions: append(p.Extensions.fields(),
		field{"grammar", nullable(&p.Grammar, intoGrammar)})}
}

// decode reads a body of a generate route.
func decode(data []byte, f form) (*generateBody, *request.Refusal) {
	body := &generateBody{}
	p := &body.Parameters
	if p.DoSample = f.sampledBare; f.maxNewTokens > 0 {
		p.MaxNewTokens = new(f.maxNewTokens)
	}
	s := structure{name: "GenerateRequest", required: 1, fields: []field{
		{"inputs", intoText(&body.Inputs)},
		{"parameters", func(d *bodyDecoder) error {
			p.DoSample = false
			return d.structure(parameterFields(p, f.version))
		}},
	}}
	if f.compat {
		s.name = "CompatGenerateRequest"
		s.fields = append(s.fields, field{"stream", intoBool(&body.Stream)})
	}
	d := &bodyDecoder{data: data}
	err := d.structure(s)
	if refusal := new(bodyError); errors.As(err, &refusal) && f.untagged && !refusal.syntax {
		// The original reads the whole body before it tries what it may be.
		if err = (&bodyDecoder{data: data}).ignore(); err == nil {
			err = &bodyError{text: "data did not match any variant of untagged enum SagemakerRequest"}
		}
	}
	if err != nil {
		return nil, refusalOf(err)
	}
	return body, nil
}

// refusalOf tells what the framework of the original takes for malformed from what does not fit.
func refusalOf(err error) *request.Refusal {
	if refusal := new(bodyError); errors.As(err, &refusal) && !refusal.syntax {
		return &request.Refusal{Class: request.Misfit, Message: err.Error()}
	}
	return &request.Refusal{Class: request.Malformed, Message: err.Error()}
}
