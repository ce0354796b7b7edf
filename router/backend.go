package router

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/protocol"
	"lockstep/router/api/answer"
	"lockstep/router/fleet"
	"lockstep/router/fleet/core"
	"lockstep/router/request"
)

// maxModels bounds the models whose tokenizers are kept. Those that no group has make room; the groups of more are not used.
const maxModels = 16

// backend joins the fleet to the HTTP side and decides which model is served: the one that is served already while it
// has a group, else that of the first group in the order of names.
type backend struct {
	config *Config
	fleet  *fleet.Fleet
	model  atomic.Pointer[answer.Model]
	known  chan struct{} // closed when model is set for the first time

	// seen is when a group had each adapter last. The fleet's owner alone uses it.
	seen map[answer.Adapter]time.Time

	mu     sync.Mutex // guards models
	models map[string]*answer.Model
}

func newBackend(config *Config) *backend {
	return &backend{config: config, known: make(chan struct{}), seen: map[answer.Adapter]time.Time{},
		models: map[string]*answer.Model{}}
}

var errTooManyModels = &request.Refusal{Class: request.Generation, Message: "too many different models"}

// knows reports whether a model's tokenizer is kept.
func (b *backend) knows(digest string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.models[digest] != nil
}

// onCard builds the tokenizer of a new model.
func (b *backend) onCard(digest string, card *protocol.ModelCard) error {
	if b.knows(digest) {
		return nil
	}
	model, err := answer.NewModel(digest, card)
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.models) >= maxModels {
		b.dropUnused()
	}
	if len(b.models) >= maxModels {
		return errTooManyModels
	}
	b.models[digest] = model
	return nil
}

// dropUnused forgets the models that no group has, but for the one that is served. The mutex is held.
func (b *backend) dropUnused() {
	used := map[string]bool{}
	if served := b.model.Load(); served != nil {
		used[served.Digest] = true
	}
	for _, g := range b.fleet.Snapshot().Groups {
		used[g.CardDigest] = true
	}
	maps.DeleteFunc(b.models, func(digest string, _ *answer.Model) bool { return !used[digest] })
}

// onSnapshot derives the served model and its limits. It is called by the fleet's owner only.
func (b *backend) onSnapshot(snapshot *core.Snapshot) {
	if len(snapshot.Groups) == 0 {
		return
	}
	current := b.model.Load()
	was := ""
	if current != nil {
		was = current.Digest
	}
	digest := served(snapshot.Groups, was)
	total, capacity, reason := 0, 0, ""
	for _, g := range snapshot.Groups {
		if g.CardDigest == digest {
			total = max(total, min(g.Limits.MaxSequenceTokens, g.Limits.CapacityTokens))
			capacity += g.Limits.CapacityTokens
			reason = cmp.Or(reason, g.Limits.CapacityReason)
		}
	}
	b.mu.Lock()
	base := b.models[digest]
	b.mu.Unlock()
	if base == nil {
		return
	}
	model := *base
	model.Adapters = b.adapters(snapshot.Groups, base)
	model.MaxTotalTokens = min(orElse(b.config.MaxTotalTokens, total), total)
	model.MaxInputLength = min(orElse(b.config.MaxInputLength, model.MaxTotalTokens-1), model.MaxTotalTokens-1)
	model.MaxBatchTotalTokens, model.MaxBatchTotalReason = capacity, reason
	if b.config.MaxBatchTotalTokens > 0 {
		model.MaxBatchTotalTokens, model.MaxBatchTotalReason = b.config.MaxBatchTotalTokens, "as configured"
	}
	if current == nil || !current.Equal(&model) {
		b.model.Store(&model)
	}
	if current == nil {
		close(b.known)
	}
}

// adapters are those that requests to a model may name: its card's, and those of other groups of its kind. One whose last group
// has gone is kept for as long as a request would wait for a group, which may be restarting.
func (b *backend) adapters(groups []core.Group, base *answer.Model) (adapters []answer.Adapter) {
	named := map[string]bool{}
	add := func(a answer.Adapter) {
		if !named[a.Name] {
			named[a.Name] = true
			adapters = append(adapters, a)
		}
	}
	now := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, digest := range append([]string{base.Digest}, digests(groups)...) {
		if model := b.models[digest]; model != nil && model.Kind == base.Kind {
			for _, a := range model.Adapters {
				b.seen[a] = now
				add(a)
			}
		}
	}
	if current := b.model.Load(); current != nil && current.Kind == base.Kind {
		for _, a := range current.Adapters {
			if now.Sub(b.seen[a]) <= seconds(b.config.GroupWaitTimeout) {
				add(a)
			}
		}
	}
	maps.DeleteFunc(b.seen, func(a answer.Adapter, _ time.Time) bool { return !named[a.Name] })
	return adapters
}

// digests are the cards of groups, each once.
func digests(groups []core.Group) (list []string) {
	for _, g := range groups {
		if !slices.Contains(list, g.CardDigest) {
			list = append(list, g.CardDigest)
		}
	}
	return list
}

// served chooses the card of the model that is served, of groups that there are: the one that was, while a group with it is
// ready or no other is; else that of the first ready group. So new requests do not wait for groups that drain, when others with
// another card have come in their place.
func served(groups []core.Group, was string) string {
	kept, ready := "", ""
	for _, g := range groups {
		switch {
		case g.CardDigest == was && g.Ready:
			return was
		case g.CardDigest == was:
			kept = was
		case g.Ready && ready == "":
			ready = g.CardDigest
		}
	}
	return cmp.Or(ready, kept, groups[0].CardDigest)
}

func (b *backend) Model() *answer.Model        { return b.model.Load() }
func (b *backend) ModelKnown() <-chan struct{} { return b.known }
func (b *backend) Cancel(id uint64)            { b.fleet.Cancel(id) }
func (b *backend) Done(id uint64)              { b.fleet.Done(id) }
func (b *backend) Load() request.Load          { return b.fleet.Snapshot().Load }

func (b *backend) Submit(r *request.Request) (uint64, *request.Events, *request.Refusal) {
	id, events, err := b.fleet.Submit(r)
	var refusal *request.Refusal
	if err != nil && !errors.As(err, &refusal) {
		refusal = &request.Refusal{Class: request.Unavailable, Message: err.Error()} // the router is closed
	}
	return id, events, refusal
}

// Healthy reports whether all ready groups of the served model compute.
func (b *backend) Healthy(ctx context.Context) bool {
	model := b.model.Load()
	return model != nil && b.fleet.Healthy(ctx, model.Digest) == nil
}
