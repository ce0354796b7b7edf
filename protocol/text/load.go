package text

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// settings are the parts of a BPE tokenizer, from whichever source. build makes a Tokenizer of them.
type settings struct {
	vocabulary map[string]int32 // as the source writes the tokens
	added      []addedToken
	merges     mergeSource
	scores     []float32 // in place of merges: how good each token is, by id

	codesBytes   bool // words are merged from bytes, and the vocabulary has them coded, see bytes.go
	fallsBack    bool // characters that the vocabulary lacks become byte tokens
	ignoreMerges bool
	unknown      string // empty for none
	fuseUnknown  bool

	rewrites     []rewrite
	splits       []splitter
	marker       marker
	markedSplits []splitter
	post         []postStep
	decoder      decoderSettings
}

// mergeSource calls each with the merges in the order of their ranks.
type mergeSource func(each func(left, right string) error) error

// build makes the tokenizer.
func (s *settings) build() (*Tokenizer, error) {
	t := &Tokenizer{
		vocabulary:   s.vocabulary,
		added:        map[string]int32{},
		rewrites:     s.rewrites,
		splits:       s.splits,
		marker:       s.marker,
		markedSplits: s.markedSplits,
		post:         s.post,
	}
	if err := s.place(t); err != nil {
		return nil, err
	}
	t.decoder = s.decoder.build(s.spellings(t.contents))
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

// spellings returns the tokens as the reference decodes them: added tokens that match in normalized text are spelled as
// they stand there.
func (s *settings) spellings(contents []string) []string {
	spellings := slices.Clone(contents)
	for _, token := range s.added {
		if token.Normalized {
			spellings[token.ID], _ = rewriteAll(s.rewrites, token.Content, nil)
		}
	}
	return spellings
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
				pattern, _ := rewriteAll(s.rewrites, token.Content, nil)
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
	var learning sync.WaitGroup // beside the merges, which takes as long
	learning.Go(func() {
		if s.codesBytes {
			m.learnBytes(s.vocabulary)
		} else {
			m.learnCharacters(s.vocabulary, s.fallsBack)
		}
	})
	m.reached = make([]atomic.Uint32, len(t.contents))
	m.merges = newMergeTable(len(s.vocabulary))
	if s.scores != nil {
		learning.Wait()
		return m.learnScores(s.vocabulary, s.scores)
	}
	defer learning.Wait()
	return s.learnMerges(m)
}

// learnMerges fills the table of merges.
func (s *settings) learnMerges(m *model) error {
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
