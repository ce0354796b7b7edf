package shard

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"lockstep/protocol"
	"lockstep/protocol/outside"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/weights"
)

var (
	metamorphicTime = flag.Duration("metamorphic.time", 0, "how long TestMetamorphic runs; 0: a few seconds, or minutes with LOCKSTEP_ALL")
	metamorphicSeed = flag.Uint64("metamorphic.seed", 0, "the first seed of TestMetamorphic; 0: by the clock")
)

// variation is one way of running a workload. None of it may show in what a request gets.
type variation struct {
	kernels                  string
	shards, threads          int
	prefillTokens, sequences int
	blocks                   int
	prefixCache              bool
	adapters                 []Adapter // in any order
	together                 int       // requests in flight
	cancelled                int       // requests beside the workload's that come and go
	speculate                int       // guessed tokens of a sequence in a step
	interruptions            float64   // how often, per step, a request is taken away and resumed behind its tokens
}

func randomVariation(random *rand.Rand, longest int) variation {
	kernels := cpu.Available()
	v := variation{
		kernels: kernels[random.IntN(len(kernels))].Name(), shards: 1 << random.IntN(3), threads: 1 + random.IntN(2),
		prefillTokens: []int{1, 3, 16, 17, 64, 300}[random.IntN(6)], sequences: 1 + random.IntN(40),
		blocks: 1000, prefixCache: random.IntN(3) > 0, together: 1 + random.IntN(40), cancelled: random.IntN(6),
		interruptions: []float64{0, 0, 0.02, 0.1}[random.IntN(4)],
	}
	if !outside.All() { // more threads than cores wait for each other
		v.shards = min(v.shards, 2)
	}
	if v.kernels == "go" { // slow: more rarely, on few ranks and in few steps
		v.shards, v.prefillTokens = min(v.shards, 2), max(v.prefillTokens, 16)
		if random.IntN(3) > 0 || !outside.All() {
			v.kernels = kernels[0].Name()
		}
	}
	if random.IntN(2) == 0 {
		v.speculate = 1 + random.IntN(MaxSpeculate)
	}
	if random.IntN(2) == 0 {
		v.blocks = longest/16 + 1 + random.IntN(12) // parking
	}
	return v
}

// metamorphicWorkload makes requests that use every parameter, with stops, penalties and several answers to one prompt;
// many prompts begin alike.
func metamorphicWorkload(count, vocabulary int, adapters []Adapter, greedy bool, random *rand.Rand) []protocol.Request {
	ids := func(count int) (out []int32) {
		for range count {
			out = append(out, random.Int32N(int32(vocabulary)))
		}
		return out
	}
	system := ids(16 * (1 + random.IntN(6)))
	var requests []protocol.Request
	for len(requests) < count {
		r := protocol.Request{MaxNewTokens: 1 + random.IntN(40), PromptLogprobs: random.IntN(5) == 0,
			TopLogprobs:   []int{0, 0, 1, 5}[random.IntN(4)],
			NoPrefixCache: random.IntN(8) == 0}
		if random.IntN(3) > 0 {
			r.Prompt = slices.Clone(system[:len(system)-random.IntN(len(system))])
		}
		r.Prompt = append(r.Prompt, ids(1+random.IntN(60))...)
		if random.IntN(8) == 0 {
			r.CacheSalt = "tenant"
		}
		if len(adapters) > 0 && random.IntN(2) == 0 {
			r.Adapter = adapters[random.IntN(len(adapters))].Name
		}
		if random.IntN(3) == 0 {
			r.StopTokens = [][]int32{ids(1), ids(2)}
		}
		copies := 1
		if random.IntN(4) > 0 {
			r.Sampling = randomSampling(random, vocabulary)
			copies += random.IntN(5) / 3 * 2 // best_of
		}
		r.Sampling.IgnoreEOS = random.IntN(2) == 0
		if random.IntN(3) == 0 && (!greedy || random.IntN(8) == 0) { // steps with guides are not followed
			r.Guide = &guideSources[random.IntN(len(guideSources))]
			r.MaxNewTokens += random.IntN(60)
		}
		if greedy && random.IntN(30) > 0 { // so that steps are followed, to the end of a sequence that nobody foresees
			r.Sampling, r.TopLogprobs, r.PromptLogprobs, r.StopTokens = protocol.Sampling{IgnoreEOS: r.Sampling.IgnoreEOS}, 0, false, nil
			for range random.IntN(200) {
				r.StopTokens = append(r.StopTokens, ids(1))
			}
		}
		for range copies {
			r.ID = uint64(len(requests))
			r.Sampling.Seed = random.Uint64()
			requests = append(requests, r)
		}
	}
	return requests
}

