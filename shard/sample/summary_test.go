package sample

import (
	"math"
	"math/rand/v2"
	"testing"
)

// summarise is what kernel summarise of shard/gpu does, with an exponential of float64.
func summarise(logits []float32, first int) Summary {
	s := NoSummary()
	for i, logit := range logits {
		if !(logit >= -math.MaxFloat32) {
			continue
		}
		x := min(max(float64(logit), -largestLogit), largestLogit)
		n := int(math.RoundToEven(x / math.Ln2))
		f := uint64(math.Exp(x-float64(n)*math.Ln2) * (1 << unitBits))
		one := Summary{Highest: logit, Token: int32(first + i), Bin: int32(n >> 4)}
		one.Bins[summaryBins-1] = f << (n & 15)
		s.Add(&one)
	}
	return s
}

// Summaries of any parts, added in any order, are that of the row, and tell what Best tells of it.
func TestSummary(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		logits := make([]float32, 1+random.IntN(400))
		spread, shift := math.Exp(random.Float64()*9-4), random.NormFloat64()*50
		for i := range logits {
			if logits[i] = float32(random.NormFloat64()*spread + shift); random.IntN(10) == 0 {
				logits[i] = logits[random.IntN(i+1)] // equal ones
			}
		}
		if random.IntN(4) == 0 {
			logits[random.IntN(len(logits))] = float32(math.NaN())
			logits[random.IntN(len(logits))] = float32(math.Inf(-1))
		}
		whole := summarise(logits, 0)
		var parts []Summary
		for from := 0; from < len(logits); {
			to := min(from+1+random.IntN(100), len(logits))
			parts = append(parts, summarise(logits[from:to], from))
			from = to
		}
		random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		sum := NoSummary()
		for i := range parts {
			sum.Add(&parts[i])
		}
		if sum != whole {
			t.Fatalf("parts of %v add up to %+v, and the row's summary is %+v", logits, sum, whole)
		}
		token, logprob := sum.Best(len(logits))
		wantToken, want := Best(logits)
		if token != wantToken || math.Abs(float64(logprob-want)) > 1e-6*math.Max(1, math.Abs(float64(want))) {
			t.Errorf("%v: got %d, %v, want %d, %v", logits, token, logprob, wantToken, want)
		}
	}
}

func TestSummaryOfOddRows(t *testing.T) {
	nan, infinity := float32(math.NaN()), float32(math.Inf(1))
	for _, logits := range [][]float32{{nan, nan}, {-infinity, nan}, {1, infinity, infinity}, {2e4, 3e4, -3e4}, {-3e4, -2e4}} {
		s := summarise(logits, 0)
		token, logprob := s.Best(len(logits))
		want, _ := Best(logits)
		if token != want || !(logprob <= 0 && logprob >= -1) {
			t.Errorf("%v: got %d, %v, want %d", logits, token, logprob, want)
		}
	}
}
