package protocol

import (
	"errors"
	"fmt"
	"math"
)

// Limits of a request's lists; a request with longer ones is refused as invalid.
const (
	// MaxTopLogprobs bounds the alternatives that are reported for each token.
	MaxTopLogprobs = 64
	// MaxTokenList bounds LogitBias, BannedTokenIDs and AllowedTokenIDs, each.
	MaxTokenList = 1024
	// MaxStopTokenSequences and MaxStopTokens bound the stops that are given as ids, and the ids of each.
	MaxStopTokenSequences = 16
	MaxStopTokens         = 256
)

// Sampling is how tokens are chosen. The zero value of a field switches it off. The steps apply in this order: watermark,
// repetition penalty, frequency penalty, presence penalty, logit bias, length penalty, banned and allowed ids and the
// minimum of new tokens, temperature, min_p, top_k, top_p, typical_p; then the choice. What two dialects mean differently
// by one name stands here as two fields, and each dialect sets its own.
type Sampling struct {
	Sample      bool    `json:"sample,omitempty"` // false: greedy
	Seed        uint64  `json:"seed,omitempty"`
	Temperature float32 `json:"temperature,omitempty"`
	// MinP drops tokens less likely than MinP times the likeliest.
	MinP     float32 `json:"min_p,omitempty"`
	TopK     int     `json:"top_k,omitempty"`
	TopP     float32 `json:"top_p,omitempty"`
	TypicalP float32 `json:"typical_p,omitempty"`

	// RepetitionPenalty divides positive scores and multiplies negative ones of every id that occurred, once an id.
	RepetitionPenalty float32 `json:"repetition_penalty,omitempty"`
	// RepetitionSkipsPrompt lets it see generated tokens only (LightLLM without input_penalty).
	RepetitionSkipsPrompt bool `json:"repetition_skips_prompt,omitempty"`
	// FrequencyPenalty is subtracted from an id's score once for each time it was generated (OpenAI, LightLLM).
	FrequencyPenalty float32 `json:"frequency_penalty,omitempty"`
	// RelativeFrequencyPenalty is subtracted times the share that an id has of all tokens, prompt and generated (TGI 3).
	RelativeFrequencyPenalty float32 `json:"relative_frequency_penalty,omitempty"`
	// PresencePenalty is subtracted once from the score of every id that was generated.
	PresencePenalty float32 `json:"presence_penalty,omitempty"`
	// PenaltiesCountPrompt lets FrequencyPenalty and PresencePenalty see the prompt too (LightLLM's input_penalty).
	PenaltiesCountPrompt bool `json:"penalties_count_prompt,omitempty"`

	// LogitBias is added to scores; no id twice.
	LogitBias []TokenBias `json:"logit_bias,omitempty"`
	// BannedTokenIDs are never chosen. If AllowedTokenIDs is not empty, nothing else is.
	BannedTokenIDs  []int32 `json:"banned_token_ids,omitempty"`
	AllowedTokenIDs []int32 `json:"allowed_token_ids,omitempty"`

	// MinNewTokens keeps the end-of-sequence ids from being chosen before so many tokens are generated.
	MinNewTokens int `json:"min_new_tokens,omitempty"`
	// IgnoreEOS goes on behind an end-of-sequence token.
	IgnoreEOS bool `json:"ignore_eos,omitempty"`
	// LengthPenaltyFactor, above 1, lifts the end-of-sequence ids' scores s by |s| (factor^(generated - start) - 1) once
	// more than LengthPenaltyStart tokens are generated (exponential_decay_length_penalty).
	LengthPenaltyStart  int     `json:"length_penalty_start,omitempty"`
	LengthPenaltyFactor float32 `json:"length_penalty_factor,omitempty"`

	// WatermarkDelta, above 0, is added to the scores of a share WatermarkGamma of all ids, which the last token decides
	// (A Watermark for Large Language Models, https://arxiv.org/abs/2301.10226).
	WatermarkGamma float32 `json:"watermark_gamma,omitempty"`
	WatermarkDelta float32 `json:"watermark_delta,omitempty"`
}

// TokenBias is what is added to the score of one id.
type TokenBias struct {
	ID   int32   `json:"id"`
	Bias float32 `json:"bias"`
}

