// Package shard is the engine: one rank of a tensor-parallel group that serves a model. Rank 0 leads: it takes requests
// over NATS, decides every step and samples; the other ranks follow its plans. All compute.
package shard

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/protocol/text"
	"lockstep/shard/collective"
	"lockstep/shard/masks"
	"lockstep/shard/model"
	"lockstep/shard/workers"
)

// maxNamedTensors bounds how many unused tensors the log names.
const maxNamedTensors = 100

// rank is one rank at work: its parts, in the order in which they come up.
type rank struct {
	config  Config
	log     zerolog.Logger
	status  func(Status)
	model   *model.Model
	team    *workers.Team
	backend backend
	traits  BackendTraits
	device  model.Device
	// asked are the limits as they were asked for; those of config are what came of them.
	asked Limits
	// adapters are config's, as the card says them.
	adapters []protocol.Adapter
	group    *collective.Group
	weights  *os.File // packed ones, kept
	// fingerprint tells models apart; on rank 0, and on those with weights.
	fingerprint string
	// window is the model's sliding window, 0 if it has none.
	window int
	// phase is what the start is at, since entered; empty: it is through.
	phase   string
	entered time.Time
}

// Run is the life of one rank. It returns when ctx ends (rank 0 finishes what it has first; the others end with it) or
// with the error that ended it. memory is the group's shared memory, nil for a group of one; weights is memory of this rank in
// which its packed weights stay for the next process, nil if there is none; demo is the model that an
// empty ModelPath means. status is called from one goroutine.
func Run(ctx context.Context, config Config, memory, weights *os.File, demo fs.FS, status func(Status), log zerolog.Logger) error {
	if err := config.Validate(); err != nil {
		return err
	}
	runtime.GOMAXPROCS(config.Threads + 2) // beside the computing threads: NATS, and the garbage collector
	r := &rank{config: config, log: log, status: status, weights: weights}
	defer r.close()
	if err := r.load(memory, demo); err != nil {
		return err
	}
	if config.Rank > 0 {
		return r.follow()
	}
	return r.lead(ctx)
}

// load opens and packs this rank's part of the model and joins the group.
func (r *rank) load(memory *os.File, demo fs.FS) (err error) {
	c := &r.config
	loadBackend, err := backendNamed(c.Backend)
	if err != nil {
		return err
	}
	r.traits = TraitsOf(c.Backend)
	r.enter(PhaseReading)
	if c.Backend == DefaultBackend {
		go kernelsOf(*c) // to be tested meanwhile
	}
	if r.model, err = open(*c, demo); err != nil {
		return fmt.Errorf("open the model: %w", err)
	}
	if c.Quantize != "" {
		note, err := r.model.Quantise(c.Quantize)
		if err != nil {
			return fmt.Errorf("--quantize: %w", err)
		}
		if note != "" && c.Rank == 0 {
			r.log.Warn().Msg(note)
		}
	}
	if r.adapters, err = describeAdapters(*c); err != nil {
		return err
	}
	if err := c.checkPositions(r.model.Config); err != nil {
		return err
	}
	r.asked, c.MaxSequenceTokens = c.Limits, cmp.Or(c.MaxSequenceTokens, r.model.Config.MaxPositions)
	r.team = workers.New(c.Threads, c.CPUs)
	r.enter(PhasePacking)
	if r.backend, r.fingerprint, err = loadBackend(r); err != nil {
		return fmt.Errorf("load the model %s: %w", c.ModelID, err)
	}
	r.enter(PhaseMemory)
	r.device = r.backend.Describe()
	reduce, gather := r.backend.ExchangeFloats(c.rows())
	r.group, err = collective.Open(memory, c.Rank, collective.Sizes{Ranks: c.Shards, ReduceFloats: reduce, GatherFloats: gather,
		PlanBytes: planBytes(*c, r.device.BlockTokens), Crowded: c.Crowded})
	if err == nil {
		r.team.Beat(r.group.Beat)
	}
	return err
}

