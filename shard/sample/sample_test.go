package sample_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/shard/sample"
)

var inf, nan = float32(math.Inf(1)), float32(math.NaN())

// after is a context of one prompt token, id 0, and the generated ones.
func after(generated ...int32) sample.Context {
	return sample.Context{Tokens: append([]int32{0}, generated...), Prompt: 1, EOS: []int32{2}}
}

// Each parameter alone on few logits. The wanted scores are log-probabilities up to a constant.
func TestParameters(t *testing.T) {
	logits, prompt2 := []float32{1, -2, 3, 0.5, 0}, sample.Context{Tokens: []int32{0, 2, 2, 3, 3, 1, 3, 1}, Prompt: 3, EOS: []int32{2, 2}}
	for _, c := range []struct {
		name    string
		context sample.Context
		p       protocol.Sampling
		want    []float32
	}{
		{"nothing", prompt2, protocol.Sampling{}, logits},
		{"temperature", prompt2, protocol.Sampling{Temperature: 0.5}, []float32{2, -4, 6, 1, 0}},
		{"lowest temperature", prompt2, protocol.Sampling{Temperature: 1e-30}, []float32{-2e5, -5e5, 0, -2.5e5, -3e5}},
		{"repetition", prompt2, protocol.Sampling{RepetitionPenalty: 2}, []float32{0.5, -4, 1.5, 0.25, 0}},
		{"repetition without prompt", prompt2, protocol.Sampling{RepetitionPenalty: 2, RepetitionSkipsPrompt: true},
			[]float32{1, -4, 3, 0.25, 0}},
		{"frequency", prompt2, protocol.Sampling{FrequencyPenalty: 0.5}, []float32{1, -3, 3, -1, 0}},
		{"frequency with prompt", prompt2, protocol.Sampling{FrequencyPenalty: 0.5, PenaltiesCountPrompt: true},
			[]float32{0.5, -3, 2, -1, 0}},
		{"relative frequency", prompt2, protocol.Sampling{RelativeFrequencyPenalty: 4}, []float32{0.5, -3, 2, -1, 0}},
		{"presence", prompt2, protocol.Sampling{PresencePenalty: 0.5}, []float32{1, -2.5, 3, 0, 0}},
		{"presence with prompt", prompt2, protocol.Sampling{PresencePenalty: 0.5, PenaltiesCountPrompt: true},
			[]float32{0.5, -2.5, 2.5, 0, 0}},
		{"unknown ids", after(-1, 5, 1<<31-1), protocol.Sampling{PresencePenalty: 0.5, RepetitionPenalty: 2},
			[]float32{0.5, -2, 3, 0.5, 0}},
		{"all penalties", after(1), protocol.Sampling{RepetitionPenalty: 2, RelativeFrequencyPenalty: 1, FrequencyPenalty: 2,
			PresencePenalty: 3}, []float32{0, -9.5, 3, 0.5, 0}},
		{"bias", prompt2, protocol.Sampling{LogitBias: []protocol.TokenBias{{ID: 1, Bias: 4}, {ID: 4, Bias: -1}}},
			[]float32{1, 2, 3, 0.5, -1}},
		{"bias before temperature", prompt2, protocol.Sampling{Temperature: 0.5, LogitBias: []protocol.TokenBias{{ID: 1, Bias: 4}}},
			[]float32{2, 4, 6, 1, 0}},
		{"banned", prompt2, protocol.Sampling{BannedTokenIDs: []int32{2, 4}}, []float32{1, -2, -inf, 0.5, -inf}},
		{"allowed", prompt2, protocol.Sampling{AllowedTokenIDs: []int32{1, 3, 1}}, []float32{-inf, -2, -inf, 0.5, -inf}},
		{"allowed and banned", prompt2, protocol.Sampling{AllowedTokenIDs: []int32{1, 3}, BannedTokenIDs: []int32{3}},
			[]float32{-inf, -2, -inf, -inf, -inf}},
		{"minimum", prompt2, protocol.Sampling{MinNewTokens: 6}, []float32{1, -2, -inf, 0.5, 0}},
		{"minimum reached", prompt2, protocol.Sampling{MinNewTokens: 5}, logits},
		{"minimum and on behind the end", prompt2, protocol.Sampling{MinNewTokens: 6, IgnoreEOS: true}, logits},
		{"minimum gives way", prompt2, protocol.Sampling{MinNewTokens: 6, AllowedTokenIDs: []int32{2}},
			[]float32{-inf, -inf, 3, -inf, -inf}},
		{"minimum and allowed", prompt2, protocol.Sampling{MinNewTokens: 6, AllowedTokenIDs: []int32{2, 1}},
			[]float32{-inf, -2, -inf, -inf, -inf}},
		{"minimum without end", sample.Context{Tokens: []int32{0}, Prompt: 1, EOS: []int32{7, -1}},
			protocol.Sampling{MinNewTokens: 6, LengthPenaltyFactor: 2}, logits},
		{"length", prompt2, protocol.Sampling{LengthPenaltyStart: 3, LengthPenaltyFactor: 1.5},
			[]float32{1, -2, 3 + 3*(1.5*1.5-1), 0.5, 0}},
		{"length not yet", prompt2, protocol.Sampling{LengthPenaltyStart: 5, LengthPenaltyFactor: 1.5}, logits},
		{"length of negative scores", sample.Context{Tokens: []int32{0, 0}, Prompt: 1, EOS: []int32{1}},
			protocol.Sampling{LengthPenaltyFactor: 3}, []float32{1, 2, 3, 0.5, 0}},
		{"watermark of nothing", prompt2, protocol.Sampling{WatermarkDelta: 2, WatermarkGamma: 0.1}, logits},
		{"watermark of all", prompt2, protocol.Sampling{WatermarkDelta: 2, WatermarkGamma: 1, RepetitionPenalty: 2},
			[]float32{1.5, 0, 2.5, 1.25, 2}},
		{"min_p", prompt2, protocol.Sampling{Sample: true, MinP: 0.1}, []float32{1, -inf, 3, -inf, -inf}},
		{"min_p behind temperature", prompt2, protocol.Sampling{Sample: true, MinP: 0.1, Temperature: 2},
			[]float32{0.5, -inf, 1.5, 0.25, 0}},
		{"min_p of the best", prompt2, protocol.Sampling{Sample: true, MinP: 1}, []float32{-inf, -inf, 3, -inf, -inf}},
		{"min_p before top_p", prompt2, protocol.Sampling{Sample: true, MinP: 0.08, TopP: 0.88}, []float32{1, -inf, 3, -inf, -inf}},
		{"top_k", prompt2, protocol.Sampling{Sample: true, TopK: 3}, []float32{1, -inf, 3, 0.5, -inf}},
		{"top_k of all but one", prompt2, protocol.Sampling{Sample: true, TopK: 4}, []float32{1, -inf, 3, 0.5, 0}},
		{"top_k of all", prompt2, protocol.Sampling{Sample: true, TopK: 5}, logits},
		{"top_k of more than allowed", prompt2, protocol.Sampling{Sample: true, TopK: 3, AllowedTokenIDs: []int32{0, 1}},
			[]float32{1, -2, -inf, -inf, -inf}},
		{"greedy knows no filters", prompt2, protocol.Sampling{MinP: 1, TopK: 1, TopP: 0.1, TypicalP: 0.1}, logits},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.p.Validate(len(logits)); err != nil {
				t.Fatal(err)
			}
			checkDistribution(t, logits, c.context, c.p, c.want)
		})
	}
}

