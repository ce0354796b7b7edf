package shard

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/gpu"
	"lockstep/shard/gpu/driver"
	"lockstep/shard/host"
	"lockstep/shard/machine"
	"lockstep/shard/model"
	"lockstep/shard/sim"
)

// backend computes one rank's part of a model on a device. One goroutine owns it. Engine, scheduler, sampler and leader know
// nothing else of devices.
type backend interface {
	Describe() model.Device
	// ExchangeFloats is what the backend needs of the group's shared memory for steps of maxRows tokens, in float32: the
	// largest all-reduce, and the area in which logits are gathered. All ranks give the same.
	ExchangeFloats(maxRows int) (reduce, gather int)
	// FreeBytes is the memory that the KV caches of all ranks can still take, and whose it is.
	FreeBytes() (bytes int64, of string, err error)
	// Attach gives the backend its group and takes the memory for so many KV blocks and for steps of maxRows tokens, so that
	// nothing that was promised can fail for lack of it.
	Attach(group *collective.Group, blocks, maxRows int) error
	// Forward computes a step of at most maxRows tokens. On rank 0 it hands the wanted scores to consume, in order.
	Forward(chunks []model.Chunk, consume func(model.Scores)) error
	Close()
}

var (
	_ backend   = (*host.Backend)(nil)
	_ pipelined = (*gpu.Backend)(nil)
	_ pipelined = (*sim.Backend)(nil)
)

// pipelined is a backend that can begin a step before the one before it is collected, since it knows the tokens that it has chosen itself.
type pipelined interface {
	backend
	// CanBeFollowed reports whether the step behind one of these chunks may have model.ChosenBy for tokens.
	CanBeFollowed(chunks []model.Chunk) bool
	// Launch begins a step. Where it is followed, the next one is launched before it is collected; else the next call is its Collect,
	// behind that of a step before.
	Launch(chunks []model.Chunk, followed bool) error
	// Collect ends the oldest step that was launched, as Forward does. Launch may have been called for the next one.
	Collect(consume func(model.Scores)) error
}

// inOrder makes a pipelined backend of another: its steps are never followed.
type inOrder struct {
	backend
	chunks []model.Chunk
}

func pipelinedOf(b backend) pipelined {
	if p, ok := b.(pipelined); ok {
		return p
	}
	return &inOrder{backend: b}
}

func (b *inOrder) CanBeFollowed([]model.Chunk) bool { return false }

func (b *inOrder) Launch(chunks []model.Chunk, _ bool) error {
	b.chunks = chunks
	return nil
}

func (b *inOrder) Collect(consume func(model.Scores)) error { return b.Forward(b.chunks, consume) }

// BackendTraits are what others need to know of a backend before it is loaded.
type BackendTraits struct {
	Weights   bool // it reads them; else a model's directory may have none, and answers are made up
	StepModel bool // it takes Config.Sim's
	Adapters  bool // it computes Config.Adapters
	Cards     bool // it computes on cards
	// Numerics are those of which Config.Numerics may be one.
	Numerics []string
	Devices  bool // it takes Config.Devices, one for each rank
	// Slow says that the largest steps would take minutes: the start computes a short one.
	Slow bool
	// Provides says that Attach takes all the memory that the largest steps need, so that the start computes a short one.
	Provides bool
	// Keeps says that its packed weights can outlive a process, in memory that Run is given.
	Keeps bool
	// SharedMemory says that its KV cache is in the memory of the machine, which other programs need too.
	SharedMemory bool
	// MemoryFraction is the share of the free memory that a KV cache takes which nobody has asked for; 0: DefaultMemoryFraction.
	MemoryFraction float64
}

