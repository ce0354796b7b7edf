package text

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
)

// settings are the parts of a byte-level BPE tokenizer, from whichever source. build makes a Tokenizer of them.
type settings struct {
	vocabulary map[string]int32 // by the tokens' coded form, see bytes.go
	added      []addedToken
	merges     mergeSource

	composes     bool
	ignoreMerges bool
	unknown      string // empty for none
	fuseUnknown  bool

	splits      []splitter
	prefixSpace bool
	prefixSplit splitter
	post        []postStep
	// decodesBytes says that decoded tokens stand for the bytes that they code; otherwise they stand for themselves
	// and are joined with spaces.
	decodesBytes bool
}

// mergeSource calls each with the merges in the order of their ranks.
type mergeSource func(each func(left, right string) error) error

// build makes the tokenizer.
func (s *settings) build() (*Tokenizer, error) {
	t := &Tokenizer{
		vocabulary:     s.vocabulary,
		added:          map[string]int32{},
		composes:       s.composes,
		splits:         s.splits,
		prefixSpace:    s.prefixSpace,
		prefixSplit:    s.prefixSplit,
		post:           s.post,
		joinsWithSpace: !s.decodesBytes,
	}
	if err := s.place(t); err != nil {
		return nil, err
	}
	s.codeBytes(t)
	s.makeMatchers(t)
	if err := s.makeModel(t); err != nil {
		return nil, err
	}
	return t, nil
}

// place fills the slices that ids index.
func (s *settings) place(t *Tokenizer) error {
	size := 0
	for _, id := range s.vocabulary {
		size = max(size, int(id)+1)
	}
	for _, token := range s.added {
		if token.ID < 0 || token.ID > maxTokenID {
			return fmt.Errorf("added token %q: id %d is out of range", token.Content, token.ID)
		}
		size = max(size, int(token.ID)+1)
	}
	if count := len(s.vocabulary) + len(s.added); size > maxSparseness*count+1<<16 {
		return fmt.Errorf("%d tokens have ids up to %d", count, size-1)
	}
	t.contents, t.present, t.special = make([]string, size), make([]bool, size), make([]bool, size)
	for content, id := range s.vocabulary {
		if t.present[id] {
			return fmt.Errorf("tokens %q and %q have the same id %d", t.contents[id], content, id)
		}
		t.contents[id], t.present[id] = content, true
	}
	for _, token := range s.added {
		if id, ok := t.TokenID(token.Content); ok && id != token.ID {
			return fmt.Errorf("added token %q has the ids %d and %d", token.Content, id, token.ID)
		}
		if t.present[token.ID] && t.contents[token.ID] != token.Content {
			return fmt.Errorf("tokens %q and %q have the same id %d", t.contents[token.ID], token.Content, token.ID)
		}
		t.contents[token.ID], t.present[token.ID] = token.Content, true
		t.added[token.Content] = token.ID
		t.special[token.ID] = t.special[token.ID] || token.Special
	}
	return nil
}

// codeBytes fills raw. All of it shares one allocation.
func (s *settings) codeBytes(t *Tokenizer) {
	t.raw = make([]string, len(t.contents))
	if !s.decodesBytes {
		copy(t.raw, t.contents)
		return
	}
	ends := make([]int, len(t.contents))
	var all []byte
	for id, content := range t.contents {
		all, _ = appendTokenBytes(all, content)
		ends[id] = len(all)
	}
	joined, start := string(all), 0
	for id, end := range ends {
		t.raw[id] = joined[start:end]
		start = end
	}
}

func (s *settings) makeMatchers(t *Tokenizer) {
	var plain, normalized []addedToken
	var plainPatterns, normalizedPatterns []string
	// The reference lets special tokens go first where two normalize to the same text.
	for _, special := range []bool{true, false} {
		for _, token := range s.added {
			switch {
			case token.Special != special:
			case token.Normalized:
				pattern := token.Content
				if s.composes {
					pattern, _ = compose(pattern, nil)
				}
				normalized, normalizedPatterns = append(normalized, token), append(normalizedPatterns, pattern)
			default:
				plain, plainPatterns = append(plain, token), append(plainPatterns, token.Content)
			}
		}
	}
	t.plainMatcher = newMatcher(plain, plainPatterns)
	t.normalizedMatcher = newMatcher(normalized, normalizedPatterns)
}

// makeModel fills the merges and what else encoding needs.
func (s *settings) makeModel(t *Tokenizer) error {
	m := &t.model
	m.ignoreMerges, m.fuseUnknown, m.unknown = s.ignoreMerges, s.fuseUnknown, -1
	if s.unknown != "" {
		id, ok := s.vocabulary[s.unknown]
		if !ok {
			return fmt.Errorf("unknown token %q is not in the vocabulary", s.unknown)
		}
		m.unknown = id
	}
	for b := range m.byteIDs {
		m.byteIDs[b] = -1
		if id, ok := s.vocabulary[string(byteToRune[b])]; ok {
			m.byteIDs[b] = id
		}
	}
	m.reached = make([]atomic.Uint32, len(t.contents))
	m.words = make(map[string]int32, len(s.vocabulary))
	var word []byte
	for content, id := range s.vocabulary {
		var coded bool
		if word, coded = appendTokenBytes(word[:0], content); !coded {
			continue
		}
		key := t.raw[id]
		if !s.decodesBytes {
			key = string(word)
		}
		m.words[key] = id
		m.longestWord = max(m.longestWord, len(word))
	}
	m.merges = newMergeTable()
	rank := uint32(0)
	var joined []byte
	return s.merges(func(left, right string) error {
		joined = append(append(joined[:0], left...), right...)
		leftID, leftOK := s.vocabulary[left]
		rightID, rightOK := s.vocabulary[right]
		id, ok := s.vocabulary[string(joined)]
		if !leftOK || !rightOK || !ok {
			return fmt.Errorf("merge %d (%q, %q) is of tokens that are not in the vocabulary", rank, left, right)
		}
		m.merges.set(leftID, rightID, rank, id)
		rank++
		return nil
	})
}

var errMerge = errors.New("merge is not two tokens with a space between")

// cutMerge splits a merge that is written as one string.
func cutMerge(merge string) (left, right string, err error) {
	left, right, ok := strings.Cut(merge, " ")
	if !ok || strings.Contains(right, " ") {
		return "", "", fmt.Errorf("%w: %q", errMerge, merge)
	}
	return left, right, nil
}
