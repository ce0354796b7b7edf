package host

import (
	"math"
	"math/rand/v2"
	"testing"

	"lockstep/shard/cpu"
	"lockstep/shard/sample"
)

// The likeliest token that kernels find is the sampler's, and its log-probability nearly so, also where some logits are no finite
// numbers.
func TestBestOfLogits(t *testing.T) {
	const width = 5003
	rng := rand.New(rand.NewPCG(51, 52))
	inf := float32(math.Inf(1))
	rows := sample.Rows{Width: width, Values: make([]float32, 6*width)}
	for i := range rows.Values {
		rows.Values[i] = float32(4 * rng.NormFloat64())
	}
	copy(rows.Row(1)[100:], []float32{50, 1, 50}) // the first of equal ones
	rows.Row(2)[7] = inf - inf
	rows.Row(3)[8] = -inf
	rows.Row(4)[9] = inf
	for i := range rows.Row(5) {
		rows.Row(5)[i] = inf - inf
	}
	got := logits{rows, cpu.Best()}
	for row := range got.Rows() {
		token, logprob := got.Best(row)
		want, wantLogprob := rows.Best(row)
		if token != want || !(math.Abs(float64(logprob-wantLogprob)) < 1e-5) {
			t.Errorf("row %d: got %d with %v, want %d with %v", row, token, logprob, want, wantLogprob)
		}
	}
}
