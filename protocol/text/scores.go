package text

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"
)

// maxPiece bounds the bytes of a token in a model that merges by scores, because all ways to cut a token in two are looked at.
// SentencePiece's own limit is 16 characters; the longest tokens known, runs of spaces, have 93 bytes.
const maxPiece = 1024

// learnScores makes the merges of a SentencePiece model, which lists none: neighbours merge whenever the text of both is a token,
// the one of the best score first, of equal ones the leftmost. Merges so are ranked by the score of what they make.
func (m *model) learnScores(vocabulary map[string]int32, scores []float32) error {
	ranks := rankScores(scores)
	m.bare = int32(len(scores))
	next := m.bare + 1
	part := func(content string) (id int32, made bool) {
		if id, ok := vocabulary[content]; ok {
			return id, true
		}
		if !isCharacter(content) {
			return 0, false
		}
		r, _ := utf8.DecodeRuneInString(content)
		id, ok := m.characters[r]
		if !ok {
			id = next
			m.characters[r] = id
			next++
		}
		return id, true
	}
	for content, id := range vocabulary {
		if len(content) > maxPiece {
			return fmt.Errorf("token %d has %d bytes; up to %d are served", id, len(content), maxPiece)
		}
		for cut := range content {
			if cut == 0 {
				continue
			}
			left, ok := part(content[:cut])
			if !ok {
				continue
			}
			if right, ok := part(content[cut:]); ok {
				m.merges.set(left, right, ranks[id], id)
			}
		}
	}
	return nil
}

// rankScores returns for each id how many different scores are better than its own.
func rankScores(scores []float32) []uint32 {
	order := make([]int32, len(scores))
	for id := range order {
		order[id] = int32(id)
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Compare(scores[b], scores[a]) })
	ranks := make([]uint32, len(scores))
	for i := 1; i < len(order); i++ {
		rank := ranks[order[i-1]]
		if scores[order[i]] != scores[order[i-1]] {
			rank++
		}
		ranks[order[i]] = rank
	}
	return ranks
}

// appendPieces appends the symbol of each character of word.
func (m *model) appendPieces(dst []symbol, word string) []symbol {
	for i, r := range word {
		id, ok := m.characters[r]
		if !ok {
			id = m.bare
		}
		dst = append(dst, symbol{id, int32(i), int32(i + utf8.RuneLen(r))})
	}
	return dst
}

// appendSpelled appends symbols with the characters that are no tokens spelled as their byte tokens or, where the vocabulary lacks
// one of those, as the unknown token, one for all such neighbours.
func (m *model) appendSpelled(dst []symbol, word string, symbols []symbol) []symbol {
	open := false // the last symbol is an unknown token
	for _, s := range symbols {
		switch {
		case s.id < m.bare:
			dst, open = append(dst, s), false
		case m.hasBytes(word[s.start:s.end]):
			for at := s.start; at < s.end; at++ {
				dst = append(dst, symbol{m.byteIDs[word[at]], at, at + 1})
			}
			open = false
		case open:
			dst[len(dst)-1].end = s.end
		case m.unknown >= 0:
			dst, open = append(dst, symbol{m.unknown, s.start, s.end}), true
		}
	}
	return dst
}