// randomSampling switches each parameter on now and then.
func randomSampling(random *rand.Rand, vocabulary int) protocol.Sampling {
	s := protocol.Sampling{Sample: random.IntN(4) > 0}
	rarely := func(set func()) {
		if random.IntN(4) == 0 {
			set()
		}
	}
	id := func() int32 { return random.Int32N(int32(vocabulary)) }
	rarely(func() { s.Temperature = 0.5 + random.Float32() })
	rarely(func() { s.MinP = 0.05 * random.Float32() })
	rarely(func() { s.TopK = 1 + random.IntN(100) })
	rarely(func() { s.TopP = 0.5 + random.Float32()/2.1 })
	rarely(func() { s.TypicalP = 0.5 + random.Float32()/2.1 })
	rarely(func() { s.RepetitionPenalty, s.RepetitionSkipsPrompt = 0.8+random.Float32(), random.IntN(2) == 0 })
	rarely(func() { s.FrequencyPenalty, s.PenaltiesCountPrompt = 2*random.Float32()-0.5, random.IntN(2) == 0 })
	rarely(func() { s.RelativeFrequencyPenalty = random.Float32() })
	rarely(func() { s.PresencePenalty = 2*random.Float32() - 0.5 })
	rarely(func() { s.LogitBias = []protocol.TokenBias{{ID: id(), Bias: 5}} })
	rarely(func() { s.BannedTokenIDs = []int32{id(), id()} })
	rarely(func() { s.MinNewTokens = random.IntN(20) })
	rarely(func() { s.LengthPenaltyStart, s.LengthPenaltyFactor = random.IntN(10), 1+random.Float32()/5 })
	rarely(func() { s.WatermarkGamma, s.WatermarkDelta = 0.5, 2 })
	if random.IntN(10) == 0 {
		for range 50 {
			s.AllowedTokenIDs = append(s.AllowedTokenIDs, id())
		}
	}
	return s
}

// oracle guesses the answers that are known, at times wrong, so that guesses are right over ends of blocks and of sequences.
func oracle(answers map[uint64]*result, random *rand.Rand) func(to []int32, s *sequence, count int) []int32 {
	return func(to []int32, s *sequence, count int) []int32 {
		from := len(s.tokens) - len(s.request.Prompt)
		for i := range count {
			token := int32(i)
			if answer := answers[s.request.ID]; s.router == "test" && from+i < len(answer.tokens) && random.IntN(10) > 0 {
				token = max(answer.tokens[from+i], 0) // where a guide could not go on there is none
			}
			to = append(to, token)
		}
		return to
	}
}