// SamplingDefaults are what a model's makers recommend, under the names of OpenAI's interface; nil, or 0: nothing.
type SamplingDefaults struct {
	Temperature       *float32 `json:"temperature,omitempty"`
	TopP              *float32 `json:"top_p,omitempty"`
	TopK              *int     `json:"top_k,omitempty"` // 0: off
	MinP              *float32 `json:"min_p,omitempty"`
	RepetitionPenalty *float32 `json:"repetition_penalty,omitempty"`
	// MaxTokens is how many new tokens an answer has at most.
	MaxTokens int `json:"max_tokens,omitempty"`
}

// Validate checks ranges, which are those of Sampling.
func (d *SamplingDefaults) Validate() error {
	s := Sampling{Temperature: valueOf(d.Temperature), TopP: valueOf(d.TopP), TopK: valueOf(d.TopK), MinP: valueOf(d.MinP),
		RepetitionPenalty: valueOf(d.RepetitionPenalty)}
	if s.Validate(1) != nil || d.MaxTokens < 0 || d.RepetitionPenalty != nil && s.RepetitionPenalty == 0 {
		return errors.New("a default of the sampling parameters is out of range")
	}
	return nil
}

// valueOf is what a pointer points to, 0 without one.
func valueOf[T any](pointer *T) (value T) {
	if pointer != nil {
		value = *pointer
	}
	return value
}

func finite(values ...float32) bool {
	for _, v := range values {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			return false
		}
	}
	return true
}

// Validate checks ranges and ids.
func (s *Sampling) Validate(vocabularySize int) error {
	switch {
	case !finite(s.Temperature, s.MinP, s.TopP, s.TypicalP, s.RepetitionPenalty, s.FrequencyPenalty, s.RelativeFrequencyPenalty,
		s.PresencePenalty, s.LengthPenaltyFactor, s.WatermarkGamma, s.WatermarkDelta),
		s.Temperature < 0, s.TopK < 0, s.RepetitionPenalty < 0, s.MinP < 0, s.MinP > 1, s.TopP < 0, s.TopP > 1, s.TypicalP < 0,
		s.TypicalP > 1,
		s.MinNewTokens < 0, s.LengthPenaltyStart < 0, s.LengthPenaltyFactor < 0, s.WatermarkGamma < 0, s.WatermarkGamma > 1,
		s.WatermarkDelta < 0:
		return errors.New("a sampling parameter is out of range")
	case len(s.LogitBias) > MaxTokenList || len(s.BannedTokenIDs) > MaxTokenList || len(s.AllowedTokenIDs) > MaxTokenList:
		return fmt.Errorf("a list of token ids has more than %d entries", MaxTokenList)
	}
	biased := make(map[int32]bool, len(s.LogitBias))
	for _, b := range s.LogitBias {
		if err := checkIDs([]int32{b.ID}, vocabularySize); err != nil {
			return fmt.Errorf("logit bias: %w", err)
		}
		switch {
		case biased[b.ID]:
			return fmt.Errorf("logit bias: token id %d is given twice", b.ID)
		case !finite(b.Bias):
			return fmt.Errorf("logit bias: that of token id %d is not finite", b.ID)
		}
		biased[b.ID] = true
	}
	if err := checkIDs(s.BannedTokenIDs, vocabularySize); err != nil {
		return fmt.Errorf("banned token ids: %w", err)
	}
	if err := checkIDs(s.AllowedTokenIDs, vocabularySize); err != nil {
		return fmt.Errorf("allowed token ids: %w", err)
	}
	return s.checkChoice(vocabularySize)
}

// checkChoice refuses what would leave nothing to choose.
func (s *Sampling) checkChoice(vocabularySize int) error {
	banned := make(map[int32]bool, len(s.BannedTokenIDs))
	for _, id := range s.BannedTokenIDs {
		banned[id] = true
	}
	if len(s.AllowedTokenIDs) == 0 {
		if len(banned) >= vocabularySize {
			return errors.New("every token id is banned")
		}
		return nil
	}
	for _, id := range s.AllowedTokenIDs {
		if !banned[id] {
			return nil
		}
	}
	return errors.New("every allowed token id is banned")
}

func checkIDs(ids []int32, vocabularySize int) error {
	for _, id := range ids {
		if id < 0 || int(id) >= vocabularySize {
			return fmt.Errorf("token id %d is outside the vocabulary of %d", id, vocabularySize)
		}
	}
	return nil
}
