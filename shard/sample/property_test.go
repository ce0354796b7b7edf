package sample_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/shard/sample"
)

// randomCase makes valid parameters, each switched on in a part of the cases, and something to choose from.
func randomCase(random *rand.Rand) (logits []float32, c sample.Context, p protocol.Sampling) {
	vocabulary := 2 + random.IntN(60)
	if random.IntN(10) == 0 {
		vocabulary = 5000
	}
	width, grid := math.Exp(random.NormFloat64()), random.IntN(3) == 0
	logits = make([]float32, vocabulary)
	for i := range logits {
		logits[i] = float32(random.NormFloat64() * 3 * width)
		if grid { // with many ties
			logits[i] = float32(math.Round(float64(logits[i])))
		}
	}
	ids := func(most int) []int32 {
		list := make([]int32, random.IntN(most+1))
		for i := range list {
			list[i] = int32(random.IntN(vocabulary))
		}
		return list
	}
	c.Tokens = append(ids(40), int32(random.IntN(vocabulary)))
	c.Prompt, c.EOS = 1+random.IntN(len(c.Tokens)), append(ids(2), 1)
	on := func() bool { return random.IntN(4) == 0 }
	number := func(low, high float64) float32 {
		if on() {
			return float32(low + random.Float64()*(high-low))
		}
		return 0
	}
	p = protocol.Sampling{
		Sample: random.IntN(3) > 0, Seed: random.Uint64(), Temperature: number(0.1, 3), MinP: number(0, 1), TopP: number(0, 1),
		TypicalP: number(0, 1), RepetitionPenalty: number(0.5, 2), RepetitionSkipsPrompt: on(), FrequencyPenalty: number(-2, 2),
		RelativeFrequencyPenalty: number(-2, 2), PresencePenalty: number(-2, 2), PenaltiesCountPrompt: on(), IgnoreEOS: on(),
		LengthPenaltyFactor: number(1, 1.5), LengthPenaltyStart: random.IntN(10), WatermarkGamma: number(0, 1),
		WatermarkDelta: number(0, 3),
	}
	if on() {
		p.TopK = 1 + random.IntN(2*vocabulary)
	}
	if on() {
		p.MinNewTokens = random.IntN(20)
	}
	if on() {
		p.BannedTokenIDs = ids(5)
	}
	if on() {
		p.AllowedTokenIDs = ids(5)
	}
	if on() {
		for i, id := range random.Perm(vocabulary)[:1+random.IntN(min(vocabulary-1, 5))] {
			p.LogitBias = append(p.LogitBias, protocol.TokenBias{ID: int32(id), Bias: float32(i*7 - 10)})
		}
	}
	if p.Validate(vocabulary) != nil {
		p.BannedTokenIDs = nil
	}
	return logits, c, p
}

func TestChoices(t *testing.T) {
	const seed = 20261125
	random := rand.New(rand.NewPCG(seed, 0))
	var used sample.Sampler
	for i := range 20000 {
		logits, c, p := randomCase(random)
		given := slices.Clone(logits)
		var fresh sample.Sampler
		token, logprob, _ := fresh.Choose(logits, c, &p, 0, nil)
		top := random.IntN(8)
		again, same, out := used.Choose(logits, c, &p, top, []sample.Alternative{{Token: -5}})
		if again != token || same != logprob {
			t.Fatalf("seed %d, case %d, %+v: a used sampler chose %d (%v), a fresh one %d (%v)", seed, i, p, again, same, token, logprob)
		}
		if !slices.Equal(given, logits) {
			t.Fatalf("seed %d, case %d, %+v: the logits have changed", seed, i, p)
		}
		distribution := used.Distribution(logits, c, &p)
		if math.Abs(math.Log(distribution[token])-float64(logprob)) > 1e-6+1e-6*math.Abs(float64(logprob)) {
			t.Fatalf("seed %d, case %d, %+v: token %d has log-probability %v, probability %v", seed, i, p, token, logprob,
				distribution[token])
		}
		if !mayBeChosen(token, distribution, c, &p) {
			t.Fatalf("seed %d, case %d, %+v: token %d may not be chosen", seed, i, p, token)
		}
		if p.Sample {
			checkDraw(t, token, distribution, sample.Uniform(p.Seed, uint64(len(c.Tokens))))
		}
		checkAlternatives(t, out, top, distribution)
		if !p.Sample && top > 0 && (out[1].Token != token || out[1].Logprob != logprob) {
			t.Fatalf("seed %d, case %d, %+v: greedy chose %d (%v), the likeliest is %+v", seed, i, p, token, logprob, out[1])
		}
		_, _, more := used.Choose(logits, c, &p, top+3, nil)
		if !slices.Equal(out[1:], more[:min(top, len(more))]) {
			t.Fatalf("seed %d, case %d, %+v: %d alternatives are %v, %d are %v", seed, i, p, top, out[1:], top+3, more)
		}
	}
}