// vary runs a workload in one way, in a random order, and returns what each request got.
func (g *testGroup) vary(t *testing.T, requests []protocol.Request, v variation, random *rand.Rand, total *tally) map[uint64]*result {
	t.Helper()
	results, pending := map[uint64]*result{}, slices.Clone(requests)
	random.Shuffle(len(pending), func(i, j int) { pending[i], pending[j] = pending[j], pending[i] })
	noise := metamorphicWorkload(max(1, v.cancelled), g.shape.Vocabulary, g.leader.config.Adapters, true, random)[:v.cancelled]
	live := map[uint64]protocol.Request{}
	for len(pending) > 0 || len(live) > 0 {
		for len(live) < v.together && len(pending) > 0 && random.IntN(3) > 0 {
			g.add("test", pending[0])
			results[pending[0].ID], live[pending[0].ID] = &result{}, pending[0]
			pending = pending[1:]
		}
		for i := range noise {
			if o := (origin{"noise", noise[i].ID}); random.IntN(20) == 0 && !g.remove(o) {
				g.add("noise", noise[i])
			}
		}
		outputs, err := g.step()
		if err != nil {
			t.Fatal(err)
		}
		if g.engine.record.Ahead {
			total.ahead++
		}
		for i := range outputs {
			if out := &outputs[i]; out.sequence.router == "test" {
				results[out.sequence.request.ID].take(out)
				if out.finish != protocol.FinishNone {
					delete(live, out.sequence.request.ID)
				}
			}
		}
		for _, id := range slices.Sorted(maps.Keys(live)) {
			// A fault: the group is gone, and another takes the request up behind what came of it. More has come each
			// time, or it might never end.
			r, got := live[id], results[id]
			more := len(got.tokens) > len(r.Generated) || len(got.prompt) > r.PromptLogprobsKnown
			if more && random.Float64() < v.interruptions && g.remove(origin{"test", id}) {
				r.Generated, r.PromptLogprobsKnown = slices.Clone(got.tokens), len(got.prompt)
				live[id] = r
				g.add("test", r)
			}
		}
	}
	for i := range noise {
		g.remove(origin{"noise", noise[i].ID})
	}
	if err := g.engine.settle(); err != nil {
		t.Fatal(err)
	}
	if err := g.engine.schedule.Check(); err != nil {
		t.Fatal(err)
	}
	for router, account := range g.accounts {
		if account.Requests != 0 || account.Tokens != 0 {
			t.Errorf("idle, but the account of %s says %+v", router, *account)
		}
	}
	return results
}

// take notes what a step produced for the request.
func (r *result) take(out *output) {
	for _, v := range out.prompt {
		r.prompt = append(r.prompt, math.Float32bits(v))
	}
	for _, top := range out.promptTop {
		for _, alternative := range top {
			r.promptTop = append(r.promptTop, uint32(alternative.Token), math.Float32bits(alternative.Logprob))
		}
	}
	if !out.yields {
		return
	}
	r.tokens = append(r.tokens, out.token)
	r.logprob = append(r.logprob, math.Float32bits(out.logprob))
	for _, alternative := range out.top {
		r.top = append(r.top, uint32(alternative.Token), math.Float32bits(alternative.Logprob))
	}
	r.finish = out.finish
}

// difference says in which of their parts two results differ.
func (r *result) difference(other *result) string {
	switch {
	case !slices.Equal(r.tokens, other.tokens):
		return fmt.Sprintf("tokens %v, want %v", r.tokens, other.tokens)
	case !slices.Equal(r.logprob, other.logprob):
		return "another log-probability"
	case !slices.Equal(r.prompt, other.prompt):
		return "other log-probabilities of the prompt"
	case !slices.Equal(r.promptTop, other.promptTop):
		return "other alternatives of the prompt"
	case !slices.Equal(r.top, other.top):
		return "other alternatives"
	case r.finish != other.finish:
		return fmt.Sprintf("finish %d, want %d", r.finish, other.finish)
	}
	return ""
}

// Metamorphic: one workload is computed in many random ways, with other kernels, shard and thread counts, budgets and
// numbers of blocks, the prefix cache on and off, in any order and company, beside cancelled requests, parked, taken away
// and resumed. Every request must get the same ids and bit-equal log-probabilities each time.
//
//	go test ./shard -run TestMetamorphic -metamorphic.time 2h
func TestMetamorphic(t *testing.T) {
	seed, deadline := *metamorphicSeed, time.Now().Add(2*time.Second)
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	switch {
	case *metamorphicTime > 0:
		deadline = time.Now().Add(*metamorphicTime)
	case outside.All():
		deadline = time.Now().Add(3 * time.Minute)
	}
	demo := os.DirFS("../launcher/demo/model")
	var total tally
	for ; !t.Failed() && (total.workloads == 0 || time.Now().Before(deadline)); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			metamorphicRound(t, varied{backend: "cpu", model: demo, adapters: true}, seed, deadline, &total)
		})
	}
	t.Logf("%+v", total)
}

