package router

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"lockstep/protocol"
	"lockstep/router/admission"
	"lockstep/router/api"
	"lockstep/router/api/answer"
	"lockstep/router/api/tgi"
	"lockstep/router/calls"
	"lockstep/router/request"
	"lockstep/router/secure"
)

// The values of Config.Overload.
const (
	OverloadRefuse = "refuse"
	OverloadWait   = "wait"
)

// ParserAuto lets template and vocabulary tell how a model writes.
const ParserAuto = "auto"

// AdmissionPolicies are the values of Config.Admission. The aggressive policy is for simulations only: it admits what
// must be parked and computed again.
var AdmissionPolicies = []string{string(admission.Conservative), string(admission.Peak), string(admission.PastFuture)}

// Config of a router. It does not change after the start. Durations are in seconds.
type Config struct {
	// Name identifies the router in logs and subjects, a protocol.ValidToken. Each start adds a session of its own.
	Name string `json:"name"`
	// Node names the node that the router runs on; for logs only.
	Node string `json:"node"`
	// NATSURLs are the servers to connect to, at least one; any of them will do.
	NATSURLs []string `json:"nats_urls"`
	// NATSIdentity is what the router proves to be to them.
	NATSIdentity protocol.Identity `json:"nats_identity"`
	// Hostname is the address to listen at. Empty: all.
	Hostname string `json:"hostname"`
	// Port to listen at. 0: any free one, which onReady tells.
	Port int `json:"port"`
	// Limits bound requests. With Overload "wait" the router takes MaxQueueSize more than MaxConcurrentRequests in all.
	request.Limits
	// Admission is the policy by which requests find room: "conservative", "peak" or "past-future".
	Admission string `json:"admission,omitempty"`
	// Overload says what happens to requests beyond what the groups take: "refuse" (TGI's way: there are
	// MaxConcurrentRequests permits, and who gets none is answered at once) or "wait" (LightLLM's way: they wait in a queue).
	Overload string `json:"overload,omitempty"`
	// MaxQueueSize bounds the requests that wait with Overload "wait"; more are answered as overload.
	MaxQueueSize int `json:"max_queue_size,omitempty"`
	// QueueTimeout bounds how long a request waits for a group; then it is answered as overload. 0: as long as it takes.
	QueueTimeout float64 `json:"queue_timeout,omitempty"`
	// MaxInputLength bounds the tokens of a prompt. 0: MaxTotalTokens - 1.
	MaxInputLength int `json:"max_input_length"`
	// MaxTotalTokens bounds prompt and output together. 0: what the groups allow, which bounds it in any case.
	MaxTotalTokens int `json:"max_total_tokens"`
	// MaxBatchTotalTokens is reported by /info. 0: the capacity of all groups.
	MaxBatchTotalTokens int `json:"max_batch_total_tokens"`
	// MaxWaitingTokens is reported by /info.
	MaxWaitingTokens int `json:"max_waiting_tokens"`
	// WaitingServedRatio is reported by /info.
	WaitingServedRatio float32 `json:"waiting_served_ratio"`
	// CORSAllowOrigin are the origins that browsers may call from. Empty: any.
	CORSAllowOrigin []string `json:"cors_allow_origin"`
	// ModelID is the only model that is served. Empty: that of the first group.
	ModelID string `json:"model_id"`
	// GroupWaitTimeout bounds how long a request waits while no living group could take it.
	GroupWaitTimeout float64 `json:"group_wait_timeout"`
	// GracefulTerminationTimeout bounds the wait for requests in flight at the end.
	GracefulTerminationTimeout float64 `json:"graceful_termination_timeout"`
	// Dialect is one of api.Dialects: that answers all requests; or "auto", which decides for each request by its path and body,
	// and else takes DefaultDialect.
	Dialect        string `json:"dialect"`
	DefaultDialect string `json:"default_dialect"`
	// TGIVersion is one of tgi.Forms: the version of TGI that its dialect answers as.
	TGIVersion string `json:"tgi_version"`
	// LightLLMErrors is "new" or "old": the envelope and statuses of its errors.
	LightLLMErrors string `json:"lightllm_errors"`
	// APIKeys, when not empty, are the keys of which every request that does work must show one as a bearer token.
	APIKeys []string `json:"api_keys"`
	// TLS secures Port; nil: it is plain.
	TLS *secure.Files `json:"tls"`
	// Listeners are more addresses, each with a dialect of its own.
	Listeners []Listener `json:"listeners"`
	// ToolCallParser and ReasoningParser are how models write calls and reasoning, by names of package calls; empty or ParserAuto: as
	// template and vocabulary tell.
	ToolCallParser  string `json:"tool_call_parser,omitempty"`
	ReasoningParser string `json:"reasoning_parser,omitempty"`
	// Guides are the operator's wishes for what constrains answers.
	Guides answer.Guides `json:"guides,omitzero"`
	// MaxConnections bounds the open connections of each listener, and half of it those of one client address. A newcomer gets
	// the place of one that waits for its client; while there is none it waits to be accepted.
	MaxConnections int `json:"max_connections"`
	// Build is the version of this program.
	Build string `json:"build,omitempty"`
}

// Listener is an address that answers in one dialect.
type Listener struct {
	Dialect string        `json:"dialect"`
	Address string        `json:"address"` // host:port
	TLS     *secure.Files `json:"tls"`
}

