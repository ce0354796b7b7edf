// Package answer is the way of a request from a dialect to the groups and back, the same for all dialects: permits, waiting
// for a model, tokenising and writing chats on bounded workers, submitting, and runs that turn ids into text and find the end.
// It knows no dialect: what one wants otherwise than another is an option of a run, and why a run has ended is told by all
// reasons that hold, of which the dialect prefers one.
package answer

import (
	"context"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"lockstep/protocol/text"
	"lockstep/router/api/metrics"
	"lockstep/router/api/wire"
	"lockstep/router/calls"
	"lockstep/router/chat"
	"lockstep/router/request"
)

// Config of a Service.
type Config struct {
	// Permits bounds the requests in the router, those that wait included; more are refused as overload.
	Permits int
	// PayloadLimit bounds the bytes of a body.
	PayloadLimit int64
	// Workers is how many texts are tokenised or chats written at once, at least 1.
	Workers int
	// Guides are the operator's wishes for what constrains texts.
	Guides Guides
	// CallFormat and Reasoning are how models write calls and thoughts; nil: as template and vocabulary tell.
	CallFormat *calls.Format
	Reasoning  *calls.Reasoning
	// ModelTimeout bounds how long a request waits for the first group.
	ModelTimeout time.Duration
}

// Backend is what answers need of the rest of the router.
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

// Service has requests answered. Its methods are safe for concurrent use.
type Service struct {
	// Bodies reads those of the requests, Metrics counts them.
	Bodies  *wire.Bodies
	Metrics *metrics.Metrics

	config   Config
	backend  Backend
	log      zerolog.Logger
	workers  *workers
	writers  writers
	permits  atomic.Int64 // in use
	compiled compiled
}

// New returns a service, whose load the metrics watch from now on. It starts nothing.
func New(config Config, backend Backend, metrics *metrics.Metrics, log zerolog.Logger) *Service {
	metrics.Watch(backend.Load, log)
	return &Service{Bodies: wire.NewBodies(config.PayloadLimit, config.Permits), Metrics: metrics,
		config: config, backend: backend, log: log, workers: newWorkers(max(config.Workers, 1)),
		writers: writers{most: runtime.GOMAXPROCS(0)}}
}

// Permits is how many requests there may be at once.
func (s *Service) Permits() int { return s.config.Permits }

// Acquire takes permits for requests without waiting. Who gets them gives them back by Release.
func (s *Service) Acquire(permits int) bool {
	if s.permits.Add(int64(permits)) > int64(s.config.Permits) {
		s.Release(permits)
		return false
	}
	return true
}

// Release gives permits back.
func (s *Service) Release(permits int) { s.permits.Add(-int64(permits)) }

// Healthy asks the backend, also for a client that has closed its side of the connection meanwhile: that says nothing of
// the groups.
func (s *Service) Healthy(r *http.Request) bool {
	return s.backend.Healthy(context.WithoutCancel(r.Context()))
}

// Model returns what is served, nil before the first group has come.
func (s *Service) Model() *Model { return s.backend.Model() }

// Groups are those that the router has found, by name.
func (s *Service) Groups() []request.GroupLoad { return s.backend.Load().Groups }

// ModelID names the model that is served; "" before the first group has come.
func (s *Service) ModelID() string {
	if model := s.backend.Model(); model != nil {
		return model.Card.ModelID
	}
	return ""
}

// NoModel is what is refused while there is no model.
var NoModel = &request.Refusal{Class: request.Unavailable, Message: "no shard group is available"}

// WaitModel waits for the first group, for a bounded time.
func (s *Service) WaitModel(ctx context.Context) (*Model, *request.Refusal) {
	if model := s.backend.Model(); model != nil {
		return model, nil
	}
	timer := time.NewTimer(s.config.ModelTimeout)
	defer timer.Stop()
	select {
	case <-s.backend.ModelKnown():
		return s.backend.Model(), nil
	case <-timer.C:
		return nil, NoModel
	case <-ctx.Done():
		return nil, request.ClientLeft
	}
}

// Encode tokenises on one of the workers; special adds the tokens that the model wants around a text.
func (s *Service) Encode(ctx context.Context, model *Model, inputs string, special bool) ([]int32, *request.Refusal) {
	encoding, refusal := s.encode(ctx, model, inputs, special, false)
	return encoding.IDs, refusal
}

// EncodeWithOffsets is Encode with the places of the tokens.
func (s *Service) EncodeWithOffsets(ctx context.Context, model *Model, inputs string, special bool) (text.Encoding, *request.Refusal) {
	return s.encode(ctx, model, inputs, special, true)
}

func (s *Service) encode(ctx context.Context, model *Model, inputs string, special, offsets bool) (text.Encoding, *request.Refusal) {
	var encoding text.Encoding
	refusal := s.Work(ctx, len(inputs), func(ctx context.Context) (err error) {
		encoding, err = model.Tokenizer.EncodeContext(ctx, inputs, special, offsets)
		return err
	})
	return encoding, refusal
}

// WriteChat has the model's template, which it must have, write a conversation on one of the workers. failure is the
// template's own.
func (s *Service) WriteChat(ctx context.Context, model *Model, c *chat.Conversation) (written string,
	refusal *request.Refusal, failure error) {
	refusal = s.Work(ctx, len(c.Messages), func(ctx context.Context) error {
		c.Done = ctx.Done()
		written, failure = model.Chat.Render(c)
		return nil
	})
	return written, refusal, failure
}

// Refused counts and logs a request that is refused with a status.
func (s *Service) Refused(id string, refusal *request.Refusal, status int) {
	s.Metrics.Failed(refusal.Class)
	s.log.Info().Str("request", id).Int("status", status).Str("error", wire.Bounded(refusal.Message)).Msg("request failed")
}