// The simulated backend answers by what lies in the KV blocks: so it tells of every mistake of scheduler, block tables and
// prefix cache, and quickly.
func TestMetamorphicSimulated(t *testing.T) {
	seed := *metamorphicSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	demo := os.DirFS("../launcher/demo/model")
	var total tally
	for last := seed + 5; seed < last && !t.Failed(); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			metamorphicRound(t, varied{backend: "sim", model: demo, adapters: true}, seed, time.Now().Add(time.Hour), &total)
		})
	}
	if t.Logf("%+v", total); total.ahead < 100 || total.whole == 0 || total.cut == 0 {
		t.Errorf("only %d steps were planned ahead, %d guided texts were whole, %d cut", total.ahead, total.whole, total.cut)
	}
}

// On the emulated card likewise, of a model whose experts divide by two ranks.
func TestEmulatedCardMetamorphic(t *testing.T) {
	outside.Slow(t)
	seed := *metamorphicSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	files := modeltest.Files(t, "qwen3_moe")
	tokenizer, err := os.ReadFile("../launcher/demo/model/tokenizer.json") // whose first tokens will do
	if err != nil {
		t.Fatal(err)
	}
	files["tokenizer.json"].Data = tokenizer
	var total tally
	for last := seed + 2; seed < last && !t.Failed(); seed++ { // one workload is greedy
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			metamorphicRound(t, varied{backend: "ptx", model: files, slow: true}, seed, time.Now(), &total)
		})
	}
	if t.Logf("%+v", total); total.ahead < 20 {
		t.Errorf("only %d steps were planned ahead", total.ahead)
	}
}

// tally counts what a run of the test has seen.
type tally struct {
	workloads, requests, variations, tokens, parked, cachedTokens, ahead, accepted, rejected int
	// of guided requests: that ended by themselves, that did not, and that could not go on
	whole, cut, failed int
}

