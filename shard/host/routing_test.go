package host

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// chosen is the definition of a routing, by sorting, in float64.
func chosen(r *model.Routing, logits []float32) (experts []int32, weights []float64) {
	scores, sum := make([]float64, len(logits)), 0.0
	for i, v := range logits {
		if scores[i] = math.Exp(float64(v)); r.Sigmoid {
			scores[i] = 1 / (1 + math.Exp(-float64(v)))
		}
		sum += scores[i]
	}
	ranks := make([]float64, len(logits))
	for i := range scores {
		if !r.Sigmoid {
			scores[i] /= sum
		}
		if ranks[i] = scores[i]; r.Correction != nil {
			ranks[i] += float64(r.Correction[i])
		}
	}
	if r.Groups > 1 {
		size := len(ranks) / r.Groups
		var groups []int
		of := func(group int) float64 {
			sorted := slices.Clone(ranks[group*size:][:size])
			slices.Sort(sorted)
			if r.GroupPairs {
				return sorted[size-1] + sorted[size-2]
			}
			return sorted[size-1]
		}
		for group := range r.Groups {
			groups = append(groups, group)
		}
		slices.SortStableFunc(groups, func(a, b int) int { return cmp.Compare(of(b), of(a)) })
		out := slices.Clone(groups[r.GroupsChosen:])
		for _, group := range out {
			for i := range size {
				ranks[group*size+i] = math.Inf(-1)
			}
		}
	}
	order := make([]int32, len(ranks))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int { return cmp.Compare(ranks[b], ranks[a]) })
	experts, sum = order[:r.Chosen], 0
	for _, expert := range experts {
		weights = append(weights, scores[expert])
		sum += scores[expert]
	}
	for i := range weights {
		if r.Normalised {
			weights[i] /= sum
		}
		if r.Scale != 0 {
			weights[i] *= float64(r.Scale)
		}
	}
	return experts, weights
}

// The router chooses what the definition does, and weights it so, whatever it chose before.
func TestRouting(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	correction := make([]float32, 24)
	for i := range correction {
		correction[i] = float32(random.NormFloat64())
	}
	for name, r := range map[string]model.Routing{
		"Mixtral":     {Chosen: 2, Normalised: true},
		"Qwen 3":      {Chosen: 8},
		"DeepSeek V2": {Chosen: 6, Scale: 16, Groups: 8, GroupsChosen: 3},
		"DeepSeek V3": {Chosen: 4, Sigmoid: true, Normalised: true, Scale: 2.5, Correction: correction, Groups: 4, GroupsChosen: 2,
			GroupPairs: true},
		"all": {Chosen: 24, Sigmoid: true},
	} {
		w := &router{kernels: cpu.Best()}
		for range 200 {
			logits := make([]float32, 24)
			for i := range logits {
				logits[i] = float32(random.NormFloat64() * 3)
			}
			experts, weights := make([]int32, r.Chosen), make([]float32, r.Chosen)
			w.choose(&r, logits, experts, weights)
			wantExperts, wantWeights := chosen(&r, logits)
			for i := range experts {
				if experts[i] != wantExperts[i] || math.Abs(float64(weights[i])-wantWeights[i]) > 1e-5*(1+wantWeights[i]) {
					t.Fatalf("%s: got %v with %v, want %v with %v", name, experts, weights, wantExperts, wantWeights)
				}
			}
		}
	}
	// Of equal scores the first are chosen, and what is no number does no harm.
	experts, weights := make([]int32, 3), make([]float32, 3)
	(&router{kernels: cpu.Best()}).choose(&model.Routing{Chosen: 3}, make([]float32, 24), experts, weights)
	if !slices.Equal(experts, []int32{0, 1, 2}) {
		t.Errorf("of equal experts %v are chosen", experts)
	}
	nan := slices.Repeat([]float32{float32(math.NaN())}, 24)
	(&router{kernels: cpu.Best()}).choose(&model.Routing{Chosen: 3, Groups: 4, GroupsChosen: 1}, nan, experts, weights)
	for _, expert := range experts {
		if expert < 0 || expert > 23 {
			t.Errorf("got expert %d", expert)
		}
	}
}
