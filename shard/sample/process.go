package sample

import (
	"math"
	"slices"

	"lockstep/protocol"
)

// minTemperature stands for everything lower: below it scores would overflow, and it tells apart what float32 does.
const minTemperature = 1e-5

// watermarkPrime is TGI's: it makes a seed of the last token.
const watermarkPrime = 15485863

// process returns the scores behind every step up to the temperature, the highest of them and its index. They are those of all ids, or
// where a guide masks of what it allows (s.scored). What may not be chosen else is -Inf; something is higher unless a guide is left
// nothing. Of several highest the first is told. The scores are logits themselves where nothing changes them.
func (s *Sampler) process(logits []float32, c Context, p *protocol.Sampling) (scores []float32, best int, highest float32) {
	s.scored.to(c.Allowed, len(logits))
	if scores = logits; c.Allowed != nil {
		s.scores = s.scored.gather(s.scores[:0], logits)
		scores = s.scores
	}
	if !changesScores(p) && (c.Allowed == nil || !p.IgnoreEOS) { // without a guide ends are never kept from being chosen by that
		if best, highest = argmax(scores); finite(highest) {
			return scores, best, highest
		}
	}
	if c.Allowed == nil {
		s.scores = append(s.scores[:0], logits...)
	}
	if p.WatermarkDelta > 0 {
		s.watermark(c.Tokens[len(c.Tokens)-1], len(logits), p)
	}
	s.penalise(c, p)
	for _, b := range p.LogitBias {
		if i := s.scored.index(b.ID); i >= 0 {
			s.scores[i] += b.Bias
		}
	}
	if over := len(c.Tokens) - c.Prompt - p.LengthPenaltyStart; p.LengthPenaltyFactor > 1 && over > 0 {
		s.lift(c.EOS, power(float64(p.LengthPenaltyFactor), over))
	}
	s.divide(p.Temperature)
	s.mask(c, p)
	best, highest = argmax(s.scores)
	return s.scores, best, highest
}

// finite reports whether a row whose highest score this is needs no repair.
func finite(highest float32) bool { return math.Abs(float64(highest)) < math.MaxFloat32 }

func changesScores(p *protocol.Sampling) bool {
	return p.WatermarkDelta > 0 || scales(p.RepetitionPenalty) || p.FrequencyPenalty != 0 || p.RelativeFrequencyPenalty != 0 ||
		p.PresencePenalty != 0 || len(p.LogitBias) > 0 || p.LengthPenaltyFactor > 1 || scales(p.Temperature) ||
		len(p.BannedTokenIDs) > 0 || len(p.AllowedTokenIDs) > 0 || p.MinNewTokens > 0
}

// scales tells whether a factor changes anything; 0 means that it is not given.
func scales(factor float32) bool { return factor != 0 && factor != 1 }

// watermark lifts exactly floor(vocabulary x gamma) ids. TGI takes the first ones of torch's random permutation; another
// generator gives another set in any case, so this takes them by selection sampling (Knuth, The Art of Computer
// Programming 3.4.2, algorithm S), which needs no memory and one pass: an id is taken with the probability of those still
// wanted among those still to come. Whoever knows gamma, the vocabulary and this function can detect the mark.
func (s *Sampler) watermark(last int32, vocabulary int, p *protocol.Sampling) {
	key := mix(uint64(last) * watermarkPrime)
	wanted := uint64(float64(vocabulary) * float64(p.WatermarkGamma))
	for id := range vocabulary {
		toCome := uint64(vocabulary - id)
		if mix(key+uint64(id+1)*goldenRatio)>>32*toCome>>32 < wanted {
			if i := s.scored.index(int32(id)); i >= 0 {
				s.scores[i] += p.WatermarkDelta
			}
			wanted--
		}
	}
}