// demoAdapters are three adapters of the demo model, for a backend with weights random ones of its queries and downs.
func demoAdapters(t *testing.T, backend string, seed uint64) []Adapter {
	t.Helper()
	const hidden, intermediate, layers, rank = 256, 704, 5, 3
	adapters := []Adapter{{Name: "one"}, {Name: "two"}, {Name: "three"}}
	for i := range adapters {
		if !TraitsOf(backend).Weights {
			continue
		}
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		header, payload := map[string]any{}, []byte(nil)
		tensor := func(name string, rows, columns int) {
			from := len(payload)
			for range rows * columns {
				payload = binary.LittleEndian.AppendUint32(payload, math.Float32bits(float32(random.NormFloat64()/8)))
			}
			header[name] = map[string]any{"dtype": "F32", "shape": []int{rows, columns}, "data_offsets": []int{from, len(payload)}}
		}
		for layer := range layers {
			module := fmt.Sprintf("base_model.model.model.layers.%d.", layer)
			tensor(module+"self_attn.q_proj.lora_A.weight", rank, hidden)
			tensor(module+"self_attn.q_proj.lora_B.weight", hidden, rank)
			tensor(module+"mlp.down_proj.lora_A.weight", rank, intermediate)
			tensor(module+"mlp.down_proj.lora_B.weight", hidden, rank)
		}
		text, err := json.Marshal(header)
		if err != nil {
			t.Fatal(err)
		}
		adapters[i].Path = t.TempDir()
		for name, data := range map[string][]byte{
			weights.AdapterConfigName:  fmt.Appendf(nil, `{"peft_type":"LORA","r":%d,"lora_alpha":%d}`, rank, rank),
			weights.AdapterWeightsName: slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, payload),
		} {
			if err := os.WriteFile(filepath.Join(adapters[i].Path, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	return adapters
}

// varied is what is varied: a backend with a model.
type varied struct {
	backend  string
	model    fs.FS
	adapters bool // it is the demo model
	slow     bool // requests are few and short, and so are prompts
}

// trimmed makes a workload of few requests of it, and a variation one that a slow backend can compute.
func (on varied) trimmed(requests []protocol.Request) []protocol.Request {
	if !on.slow {
		return requests
	}
	requests = requests[:min(len(requests), 9)]
	for i := range requests {
		r := &requests[i]
		r.MaxNewTokens, r.Prompt = min(r.MaxNewTokens, 12), r.Prompt[:min(len(r.Prompt), 40)]
	}
	return requests
}

func (on varied) fits(v variation) variation {
	if on.slow {
		v.kernels, v.shards, v.threads, v.prefillTokens = "", min(v.shards, 2), 2, max(v.prefillTokens, 7)
		v.cancelled, v.speculate = min(v.cancelled, 2), 0 // it is a card
	}
	return v
}

// metamorphicRound makes one workload, computes it alone and without cache, and then in several ways.
func metamorphicRound(t *testing.T, on varied, seed uint64, deadline time.Time, total *tally) {
	random := rand.New(rand.NewPCG(seed, 7))
	var requests []protocol.Request
	var want map[uint64]*result
	longest := 0
	var adapters []Adapter
	if on.adapters {
		adapters = demoAdapters(t, on.backend, seed)
	}
	var numerics, quantize string
	if on.backend == DefaultBackend {
		numerics, quantize = host.Numerics[seed%3], []string{"", "int8", "int4"}[seed/3%3]
		t.Logf("numerics %s, quantised to %q", numerics, quantize)
	}
	reference := variation{kernels: "", shards: 1, threads: 1, prefillTokens: 512, sequences: 1, blocks: 1000, together: 1}
	for round := range 7 {
		if round > 2 && time.Now().After(deadline) {
			break
		}
		v := reference
		if round > 0 {
			v = on.fits(randomVariation(random, longest))
		}
		if quantize != "" {
			v.shards = min(v.shards, 2) // 704 columns divide into no more chunks of whole groups
		}
		v.adapters = slices.Clone(adapters)
		random.Shuffle(len(v.adapters), func(i, j int) { v.adapters[i], v.adapters[j] = v.adapters[j], v.adapters[i] })
		// A group of its own within a subtest, so that it ends with it.
		t.Run(fmt.Sprintf("%+v", v), func(t *testing.T) {
			g := startGroup(t, Config{Backend: on.backend, Shards: v.shards, Threads: v.threads, Kernels: v.kernels, Adapters: v.adapters,
				Numerics: numerics, Quantize: quantize, Speculate: v.speculate, DisablePrefixCache: !v.prefixCache,
				Limits: Limits{PrefillTokens: v.prefillTokens, MaxSequences: v.sequences}}, on.model, v.blocks)
			if requests == nil {
				requests = on.trimmed(metamorphicWorkload(20+random.IntN(12), g.shape.Vocabulary, v.adapters, seed%2 == 0, random))
				for i := range requests {
					longest = max(longest, len(requests[i].Prompt)+requests[i].MaxNewTokens)
				}
			}
			if want != nil && random.IntN(2) == 0 {
				g.engine.propose = oracle(want, random)
			}
			got := g.vary(t, requests, v, random, total)
			if want == nil {
				want = got
				g.checkGuided(t, requests, want, total)
			}
			for id, w := range want {
				if difference := got[id].difference(w); difference != "" {
					t.Errorf("request %d %+v, guide %+v: %s", id, requests[id].Sampling, requests[id].Guide, difference)
				}
				total.tokens += len(got[id].tokens)
			}
			total.variations++
			total.parked += g.engine.schedule.Counts().Parked
			total.cachedTokens += g.engine.cachedTokens
			total.accepted += g.engine.speculation.Accepted
			total.rejected += g.engine.speculation.Drafted - g.engine.speculation.Accepted
		})
	}
	total.workloads++
	total.requests += len(requests)
}
