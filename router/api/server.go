// Package api speaks HTTP: the dialects of TGI and friends, byte for byte, above one Backend.
//
// Each dialect has a surface: a table of routes, and what every answer of it carries. Its handlers read bodies and shape
// answers as the original does, and share the way of a request: permits, tokenising, runs and streams. Which dialect
// answers a request is decided in dialect.go. The bytes that TGI's owe are those of the recorded originals.
package api

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/text"
	"lockstep/router/api/wire"
	"lockstep/router/chat"
	"lockstep/router/request"
)

// Config of the HTTP side; see router.Config for the meaning of each.
type Config struct {
	MaxConcurrentRequests int
	// Permits bounds the requests in the router, those that wait included; more are answered as overload.
	Permits          int
	MaxBestOf        int
	MaxStopSequences int
	// MaxClientBatchSize bounds the prompts of a completion request.
	MaxClientBatchSize int
	ValidationWorkers  int
	WaitingServedRatio float32
	MaxWaitingTokens   int
	PayloadLimit       int64
	CORSAllowOrigin    []string
	Version            string // that of TGI, for its /info
	Build              string // that of this program
	// TGIVersion is whose form TGI's dialect has; empty: TGI094.
	TGIVersion TGIVersion
	// Dialect answers all requests; Auto: DefaultDialect, unless path or body tell another (dialect.go).
	Dialect, DefaultDialect Dialect
	// APIKeys, when not empty, are the bearer tokens of which a request that does work must have one.
	APIKeys []string
	// OldLightLLMErrors answers in LightLLM's dialect as versions before 2026 did.
	OldLightLLMErrors bool
	// ModelTimeout bounds how long a request waits for the first group.
	ModelTimeout time.Duration
}

// Model is what is served now. It is never changed.
type Model struct {
	Digest    string
	Card      *protocol.ModelCard
	Tokenizer *text.Tokenizer
	// Chat writes conversations; nil: NoChat says why it cannot. ChatReadsParts is its ReadsParts.
	Chat                *chat.Template
	ChatReadsParts      bool
	NoChat              string
	MaxInputLength      int
	MaxTotalTokens      int
	MaxBatchTotalTokens int
}

// Backend is what the HTTP side needs of the rest of the router.
type Backend interface {
	// Model returns what is served, nil before the first group has come.
	Model() *Model
	// ModelKnown is closed when Model returns one for the first time.
	ModelKnown() <-chan struct{}
	// Healthy reports whether all groups that take requests compute. It takes a bounded time; the context's end counts as ill.
	Healthy(context.Context) bool
	// Submit queues a request.
	Submit(*request.Request) (id uint64, events *request.Events, refusal *request.Refusal)
	// Cancel ends a request that nobody waits for, Done one whose output is complete; ids that have ended are ignored.
	Cancel(id uint64)
	Done(id uint64)
	Load() request.Load
}

// Server answers HTTP requests.
type Server struct {
	config    Config
	backend   Backend
	metrics   *Metrics
	log       zerolog.Logger
	surfaces  map[Dialect]*surface
	all       *surface // describes all dialects
	documents documents
	started   time.Time
	workers   *workers
	permits   atomic.Int64 // in use
	bodies    *wire.Bodies
}

// New returns the server. It starts nothing.
func New(config Config, backend Backend, metrics *Metrics, log zerolog.Logger) *Server {
	s := &Server{config: config, backend: backend, metrics: metrics, log: log, started: time.Now()}
	s.workers = newWorkers(max(config.ValidationWorkers, 1))
	s.bodies = wire.NewBodies(config.PayloadLimit, config.Permits)
	metrics.registry.MustRegister(loadCollector{backend.Load})
	s.surfaces = map[Dialect]*surface{
		TGI:      s.newSurface(s.frameTGI, refuseTGI, s.tgi(), s.common(), s.describedBy(TGI)),
		MindIE:   s.newSurface(s.frameMindIE, s.refuseMindIE, s.mindie(), s.describedBy(MindIE)),
		LightLLM: s.newSurface(s.frameLightLLM, s.refuseLightLLM, s.lightLLM(), s.describedBy(LightLLM)),
		OpenAI:   s.newSurface(s.frameOpenAI, s.refuseOpenAI, s.openAI(), s.common(), s.describedBy(OpenAI)),
	}
	s.all = s.newSurface(s.frameTGI, refuseTGI, []route{
		{get, "/docs", serveDocsRedirect}, {get, "/docs/", servePage}, {get, assets + "/*", serveAsset}, {get, "/openapi.json", s.serveDocument("")},
	})
	return s
}

// common are the routes that no dialect owns.
func (s *Server) common() []route {
	return []route{{get, "/token_load", s.serveTokenLoad}}
}

// acquire takes permits for a request without waiting.
func (s *Server) acquire(permits int64) bool {
	if s.permits.Add(permits) > int64(s.config.Permits) {
		s.permits.Add(-permits)
		return false
	}
	return true
}

// healthy asks the backend, also for a client that has closed its side of the connection meanwhile: that says nothing of
// the groups.
func (s *Server) healthy(r *http.Request) bool {
	return s.backend.Healthy(context.WithoutCancel(r.Context()))
}

// leave ends a run when its handler returns: by itself, or because nobody waits any more.
func (s *Server) leave(o *run) {
	if o.last != nil {
		s.backend.Done(o.id)
	} else {
		s.backend.Cancel(o.id)
	}
}

// waitModel waits for the first group, for a bounded time.
func (s *Server) waitModel(ctx context.Context) (*Model, *request.Refusal) {
	if model := s.backend.Model(); model != nil {
		return model, nil
	}
	timer := time.NewTimer(s.config.ModelTimeout)
	defer timer.Stop()
	select {
	case <-s.backend.ModelKnown():
		return s.backend.Model(), nil
	case <-timer.C:
		return nil, &request.Refusal{Class: request.Unavailable, Message: "no shard group is available"}
	case <-ctx.Done():
		return nil, request.ClientLeft
	}
}