// close undoes load, as far as it came.
func (r *rank) close() {
	if r.backend != nil { // which uses the others' memory and threads
		r.backend.Close()
	}
	if r.group != nil {
		r.group.Close()
	}
	if r.team != nil {
		r.team.Close()
	}
	if r.model != nil {
		r.model.Close()
	}
}

func open(config Config, demo fs.FS) (*model.Model, error) {
	switch {
	case config.ModelPath == "":
		return model.OpenFS(demo)
	case !TraitsOf(config.Backend).Weights:
		return model.OpenShape(config.ModelPath)
	}
	return model.Open(config.ModelPath)
}

// follow executes rank 0's plans until it says stop.
func (r *rank) follow() error {
	plan, err := r.group.Receive(nil)
	if err != nil {
		return err
	}
	if len(plan) != planHeaderBytes || binary.LittleEndian.Uint32(plan) != planSetup {
		return errPlan
	}
	if err := r.attach(int(binary.LittleEndian.Uint32(plan[4:]))); err != nil {
		return err
	}
	if err := r.group.Meet(); err != nil {
		return err
	}
	r.status(Status{Ready: true})
	steps := follower{backend: pipelinedOf(r.backend), tables: make(tables, r.config.MaxSequences)}
	for {
		if plan, err = r.group.Receive(plan); err != nil {
			return err
		}
		switch binary.LittleEndian.Uint32(plan) {
		case planStop:
			return nil
		case planStep, planFollowed:
			if err := steps.take(plan); err != nil {
				return err
			}
		default:
			return errPlan
		}
	}
}

// follower computes the steps that rank 0 plans.
type follower struct {
	backend pipelined
	tables  tables
	step    stepPlan
	open    bool // a step was launched and is not collected
}

func (f *follower) take(plan []byte) error {
	if err := f.tables.decode(plan, &f.step); err != nil {
		return err
	}
	if err := f.backend.Launch(f.step.chunks, f.step.followed); err != nil {
		return err
	}
	if f.open {
		if err := f.backend.Collect(nil); err != nil {
			return err
		}
	}
	if f.open = f.step.followed; f.open {
		return nil
	}
	return f.backend.Collect(nil)
}

// lead brings the group up and serves until ctx ends and all requests are done.
func (r *rank) lead(ctx context.Context) error {
	blocks, reason, err := cacheBlocks(r.config, r.backend)
	if err == nil && !r.config.Restarted { // else it serves on with the memory that there is now
		err = r.asked.checkCapacity(blocks*r.device.BlockTokens, reason)
	}
	if err != nil {
		return err
	}
	var card []byte
	var digest string
	var cardErr error
	var writing sync.WaitGroup
	defer writing.Wait()                                    // it reads the model
	writing.Go(func() { card, digest, cardErr = r.card() }) // some tens of milliseconds for a large vocabulary
	e, err := r.startEngine(blocks)
	if err != nil {
		return err
	}
	defer e.pace.beatAtRest(r.group)()
	r.enter(PhaseWarmUp)
	if err := warmUp(e, r.config, func() { r.advance(0) }); err != nil {
		return fmt.Errorf("warm up: %w", err)
	}
	r.enter("")
	if writing.Wait(); cardErr != nil {
		return cardErr
	}
	r.log.Info().Int("cache_tokens", blocks*r.device.BlockTokens).Int64("cache_bytes",
		int64(blocks)*int64(r.device.BlockBytes)).Str("because", reason).
		Str("numerics", r.device.Numerics).Str("device", r.device.Name).Int("threads", r.config.Threads).
		Int("prefill_tokens", r.config.PrefillTokens).Msg("KV cache")
	if positions := r.model.Config.MaxPositions; r.asked.MaxSequenceTokens == 0 && r.config.MaxSequenceTokens < positions {
		r.log.Warn().Int("tokens", r.config.MaxSequenceTokens).Int("positions", positions).
			Msg("requests may have fewer tokens than the model has positions: the KV cache has no room for more")
	}
	r.logEnds()
	guides := masks.NewStore(r.vocabulary)
	defer guides.Close()
	leader, err := newLeader(r.config, e, facts{card, digest, r.announcedDevice(), blocks, reason, guides}, r.log)
	if err != nil {
		return err
	}
	defer leader.close()
	tokens := blocks * r.device.BlockTokens
	if prior := r.config.PriorCacheTokens; tokens < prior {
		r.log.Warn().Int("tokens", tokens).Int("before", prior).
			Msg("the KV cache is smaller than before the restart, since less memory is free: streams longer than it are lost")
	}
	r.status(Status{Ready: true, CacheTokens: tokens, Text: fmt.Sprintf("%s, %s, %s, %d tokens of KV cache",
		r.config.ModelID, Count(r.config.Shards), r.device.Name, tokens)})
	if err := leader.serve(ctx); err != nil {
		return err
	}
	return r.sendControl(planStop, 0)
}

