package request

import "errors"

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
	// MaxTopNTokens is the largest top_n_tokens of TGI's requests.
	MaxTopNTokens int `json:"max_top_n_tokens"`
	// MaxClientBatchSize bounds the prompts of one completion request.
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
	return Limits{MaxConcurrentRequests: DefaultMaxConcurrentRequests, MaxBestOf: DefaultMaxBestOf, MaxStopSequences: DefaultMaxStopSequences,
		MaxTopNTokens: DefaultMaxTopNTokens, MaxClientBatchSize: DefaultMaxConcurrentRequests, ValidationWorkers: DefaultValidationWorkers,
		PayloadLimit: DefaultPayloadLimit}
}

// Validate refuses what makes no sense. It changes nothing.
func (l *Limits) Validate() error {
	switch {
	case l.MaxConcurrentRequests < 1:
		return errors.New("max_concurrent_requests must be > 0")
	case l.MaxBestOf < 1:
		return errors.New("max_best_of must be > 0")
	case l.ValidationWorkers < 1:
		return errors.New("validation_workers must be > 0")
	case l.PayloadLimit < 1:
		return errors.New("payload_limit must be > 0")
	case l.MaxStopSequences < 0, l.MaxTopNTokens < 0, l.MaxClientBatchSize < 0:
		return errors.New("a limit of a request is negative")
	}
	return nil
}