// penalise applies the penalties for what has occurred.
func (s *Sampler) penalise(c Context, p *protocol.Sampling) {
	if scales(p.RepetitionPenalty) {
		tokens := c.Tokens
		if p.RepetitionSkipsPrompt {
			tokens = tokens[c.Prompt:]
		}
		s.eachOccurred(tokens, func(score float32, _ int32) float32 {
			if score < 0 {
				return float32(score * p.RepetitionPenalty)
			}
			return score / p.RepetitionPenalty
		})
	}
	if p.RelativeFrequencyPenalty != 0 {
		s.eachOccurred(c.Tokens, func(score float32, count int32) float32 {
			return score - float32(p.RelativeFrequencyPenalty*(float32(count)/float32(len(c.Tokens))))
		})
	}
	if p.FrequencyPenalty != 0 || p.PresencePenalty != 0 {
		tokens := c.Tokens
		if !p.PenaltiesCountPrompt {
			tokens = tokens[c.Prompt:]
		}
		s.eachOccurred(tokens, func(score float32, count int32) float32 {
			return score - float32(p.FrequencyPenalty*float32(count)) - p.PresencePenalty
		})
	}
}

// eachOccurred changes the score of every id among tokens once; change is told how often it occurs. Ids that have no score are passed
// over.
func (s *Sampler) eachOccurred(tokens []int32, change func(score float32, count int32) float32) {
	if len(s.counts) < len(s.scores) {
		s.counts = make([]int32, len(s.scores))
	}
	for _, id := range tokens {
		if i := s.scored.index(id); i >= 0 {
			s.counts[i]++
		}
	}
	for _, id := range tokens {
		if i := s.scored.index(id); i >= 0 && s.counts[i] > 0 {
			s.scores[i] = change(s.scores[i], s.counts[i])
			s.counts[i] = 0
		}
	}
}

// lift makes end-of-sequence ids likelier by a factor of at least 1.
func (s *Sampler) lift(eos []int32, factor float64) {
	factor = min(factor, math.MaxFloat32)
	for i, id := range eos {
		if at := s.scored.index(id); at >= 0 && !slices.Contains(eos[:i], id) {
			score := float64(s.scores[at])
			s.scores[at] = float32(score + float64(math.Abs(score)*(factor-1)))
		}
	}
}

// divide applies the temperature and leaves finite numbers.
func (s *Sampler) divide(temperature float32) {
	if temperature == 0 {
		temperature = 1
	}
	temperature = max(temperature, minTemperature)
	for id, score := range s.scores {
		score /= temperature
		switch {
		case score > math.MaxFloat32:
			score = math.MaxFloat32
		case !(score >= -math.MaxFloat32):
			score = -math.MaxFloat32
		}
		s.scores[id] = score
	}
}

// never is the score of what may not be chosen.
var never = float32(math.Inf(-1))

// keepIDs makes -Inf of all others.
func (s *Sampler) keepIDs(ids []int32) {
	s.kept = s.kept[:0]
	for _, id := range ids {
		score := never
		if i := s.scored.index(id); i >= 0 {
			score = s.scores[i]
		}
		s.kept = append(s.kept, score)
	}
	for i := range s.scores {
		s.scores[i] = never
	}
	for i, id := range ids {
		s.put(id, s.kept[i])
	}
}

// put sets the score of an id, if it has one.
func (s *Sampler) put(id int32, score float32) {
	if i := s.scored.index(id); i >= 0 {
		s.scores[i] = score
	}
}

// mask makes -Inf of what may not be chosen. It comes behind the temperature, which leaves finite numbers: so even scores
// that were -Inf before stay above it. The minimum of new tokens gives way where nothing else would be left.
func (s *Sampler) mask(c Context, p *protocol.Sampling) {
	if len(p.AllowedTokenIDs) > 0 {
		s.keepIDs(p.AllowedTokenIDs)
	}
	for _, id := range p.BannedTokenIDs {
		s.put(id, never)
	}
	ends := p.IgnoreEOS && c.Allowed == nil // a guided text ends with one in any case
	early := len(c.Tokens)-c.Prompt < p.MinNewTokens || p.IgnoreEOS
	if ends || !early {
		return
	}
	for i, score := range s.scores {
		if score == never || slices.Contains(c.EOS, s.scored.id(i)) {
			continue
		}
		for _, eos := range c.EOS {
			s.put(eos, never)
		}
		return
	}
}
