package tgi

import (
	"context"
	"math"
	"math/rand/v2"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/router/api/answer"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// validateBestOf is what TGI checks before it looks for a free permit.
func (d *Dialect) validateBestOf(bestOf uint64) *request.Refusal {
	switch limit := uint64(d.config.Limits.MaxBestOf); {
	case limit == 1 && bestOf != 1:
		return request.Invalid("`best_of` != 1 is not allowed for this endpoint")
	case bestOf > limit:
		return request.Invalid("`best_of` must be > 0 and <= %d. Given: %d", limit, bestOf)
	}
	return nil
}

// validateStream is what TGI checks first on a stream.
func validateStream(p *parameters) *request.Refusal {
	switch {
	case p.BestOf != nil && *p.BestOf != 1:
		return request.Invalid("`best_of` != 1 is not supported when streaming tokens")
	case p.DecoderInputDetails:
		return request.Invalid("`decoder_input_details` == true is not supported when streaming tokens")
	}
	return nil
}

func outside01(value *float32) bool { return value != nil && !(*value > 0 && *value < 1) }

// validateParameters checks the parameters in TGI's order.
func (d *Dialect) validateParameters(body *generateBody, bestOf int) *request.Refusal {
	p := &body.Parameters
	sampling := p.DoSample || p.Temperature != nil || p.TopK != nil || p.TopP != nil || p.TypicalP != nil || p.Extensions.sampling.MinP > 0
	switch {
	case bestOf > 1 && !sampling:
		return request.Invalid("you must use sampling when `best_of` is > 1")
	case p.Temperature != nil && !(*p.Temperature > 0):
		return request.Invalid("`temperature` must be strictly positive")
	case p.RepetitionPenalty != nil && !(*p.RepetitionPenalty > 0):
		return request.Invalid("`repetition_penalty` must be strictly positive")
	case !(math.Abs(float64(p.Extensions.sampling.RelativeFrequencyPenalty)) <= 2):
		return request.Invalid("`frequency_penalty` must be >= -2.0 and <= 2.0")
	case outside01(p.TopP):
		return request.Invalid("`top_p` must be > 0.0 and < 1.0")
	case outside01(p.TypicalP):
		return request.Invalid("`typical_p` must be > 0.0 and < 1.0")
	case p.TopK != nil && *p.TopK <= 0:
		return request.Invalid("`top_k` must be strictly positive")
	case p.MaxNewTokens != nil && *p.MaxNewTokens == 0:
		return request.Invalid("`max_new_tokens` must be strictly positive")
	case len(p.Stop) > d.config.Limits.MaxStopSequences:
		return request.Invalid("`stop` supports up to %d stop sequences. Given: %d", d.config.Limits.MaxStopSequences, len(p.Stop))
	case bestOf > 1 && p.Seed != nil:
		return request.Invalid("`seed` must not be set when `best_of` > 1")
	case p.TopNTokens != nil && *p.TopNTokens > uint64(d.config.Limits.MaxTopNTokens):
		return request.Invalid("`top_n_tokens` must be >= 0 and <= %d. Given: %d", d.config.Limits.MaxTopNTokens, *p.TopNTokens)
	case body.Inputs == "":
		return request.Invalid("`inputs` cannot be empty")
	}
	return nil
}

// validate checks a body and resolves it into a request. It waits for a model and for a free validation worker.
func (d *Dialect) validate(ctx context.Context, body *generateBody, bestOf int) (*request.Request, *answer.Model, *request.Refusal) {
	if err := d.validateParameters(body, bestOf); err != nil {
		return nil, nil, err
	}
	model, err := d.answers.WaitModel(ctx)
	if err != nil {
		return nil, nil, err
	}
	p := &body.Parameters
	newTokens := uint64(model.MaxTotalTokens)
	if p.MaxNewTokens != nil {
		newTokens = *p.MaxNewTokens
	}
	if err := p.Extensions.validate(model.Card.VocabularySize, newTokens); err != nil {
		return nil, nil, err
	}
	if p.Truncate != nil && (*p.Truncate == 0 || *p.Truncate > uint64(model.MaxInputLength)) {
		return nil, nil, request.Invalid("`truncate` must be strictly positive and less than %d. Given: %d", model.MaxInputLength,
			*p.Truncate)
	}
	ids, err := d.answers.Encode(ctx, model, body.Inputs, true)
	if err != nil {
		return nil, nil, err
	}
	if p.Truncate != nil && uint64(len(ids)) > *p.Truncate {
		ids = ids[uint64(len(ids))-*p.Truncate:]
	}
	if p.MaxNewTokens == nil {
		newTokens = uint64(max(model.MaxTotalTokens-len(ids), 0))
	}
	if err := validateLength(model, p, len(ids), newTokens); err != nil {
		return nil, nil, err
	}
	var source *guide.Source
	if p.Grammar != nil {
		if source, err = d.checkGrammar(ctx, model, p.Grammar); err != nil {
			return nil, nil, err
		}
	}
	if err := validateAdapter(model, p); err != nil {
		return nil, nil, err
	}
	d.answers.Metrics.Validated(len(ids), int(newTokens))
	resolved := &request.Request{CardDigest: model.Digest, Request: protocol.Request{
		Prompt: ids, MaxNewTokens: int(newTokens), PromptLogprobs: p.DecoderInputDetails,
		Sampling: resolveSampling(p), NoPrefixCache: p.Extensions.disablePromptCache, Guide: source,
	}}
	if p.TopNTokens != nil {
		resolved.TopLogprobs = int(*p.TopNTokens)
	}
	model.Use(resolved, p.adapter(model))
	return resolved, model, nil
}

// validateLength is what TGI checks once it has the prompt's tokens.
func validateLength(model *answer.Model, p *parameters, tokens int, newTokens uint64) *request.Refusal {
	switch {
	case tokens == 0:
		return request.Invalid("`inputs` cannot be empty")
	case uint64(tokens)+newTokens > uint64(model.MaxTotalTokens):
		return request.Invalid("`inputs` tokens + `max_new_tokens` must be <= %d. Given: %d `inputs` tokens and %d `max_new_tokens`",
			model.MaxTotalTokens, tokens, newTokens)
	case tokens > model.MaxInputLength:
		return request.Invalid("`inputs` must have less than %d tokens. Given: %d", model.MaxInputLength, tokens)
	}
	return nil
}

// validateAdapter is what TGI checks last.
func validateAdapter(model *answer.Model, p *parameters) *request.Refusal {
	switch adapter := p.adapter(model); {
	case adapter == "" || model.Has(adapter):
		return nil
	case len(model.Adapters) == 0:
		return request.Invalid("`adapter_id` is not supported")
	default:
		return request.Invalid("`adapter_id` must be one of: %s. Given: %s", model.AdapterNames(), wire.Quoted(adapter))
	}
}

// TGI's watermark; it reads other values from the environment of its shards.
const (
	watermarkGamma = 0.5
	watermarkDelta = 2.0
)

// resolveSampling applies TGI's rule of when to sample, and draws the seed where none was given.
func resolveSampling(p *parameters) protocol.Sampling {
	s := p.Extensions.sampling
	s.Temperature, s.RepetitionPenalty = finite(p.Temperature), finite(p.RepetitionPenalty)
	s.TopP, s.TypicalP = finite(p.TopP), finite(p.TypicalP)
	if p.Watermark {
		s.WatermarkGamma, s.WatermarkDelta = watermarkGamma, watermarkDelta
	}
	if p.TopK != nil {
		s.TopK = int(*p.TopK)
	}
	s.Sample = p.DoSample || p.TopK != nil || p.TopP != nil || p.TypicalP != nil || s.MinP > 0 || p.Temperature != nil &&
		*p.Temperature != 1
	switch {
	case !s.Sample:
	case p.Seed != nil:
		s.Seed = *p.Seed
	default:
		s.Seed = rand.Uint64()
	}
	return s
}

// finite returns the value, 0 for null, and the largest number for what single precision cannot hold.
func finite(value *float32) float32 {
	if value == nil {
		return 0
	}
	return min(*value, math.MaxFloat32)
}
