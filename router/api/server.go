// Package api speaks HTTP: the dialects of TGI and friends, byte for byte, above one Backend.
//
// A dialect is a table of routes and, for its generate routes, a form that says how a body is read and in which shape
// the answer goes out. TGI 0.9.4 is the first; the bytes that it owes are those of the recorded originals.
package api

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/router/request"
	"lockstep/router/text"
)

// Config of the HTTP side; see router.Config for the meaning of each.
type Config struct {
	MaxConcurrentRequests int
	// Permits bounds the requests in the router, those that wait included; more are answered as overload.
	Permits            int
	MaxBestOf          int
	MaxStopSequences   int
	ValidationWorkers  int
	WaitingServedRatio float32
	MaxWaitingTokens   int
	PayloadLimit       int64
	CORSAllowOrigin    []string
	Version            string
	// ModelTimeout bounds how long a request waits for the first group.
	ModelTimeout time.Duration
}

// Model is what is served now. It is never changed.
type Model struct {
	Digest              string
	Card                *protocol.ModelCard
	Tokenizer           *text.Tokenizer
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
	// Healthy reports whether all groups that take requests compute. It takes a bounded time.
	Healthy(context.Context) bool
	// Submit queues a request; the error is a *request.Error or means that the router is closed.
	Submit(*request.Request) (id uint64, events *request.Events, err error)
	// Cancel ends a request that nobody waits for, Done one whose output is complete; ids that have ended are ignored.
	Cancel(id uint64)
	Done(id uint64)
	Load() request.Load
}

// Server answers HTTP requests.
type Server struct {
	config  Config
	backend Backend
	metrics *Metrics
	log     zerolog.Logger
	echo    *echo.Echo
	allowed map[string]string // path to its Allow header
	workers chan struct{}     // one element for each busy validation worker
	permits atomic.Int64      // in use
}

// route is one row of a dialect's table.
type route struct {
	methods []string
	path    string
	serve   http.HandlerFunc
}

var get, post = []string{http.MethodGet, http.MethodHead}, []string{http.MethodPost}

// New returns the server. It starts nothing.
func New(config Config, backend Backend, metrics *Metrics, log zerolog.Logger) *Server {
	s := &Server{
		config: config, backend: backend, metrics: metrics, log: log,
		echo: echo.New(), allowed: map[string]string{}, workers: make(chan struct{}, max(config.ValidationWorkers, 1)),
	}
	metrics.registry.MustRegister(loadCollector{backend.Load})
	for _, table := range [][]route{s.tgi094(), s.common()} {
		for _, r := range table {
			serve := echo.WrapHandler(r.serve)
			s.echo.Match(r.methods, r.path, serve)
			if s.allowed[r.path] != "" {
				s.allowed[r.path] += ","
			}
			s.allowed[r.path] += strings.Join(r.methods, ",")
		}
	}
	return s
}

// common are the routes that no dialect owns.
func (s *Server) common() []route {
	return []route{{get, "/token_load", s.serveTokenLoad}}
}

// ServeHTTP puts what every answer of TGI carries in front of the routes: CORS headers, and its way with unknown paths
// and methods.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	if len(s.config.CORSAllowOrigin) == 0 {
		h["Access-Control-Allow-Origin"] = []string{"*"}
	} else if origin := r.Header.Get("Origin"); origin != "" && slices.Contains(s.config.CORSAllowOrigin, origin) {
		h["Access-Control-Allow-Origin"] = []string{origin}
	}
	h["Vary"] = []string{"origin", "access-control-request-method", "access-control-request-headers"}
	allowed, known := s.allowed[r.URL.Path]
	status := 0
	switch {
	case r.Method == http.MethodOptions:
		h["Access-Control-Allow-Methods"] = []string{"GET,POST"}
		h["Access-Control-Allow-Headers"] = []string{"content-type"}
		status = http.StatusOK
	case !known:
		status = http.StatusNotFound
	case !slices.Contains(strings.Split(allowed, ","), r.Method):
		status = http.StatusMethodNotAllowed
	default:
		s.echo.ServeHTTP(w, r)
		return
	}
	if known {
		h["Allow"] = []string{allowed}
	}
	respond(w, status, "", nil)
}

// respond writes a whole answer.
func respond(w http.ResponseWriter, status int, contentType string, body []byte) {
	if contentType != "" {
		w.Header()["Content-Type"] = []string{contentType}
	}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	if len(body) == 0 {
		return
	}
	out := http.NewResponseController(w)
	out.SetWriteDeadline(time.Now().Add(writeTimeout))
	w.Write(body)
	out.Flush()
	out.SetWriteDeadline(time.Time{})
}

const jsonType = "application/json"

// respondPlain answers an error of the framework.
func respondPlain(w http.ResponseWriter, err *plainError) {
	respond(w, err.status, "text/plain; charset=utf-8", []byte(err.text))
}

// acquire takes permits for a request without waiting.
func (s *Server) acquire(permits int64) bool {
	if s.permits.Add(permits) > int64(s.config.Permits) {
		s.permits.Add(-permits)
		return false
	}
	return true
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
func (s *Server) waitModel(ctx context.Context) (*Model, *request.Error) {
	if model := s.backend.Model(); model != nil {
		return model, nil
	}
	timer := time.NewTimer(s.config.ModelTimeout)
	defer timer.Stop()
	select {
	case <-s.backend.ModelKnown():
		return s.backend.Model(), nil
	case <-timer.C:
		return nil, &request.Error{Class: request.Unavailable, Message: "no shard group is available"}
	case <-ctx.Done():
		return nil, &request.Error{Class: request.Incomplete, Message: "the client has left"}
	}
}
