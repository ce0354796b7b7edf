package shard

import (
	"cmp"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/outside"
	"lockstep/shard/collective"
	"lockstep/shard/cpu"
	"lockstep/shard/masks"
)

// result is what a request produced, as bits.
type result struct {
	tokens  []int32
	logprob []uint32
	prompt  []uint32
	top     []uint32 // ids and log-probabilities
	// promptTop are those of the prompt; they come in as many parts as the prompt was computed in.
	promptTop []uint32
	finish    protocol.Finish
}

// testGroup runs a whole group within the test: rank 0's engine on this goroutine, the others following on their own.
type testGroup struct {
	*engine
	leader *rank
	ended  chan error
	ahead  int // steps that were planned ahead
	guides *masks.Store
}

// filled is a configuration with defaults for what a test does not say.
func filled(config Config) Config {
	defaults := DefaultLimits()
	config.Backend = cmp.Or(config.Backend, DefaultBackend)
	config.Threads = cmp.Or(config.Threads, 1)
	config.MaxSequences = cmp.Or(config.MaxSequences, defaults.MaxSequences)
	config.PrefillTokens = cmp.Or(config.PrefillTokens, defaults.PrefillTokens)
	config.MaxRequests, config.CacheMemoryFraction = defaults.MaxRequests, defaults.CacheMemoryFraction
	return config
}

// add takes a request, whose guide is compiled now if it was not before.
func (g *testGroup) add(router string, request protocol.Request) bool {
	if request.Guide == nil {
		return g.engine.add(router, request, nil)
	}
	if g.guides == nil {
		g.guides = masks.NewStore(g.leader.vocabulary)
	}
	compiled := make(chan *masks.Guide, 1)
	g.guides.Want(*request.Guide, func(guide *masks.Guide, err error) {
		if err != nil {
			panic(err)
		}
		compiled <- guide
	})
	return g.engine.add(router, request, <-compiled)
}

func startGroup(t *testing.T, config Config, demo fs.FS, blocks int) *testGroup {
	t.Helper()
	memory, err := collective.NewMemory("test")
	if err != nil {
		t.Fatal(err)
	}
	config.Group = protocol.GroupRef{Group: "test", Incarnation: 1}
	config = filled(config)
	g := &testGroup{ended: make(chan error, config.Shards)}
	for number := config.Shards - 1; number >= 0; number-- {
		c := config
		c.Rank = number
		r := &rank{config: c, log: zerolog.Nop(), status: func(Status) {}}
		if number > 0 {
			go func() {
				defer r.close()
				err := r.load(memory, demo)
				if err == nil {
					err = r.follow()
				}
				g.ended <- err
			}()
			continue
		}
		if err := r.load(memory, demo); err != nil {
			t.Fatal(err)
		}
		g.leader = r
	}
	if g.engine, err = g.leader.startEngine(blocks); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.leader.sendControl(planStop, 0); err != nil {
			t.Error(err)
		}
		for range config.Shards - 1 {
			if err := <-g.ended; err != nil {
				t.Error(err)
			}
		}
		g.leader.close()
		memory.Close()
	})
	return g
}

