package router

import (
	"errors"
	"fmt"
	"time"

	"lockstep/protocol"
	"lockstep/router/api"
)

// Config of a router. It does not change after the start. Durations are in seconds.
type Config struct {
	// Name identifies the router in logs and subjects, a protocol.ValidToken. Each start appends something of its own.
	Name string `json:"name"`
	// Node names the node that the router runs on; for logs only.
	Node string `json:"node"`
	// NATSURLs are the servers to connect to, at least one; any of them will do.
	NATSURLs []string `json:"nats_urls"`
	// Hostname is the address to listen at. Empty: all.
	Hostname string `json:"hostname"`
	// Port to listen at. 0: any free one, which onReady tells.
	Port int `json:"port"`
	// MaxConcurrentRequests bounds the requests in the router, waiting and running; more are answered 429. Default 128.
	MaxConcurrentRequests int `json:"max_concurrent_requests"`
	// MaxBestOf is the largest best_of. Default 2.
	MaxBestOf int `json:"max_best_of"`
	// MaxStopSequences is the largest number of stop strings. Default 4.
	MaxStopSequences int `json:"max_stop_sequences"`
	// MaxInputLength bounds the tokens of a prompt. 0: MaxTotalTokens - 1.
	MaxInputLength int `json:"max_input_length"`
	// MaxTotalTokens bounds prompt and output together. 0: what the groups allow, which bounds it in any case.
	MaxTotalTokens int `json:"max_total_tokens"`
	// ValidationWorkers is how many prompts are tokenised at once. Default 2.
	ValidationWorkers int `json:"validation_workers"`
	// MaxBatchPrefillTokens is accepted for compatibility: the groups decide their steps.
	MaxBatchPrefillTokens int `json:"max_batch_prefill_tokens"`
	// MaxBatchTotalTokens is reported by /info. 0: the capacity of all groups.
	MaxBatchTotalTokens int `json:"max_batch_total_tokens"`
	// MaxWaitingTokens is reported by /info. Default 20.
	MaxWaitingTokens int `json:"max_waiting_tokens"`
	// WaitingServedRatio is reported by /info. Default 1.2.
	WaitingServedRatio float32 `json:"waiting_served_ratio"`
	// CORSAllowOrigin are the origins that browsers may call from. Empty: any.
	CORSAllowOrigin []string `json:"cors_allow_origin"`
	// ModelID is the only model that is served. Empty: that of the first group.
	ModelID string `json:"model_id"`
	// PayloadLimit bounds the bytes of a request body; longer ones are answered 413. Default 2097152.
	PayloadLimit int64 `json:"payload_limit"`
	// GroupWaitTimeout bounds how long a request waits while no living group could take it. Default 60.
	GroupWaitTimeout float64 `json:"group_wait_timeout"`
	// GracefulTerminationTimeout bounds the wait for requests in flight at the end. Default 60.
	GracefulTerminationTimeout float64 `json:"graceful_termination_timeout"`
	// Version is what /info says. Default "0.9.4", whose dialect is spoken.
	Version string `json:"version"`
}

// Validate fills in the defaults and refuses what makes no sense.
func (c *Config) Validate() error {
	setDefault(&c.MaxConcurrentRequests, 128)
	setDefault(&c.MaxBestOf, 2)
	setDefault(&c.MaxStopSequences, 4)
	setDefault(&c.ValidationWorkers, 2)
	setDefault(&c.MaxWaitingTokens, 20)
	setDefault(&c.WaitingServedRatio, 1.2)
	setDefault(&c.PayloadLimit, 2<<20)
	setDefault(&c.GroupWaitTimeout, 60)
	setDefault(&c.GracefulTerminationTimeout, 60)
	setDefault(&c.Version, "0.9.4")
	switch {
	case !protocol.ValidToken(c.Name):
		return fmt.Errorf("router: the name %q is not made of 1 to 64 letters, digits, '-' and '_'", c.Name)
	case len(c.NATSURLs) == 0:
		return errors.New("router: no NATS URL")
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("router: port %d", c.Port)
	case c.MaxConcurrentRequests < 0 || c.MaxBestOf < 0 || c.MaxStopSequences < 0 || c.ValidationWorkers < 0 || c.PayloadLimit < 0,
		c.MaxInputLength < 0 || c.MaxTotalTokens < 0 || c.GroupWaitTimeout < 0 || c.GracefulTerminationTimeout < 0:
		return errors.New("router: a limit is negative")
	case c.MaxTotalTokens > 0 && c.MaxInputLength >= c.MaxTotalTokens:
		return errors.New("router: `max_input_length` must be < `max_total_tokens`")
	}
	return nil
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) api() api.Config {
	return api.Config{
		MaxConcurrentRequests: c.MaxConcurrentRequests, MaxBestOf: c.MaxBestOf, MaxStopSequences: c.MaxStopSequences,
		ValidationWorkers: c.ValidationWorkers, WaitingServedRatio: c.WaitingServedRatio, MaxWaitingTokens: c.MaxWaitingTokens,
		PayloadLimit: c.PayloadLimit, CORSAllowOrigin: c.CORSAllowOrigin, Version: c.Version,
		ModelTimeout: time.Duration(c.GroupWaitTimeout * float64(time.Second)),
	}
}
