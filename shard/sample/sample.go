// Package sample chooses tokens from logits, in TGI's order: repetition penalty, temperature, top_k, top_p, typical_p.
// It is a pure core: a choice is a function of logits, tokens so far, parameters, seed and position, without state, so a
// resumed or recomputed sequence makes the same choices (design, law 4).
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
	score float32 // processed logit
	prob  float64
}

// Sampler holds working memory. It is not safe for concurrent use.
type Sampler struct {
	scores     []float32
	candidates []candidate
	byKey      []candidate
	seen       []uint64 // bit set of the ids that are penalised
}

// Choose returns the token at this position of the sequence and its log-probability, which is the log-softmax of the
// processed scores. history is the prompt and what was generated; position is len(history) for ordinary generation.
// logits are not changed.
func (s *Sampler) Choose(logits []float32, history []int32, p protocol.Sampling, position int) (token int32, logprob float32) {
	s.process(logits, history, p)
	if !p.Sample {
		return s.greedy()
	}
	target := Uniform(p.Seed, uint64(position)) * s.normalise()
	sum := 0.0
	chosen := &s.candidates[len(s.candidates)-1]
	for i := range s.candidates {
		if sum += s.candidates[i].prob; sum > target {
			chosen = &s.candidates[i]
			break
		}
	}
	return chosen.id, float32(math.Log(chosen.prob / s.total()))
}

// Distribution returns the processed probabilities by token id; ids that are filtered out are absent.
func (s *Sampler) Distribution(logits []float32, history []int32, p protocol.Sampling) map[int32]float64 {
	s.process(logits, history, p)
	total := s.normalise()
	out := make(map[int32]float64, len(s.candidates))
	for _, c := range s.candidates {
		out[c.id] = c.prob / total
	}
	return out
}

// Logprob returns the log-softmax of raw logits at one id.
func Logprob(logits []float32, id int32) float32 {
	largest := slices.Max(logits)
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v - largest))
	}
	return float32(float64(logits[id]-largest) - math.Log(sum))
}

// Uniform is the random number of a position: a counter-based generator (the finaliser of SplitMix64, applied to seed and
// position in turn), uniform in [0, 1) with 53 bits.
func Uniform(seed, position uint64) float64 {
	return float64(mix(mix(seed+0x9e3779b97f4a7c15)+position*0x9e3779b97f4a7c15)>>11) * 0x1p-53
}

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// process leaves the candidates in s.candidates, in order of their ids.
func (s *Sampler) process(logits []float32, history []int32, p protocol.Sampling) {
	s.scores = append(s.scores[:0], logits...)
	if p.RepetitionPenalty != 0 && p.RepetitionPenalty != 1 {
		s.penalise(history, p.RepetitionPenalty)
	}
	if p.Temperature != 0 && p.Temperature != 1 {
		for i := range s.scores {
			s.scores[i] /= p.Temperature
		}
	}
	floor := float32(math.Inf(-1))
	if p.TopK > 0 && p.TopK < len(s.scores) {
		floor = s.kthLargest(p.TopK)
	}
	s.candidates = s.candidates[:0]
	for id, score := range s.scores {
		if score >= floor {
			s.candidates = append(s.candidates, candidate{id: int32(id), score: score})
		}
	}
	if p.TopP > 0 && p.TopP < 1 {
		s.keepTopP(float64(p.TopP))
	}
	if p.TypicalP > 0 && p.TypicalP < 1 {
		s.keepTypical(float64(p.TypicalP))
	}
}

func (s *Sampler) penalise(history []int32, penalty float32) {
	words := (len(s.scores) + 63) / 64
	s.seen = append(s.seen[:0], make([]uint64, words)...)
	for _, id := range history {
		word, bit := id/64, uint64(1)<<(id%64)
		if s.seen[word]&bit != 0 {
			continue
		}
		s.seen[word] |= bit
		if s.scores[id] < 0 {
			s.scores[id] *= penalty
		} else {
			s.scores[id] /= penalty
		}
	}
}