// checkDistribution compares with the softmax of the wanted scores.
func checkDistribution(t *testing.T, logits []float32, c sample.Context, p protocol.Sampling, want []float32) {
	t.Helper()
	var s sample.Sampler
	total, highest := 0.0, float64(slices.Max(want))
	for _, score := range want {
		total += math.Exp(float64(score) - highest)
	}
	got := s.Distribution(logits, c, &p)
	for id, score := range want {
		probability, ok := got[int32(id)]
		want := math.Exp(float64(score)-highest) / total
		if ok != (score > -inf) || math.Abs(probability-want) > 1e-6*want {
			t.Errorf("id %d has probability %v (%v), want %v", id, probability, ok, want)
		}
	}
	greedy := p
	greedy.Sample = false
	if token, _, _ := s.Choose(logits, c, &greedy, 0, nil); p.TypicalP == 0 && want[token] != slices.Max(want) {
		t.Errorf("greedy took %d of %v", token, want)
	}
}

// Equally likely tokens at a boundary: top_k keeps all of them, top_p the lower ids.
func TestTies(t *testing.T) {
	logits := []float32{0, 0, 0, 0, -1}
	checkDistribution(t, logits, after(), protocol.Sampling{Sample: true, TopK: 2}, []float32{0, 0, 0, 0, -inf})
	checkDistribution(t, logits, after(), protocol.Sampling{Sample: true, TopP: 0.4}, []float32{0, 0, -inf, -inf, -inf})
	checkDistribution(t, logits[:4], after(), protocol.Sampling{Sample: true, TopP: 1e-30}, []float32{0, -inf, -inf, -inf})
	checkDistribution(t, logits[:4], after(), protocol.Sampling{Sample: true, TypicalP: 0.1}, []float32{0, 0, 0, 0})
}

