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
	rows := sample.Rows{Width: width, Values: make([]float32, 8*width)}
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
	for i := range rows.Row(6) { // a guide allows few
		if i%16 != 5 {
			rows.Row(6)[i] = -inf
		}
	}
	copy(rows.Row(7)[:width-20], rows.Row(6)) // and here it allows what is last
	first := logits{rows, cpu.Best()}
	for _, kernels := range cpu.Available() {
		got := logits{rows, kernels}
		for row := range got.Rows() {
			token, logprob := got.Best(row)
			want, wantLogprob := rows.Best(row)
			if token != want || !(math.Abs(float64(logprob-wantLogprob)) < 1e-5) {
				t.Errorf("%s, row %d: got %d with %v, want %d with %v", kernels.Name(), row, token, logprob, want, wantLogprob)
			}
			if _, same := first.Best(row); logprob != same {
				t.Errorf("%s, row %d: got %v, on other kernels %v", kernels.Name(), row, logprob, same)
			}
		}
	}
}
