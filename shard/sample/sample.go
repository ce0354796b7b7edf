// Package sample chooses tokens from logits, in the order that protocol.Sampling gives. It is a pure core: a choice is a
// function of logits, tokens so far, parameters and seed, without state, so a resumed or recomputed sequence makes the same
// choices (law 4 in docs/architecture.md). It is the same bit for bit on every CPU: exp and log are its own, and every product is rounded
// by a conversion before something is added to it, because Go fuses x*y + z where the CPU can.
package sample

import (
	"math"

	"lockstep/protocol"
)

// Context is what a choice depends on beside logits and parameters.
type Context struct {
	Tokens  []int32 // prompt and generated so far
	Prompt  int     // how many of Tokens are the prompt, at least 1
	EOS     []int32 // the model's end-of-sequence ids
	Allowed *Mask   // the tokens that a guide allows; nil: all
}

// NoToken is what Choose returns where no token is left that is allowed.
const NoToken int32 = -1

// Alternative is one of the likeliest tokens of the processed distribution.
type Alternative struct {
	Token   int32
	Logprob float32
}

// Sampler holds working memory. It is not safe for concurrent use.
type Sampler struct {
	scores     []float32
	scored     scoredIDs
	counts     []int32   // by index of scores; all zero between calls
	largest    []float32 // heap of the largest scores
	kept       []float32 // scores of the allowed ids
	candidates []candidate
	byKey      []candidate
}

// Choose returns the token that follows c.Tokens and its log-probability, which is the log-softmax of the processed scores
// at it, and appends up to top of the likeliest tokens of that distribution to alternatives, the likeliest first, equally
// likely ones by id. Without p.Sample the token is the likeliest (the lowest id of several), and the steps from min_p on do
// not count. NaN scores count as the lowest number. p must be valid; neither logits nor p are changed. What c.Allowed leaves may be
// nothing: then the token is NoToken.
func (s *Sampler) Choose(logits []float32, c Context, p *protocol.Sampling, top int, alternatives []Alternative) (token int32,
	logprob float32, out []Alternative) {
	scores, best, highest := s.process(logits, c, p)
	if c.Allowed != nil && !(highest >= -math.MaxFloat32) {
		return NoToken, 0, alternatives
	}
	ranking := ranking{list: alternatives, first: len(alternatives), top: top}
	if !p.Sample {
		logTotal := logSum(scores, highest)
		if top > 0 {
			for i, score := range scores {
				ranking.offer(s.scored.id(i), score)
			}
		}
		return s.scored.id(best), logprobOf(highest, highest, logTotal), ranking.finish(highest, logTotal)
	}
	total := s.filter(scores, highest, p)
	chosen := s.draw(Uniform(p.Seed, uint64(len(c.Tokens))) * total)
	logTotal := log(total)
	if top > 0 {
		for i := range s.candidates {
			ranking.offer(s.candidates[i].id, s.candidates[i].score)
		}
	}
	return chosen.id, logprobOf(chosen.score, highest, logTotal), ranking.finish(highest, logTotal)
}

// Plain reports whether Choose takes the likeliest token of the logits as they are: then Best gives the same.
func Plain(p *protocol.Sampling) bool { return !p.Sample && !changesScores(p) }

// Rows are rows of logits, or of one score each, as backends hand them over (model.Scores).
type Rows struct {
	Values []float32 // [row][Width]
	Width  int
}

// Rows is their number.
func (r Rows) Rows() int { return len(r.Values) / r.Width }

// Row is one of them.
func (r Rows) Row(row int) []float32 { return r.Values[row*r.Width:][:r.Width] }

// BestOf is Best.
func (r Rows) BestOf(logits []float32) (token int32, logprob float32) { return Best(logits) }

// Best is Best of a row.
func (r Rows) Best(row int) (token int32, logprob float32) { return Best(r.Row(row)) }

// Best returns the likeliest token (the lowest id of several) and its log-probability as Choose does without any parameter.
func Best(logits []float32) (token int32, logprob float32) {
	best, highest := argmax(logits)
	if !finite(highest) {
		token, logprob, _ = (&Sampler{}).Choose(logits, Context{Tokens: []int32{0}, Prompt: 1}, &protocol.Sampling{}, 0, nil)
		return token, logprob
	}
	return int32(best), logprobOf(highest, highest, logSum(logits, highest))
}