// Both sides of a boundary. The probabilities are 0.5, 0.3, 0.15 and 0.05; by their distance to the entropy of 1.142 the
// second comes first, then the first, the third and the last.
func TestBoundaries(t *testing.T) {
	logits := []float32{0, 0, 0, 0}
	for i, probability := range []float64{0.5, 0.3, 0.15, 0.05} {
		logits[i] = float32(math.Log(probability))
	}
	for _, c := range []struct {
		p    protocol.Sampling
		kept int
	}{
		{protocol.Sampling{TopP: 0.79}, 2}, {protocol.Sampling{TopP: 0.801}, 3}, {protocol.Sampling{TopP: 0.49}, 1},
		{protocol.Sampling{TopP: 0.951}, 4},
		{protocol.Sampling{TypicalP: 0.79}, 2}, {protocol.Sampling{TypicalP: 0.801}, 3}, {protocol.Sampling{TypicalP: 0.951}, 4},
		{protocol.Sampling{MinP: 0.59}, 2}, {protocol.Sampling{MinP: 0.61}, 1},
	} {
		want := slices.Clone(logits)
		for i := c.kept; i < len(want); i++ {
			want[i] = -inf
		}
		c.p.Sample = true
		checkDistribution(t, logits, after(), c.p, want)
	}
	checkDistribution(t, logits, after(), protocol.Sampling{Sample: true, TypicalP: 0.29}, []float32{-inf, 0, -inf, -inf})
	for i, probability := range []float64{0.28, 0.26, 0.24, 0.22} { // all about as far from the entropy of 1.382
		logits[i] = float32(math.Log(probability))
	}
	checkDistribution(t, logits, after(), protocol.Sampling{Sample: true, TypicalP: 0.49}, []float32{-inf, logits[1], logits[2], -inf})
	checkDistribution(t, logits, after(), protocol.Sampling{Sample: true, TypicalP: 0.51}, []float32{logits[0], logits[1], logits[2], -inf})
}

// typical_p drops the best where the distribution is flat but for it.
func TestTypicalDropsTheBest(t *testing.T) {
	logits, want := make([]float32, 100), make([]float32, 100)
	logits[7], want[7] = 2, -inf
	checkDistribution(t, logits, after(), protocol.Sampling{Sample: true, TypicalP: 0.5}, want)
}