// kthLargest keeps a heap of the k largest scores; the smallest of them is the answer.
func (s *Sampler) kthLargest(k int) float32 {
	heap := make([]float32, 0, k)
	down := func(i int) {
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
	for _, score := range s.scores {
		switch {
		case len(heap) < k:
			if heap = append(heap, score); len(heap) == k {
				for i := k/2 - 1; i >= 0; i-- {
					down(i)
				}
			}
		case score > heap[0]:
			heap[0] = score
			down(0)
		}
	}
	return heap[0]
}

// normalise fills in the candidates' unnormalised probabilities and returns their sum.
func (s *Sampler) normalise() float64 {
	largest := float32(math.Inf(-1))
	for i := range s.candidates {
		largest = max(largest, s.candidates[i].score)
	}
	for i := range s.candidates {
		s.candidates[i].prob = math.Exp(float64(s.candidates[i].score - largest))
	}
	return s.total()
}

func (s *Sampler) total() float64 {
	sum := 0.0
	for i := range s.candidates {
		sum += s.candidates[i].prob
	}
	return sum
}

// keepTopP drops the least likely candidates while what is dropped has no more than 1-p together; the best one stays.
func (s *Sampler) keepTopP(p float64) {
	total := s.normalise()
	limit := (1 - p) * total
	// Whoever has no more than an equal share of the limit goes anyway: most of a large vocabulary need not be sorted.
	equal, dropped := limit/float64(len(s.candidates)), 0.0
	s.byKey = s.byKey[:0]
	for _, c := range s.candidates {
		if c.prob <= equal {
			dropped += c.prob
		} else {
			s.byKey = append(s.byKey, c)
		}
	}
	slices.SortFunc(s.byKey, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(a.prob, b.prob), cmp.Compare(a.id, b.id))
	})
	first := 0
	for ; first < len(s.byKey)-1; first++ {
		if dropped+s.byKey[first].prob > limit {
			break
		}
		dropped += s.byKey[first].prob
	}
	s.keep(s.byKey[first:])
}

// keepTypical keeps the candidates whose information is nearest to the entropy until they have p together (Locally
// Typical Sampling, https://arxiv.org/abs/2202.00666); ties at the threshold stay.
func (s *Sampler) keepTypical(p float64) {
	total := s.normalise()
	logTotal, entropy := math.Log(total), 0.0
	for i := range s.candidates {
		c := &s.candidates[i]
		if c.prob /= total; c.prob > 0 {
			entropy -= c.prob * math.Log(c.prob)
		}
	}
	largest := slices.MaxFunc(s.candidates, func(a, b candidate) int { return cmp.Compare(a.score, b.score) }).score
	distance := func(c candidate) float64 {
		return math.Abs(logTotal - float64(c.score-largest) - entropy)
	}
	s.byKey = append(s.byKey[:0], s.candidates...)
	slices.SortFunc(s.byKey, func(a, b candidate) int {
		return cmp.Or(cmp.Compare(distance(a), distance(b)), cmp.Compare(a.id, b.id))
	})
	sum, last := 0.0, 0
	for ; last < len(s.byKey)-1; last++ {
		if sum += s.byKey[last].prob; sum >= p {
			break
		}
	}
	threshold := distance(s.byKey[last])
	for last+1 < len(s.byKey) && distance(s.byKey[last+1]) <= threshold {
		last++
	}
	s.keep(s.byKey[:last+1])
}

// keep makes a subset the candidates, in order of ids.
func (s *Sampler) keep(subset []candidate) {
	s.candidates = append(s.candidates[:0], subset...)
	slices.SortFunc(s.candidates, func(a, b candidate) int { return cmp.Compare(a.id, b.id) })
}

func (s *Sampler) greedy() (int32, float32) {
	best := 0
	for i := range s.candidates {
		if s.candidates[i].score > s.candidates[best].score {
			best = i
		}
	}
	total := s.normalise()
	return s.candidates[best].id, float32(math.Log(s.candidates[best].prob / total))
}
