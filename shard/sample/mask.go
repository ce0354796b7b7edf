package sample

import (
	"math"
	"math/bits"
	"slices"

	"lockstep/protocol"
)

// Mask is a set of tokens. It must not be changed.
type Mask struct {
	// IDs are they, in order, if Bits is nil.
	IDs []int32
	// Bits has one for each token of the vocabulary, the lowest bits first.
	Bits []uint64
}

// Has reports whether a token is in the set.
func (m *Mask) Has(id int32) bool {
	if m.Bits != nil {
		return m.Bits[id>>6]>>(id&63)&1 != 0
	}
	_, found := slices.BinarySearch(m.IDs, id)
	return found
}

// Size is how many tokens are in the set.
func (m *Mask) Size() (size int) {
	if m.Bits == nil {
		return len(m.IDs)
	}
	for _, word := range m.Bits {
		size += bits.OnesCount64(word)
	}
	return size
}

// fewAllowed is how many tokens are allowed at most where Choose costs less than a look at all of a row by a backend's kernels. It must not
// depend on a mask's form, which is no part of what a request asks for.
const fewAllowed = 256

// Masked returns logits with -Inf in place of what a guide forbids, valid until the next call, where that is all that a request asks for
// and the likeliest of them is best found by who has kernels for it (model.Scores); else nil.
func (s *Sampler) Masked(logits []float32, c Context, p *protocol.Sampling) []float32 {
	if !Plain(p) || c.Allowed.Size() <= fewAllowed+len(c.EOS) {
		return nil
	}
	s.scores = slices.Grow(s.scores[:0], len(logits))[:len(logits)]
	if c.Allowed.Bits == nil {
		for id := range s.scores {
			s.scores[id] = never
		}
		for _, id := range c.Allowed.IDs {
			s.scores[id] = logits[id]
		}
	}
	for at, word := range c.Allowed.Bits {
		part := s.scores[at*64 : min(at*64+64, len(logits))]
		if word == 0 {
			copy(part, neverScores[:])
			continue
		}
		copy(part, logits[at*64:])
		for forbidden := ^word; forbidden != 0; forbidden &= forbidden - 1 {
			if i := bits.TrailingZeros64(forbidden); i < len(part) {
				part[i] = never
			}
		}
	}
	if p.IgnoreEOS { // more is left
		for _, id := range c.EOS {
			if uint(id) < uint(len(logits)) {
				s.scores[id] = never
			}
		}
	}
	return s.scores
}

// neverScores are those of a word of a mask without bits.
var neverScores = func() (scores [64]float32) {
	for i := range scores {
		scores[i] = never
	}
	return scores
}()

// scoredIDs says which id each of a sampler's scores is of: a guide mostly allows few tokens, and the others cost nothing.
type scoredIDs struct {
	mask       *Mask // nil: the index is the id
	vocabulary int
	ids        []int32 // by index
	before     []int32 // of a mask of bits, how many ids are before those of a word
	own        []int32 // what ids are in then
}

// to makes it that of a mask; nil: of all ids.
func (m *scoredIDs) to(mask *Mask, vocabulary int) {
	m.mask, m.vocabulary = mask, vocabulary
	switch {
	case mask == nil:
	case mask.Bits == nil:
		m.ids = mask.IDs
	default:
		m.own, m.before = m.own[:0], m.before[:0]
		for at, word := range mask.Bits {
			m.before = append(m.before, int32(len(m.own)))
			for from := int32(at * 64); word != 0; word &= word - 1 {
				m.own = append(m.own, from+int32(bits.TrailingZeros64(word)))
			}
		}
		m.ids = m.own
	}
}

// gather appends the scores of a mask's ids.
func (m *scoredIDs) gather(to, logits []float32) []float32 {
	if m.mask.Bits == nil {
		for _, id := range m.ids {
			to = append(to, logits[id])
		}
		return to
	}
	for at, word := range m.mask.Bits {
		if word == math.MaxUint64 {
			to = append(to, logits[at*64:at*64+64]...)
			continue
		}
		for ; word != 0; word &= word - 1 {
			to = append(to, logits[at*64+bits.TrailingZeros64(word)])
		}
	}
	return to
}

// id is that of the score at an index.
func (m *scoredIDs) id(index int) int32 {
	if m.mask == nil {
		return int32(index)
	}
	return m.ids[index]
}

// index is where the score of an id is; -1: it has none.
func (m *scoredIDs) index(id int32) int {
	switch {
	case uint(id) >= uint(m.vocabulary):
		return -1
	case m.mask == nil:
		return int(id)
	case m.mask.Bits == nil:
		if at, found := slices.BinarySearch(m.ids, id); found {
			return at
		}
		return -1
	}
	word, bit := m.mask.Bits[id>>6], uint64(1)<<(id&63)
	if word&bit == 0 {
		return -1
	}
	return int(m.before[id>>6]) + bits.OnesCount64(word&(bit-1))
}
