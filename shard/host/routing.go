package host

import (
	"math"

	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// router chooses experts row by row. It is working memory.
type router struct {
	kernels       *cpu.Kernels
	scores, ranks []float32 // [experts]: the weights before the choice, and what is chosen by
	groups        []float32
}

// choose writes a row's experts, the best first, the lowest number of equal ones, and their weights. All arithmetic is in
// float32, every operation rounded, in the order of the experts.
func (w *router) choose(r *model.Routing, logits []float32, experts []int32, weights []float32) {
	w.scores, w.ranks = sized(w.scores, len(logits)), sized(w.ranks, len(logits))
	w.score(r.Sigmoid, logits)
	copy(w.ranks, w.scores)
	if r.Correction != nil {
		for i, v := range r.Correction {
			w.ranks[i] += v
		}
	}
	if r.Groups > 1 {
		w.limit(r)
	}
	sum := float32(0)
	for i := range experts {
		best := largest(w.ranks)
		experts[i], weights[i] = int32(best), w.scores[best]
		sum += weights[i]
		w.ranks[best] = float32(math.Inf(-1))
	}
	for i := range weights {
		if r.Normalised {
			weights[i] /= sum
		}
		if r.Scale != 0 {
			weights[i] *= r.Scale
		}
	}
}

// score turns logits into scores.
func (w *router) score(sigmoid bool, logits []float32) {
	if sigmoid {
		for i, v := range logits {
			w.scores[i] = -v
		}
		w.kernels.Exp(w.scores, w.scores)
		for i, v := range w.scores {
			w.scores[i] = 1 / (1 + v)
		}
		return
	}
	top, sum := logits[largest(logits)], float32(0)
	for i, v := range logits {
		w.scores[i] = v - top
	}
	w.kernels.Exp(w.scores, w.scores)
	for _, v := range w.scores {
		sum += v
	}
	for i := range w.scores {
		w.scores[i] /= sum
	}
}

// limit keeps the experts of groups that are not chosen from being chosen, also where correction makes the rank of others negative.
func (w *router) limit(r *model.Routing) {
	size := len(w.ranks) / r.Groups
	w.groups = w.groups[:0]
	for g := range r.Groups {
		group := w.ranks[g*size:][:size]
		best := largest(group)
		rank := group[best]
		if r.GroupPairs && size > 1 {
			second := float32(math.Inf(-1))
			for i, v := range group {
				if i != best && v > second {
					second = v
				}
			}
			rank += second
		}
		w.groups = append(w.groups, rank)
	}
	for range r.Groups - r.GroupsChosen {
		worst := 0
		for g, v := range w.groups { // of equal ones the last
			if v <= w.groups[worst] {
				worst = g
			}
		}
		w.groups[worst] = float32(math.Inf(1))
		for i := range size {
			w.ranks[worst*size+i] = float32(math.Inf(-1))
		}
	}
}

// largest is the index of the largest, the first of equal ones.
func largest(values []float32) int {
	best := 0
	for i, v := range values {
		if v > values[best] {
			best = i
		}
	}
	return best
}