// backends are what Config.Backend may name. load loads a rank's part of the model; fingerprint tells models apart as far as the
// backend's results differ.
var backends = map[string]struct {
	BackendTraits
	load func(r *rank) (b backend, fingerprint string, err error)
}{
	"cpu": {BackendTraits{Weights: true, Adapters: true, Provides: true, Keeps: true, SharedMemory: true, Numerics: host.Numerics},
		loadHost},
	// What the KV cache leaves of a card is for steps.
	"cuda": {BackendTraits{Weights: true, Cards: true, Numerics: CardNumerics(), Adapters: true, Devices: true, MemoryFraction: 0.8},
		loadCard},
	"ptx": {BackendTraits{Weights: true, Cards: true, Numerics: CardNumerics(), Adapters: true, Slow: true, SharedMemory: true},
		loadEmulated},
	"sim": {BackendTraits{StepModel: true, Adapters: true}, loadSim},
}

// DefaultBackend is what the launcher takes unless it is told otherwise, or there are cards: then CardBackend.
const (
	DefaultBackend = "cpu"
	CardBackend    = "cuda"
)

// TraitsOf returns the traits of one of Backends.
func TraitsOf(backend string) BackendTraits { return backends[backend].BackendTraits }

// Backends lists what Config.Backend may be.
func Backends() (names []string) {
	for name := range backends {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func backendNamed(name string) (func(r *rank) (backend, string, error), error) {
	if b, ok := backends[name]; ok {
		return b.load, nil
	}
	return nil, fmt.Errorf("backend %q: want one of %s", name, strings.Join(Backends(), ", "))
}

// kernelsOf are the kernels by which CPUs compute. The first call takes as long as their self-test, some tens of milliseconds.
func kernelsOf(c Config) (*cpu.Kernels, error) {
	if c.Kernels == "" {
		return cpu.Best(), nil
	}
	return cpu.Named(c.Kernels)
}

func loadHost(r *rank) (backend, string, error) {
	c := r.config
	kernels, err := kernelsOf(c)
	if err != nil {
		return nil, "", err
	}
	options := host.Options{Kernels: kernels, Numerics: c.Numerics, Cache: c.KVCache, Progress: r.advance}
	return loadPart(r, func(part *model.Part) (backend, error) {
		var err error
		if r.weights != nil {
			if options.Kept, err = r.keptWeights(kernels.Name()); err != nil {
				return nil, err
			}
		}
		b, err := host.Load(part, r.team, options)
		if err != nil {
			return nil, err
		}
		if b.Reused() {
			r.log.Info().Msg("using the weights that were packed before the restart")
		}
		return b, nil
	})
}

// keptWeights says whose the packed weights are that outlive this process: their bytes follow from the model's files as they lie on
// the disk, from this rank's part of them, and from how they are computed with.
func (r *rank) keptWeights(kernels string) (*host.Kept, error) {
	c := r.config
	says, err := json.Marshal([]any{r.fingerprint, r.model.Files.Identity(), c.Rank, c.Shards, c.Numerics, kernels, r.adapters})
	return &host.Kept{File: r.weights, Key: sha256.Sum256(says)}, err
}

// loadEmulated loads onto a card that is emulated.
func loadEmulated(r *rank) (backend, string, error) {
	return loadPart(r, func(part *model.Part) (backend, error) {
		device, err := gpu.NewEmulated(r.config.Threads, machine.FreeMemory)
		if err != nil {
			return nil, err
		}
		return gpu.Load(part, device, r.team, r.cardOptions())
	})
}

// loadCard loads onto the rank's card.
func loadCard(r *rank) (backend, string, error) {
	return loadPart(r, func(part *model.Part) (backend, error) {
		c := r.config
		uuid := c.Devices[c.Rank]
		others := slices.Delete(slices.Clone(c.Devices), c.Rank, c.Rank+1)
		device, err := driver.Open(driver.Options{Library: c.CUDALibrary, UUID: uuid, Shared: slices.Contains(others, uuid),
			GiveUp: func() error {
				if r.group != nil && r.group.Aborted() {
					return collective.ErrAborted
				}
				return nil
			}})
		if err != nil {
			return nil, err
		}
		b, err := gpu.Load(part, device, r.team, r.cardOptions())
		if lacking := (*driver.MemoryError)(nil); errors.As(err, &lacking) {
			err = fmt.Errorf("the weights of this shard: %w: spread them over more cards (--num-shard), take a smaller model, or end what "+
				"else takes memory of the card", err)
		}
		if err != nil {
			return nil, err
		}
		return b, nil
	})
}

// cardOptions say how the rank computes on a card.
func (r *rank) cardOptions() gpu.Options {
	graphs := r.config.Graphs
	if len(graphs) == 0 {
		graphs = gpu.DefaultGraphs
	} else if slices.Contains(graphs, 0) {
		graphs = nil
	}
	return gpu.Options{Numerics: cmp.Or(r.config.Numerics, gpu.DefaultNumerics), Graphs: graphs, Progress: r.advance,
		Warn: func(err error) { r.log.Warn().Err(err).Msg("the card is used with less than it could") }}
}

// loadPart has the rank's part of the model and of its adapters loaded, and tells what the model is to those who need to know.
func loadPart(r *rank, load func(part *model.Part) (backend, error)) (b backend, fingerprint string, err error) {
	part, adapters, err := openPart(r)
	if err != nil {
		return nil, "", err
	}
	for _, adapter := range adapters {
		defer adapter.Close() // its parts are packed by then
	}
	if r.config.Rank == 0 || r.weights != nil {
		if r.fingerprint, err = r.model.Fingerprint(); err != nil {
			return nil, "", err
		}
	}
	b, err = load(part)
	return b, r.fingerprint, err
}

// openPart opens the rank's part of the model and its adapters, which must stay open until the part is loaded.
func openPart(r *rank) (part *model.Part, adapters []*model.Adapter, err error) {
	c := r.config
	defer func() {
		for _, adapter := range adapters {
			if err != nil {
				adapter.Close()
			}
		}
	}()
	for _, a := range c.Adapters {
		adapter, err := model.OpenAdapter(a.Name, a.Path)
		if err != nil {
			return nil, adapters, err
		}
		adapters = append(adapters, adapter)
	}
	if part, err = r.model.Part(c.Rank, c.Shards, adapters...); err != nil {
		return nil, adapters, err
	}
	if unused := part.Unused; len(unused) > 0 && c.Rank == 0 {
		r.log.Warn().Int("count", len(unused)).Strs("tensors", unused[:min(len(unused), maxNamedTensors)]).
			Msg("the model's files have tensors that are not computed with: config.json does not tell of them")
	}
	if part.OtherParts > 0 && c.Rank == 0 {
		r.log.Info().Int("tensors", part.OtherParts).Msg("the model reads more than text, and its text part alone is served")
	}
	for _, stage := range part.Stages {
		if attend, ok := stage.(*model.Attend); ok {
			r.window = max(r.window, attend.Window)
		}
	}
	if c.Rank == 0 {
		cache := cmp.Or(c.KVCache, "auto")
		line := r.log.Info()
		if r.traits.Cards {
			cache = cmp.Or(c.Numerics, gpu.DefaultNumerics)
			line.Ints("graphs", r.cardOptions().Graphs)
		}
		if len(r.traits.Numerics) > 0 {
			line.Str("numerics", cmp.Or(c.Numerics, "auto"))
		}
		line.Str("architecture", r.model.Config.Architecture).Str("weights", r.model.DataType).Str("quantize", c.Quantize).
			Str("kv_cache", cache).Array("adapters", told(adapters)).Msg("computing with")
	}
	return part, adapters, nil
}

func loadSim(r *rank) (backend, string, error) {
	fingerprint, err := r.model.FingerprintOfShape()
	digests := make([]string, len(r.adapters))
	for i, a := range r.adapters {
		digests[i] = a.Digest
	}
	return sim.New(r.model.Config, r.config.Rank, r.config.Sim, digests), fingerprint, err
}

// told are adapters as the log names them.
type told []*model.Adapter

func (adapters told) MarshalZerologArray(array *zerolog.Array) {
	for _, a := range adapters {
		array.Str(a.String())
	}
}