// vocabulary is what guides choose from. What ends a sequence says nothing in any text, whatever the tokenizer thinks of it. Building it
// takes some hundreds of milliseconds for large ones.
func (r *rank) vocabulary() (*masks.Vocabulary, error) {
	tokenizer, err := text.New(r.model.Files.Tokenizer)
	if err != nil {
		return nil, err
	}
	return masks.NewVocabulary(r.model.Config.Vocabulary, func(id int32) string {
		if slices.Contains(r.model.Config.EOSTokenIDs, id) { // it ends the text, whatever its own is
			return ""
		}
		return guideBytes(tokenizer.Bytes(id), tokenizer.IsSpecial(id))
	}, r.model.Config.EOSTokenIDs), nil
}

// guideBytes are those by which guides know a token. Vocabularies of bytes have one of the byte that marks special tokens: no text has
// it, and with the spelling of a special token behind it, it would pass for that.
func guideBytes(bytes string, special bool) string {
	switch {
	case special && bytes != "":
		return guide.Special + bytes
	case strings.Contains(bytes, guide.Special):
		return ""
	}
	return bytes
}

// announcedDevice is the device as routers hear of it, once all memory is taken. What is not known is left out: it is for people.
func (r *rank) announcedDevice() protocol.Device {
	name := r.device.Name[:min(len(r.device.Name), protocol.MaxDeviceNameBytes)]
	d := protocol.Device{Name: strings.ToValidUTF8(name, "")}
	if free, _, err := r.backend.FreeBytes(); err == nil {
		d.FreeBytes = max(free, 0)
	}
	return d
}

// Count says for people how many shards.
func Count(shards int) string {
	if shards == 1 {
		return "1 shard"
	}
	return fmt.Sprintf("%d shards", shards)
}

// logEnds says which tokens end a sequence, and what of the model's files is in doubt.
func (r *rank) logEnds() {
	for _, doubt := range r.model.Files.Doubts {
		r.log.Warn().Msg("the model's files: " + doubt)
	}
	switch ends := r.model.Ends; {
	case r.model.Config.Reward:
	case len(ends) == 0:
		r.log.Warn().Msg("no file of the model names a token that ends a sequence: answers end at max_new_tokens or a stop sequence " +
			"only (eos_token_id in generation_config.json names one)")
	default:
		texts := make([]string, len(ends))
		for i, end := range ends {
			texts[i] = end.String()
		}
		r.log.Info().Strs("tokens", texts).Msg("ends of a sequence")
	}
}

// startEngine sets all ranks up with so many KV blocks.
func (r *rank) startEngine(blocks int) (*engine, error) {
	if err := r.sendControl(planSetup, blocks); err != nil {
		return nil, err
	}
	if err := r.attach(blocks); err != nil {
		return nil, err
	}
	if err := r.group.Meet(); err != nil {
		return nil, err
	}
	r.config.MaxSequenceTokens = min(r.config.MaxSequenceTokens, blocks*r.device.BlockTokens)
	return newEngine(r.backend, r.model.Config, r.config, blocks, r.team, r.group.Send), nil
}