// BestLogprob is the log-probability of the likeliest token where the sum of all e^(score - highest) is known.
func BestLogprob(sum float64) float32 { return logprobOf(0, 0, log(sum)) }

// draw returns the candidate at which the running sum of probabilities passes target, which is below their total.
func (s *Sampler) draw(target float64) candidate {
	sum, chosen := 0.0, s.candidates[0]
	for i := range s.candidates {
		if s.candidates[i].prob == 0 {
			continue
		}
		chosen = s.candidates[i]
		if sum += chosen.prob; sum > target {
			break
		}
	}
	return chosen
}

// Distribution returns the probabilities by token id from which Choose chooses; ids that cannot be chosen are absent, but
// for some whose probability rounds to 0.
func (s *Sampler) Distribution(logits []float32, c Context, p *protocol.Sampling) map[int32]float64 {
	scores, _, highest := s.process(logits, c, p)
	steps := *p
	if !p.Sample {
		steps = protocol.Sampling{}
	}
	total := s.filter(scores, highest, &steps)
	out := make(map[int32]float64, len(s.candidates))
	for _, c := range s.candidates {
		out[c.id] = c.prob / total
	}
	return out
}

// Logprob returns the log-softmax of raw logits at one id, and up to top of the likeliest tokens as Choose does.
func Logprob(logits []float32, id int32, top int) (logprob float32, alternatives []Alternative) {
	_, highest := argmax(logits)
	logTotal := logSum(logits, highest)
	if top > 0 {
		ranking := ranking{top: top}
		for id, score := range logits {
			ranking.offer(int32(id), score)
		}
		alternatives = ranking.finish(highest, logTotal)
	}
	return logprobOf(logits[id], highest, logTotal), alternatives
}

// Uniform is the random number of a position: a counter-based generator (the finaliser of SplitMix64, applied to seed and
// position in turn), uniform in [0, 1) with 53 bits.
func Uniform(seed, position uint64) float64 {
	return float64(mix(mix(seed+goldenRatio)+position*goldenRatio)>>11) * 0x1p-53
}

// goldenRatio is 2^64 divided by it.
const goldenRatio = 0x9e3779b97f4a7c15

func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// argmax returns the highest score and its lowest id; NaN is not looked at. Without any it is (0, -Inf).
func argmax(scores []float32) (best int, highest float32) {
	highest = float32(math.Inf(-1))
	for id, score := range scores {
		if score > highest {
			best, highest = id, score
		}
	}
	return best, highest
}

// logSum is the logarithm of the sum of all e^(score - highest).
func logSum(scores []float32, highest float32) float64 {
	sum := 0.0
	for _, score := range scores {
		sum += exp(float64(score) - float64(highest))
	}
	return log(sum)
}

// logprobOf is finite: a text format may not be able to say -Inf.
func logprobOf(score, highest float32, logTotal float64) float32 {
	logprob := float64(score) - float64(highest) - logTotal
	if !(logprob >= -math.MaxFloat32) {
		return -math.MaxFloat32
	}
	return float32(logprob)
}

// ranking collects the top highest scores behind the first entries of list, in order. Until finish, Logprob is the score.
type ranking struct {
	list       []Alternative
	first, top int
}

// offer must be called in order of ids. It takes neither NaN nor -Inf.
func (r *ranking) offer(id int32, score float32) {
	if len(r.list) == r.first+r.top {
		if !(score > r.list[len(r.list)-1].Logprob) {
			return
		}
		r.list = r.list[:len(r.list)-1]
	} else if !(score >= -math.MaxFloat32) {
		return
	}
	r.list = append(r.list, Alternative{Token: id, Logprob: score})
	for i := len(r.list) - 1; i > r.first && r.list[i].Logprob > r.list[i-1].Logprob; i-- {
		r.list[i], r.list[i-1] = r.list[i-1], r.list[i]
	}
}

func (r *ranking) finish(highest float32, logTotal float64) []Alternative {
	for i := r.first; i < len(r.list); i++ {
		r.list[i].Logprob = logprobOf(r.list[i].Logprob, highest, logTotal)
	}
	return r.list
}
