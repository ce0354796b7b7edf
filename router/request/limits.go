package request

import (
	"fmt"

	"lockstep/protocol"
)

// Limits bound what a router takes. Each setting is defined here alone: the launcher's flags, the dialects and the documents
// have it from here. A zero is a value like others.
type Limits struct {
	// MaxConcurrentRequests bounds the requests in the router, waiting and running; more are answered as overload. Where they
	// wait in a queue, it bounds those that the queue does not hold.
	MaxConcurrentRequests int `json:"max_concurrent_requests"`
	// MaxBestOf is the largest best_of, at least 1.
	MaxBestOf int `json:"max_best_of"`
	// MaxStopSequences is the largest number of stop strings of TGI's and OpenAI's requests.
	MaxStopSequences int `json:"max_stop_sequences"`
	// MaxTopNTokens is the largest top_n_tokens of TGI's requests, at most protocol.MaxTopLogprobs.
	MaxTopNTokens int `json:"max_top_n_tokens"`
	// MaxClientBatchSize bounds the prompts of one completion request, at least 1.
	MaxClientBatchSize int `json:"max_client_batch_size"`
	// ValidationWorkers is how many prompts are tokenised at once, at least 1.
	ValidationWorkers int `json:"validation_workers"`
	// PayloadLimit bounds the bytes of a request body; longer ones are answered 413.
	PayloadLimit int64 `json:"payload_limit"`
}

// The defaults of Limits, which are TGI's.
const (
	DefaultMaxConcurrentRequests = 128
	DefaultMaxBestOf             = 2
	DefaultMaxStopSequences      = 4
	DefaultMaxTopNTokens         = 5
	DefaultValidationWorkers     = 2
	// DefaultPayloadLimit is that of TGI 0.9.4.
	DefaultPayloadLimit = 2 << 20
)

// DefaultLimits are those of TGI 0.9.4, where a completion request may have as many prompts as there may be requests.
func DefaultLimits() Limits {
	return Limits{MaxConcurrentRequests: DefaultMaxConcurrentRequests, MaxBestOf: DefaultMaxBestOf,
		MaxStopSequences: DefaultMaxStopSequences, MaxTopNTokens: DefaultMaxTopNTokens, MaxClientBatchSize: DefaultMaxConcurrentRequests,
		ValidationWorkers: DefaultValidationWorkers, PayloadLimit: DefaultPayloadLimit}
}

// LimitError says that a limit makes no sense.
type LimitError struct {
	// Setting is the limit's name in JSON.
	Setting      string
	Value, Least int64
	Most         int64 // 0: there is none
}

func (e *LimitError) Error() string { return e.Setting + " " + e.Why() }

// Why is the error without the setting's name.
func (e *LimitError) Why() string {
	switch {
	case e.Most > 0:
		return fmt.Sprintf("must lie between %d and %d, got %d", e.Least, e.Most, e.Value)
	case e.Least == 0:
		return fmt.Sprintf("must not be negative, got %d", e.Value)
	}
	return fmt.Sprintf("must be > %d, got %d", e.Least-1, e.Value)
}

// Validate refuses what makes no sense, by a *LimitError. It changes nothing.
func (l *Limits) Validate() error {
	for _, limit := range []LimitError{
		{"max_concurrent_requests", int64(l.MaxConcurrentRequests), 1, 0},
		{"max_best_of", int64(l.MaxBestOf), 1, 0},
		{"max_stop_sequences", int64(l.MaxStopSequences), 0, 0},
		{"max_top_n_tokens", int64(l.MaxTopNTokens), 0, protocol.MaxTopLogprobs},
		{"max_client_batch_size", int64(l.MaxClientBatchSize), 1, 0},
		{"validation_workers", int64(l.ValidationWorkers), 1, 0},
		{"payload_limit", l.PayloadLimit, 1, 0},
	} {
		if limit.Value < limit.Least || limit.Most > 0 && limit.Value > limit.Most {
			return &limit
		}
	}
	return nil
}
