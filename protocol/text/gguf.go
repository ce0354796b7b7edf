package text

import (
	"fmt"

	"lockstep/protocol"
)

// The token types of the GGUF specification that encoding treats specially.
const (
	ggufControl     = 3
	ggufUserDefined = 4
)

// ggufPre is how a value of tokenizer.ggml.pre is encoded.
type ggufPre struct {
	splits       func() []splitter
	composes     bool
	ignoreMerges bool
}

func splitBy(s scanner) func() []splitter {
	return func() []splitter { return []splitter{scannerSplitter{s}} }
}

// ggufPres holds the pre-tokenizers that GGUF files name, as the tokenizer.json files of the same models have them.
// "default" is what files without a name get; it stands for GPT-2's. Qwen2 texts are brought into form C, as the model
// was trained, although other readers of GGUF leave that out.
var ggufPres = map[string]ggufPre{
	"":          {splits: splitBy(scanGPT2)},
	"default":   {splits: splitBy(scanGPT2)},
	"gpt-2":     {splits: splitBy(scanGPT2)},
	"smollm":    {splits: func() []splitter { return []splitter{newDigits(true), scannerSplitter{scanGPT2}} }},
	"llama-bpe": {splits: splitBy(scanLlama3), ignoreMerges: true},
	"llama3":    {splits: splitBy(scanLlama3), ignoreMerges: true},
	"llama-v3":  {splits: splitBy(scanLlama3), ignoreMerges: true},
	"qwen2":     {splits: splitBy(scanQwen2), composes: true},
}

// newFromGGUF builds the tokenizer of a GGUF file's metadata. Control tokens become special added tokens, user-defined
// ones added tokens that are not special.
func newFromGGUF(source *protocol.GGUFTokenizer) (*Tokenizer, error) {
	pre, ok := ggufPres[source.Pre]
	switch {
	case source.Model != "gpt2":
		return nil, fmt.Errorf("text: GGUF tokenizer model %q: %w", source.Model, errUnsupported)
	case !ok:
		return nil, fmt.Errorf("text: GGUF pre-tokenizer %q: %w", source.Pre, errUnsupported)
	case len(source.Tokens) > maxTokenID:
		return nil, fmt.Errorf("text: GGUF tokenizer has more than %d tokens", maxTokenID)
	case len(source.TokenTypes) != 0 && len(source.TokenTypes) != len(source.Tokens):
		return nil, fmt.Errorf("text: GGUF tokenizer has %d tokens, but %d token types",
			len(source.Tokens), len(source.TokenTypes))
	}
	s := settings{
		vocabulary:   make(map[string]int32, len(source.Tokens)),
		codesBytes:   true,
		ignoreMerges: pre.ignoreMerges,
		splits:       pre.splits(),
		decoder:      decoderSettings{given: true, codesBytes: true},
	}
	if pre.composes {
		s.rewrites = []rewrite{compose}
	}
	for id, token := range source.Tokens {
		if other, ok := s.vocabulary[token]; ok {
			return nil, fmt.Errorf("text: GGUF token %q has the ids %d and %d", token, other, id)
		}
		s.vocabulary[token] = int32(id)
		if len(source.TokenTypes) == 0 {
			continue
		}
		if kind := source.TokenTypes[id]; kind == ggufControl || kind == ggufUserDefined {
			s.added = append(s.added, addedToken{ID: int32(id), Content: token, Special: kind == ggufControl})
		}
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
	if err := s.addGGUFEnds(source); err != nil {
		return nil, fmt.Errorf("text: GGUF tokenizer: %w", err)
	}
	t, err := s.build()
	if err != nil {
		return nil, fmt.Errorf("text: GGUF tokenizer: %w", err)
	}
	return t, nil
}

// addGGUFEnds makes the post-processor that puts the begin and end tokens around a text.
func (s *settings) addGGUFEnds(source *protocol.GGUFTokenizer) error {
	if !source.AddBOS && !source.AddEOS {
		return nil
	}
	template := []templatePart{{text: true}}
	for _, end := range []struct {
		name   string
		id     int32
		wanted bool
	}{{"begin", source.BOSTokenID, source.AddBOS}, {"end", source.EOSTokenID, source.AddEOS}} {
		if !end.wanted {
			continue
		}
		if end.id < 0 || int(end.id) >= len(source.Tokens) {
			return fmt.Errorf("%s token is to be added, but its id is %d of %d", end.name, end.id, len(source.Tokens))
		}
		part := []templatePart{{ids: []int32{end.id}}}
		if end.name == "begin" {
			template = append(part, template...)
		} else {
			template = append(template, part...)
		}
	}
	s.post = append(s.post, postStep{template: template})
	return nil
}
