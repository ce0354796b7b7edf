package answer

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"sync"

	"lockstep/protocol/guide"
	"lockstep/router/calls"
	"lockstep/router/request"
)

// Guides are an operator's wishes for what constrains texts.
type Guides struct {
	// Disabled refuses them.
	Disabled bool `json:"disabled,omitempty"`
	// WhiteSpace is where JSON documents may have some, if a request does not say.
	WhiteSpace guide.WhiteSpace `json:"white_space,omitempty"`
	// Open is guide.Source's, if a request does not say.
	Open bool `json:"open,omitempty"`
}

// Schema is the source of a JSON schema as the operator wishes it.
func (g *Guides) Schema(schema string) *guide.Source {
	return &guide.Source{Kind: guide.Schema, Text: schema, WhiteSpace: g.WhiteSpace, Open: g.Open}
}

// rememberedGuides is how many sources are remembered that were compiled once.
const rememberedGuides = 1024

// compiled remembers which sources can be compiled: agents send the same ones with each request.
type compiled struct {
	mu sync.Mutex
	of map[[sha256.Size]byte]verdict
}

// verdict is what compiling a source has come to, and how much work it was.
type verdict struct {
	failure error
	work    int
}

func (c *compiled) known(key [sha256.Size]byte) (v verdict, known bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	v, known = c.of[key]
	return v, known
}

func (c *compiled) note(key [sha256.Size]byte, v verdict) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.of == nil || len(c.of) >= rememberedGuides {
		c.of = map[[sha256.Size]byte]verdict{}
	}
	c.of[key] = v
}

// ErrGuidesDisabled is what CheckGuide returns where the operator does not want any.
var ErrGuidesDisabled = errors.New("grammar is not supported")

// errGuidesUnknown is what it returns where the groups would follow guides otherwise.
var errGuidesUnknown = errors.New("the shard group is of another build, which constrains texts otherwise")

// Guides are what the operator wishes.
func (s *Service) Guides() *Guides { return &s.config.Guides }

// CheckGuide compiles a source on one of the workers, so that a request fails before any work is done for it. failure is the source's own,
// mostly a *guide.Error.
func (s *Service) CheckGuide(ctx context.Context, model *Model, source *guide.Source) (refusal *request.Refusal, failure error) {
	left := guide.MaxWork
	return s.CheckGuideWithin(ctx, model, source, &left)
}

// CheckGuideWithin is CheckGuide where several sources share the work that one may be, of which left is what is left, negative if a source
// would have taken more: then its failure says nothing else. Whether it was compiled before makes no difference.
func (s *Service) CheckGuideWithin(ctx context.Context, model *Model, source *guide.Source, left *int) (refusal *request.Refusal,
	failure error) {
	switch {
	case s.config.Guides.Disabled:
		return nil, ErrGuidesDisabled
	case model.Card.GuideVersion != guide.Version:
		return nil, errGuidesUnknown
	}
	data, err := json.Marshal(source)
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(data)
	if v, known := s.compiled.known(key); known {
		*left -= v.work
		return nil, v.failure
	}
	var took int
	refusal = s.Work(ctx, len(source.Text)+longWorkBytes, func(context.Context) error { // it may take long whatever its length
		_, took, failure = guide.CompileWithin(*source, *left)
		return nil
	})
	if *left -= took; refusal == nil && (*left >= 0 || took > guide.MaxWork) {
		s.compiled.note(key, verdict{failure, took})
	}
	return refusal, failure
}

// CallFormat is how a model writes calls.
func (s *Service) CallFormat(model *Model) *calls.Format {
	if s.config.CallFormat != nil {
		return s.config.CallFormat
	}
	return model.Calls
}

// Reasoning is how a model writes thoughts.
func (s *Service) Reasoning(model *Model) calls.Reasoning {
	if s.config.Reasoning != nil {
		return *s.config.Reasoning
	}
	return model.Reasoning
}
