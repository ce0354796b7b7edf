package tgi

import (
	"math"
	"strconv"

	"lockstep/protocol"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// extensions are generation parameters that TGI 0.9.4 ignores, under the names that newer TGI, LightLLM, MindIE and vLLM
// give them. null is absent.
type extensions struct {
	// sampling has the fields that only extensions set.
	sampling           protocol.Sampling
	disablePromptCache bool
	adapterID          string
}

func (e *extensions) fields() []field {
	s := &e.sampling
	return []field{
		{"frequency_penalty", optional(intoFloat(&s.RelativeFrequencyPenalty))},
		{"presence_penalty", optional(intoFloat(&s.PresencePenalty))},
		{"min_p", optional(intoFloat(&s.MinP))},
		{"logit_bias", optional(intoBiases(&s.LogitBias))},
		{"allowed_token_ids", optional(intoList(&s.AllowedTokenIDs, intoSigned))},
		{"min_new_tokens", optional(intoCount(&s.MinNewTokens))},
		{"ignore_eos", optional(intoBool(&s.IgnoreEOS))},
		{"exponential_decay_length_penalty", optional(func(d *bodyDecoder) error {
			return d.structure(structure{name: "LengthPenalty", required: 2, fields: []field{
				{"start", intoCount(&s.LengthPenaltyStart)},
				{"factor", intoFloat(&s.LengthPenaltyFactor)},
			}})
		})},
		{"disable_prompt_cache", optional(intoBool(&e.disablePromptCache))},
		{"adapter_id", func(d *bodyDecoder) error {
			if c, ok := d.space(); ok && c == '"' {
				return intoText(&e.adapterID)(d)
			}
			return d.ignore() // it is no adapter's name
		}},
	}
}

// validate checks what the original has no checks for, for a request of so many new tokens. TGI 3 has one for
// frequency_penalty, which validateParameters does for all.
func (e *extensions) validate(vocabularySize int, maxNewTokens uint64) *request.Refusal {
	s := &e.sampling
	switch {
	case !(math.Abs(float64(s.PresencePenalty)) <= 2):
		return request.Invalid("`presence_penalty` must be >= -2.0 and <= 2.0")
	case !(s.MinP >= 0 && s.MinP <= 1):
		return request.Invalid("`min_p` must be >= 0.0 and <= 1.0")
	case uint64(s.MinNewTokens) > maxNewTokens:
		return request.Invalid("`min_new_tokens` must be <= `max_new_tokens`. Given: %d `min_new_tokens` and %d `max_new_tokens`",
			s.MinNewTokens, maxNewTokens)
	case s.LengthPenaltyFactor != 0 && !(s.LengthPenaltyFactor >= 1 && s.LengthPenaltyFactor <= math.MaxFloat32):
		return request.Invalid("`exponential_decay_length_penalty` must have a factor >= 1.0")
	}
	if err := s.Validate(vocabularySize); err != nil {
		return request.Invalid("%v", err)
	}
	return nil
}

// optional reads null as absent, and anything else with into.
func optional(into func(*bodyDecoder) error) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		if c, ok := d.space(); ok && c == 'n' {
			return d.word("null")
		}
		return into(d)
	}
}

// intoCount reads a 32-bit unsigned integer.
func intoCount(target *int) func(*bodyDecoder) error {
	return intoInteger(func(n number) { *target = int(n.unsigned) }, "u32", 0, math.MaxUint32)
}

// intoBiases reads an object whose keys are token ids.
func intoBiases(target *[]protocol.TokenBias) func(*bodyDecoder) error {
	return func(d *bodyDecoder) error {
		c, ok := d.space()
		if !ok {
			return d.ahead(eofValue)
		}
		if c != '{' {
			return d.unexpected("a map")
		}
		return d.eachMember(func(key string, _ byte) error {
			id, err := strconv.ParseInt(key, 10, 32)
			if err != nil {
				return d.misfit("invalid value: string " + rustQuote(wire.Quoted(key)) + ", expected a token id")
			}
			bias := protocol.TokenBias{ID: int32(id)}
			if err := intoFloat(&bias.Bias)(d); err != nil {
				return err
			}
			*target = append(*target, bias)
			return nil
		})
	}
}
