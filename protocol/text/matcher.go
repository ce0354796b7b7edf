package text

import (
	"unicode"
	"unicode/utf8"
)

// addedToken is an entry of "added_tokens": text that becomes one token wherever it occurs.
type addedToken struct {
	ID         int32  `json:"id"`
	Content    string `json:"content"`
	SingleWord bool   `json:"single_word"` // only between characters that are not of words
	LStrip     bool   `json:"lstrip"`      // takes the spaces before it along
	RStrip     bool   `json:"rstrip"`      // takes the spaces behind it along
	Normalized bool   `json:"normalized"`  // matches in the normalized text
	Special    bool   `json:"special"`
}

// matcher finds added tokens: at each place the longest one.
type matcher struct {
	tokens []addedToken
	// edges is a trie of the contents; the key is the node shifted left by a byte, plus the byte. Node 0 is the root.
	edges map[uint32]uint32
	// ends holds for each node the index of the token that ends there, or -1.
	ends   []int32
	begins [256]bool // bytes with which any token begins
}

// newMatcher makes a matcher of tokens whose contents are the given patterns. Of equal patterns the first counts.
func newMatcher(tokens []addedToken, patterns []string) *matcher {
	m := &matcher{tokens: tokens, edges: map[uint32]uint32{}, ends: []int32{-1}}
	for i, pattern := range patterns {
		if pattern == "" {
			continue
		}
		m.begins[pattern[0]] = true
		node := uint32(0)
		for j := range len(pattern) {
			key := node<<8 | uint32(pattern[j])
			next, ok := m.edges[key]
			if !ok {
				next = uint32(len(m.ends))
				m.ends = append(m.ends, -1)
				m.edges[key] = next
			}
			node = next
		}
		if m.ends[node] < 0 {
			m.ends[node] = int32(i)
		}
	}
	return m
}

// longest returns the index and length of the longest token at the start of text, or -1.
func (m *matcher) longest(text string) (token int32, length int) {
	token = -1
	node := uint32(0)
	for i := range len(text) {
		next, ok := m.edges[node<<8|uint32(text[i])]
		if !ok {
			break
		}
		node = next
		if m.ends[node] >= 0 {
			token, length = m.ends[node], i+1
		}
	}
	return token, length
}

// cut calls each, in order, for every added token in text and for what lies between them, whose id is -1. No part is
// empty. It stops at the first error.
func (m *matcher) cut(text string, each func(s span, id int32) error) error {
	at := 0 // how much of text is done
	for i := 0; i < len(text); {
		if !m.begins[text[i]] {
			i++
			continue
		}
		index, length := m.longest(text[i:])
		if index < 0 {
			i++
			continue
		}
		token, s := &m.tokens[index], span{i, i + length}
		i = s.end
		if token.SingleWord && (endsWithWord(text[:s.start]) || beginsWithWord(text[s.end:])) {
			continue
		}
		if token.LStrip {
			s.start = max(trimSpacesRight(text[:s.start]), at)
		}
		if token.RStrip {
			s.end += spacesLeft(text[s.end:])
		}
		if at < s.start {
			if err := each(span{at, s.start}, -1); err != nil {
				return err
			}
		}
		if err := each(s, token.ID); err != nil {
			return err
		}
		at = s.end
		i = max(i, at)
	}
	if at < len(text) {
		return each(span{at, len(text)}, -1)
	}
	return nil
}

func isWordCharacter(r rune) bool {
	for _, a := range additions {
		if r >= a.first && r <= a.last {
			return true
		}
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic) ||
		r == 0x200c || r == 0x200d
}

func endsWithWord(text string) bool {
	r, size := utf8.DecodeLastRuneInString(text)
	return size > 0 && isWordCharacter(r)
}

func beginsWithWord(text string) bool {
	r, size := utf8.DecodeRuneInString(text)
	return size > 0 && isWordCharacter(r)
}

// trimSpacesRight returns the length of text without the spaces at its end.
func trimSpacesRight(text string) int {
	end := len(text)
	for end > 0 {
		r, size := utf8.DecodeLastRuneInString(text[:end])
		if classOf(r) != space {
			break
		}
		end -= size
	}
	return end
}

// spacesLeft returns the length of the spaces at the beginning of text.
func spacesLeft(text string) int { return runEnd(text, 0, space) }