// attach takes the memory of so many KV blocks. Where others have taken what was free when their number was chosen the group
// fails here, before it has promised anything, and starts again with what is left.
func (r *rank) attach(blocks int) error { return r.backend.Attach(r.group, blocks, r.config.rows()) }

func (r *rank) sendControl(kind, value int) error {
	le := binary.LittleEndian
	return r.group.Send(le.AppendUint32(le.AppendUint32(nil, uint32(kind)), uint32(value)))
}

// warmUp computes steps through all ranks: a canary, and the proof that the memory of the largest steps that can come is there.
// First every sequence that may run at once, then as long a prompt beside them as one step takes. Where that memory has been
// taken already, and after a restart, which streams wait for, the canary alone, which also tells how long the largest step
// will take. computed is called behind each step.
func warmUp(e *engine, config Config, computed func()) error {
	newTokens := min(3, e.maxTokens-1)
	sequences, prompt := min(config.MaxSequences, e.schedule.Counts().FreeBlocks), min(config.PrefillTokens, e.maxTokens-newTokens)
	if newTokens < 1 {
		return fmt.Errorf("sequences of %d tokens have no room for a prompt and an answer: --max-total-tokens, and the positions of the "+
			"model's configuration, must be 2 or more",
			e.maxTokens)
	}
	if traits := TraitsOf(config.Backend); config.Restarted || traits.Slow || traits.Provides {
		sequences, prompt = 1, min(prompt, 8)
		defer func() { e.pace.scale(config.rows() / prompt) }()
	}
	for id := range sequences {
		tokens := 1
		if id == sequences-1 {
			tokens = prompt
		}
		request := protocol.Request{ID: uint64(id + 1), Prompt: make([]int32, tokens), MaxNewTokens: newTokens, NoPrefixCache: true,
			Sampling: protocol.Sampling{IgnoreEOS: true}}
		if e.shape.Reward {
			request.Score, request.MaxNewTokens = true, 1
		}
		e.add("", request, nil)
	}
	for len(e.byOrigin) > 0 {
		if _, err := e.step(); err != nil {
			return err
		}
		computed()
	}
	delete(e.accounts, "")
	return e.settle()
}

// card returns the model card as JSON and its digest.
func (r *rank) card() (card []byte, digest string, err error) {
	c, files := r.model.Config, r.model.Files
	numerics := r.fingerprint + "-" + r.device.Numerics
	if r.device.Uneven {
		numerics += fmt.Sprintf("-%d", r.config.Shards)
	}
	chat := files.Chat
	if r.config.ChatTemplate != "" {
		chat.Template = r.config.ChatTemplate
	}
	defaults := files.Defaults
	if r.config.NoModelDefaults {
		defaults = protocol.SamplingDefaults{}
	} else if defaults != (protocol.SamplingDefaults{}) {
		r.log.Info().Interface("recommended", defaults).
			Msg("requests in OpenAI's interface that do not say have the sampling parameters that the model's files recommend")
	}
	card, err = json.Marshal(protocol.ModelCard{ModelID: r.config.ModelID, DataType: r.model.DataType, DeviceType: r.device.Type,
		VocabularySize: c.Vocabulary, MaxPositions: c.MaxPositions, SlidingWindow: r.window, EOSTokenIDs: c.EOSTokenIDs,
		Reward: c.Reward, NumericsID: numerics, Numerics: r.device.Numerics,
		GuideVersion: guide.Version, Tokenizer: files.Tokenizer, Chat: chat, Adapters: r.adapters, Defaults: defaults})
	if err == nil && len(card) > protocol.MaxCardBytes {
		err = fmt.Errorf("the model card has %d bytes, at most %d", len(card), protocol.MaxCardBytes)
	}
	sum := sha256.Sum256(card)
	return card, hex.EncodeToString(sum[:]), err
}