// run computes requests, which arrive in the order given, `together` at a time; between steps a random one of `noise`
// joins or is cancelled.
func (g *testGroup) run(t *testing.T, requests []protocol.Request, together int, noise []protocol.Request,
	random *rand.Rand) map[uint64]*result {
	t.Helper()
	results := map[uint64]*result{}
	pending := slices.Clone(requests)
	live := 0
	for len(pending) > 0 || live > 0 {
		for live < together && len(pending) > 0 {
			g.add("test", pending[0])
			results[pending[0].ID] = &result{}
			pending = pending[1:]
			live++
		}
		if len(noise) > 0 && random.IntN(2) == 0 {
			request := noise[random.IntN(len(noise))]
			if g.byOrigin[origin{"noise", request.ID}] != nil {
				g.remove(origin{"noise", request.ID})
			} else {
				g.add("noise", request)
			}
		}
		outputs, err := g.step()
		if err != nil {
			t.Fatal(err)
		}
		if g.engine.record.Ahead {
			g.ahead++
		}
		for i := range outputs {
			out := &outputs[i]
			if out.sequence.router != "test" {
				continue
			}
			results[out.sequence.request.ID].take(out)
			if out.finish != protocol.FinishNone {
				live--
			}
		}
	}
	for _, request := range noise {
		g.remove(origin{"noise", request.ID})
	}
	if err := g.engine.settle(); err != nil {
		t.Fatal(err)
	}
	if c := g.engine.schedule.Counts(); c.Running+c.Waiting+c.HeldBlocks != 0 || len(g.sequences) != 0 {
		t.Fatalf("idle, but %d sequences are left: %+v", len(g.sequences), c)
	}
	if err := g.engine.schedule.Check(); err != nil {
		t.Fatal(err)
	}
	return results
}

func workload(count int, seed uint64) []protocol.Request {
	random := rand.New(rand.NewPCG(seed, 5))
	requests := make([]protocol.Request, count)
	for i := range requests {
		r := &requests[i]
		r.ID, r.MaxNewTokens, r.PromptLogprobs = uint64(i), 4+random.IntN(24), i%3 == 0
		for range 1 + random.IntN(90) {
			r.Prompt = append(r.Prompt, random.Int32N(2048))
		}
		if i%2 == 0 {
			r.Sampling = protocol.Sampling{Sample: true, Seed: random.Uint64(), Temperature: 0.8, TopK: 50 * (i % 4), TopP: 0.95,
				RepetitionPenalty: 1.1}
		}
		r.Sampling.IgnoreEOS = i%4 == 0
	}
	return requests
}

// A request's tokens and log-probabilities are the same bits alone and in company, in any order and chunking, with few
// blocks and parking, beside cancelled requests, resumed in the middle, on one, two and four shards, and on every kernel path,
// by every arithmetic.
func TestRowInvariance(t *testing.T) {
	var results []map[uint64]*result
	for _, by := range []struct{ numerics, quantize string }{{"bf16", ""}, {"f32", ""}, {"q8", "int8"}, {"q8", "int4"}} {
		t.Run(by.numerics+by.quantize, func(t *testing.T) {
			results = append(results, rowInvariance(t, by.numerics, by.quantize))
		})
	}
	for i, r := range results[1:] {
		if r[0].difference(results[0][0]) == "" {
			t.Errorf("arithmetic %d gives the log-probabilities of the first one", i+1)
		}
	}
}

// rowInvariance is TestRowInvariance by one arithmetic, of which it returns the results. Of the others than bf16 it varies less.
func rowInvariance(t *testing.T, numerics, quantize string) (want map[uint64]*result) {
	demo := os.DirFS("../launcher/demo/model")
	requests := workload(16, 1)
	noise := workload(8, 2)
	compare := func(t *testing.T, what string, got map[uint64]*result) {
		t.Helper()
		compareResults(t, what, got, want)
	}
	few := numerics != "bf16"
	for _, kernels := range cpu.Available() {
		for _, shards := range []int{1, 2, 4} {
			if kernels != cpu.Best() && (shards != 2 && (few || !outside.All()) || few && !outside.All()) {
				continue // the kernels' bits are compared in shard/cpu
			}
			for _, stepTokens := range []int{1, 7, 64, 512} {
				if (kernels != cpu.Best() || shards != 2 || few) && stepTokens != 64 && (few || !outside.All()) {
					continue
				}
				t.Run(fmt.Sprintf("%s/%d shards/%d tokens a step", kernels.Name(), shards, stepTokens), func(t *testing.T) {
					blocks := 400
					if stepTokens == 7 {
						blocks = 9 // parking
					}
					g := startGroup(t, Config{Shards: shards, Threads: 1, Kernels: kernels.Name(), Numerics: numerics, Quantize: quantize,
						Limits: Limits{PrefillTokens: stepTokens, MaxSequences: 32}}, demo, blocks)
					random := rand.New(rand.NewPCG(3, uint64(stepTokens)))
					if g.leader.device.Uneven {
						if quantize == "" || shards < 4 {
							t.Error("the model does not divide evenly")
						}
						return // 704 columns in chunks of 88 are no whole groups of 32
					}
					if want == nil {
						want = g.run(t, requests, 1, nil, random)
					}
					shuffled := slices.Clone(requests)
					random.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
					if kernels.Name() == "go" {
						few := map[uint64]*result{} // it is slow
						for _, r := range shuffled[:4] {
							few[r.ID] = want[r.ID]
						}
						compareResults(t, "together", g.run(t, shuffled[:4], 4, nil, random), few)
						return
					}
					compare(t, "together", g.run(t, shuffled, len(shuffled), nil, random))
					if stepTokens == 7 {
						if g.engine.schedule.Counts().Parked == 0 {
							t.Error("nothing was parked: the test has too many blocks")
						}
						return
					}
					compare(t, "beside cancelled requests", g.run(t, shuffled, 5, noise, random))
				})
			}
		}
	}
	t.Run("resumed", func(t *testing.T) { resumedInvariance(t, numerics, quantize, requests, want) })
	return want
}

