package text

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"lockstep/protocol"
)

// The token types of the GGUF specification that encoding treats specially.
const (
	ggufUnknown     = 2
	ggufControl     = 3
	ggufUserDefined = 4
)

// ggufDefaults are what llama.cpp takes for keys that a file lacks; -1 is no token.
type ggufDefaults struct {
	bos, eos int32
	addBOS   bool
}

// newFromGGUF builds the tokenizer of a GGUF file's metadata. Control tokens and the unknown one become special added tokens,
// user-defined ones added tokens that are not special.
func newFromGGUF(source *protocol.GGUFTokenizer) (*Tokenizer, error) {
	t, err := readGGUF(source)
	if err != nil {
		return nil, fmt.Errorf("text: GGUF tokenizer: %w", err)
	}
	return t, nil
}

func readGGUF(source *protocol.GGUFTokenizer) (*Tokenizer, error) {
	switch {
	case len(source.Tokens) > maxTokenID:
		return nil, fmt.Errorf("it has more than %d tokens", maxTokenID)
	case len(source.TokenTypes) != 0 && len(source.TokenTypes) != len(source.Tokens):
		return nil, fmt.Errorf("it has %d tokens, but %d token types", len(source.Tokens), len(source.TokenTypes))
	}
	s := settings{vocabulary: make(map[string]int32, len(source.Tokens))}
	read := s.readByteLevel
	switch source.Model {
	case "gpt2":
	case "llama":
		read = s.readSentencePiece
	default:
		return nil, fmt.Errorf(`model %q: %w; "gpt2" (byte-level BPE) and "llama" (SentencePiece's BPE) are`, source.Model, errUnsupported)
	}
	if err := s.readGGUFTokens(source); err != nil {
		return nil, err
	}
	defaults, err := read(source)
	if err != nil {
		return nil, err
	}
	if err := s.addGGUFEnds(source, defaults); err != nil {
		return nil, err
	}
	return s.build()
}

// readGGUFTokens fills the vocabulary and the added tokens.
func (s *settings) readGGUFTokens(source *protocol.GGUFTokenizer) error {
	for id, token := range source.Tokens {
		if token == "" {
			token = fmt.Sprintf("[EMPTY_%d]", id) // as llama.cpp names it: no text is this token
		}
		if other, ok := s.vocabulary[token]; ok {
			return fmt.Errorf("token %q has the ids %d and %d", token, other, id)
		}
		s.vocabulary[token] = int32(id)
		if len(source.TokenTypes) == 0 {
			continue
		}
		switch kind := source.TokenTypes[id]; kind {
		case ggufUserDefined:
			s.added = append(s.added, addedToken{ID: int32(id), Content: token})
		case ggufControl, ggufUnknown:
			s.added = append(s.added, addedToken{ID: int32(id), Content: token, Special: true,
				RStrip: source.SpecialsTakeSpaces && !slices.Contains([]string{"<unk>", "<s>", "<|endoftext|>"}, token)})
		}
	}
	return nil
}

// readByteLevel reads a byte-level BPE model.
func (s *settings) readByteLevel(source *protocol.GGUFTokenizer) (ggufDefaults, error) {
	defaults := ggufDefaults{bos: 11, eos: 11}
	pre, ok := ggufPres[source.Pre]
	if !ok {
		return defaults, fmt.Errorf("pre-tokenizer %q: %w; these are: %s", source.Pre, errUnsupported, servedPres())
	}
	defaults.addBOS = pre.addsBOS
	if pre.noBOS {
		defaults.bos = -1
	}
	s.codesBytes, s.ignoreMerges = true, pre.ignoreMerges
	s.decoder = decoderSettings{given: true, codesBytes: true}
	for _, split := range pre.splits {
		made, err := split()
		if err != nil {
			return defaults, err
		}
		s.splits = append(s.splits, made)
	}
	if pre.composes {
		s.rewrites = []rewrite{compose}
	}
	s.merges = func(each func(left, right string) error) error {
		for _, merge := range source.Merges {
			left, right, err := cutMerge(merge)
			if err != nil {
				return err
			}
			if err := each(left, right); err != nil {
				return err
			}
		}
		return nil
	}
	return defaults, nil
}