// DefaultConfig is what a router of a form of TGI is unless it is told otherwise. Name, NATSURLs and NATSIdentity are missing.
func DefaultConfig(form string) Config {
	return Config{
		Limits:    tgi.Limits(form, request.DefaultMaxConcurrentRequests),
		Admission: string(admission.PastFuture), Overload: OverloadRefuse, MaxQueueSize: 4096,
		MaxWaitingTokens: 20, WaitingServedRatio: 1.2, GroupWaitTimeout: 60, GracefulTerminationTimeout: 90,
		Dialect: api.Auto, DefaultDialect: tgi.Name, TGIVersion: form, LightLLMErrors: "new", MaxConnections: 8192,
	}
}

// Validate refuses what makes no sense. It changes nothing.
func (c *Config) Validate() error {
	if err := c.Limits.Validate(); err != nil {
		return fmt.Errorf("router: %w", err)
	}
	if _, _, err := c.parsers(); err != nil {
		return fmt.Errorf("router: %w", err)
	}
	switch {
	case !protocol.ValidToken(c.Name):
		return fmt.Errorf("router: the name %q is not made of 1 to 64 letters, digits, '-' and '_'", c.Name)
	case len(c.NATSURLs) == 0:
		return errors.New("router: no NATS URL")
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("router: port %d", c.Port)
	case c.MaxInputLength < 0, c.MaxTotalTokens < 0, c.MaxQueueSize < 1, c.GroupWaitTimeout < 0, c.GracefulTerminationTimeout < 0,
		c.QueueTimeout < 0:
		return errors.New("router: a limit is out of range")
	case c.Overload != OverloadRefuse && c.Overload != OverloadWait:
		return fmt.Errorf("router: overload %q: want %s or %s", c.Overload, OverloadRefuse, OverloadWait)
	case !slices.Contains(AdmissionPolicies, c.Admission):
		return fmt.Errorf("router: admission policy %q: want one of %q", c.Admission, AdmissionPolicies)
	case !slices.Contains(tgi.Forms, c.TGIVersion):
		return fmt.Errorf("router: TGI version %q: want one of %q", c.TGIVersion, tgi.Forms)
	case c.LightLLMErrors != "new" && c.LightLLMErrors != "old":
		return fmt.Errorf("router: LightLLM's errors %q: want new or old", c.LightLLMErrors)
	case slices.Contains(c.APIKeys, ""):
		return errors.New("router: an API key is empty")
	case c.MaxConnections < 1:
		return fmt.Errorf("router: %d connections", c.MaxConnections)
	case slices.ContainsFunc(c.Listeners, func(l Listener) bool { return !slices.Contains(api.Dialects, l.Dialect) || l.Address == "" }):
		return fmt.Errorf("router: a listener needs an address and one of the dialects %q", api.Dialects)
	case !slices.Contains(api.Dialects, c.Dialect):
		return fmt.Errorf("router: dialect %q", c.Dialect)
	case !slices.Contains(api.Dialects[1:], c.DefaultDialect):
		return fmt.Errorf("router: default dialect %q", c.DefaultDialect)
	case c.MaxTotalTokens > 0 && c.MaxInputLength >= c.MaxTotalTokens:
		return errors.New("router: `max_input_length` must be < `max_total_tokens`")
	}
	return nil
}

// queueLimit bounds the requests that wait.
func (c *Config) queueLimit() int {
	if c.Overload == OverloadWait {
		return c.MaxQueueSize
	}
	return c.MaxConcurrentRequests
}

// permits bounds the requests in the router. In wait mode those in the queue do not count against
// MaxConcurrentRequests, which is left to those that are validated or run: the groups' own limits are stricter.
func (c *Config) permits() int {
	if c.Overload == OverloadWait {
		return c.MaxConcurrentRequests + c.MaxQueueSize
	}
	return c.MaxConcurrentRequests
}

// parsers are those that are named; nil: as template and vocabulary tell.
func (c *Config) parsers() (format *calls.Format, reasoning *calls.Reasoning, err error) {
	if c.ToolCallParser != "" && c.ToolCallParser != ParserAuto {
		if format, err = calls.Named(c.ToolCallParser); err != nil {
			return nil, nil, err
		}
	}
	if c.ReasoningParser != "" && c.ReasoningParser != ParserAuto {
		named, err := calls.NamedReasoning(c.ReasoningParser)
		if err != nil {
			return nil, nil, err
		}
		reasoning = &named
	}
	return format, reasoning, nil
}

func (c *Config) api() api.Config {
	format, reasoning, _ := c.parsers() // they were checked
	return api.Config{
		Guides: c.Guides, CallFormat: format, Reasoning: reasoning,
		Limits: c.Limits, Permits: c.permits(), WaitingServedRatio: c.WaitingServedRatio, MaxWaitingTokens: c.MaxWaitingTokens,
		CORSAllowOrigin: c.CORSAllowOrigin, Build: c.Build,
		TGIVersion: c.TGIVersion, OldLightLLMErrors: c.LightLLMErrors == "old", APIKeys: c.APIKeys,
		Dialect: c.Dialect, DefaultDialect: c.DefaultDialect,
		ModelTimeout: time.Duration(c.GroupWaitTimeout * float64(time.Second)),
	}
}