// resumedInvariance computes the second halves of answers behind the first ones, by other kernels than the best.
func resumedInvariance(t *testing.T, numerics, quantize string, requests []protocol.Request, want map[uint64]*result) {
	demo, all := os.DirFS("../launcher/demo/model"), cpu.Available()
	kernels := all[max(0, len(all)-2)] // in assembly, if there are any
	g := startGroup(t, Config{Shards: 2, Threads: 1, Numerics: numerics, Quantize: quantize, Kernels: kernels.Name(),
		Limits: Limits{PrefillTokens: 64, MaxSequences: 32}}, demo, 400)
	for _, request := range requests {
		whole := want[request.ID]
		if len(whole.tokens) < 3 {
			continue
		}
		cut := len(whole.tokens) / 2
		request.Generated, request.PromptLogprobsKnown = whole.tokens[:cut], len(whole.prompt)
		got := g.run(t, []protocol.Request{request}, 1, nil, nil)[request.ID]
		if !slices.Equal(got.tokens, whole.tokens[cut:]) || !slices.Equal(got.logprob, whole.logprob[cut:]) {
			t.Errorf("request %d resumed behind %d tokens: got %v, want %v", request.ID, cut, got.tokens, whole.tokens[cut:])
		}
	}
}

func compareResults(t *testing.T, what string, got, want map[uint64]*result) {
	t.Helper()
	for id, w := range want {
		if difference := got[id].difference(w); difference != "" {
			t.Errorf("%s: request %d: %s", what, id, difference)
		}
	}
}

// How long an answer may become costs nothing before it does: a request that asks for a billion tokens takes the memory of
// the longest sequence at most, and ends there.
func TestEndlessRequest(t *testing.T) {
	g := startGroup(t, Config{Shards: 1, Threads: 1, Limits: Limits{MaxSequenceTokens: 64}}, os.DirFS("../launcher/demo/model"), 16)
	request := protocol.Request{ID: 1, Prompt: []int32{5}, MaxNewTokens: protocol.MaxGroupTokens,
		Sampling: protocol.Sampling{IgnoreEOS: true}}
	if err := request.Validate(g.engine.shape.Vocabulary); err != nil {
		t.Fatal(err)
	}
	g.add("r", request)
	s := g.engine.byOrigin[origin{"r", 1}]
	if got, limit := cap(s.tokens), 2*g.engine.maxTokens; got > limit {
		t.Errorf("room for %d tokens, want at most %d", got, limit)
	}
	for len(g.engine.byOrigin) > 0 {
		if _, err := g.engine.step(); err != nil {
			t.Fatal(err)
		}
	}
	if got, want := len(s.tokens), g.engine.maxTokens; got != want {
		t.Errorf("it ended with %d tokens, want %d", got, want)
	}
}