// metaspace is how SentencePiece writes a space.
const metaspace = "▁"

// readSentencePiece reads a BPE model of SentencePiece, which merges by scores and spells what it has no tokens for in bytes. As
// llama.cpp does, and the tokenizer.json files made from such models, it puts a space before every part between added tokens.
func (s *settings) readSentencePiece(source *protocol.GGUFTokenizer) (ggufDefaults, error) {
	defaults := ggufDefaults{bos: 1, eos: 2, addBOS: true}
	if len(source.Scores) != len(source.Tokens) {
		return defaults, fmt.Errorf("it has %d tokens, but %d scores (tokenizer.ggml.scores): convert the model anew",
			len(source.Tokens), len(source.Scores))
	}
	if id := int(source.UnknownTokenID); id < 0 || id >= len(source.Tokens) {
		return defaults, fmt.Errorf("the id of the unknown token is %d of %d", id, len(source.Tokens))
	}
	for id, token := range source.Tokens {
		if !utf8.ValidString(token) {
			return defaults, fmt.Errorf("token %d (%q) is not UTF-8", id, token)
		}
		if math.IsNaN(float64(source.Scores[id])) {
			return defaults, fmt.Errorf("the score of token %d (%q) is not a number", id, token)
		}
	}
	s.scores, s.fallsBack, s.unknown = source.Scores, true, source.Tokens[source.UnknownTokenID]
	s.decoder = decoderSettings{given: true, replacements: [][2]string{{metaspace, " "}}, fallsBack: true, fuses: true}
	if source.RemoveExtraWhitespaces {
		s.rewrites = append(s.rewrites, thinSpaces)
	}
	if source.AddSpacePrefix == nil || *source.AddSpacePrefix {
		s.rewrites = append(s.rewrites, prepending(metaspace))
		s.decoder.strips, s.decoder.stripped = 1, ' '
	}
	s.rewrites = append(s.rewrites, replacing(" ", metaspace))
	return defaults, nil
}

var errNoEnd = errors.New("convert the model anew")

// addGGUFEnds makes the post-processor that puts the begin and end tokens around a text.
func (s *settings) addGGUFEnds(source *protocol.GGUFTokenizer, defaults ggufDefaults) error {
	addBOS := defaults.addBOS
	if source.AddBOS != nil {
		addBOS = *source.AddBOS
	}
	if !addBOS && !source.AddEOS {
		return nil
	}
	var template []templatePart
	for _, end := range []struct {
		name       string
		id, absent int32
		wanted     bool
	}{{"begin", source.BOSTokenID, defaults.bos, addBOS}, {"", 0, 0, true}, {"end", source.EOSTokenID, defaults.eos, source.AddEOS}} {
		switch {
		case !end.wanted:
			continue
		case end.name == "":
			template = append(template, templatePart{text: true})
			continue
		case end.id < 0:
			end.id = end.absent
		}
		if end.id < 0 || int(end.id) >= len(source.Tokens) {
			return fmt.Errorf("the %s token is to be added, but its id is %d of %d: %w", end.name, end.id, len(source.Tokens), errNoEnd)
		}
		template = append(template, templatePart{ids: []int32{end.id}})
	}
	s.post = append(s.post, postStep{template: template})
	return nil
}

// thinSpaces is the rewrite that leaves single spaces between words and none around them. As in SentencePiece, what stands for a
// space goes at the end too.
func thinSpaces(text string, aligned []alignment) (string, []alignment) {
	var out strings.Builder
	var moved []alignment
	end := len(strings.TrimRight(text, " "+metaspace))
	for i := range end {
		if text[i] == ' ' && (i == 0 || text[i-1] == ' ') {
			continue
		}
		out.WriteByte(text[i])
		if aligned != nil {
			moved = append(moved, aligned[i])
		}
	}
	return out.String(), moved
}