func TestWatermarkSet(t *testing.T) {
	green := func(last int32, vocabulary int, gamma float32) (ids []int32) {
		var s sample.Sampler
		p := protocol.Sampling{WatermarkGamma: gamma, WatermarkDelta: 5}
		for id, probability := range s.Distribution(make([]float32, vocabulary), sample.Context{Tokens: []int32{3, last}, Prompt: 2}, &p) {
			if probability > 1/float64(vocabulary) {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		return ids
	}
	for _, c := range []struct {
		vocabulary int
		gamma      float32
		want       int
	}{{1000, 0.5, 500}, {1001, 0.5, 500}, {1000, 0.25, 250}, {7, 0.9, 6}, {3, 0.3, 0}} {
		if got := len(green(1, c.vocabulary, c.gamma)); got != c.want {
			t.Errorf("%d of %d ids are green with %v, want %d", got, c.vocabulary, c.gamma, c.want)
		}
	}
	// Another last token gives a set that has half of the first one; the standard deviation is 8 of 500.
	same, other := green(1, 1000, 0.5), green(2, 1000, 0.5)
	common := 0
	for _, id := range same {
		if _, ok := slices.BinarySearch(other, id); ok {
			common++
		}
	}
	if common < 200 || common > 300 {
		t.Errorf("two green sets of 500 of 1000 have %d in common", common)
	}
	if got, want := green(1, 20, 0.5), []int32{1, 3, 5, 7, 9, 11, 12, 14, 16, 17}; !slices.Equal(got, want) {
		t.Errorf("the green set has changed: got %v, want %v; streams that are resumed by another version would too", got, want)
	}
}

// exp and log, which show in log-probabilities, against the standard library's.
func TestLogprob(t *testing.T) {
	random := rand.New(rand.NewPCG(2, 2))
	for range 2000 {
		logits := make([]float32, 1+random.IntN(300))
		width := math.Exp(random.Float64()*12 - 5)
		for i := range logits {
			logits[i] = float32(random.NormFloat64() * width)
		}
		id, sum, highest := random.IntN(len(logits)), 0.0, float64(slices.Max(logits))
		for _, logit := range logits {
			sum += math.Exp(float64(logit) - highest)
		}
		want := float32(float64(logits[id]) - highest - math.Log(sum))
		if got, _ := sample.Logprob(logits, int32(id), 0); math.Abs(float64(got-want)) > 1e-9+1e-7*math.Abs(float64(want)) {
			t.Fatalf("got %v, want %v", got, want)
		}
	}
	var s sample.Sampler
	for x := float32(0); x > -600; x -= random.Float32() {
		probabilities := s.Distribution([]float32{0, x}, after(), &protocol.Sampling{})
		if got, want := probabilities[1]/probabilities[0], math.Exp(float64(x)); math.Abs(got-want) > 1e-10*want {
			t.Errorf("e^%v is %v, want %v", x, got, want)
		}
	}
	if got, _ := sample.Logprob([]float32{-inf, 3}, 0, 0); got != -math.MaxFloat32 {
		t.Errorf("got %v for an impossible token, want the lowest number", got)
	}
}

// Positions of one seed give samples that follow the distribution.
func TestPositionsFollowTheDistribution(t *testing.T) {
	const draws = 20000
	var s sample.Sampler
	p := protocol.Sampling{Sample: true, Seed: 11, MinP: 0.05, Temperature: 0.9}
	logits, tokens, ones := []float32{1, 2, 0, 1.5, 0.3, -9}, make([]int32, draws+1), 0
	want := s.Distribution(logits, after(), &p)[1]
	for position := range draws {
		if token, _, _ := s.Choose(logits, sample.Context{Tokens: tokens[:position+1], Prompt: 1}, &p, 0, nil); token == 1 {
			ones++
		}
	}
	if z := (float64(ones) - want*draws) / math.Sqrt(want*(1-want)*draws); math.Abs(z) > 5 {
		t.Errorf("token 1 came %d times, want %v", ones, want*draws)
	}
}

// Logits that a broken model gives: the choice is one that may be made, always the same, and its log-probability finite.
func TestBrokenLogits(t *testing.T) {

	for _, logits := range [][]float32{
		{nan, nan, nan, nan}, {-inf, -inf, -inf, -inf}, {inf, inf, inf, inf}, {nan, 1, inf, -inf}, {inf, nan, -inf, 3},
		{-inf, nan, -math.MaxFloat32, -inf}, {3e38, -3e38, nan, 1}, {nan, 0, nan, 0},
	} {
		for _, p := range []protocol.Sampling{
			{}, {Sample: true}, {Sample: true, TopK: 2}, {Sample: true, TopP: 0.5}, {Sample: true, TypicalP: 0.5},
			{Sample: true, MinP: 0.5},
			{Sample: true, TopK: 3, TopP: 0.9, TypicalP: 0.9, MinP: 0.01, Temperature: 0.1}, {RepetitionPenalty: 2, FrequencyPenalty: 1},
			{Temperature: 1e-20}, {LengthPenaltyFactor: 3e38}, {Sample: true, WatermarkDelta: 3e38, WatermarkGamma: 0.5},
		} {
			for _, banned := range [][]int32{nil, {1}, {0, 1, 3}} {
				p.BannedTokenIDs = banned
				var s sample.Sampler
				token, logprob, out := s.Choose(logits, after(1, 2, 2), &p, 2, nil)
				if token < 0 || token > 3 || slices.Contains(banned, token) || !(logprob <= 0 && logprob >= -math.MaxFloat32) {
					t.Errorf("%v %+v: got token %d of log-probability %v", logits, p, token, logprob)
				}
				if again, same, _ := s.Choose(logits, after(1, 2, 2), &p, 0, nil); again != token || same != logprob {
					t.Errorf("%v %+v: got token %d (%v), then %d (%v)", logits, p, token, logprob, again, same)
				}
				for _, a := range out {
					if slices.Contains(banned, a.Token) || !(a.Logprob <= 0 && a.Logprob >= -math.MaxFloat32) {
						t.Errorf("%v %+v: got alternative %+v", logits, p, a)
					}
				}
			}
		}
	}
}

func TestUniform(t *testing.T) {
	sum := 0.0
	for seed := range uint64(100) {
		for position := range uint64(100) {
			sum += sample.Uniform(seed, position)
		}
	}
	if got := sum / 1e4; math.Abs(got-0.5) > 5/math.Sqrt(12e4) {
		t.Errorf("the mean is %v", got)
	}
	if got, want := sample.Uniform(1, 2), 0.9435642308648544; got != want {
		t.Errorf("got %v, want %v: all seeded answers have changed", got, want)
	}
}
