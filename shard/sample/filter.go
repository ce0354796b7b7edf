package sample

import (
	"cmp"
	"math"
	"slices"

	"lockstep/protocol"
)

// candidate is a token that may still be chosen.
type candidate struct {
	id    int32
	score float32
	prob  float64 // e^(score - highest)
}

// filter leaves what min_p, top_k, top_p and typical_p keep in s.candidates, in order of ids, and returns the sum of the
// candidates' prob. highest is the highest of the scores.
func (s *Sampler) filter(scores []float32, highest float32, p *protocol.Sampling) (total float64) {
	floor := -math.MaxFloat32
	if p.MinP > 0 {
		floor = max(floor, float64(highest)+log(float64(p.MinP)))
	}
	if p.TopK > 0 && p.TopK < len(scores) {
		floor = max(floor, float64(s.kthHighest(scores, p.TopK)))
	}
	s.candidates = s.candidates[:0]
	for i, score := range scores {
		if float64(score) >= floor {
			prob := exp(float64(score) - float64(highest))
			s.candidates = append(s.candidates, candidate{s.scored.id(i), score, prob})
			total += prob
		}
	}
	if p.TopP > 0 && p.TopP < 1 {
		total = s.keepTopP(float64(p.TopP), total)
	}
	if p.TypicalP > 0 && p.TypicalP < 1 {
		total = s.keepTypical(float64(p.TypicalP), total, float64(highest))
	}
	return total
}

// kthHighest keeps a heap of the k highest scores; the lowest of them is the answer. NaN and -Inf do not count, and the
// answer is the lowest number where there are too few others.
func (s *Sampler) kthHighest(scores []float32, k int) float32 {
	heap := s.largest[:0]
	for _, score := range scores {
		switch {
		case !(score >= -math.MaxFloat32):
		case len(heap) < k:
			if heap = append(heap, score); len(heap) == k {
				for i := k/2 - 1; i >= 0; i-- {
					sink(heap, i)
				}
			}
		case score > heap[0]:
			heap[0] = score
			sink(heap, 0)
		}
	}
	s.largest = heap
	if len(heap) < k {
		return -math.MaxFloat32
	}
	return heap[0]
}

// sink moves entry i down to its place in a heap whose lowest entry comes first.
func sink(heap []float32, i int) {
	for {
		child := 2*i + 1
		if child >= len(heap) {
			return
		}
		if child+1 < len(heap) && heap[child+1] < heap[child] {
			child++
		}
		if heap[i] <= heap[child] {
			return
		}
		heap[i], heap[child] = heap[child], heap[i]
		i = child
	}
}

// keepTopP drops the least likely candidates while what is dropped has no more than 1-p together; the best one stays. Of
// equally likely ones the highest id goes first.
func (s *Sampler) keepTopP(p, total float64) float64 {
	limit := (1 - p) * total
	// Whoever has less than an equal share of the limit goes anyway: most of a large vocabulary need not be sorted.
	equal, dropped := limit/float64(len(s.candidates)), 0.0
	s.byKey = s.byKey[:0]
	for _, c := range s.candidates {
		if c.prob < equal {
			dropped += c.prob
		} else {
			s.byKey = append(s.byKey, c)
		}
	}
	slices.SortFunc(s.byKey, func(a, b candidate) int {
		if a.prob != b.prob {
			return cmp.Compare(a.prob, b.prob)
		}
		return cmp.Compare(b.id, a.id)
	})
	first := 0
	for ; first < len(s.byKey)-1; first++ {
		if dropped+s.byKey[first].prob > limit {
			break
		}
		dropped += s.byKey[first].prob
	}
	return s.keep(s.byKey[first:])
}

// keepTypical keeps the candidates whose information is nearest to the entropy until they have p together (Locally
// Typical Sampling, https://arxiv.org/abs/2202.00666); ties at the threshold stay.
func (s *Sampler) keepTypical(p, total, highest float64) float64 {
	sum := 0.0
	for _, c := range s.candidates {
		sum += float64(c.prob * (float64(c.score) - highest))
	}
	// A candidate's information is log(total) + highest - score, the entropy log(total) - sum/total.
	typical := highest + sum/total
	distance := func(c candidate) float64 { return math.Abs(typical - float64(c.score)) }
	s.nearest(p*total, distance)
	slices.SortFunc(s.byKey, func(a, b candidate) int {
		if x, y := distance(a), distance(b); x != y {
			return cmp.Compare(x, y)
		}
		return cmp.Compare(a.id, b.id)
	})
	mass, last := 0.0, 0
	for ; last < len(s.byKey)-1; last++ {
		if mass += s.byKey[last].prob; mass >= p*total {
			break
		}
	}
	for last+1 < len(s.byKey) && distance(s.byKey[last+1]) <= distance(s.byKey[last]) {
		last++
	}
	return s.keep(s.byKey[:last+1])
}

// nearest puts the candidates into s.byKey up to a distance within which they have the given mass, so that most of a
// large vocabulary need not be sorted.
func (s *Sampler) nearest(mass float64, distance func(candidate) float64) {
	const bins, perUnit = 256, 8
	var masses [bins]float64
	bin := func(c candidate) int { return int(min(distance(c)*perUnit, bins-1)) }
	for _, c := range s.candidates {
		masses[bin(c)] += c.prob
	}
	last, sum := 0, masses[0]
	for sum < mass && last < bins-1 {
		last++
		sum += masses[last]
	}
	s.byKey = s.byKey[:0]
	for _, c := range s.candidates {
		if bin(c) <= last {
			s.byKey = append(s.byKey, c)
		}
	}
}

// keep makes a subset the candidates, in order of ids, and returns the sum of their prob.
func (s *Sampler) keep(subset []candidate) (total float64) {
	s.candidates = append(s.candidates[:0], subset...)
	slices.SortFunc(s.candidates, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
	for _, c := range s.candidates {
		total += c.prob
	}
	return total
}