// checkDraw looks for the random number in the chosen token's part of the running sum over ids.
func checkDraw(t *testing.T, token int32, distribution map[int32]float64, uniform float64) {
	t.Helper()
	before := 0.0
	for id, probability := range distribution {
		if id < token {
			before += probability
		}
	}
	if after := before + distribution[token]; uniform < before-1e-9 || uniform > after+1e-9 {
		t.Fatalf("token %d was chosen with %v, it has the part from %v to %v", token, uniform, before, after)
	}
}

// mayBeChosen repeats the rules of banned, allowed and end-of-sequence ids.
func mayBeChosen(token int32, distribution map[int32]float64, c sample.Context, p *protocol.Sampling) bool {
	switch {
	case slices.Contains(p.BannedTokenIDs, token), len(p.AllowedTokenIDs) > 0 && !slices.Contains(p.AllowedTokenIDs, token):
		return false
	case p.IgnoreEOS || len(c.Tokens)-c.Prompt >= p.MinNewTokens || !slices.Contains(c.EOS, token):
		return true
	}
	for id := range distribution { // the end comes too early, which is allowed where nothing else is left
		if !slices.Contains(c.EOS, id) {
			return false
		}
	}
	return true
}

// checkAlternatives looks at those behind the one that was there before.
func checkAlternatives(t *testing.T, out []sample.Alternative, top int, distribution map[int32]float64) {
	t.Helper()
	if out[0].Token != -5 || len(out)-1 != min(top, len(distribution)) {
		t.Fatalf("got alternatives %v, want %d behind the first", out, min(top, len(distribution)))
	}
	listed := map[int32]bool{}
	for i, a := range out[1:] {
		probability, ok := distribution[a.Token]
		if !ok || probability > 1e-300 && math.Abs(math.Log(probability)-float64(a.Logprob)) > 1e-6+1e-6*math.Abs(float64(a.Logprob)) {
			t.Fatalf("alternative %+v has probability %v", a, probability)
		}
		if i > 0 && (a.Logprob > out[i].Logprob || a.Token < out[i].Token && probability > 1e-300 &&
			probability == distribution[out[i].Token]) {
			t.Fatalf("the alternatives %v are not in order", out[1:])
		}
		listed[a.Token] = true
	}
	for id, probability := range distribution {
		if top > 0 && !listed[id] && probability > distribution[out[len(out)-1].Token] {
			t.Fatalf("alternatives %v lack %d of probability %v", out, id, probability)
		}
	}
}

// usual are the parameters that most requests have.
var usual = []struct {
	name string
	p    protocol.Sampling
}{
	{"greedy", protocol.Sampling{}},
	{"greedy with penalties", protocol.Sampling{RepetitionPenalty: 1.1, FrequencyPenalty: 0.1, RelativeFrequencyPenalty: 0.1}},
	{"temperature", protocol.Sampling{Sample: true, Temperature: 0.8}},
	{"top_k 50", protocol.Sampling{Sample: true, Temperature: 0.8, TopK: 50}},
	{"top_k 50, top_p", protocol.Sampling{Sample: true, Temperature: 0.8, TopK: 50, TopP: 0.9}},
	{"top_p", protocol.Sampling{Sample: true, Temperature: 0.8, TopP: 0.9}},
	{"min_p", protocol.Sampling{Sample: true, MinP: 0.05}},
	{"typical_p", protocol.Sampling{Sample: true, TypicalP: 0.9}},
	{"watermark, bias and masks", protocol.Sampling{WatermarkGamma: 0.5, WatermarkDelta: 2,
		LogitBias:       []protocol.TokenBias{{ID: 1, Bias: 1}},
		AllowedTokenIDs: []int32{1, 2, 3}, BannedTokenIDs: []int32{2}, MinNewTokens: 100, LengthPenaltyFactor: 1.1}},
}

func usualInput(vocabulary int) ([]float32, sample.Context) {
	random := rand.New(rand.NewPCG(3, 3))
	logits, tokens := make([]float32, vocabulary), make([]int32, 300)
	for i := range logits {
		logits[i] = float32(random.NormFloat64() * 3)
	}
	for i := range tokens {
		tokens[i] = int32(random.IntN(vocabulary))
	}
	return logits, sample.Context{Tokens: tokens, Prompt: 200, EOS: []int32{2}}
}

func TestNoAllocations(t *testing.T) {
	logits, c := usualInput(3000)
	out := make([]sample.Alternative, 0, 10)
	var s sample.Sampler
	for _, u := range usual {
		if got := testing.AllocsPerRun(10, func() { s.Choose(logits, c, &u.p, 5, out) }); got != 0 {
			t.Errorf("%s: %v allocations a choice, want none", u.name, got)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	logits, c := usualInput(128 << 10)
	for _, u := range usual {
		b.Run(u.name, func(b *testing.B) {
			var s sample.Sampler
			for b.Loop() {
				s.Choose(logits, c, &u.p, 0, nil)
			}
		})
	}
}
