package text

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"lockstep/protocol/ordered"
)

// component is any part of a tokenizer.json that has a type, with the fields of all the types that are supported.
type component struct {
	Type             string            `json:"type"`
	Normalizers      []json.RawMessage `json:"normalizers"`
	PreTokenizers    []json.RawMessage `json:"pretokenizers"`
	Processors       []json.RawMessage `json:"processors"`
	Decoders         []json.RawMessage `json:"decoders"`
	AddPrefixSpace   *bool             `json:"add_prefix_space"`
	TrimOffsets      *bool             `json:"trim_offsets"`
	UseRegex         *bool             `json:"use_regex"`
	IndividualDigits bool              `json:"individual_digits"`
	Behavior         string            `json:"behavior"`
	Invert           bool              `json:"invert"`
	Pattern          struct {
		String *string
		Regex  *string
	} `json:"pattern"`
	Content       string  `json:"content"`
	Prepend       string  `json:"prepend"`
	Replacement   string  `json:"replacement"`
	PrependScheme *string `json:"prepend_scheme"`
	Split         *bool   `json:"split"`
	Start         int     `json:"start"`
	Stop          int     `json:"stop"`

	Single        []map[string]struct{ ID string } `json:"single"`
	SpecialTokens map[string]struct{ IDs []int32 } `json:"special_tokens"`
	CLS           pairOfToken                      `json:"cls"`
	SEP           pairOfToken                      `json:"sep"`
}

// pairOfToken is a token as Bert and Roberta processors write it: [content, id].
type pairOfToken struct{ id int32 }

func (p *pairOfToken) UnmarshalJSON(data []byte) error {
	var content string
	return json.Unmarshal(data, &[]any{&content, &p.id})
}

// isTrue resolves an optional flag whose default is true.
func isTrue(flag *bool) bool { return flag == nil || *flag }

// newFromJSON builds the tokenizer of a tokenizer.json.
func newFromJSON(data string) (*Tokenizer, error) {
	if !utf8.ValidString(data) {
		return nil, errors.New("text: tokenizer.json: not UTF-8")
	}
	t, err := readTokenizer(data)
	if err != nil {
		return nil, fmt.Errorf("text: tokenizer.json: %w", err)
	}
	return t, nil
}

func readTokenizer(data string) (*Tokenizer, error) {
	reader := ordered.NewReader(data, maxJSONDepth)
	sections := map[string]string{}
	err := reader.Object(func(key string) (err error) {
		sections[key], err = reader.Raw()
		return err
	})
	if err == nil {
		err = reader.End()
	}
	if err != nil {
		return nil, err
	}
	s := settings{vocabulary: map[string]int32{}}
	if err := s.readModel(sections["model"]); err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	if list := sections["added_tokens"]; list != "" {
		if err := json.Unmarshal([]byte(list), &s.added); err != nil {
			return nil, fmt.Errorf("added_tokens: %w", err)
		}
	}
	p := preTokenizer{}
	for _, part := range []struct {
		name, children string
		read           func(component) error
	}{
		{"normalizer", "normalizers", s.readNormalizer},
		{"pre_tokenizer", "pretokenizers", p.read},
		{"post_processor", "processors", s.readPostProcessor},
		{"decoder", "decoders", s.readDecoder},
	} {
		if err := walk(sections[part.name], 0, part.read); err != nil {
			return nil, fmt.Errorf("%s: %w", part.name, err)
		}
	}
	if p.bytes && s.fallsBack {
		return nil, fmt.Errorf("model: byte_fallback behind a ByteLevel pre_tokenizer: %w", errUnsupported)
	}
	s.decoder.given = sections["decoder"] != "" && sections["decoder"] != "null"
	s.codesBytes, s.splits, s.marker, s.markedSplits = p.bytes, p.splits, p.marker, p.markedSplits
	return s.build()
}

// walk calls read for a component, or in order for all those that a Sequence holds.
func walk(data string, depth int, read func(component) error) error {
	if data == "" || data == "null" {
		return nil
	}
	if depth > maxNesting {
		return fmt.Errorf("nested deeper than %d", maxNesting)
	}
	var c component
	if err := json.Unmarshal([]byte(data), &c); err != nil {
		return err
	}
	if c.Type != "Sequence" {
		if err := read(c); err != nil {
			return fmt.Errorf("%s: %w", c.Type, err)
		}
		return nil
	}
	for _, children := range [][]json.RawMessage{c.Normalizers, c.PreTokenizers, c.Processors, c.Decoders} {
		for _, child := range children {
			if err := walk(string(child), depth+1, read); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *settings) readPostProcessor(c component) error {
	trim := postStep{trims: true, prefixSpace: isTrue(c.AddPrefixSpace)}
	switch c.Type {
	case "ByteLevel":
		if isTrue(c.TrimOffsets) {
			s.post = append(s.post, trim)
		}
		return nil
	case "RobertaProcessing", "BertProcessing":
		if c.Type == "RobertaProcessing" && isTrue(c.TrimOffsets) {
			s.post = append(s.post, trim)
		}
		s.post = append(s.post, postStep{
			template: []templatePart{{ids: []int32{c.CLS.id}}, {text: true}, {ids: []int32{c.SEP.id}}},
		})
	case "TemplateProcessing":
		step := postStep{template: []templatePart{}}
		for _, piece := range c.Single {
			part, err := c.templatePart(piece)
			if err != nil {
				return err
			}
			step.template = append(step.template, part)
		}
		s.post = append(s.post, step)
	default:
		return errUnsupported
	}
	return nil
}

func (c *component) templatePart(piece map[string]struct{ ID string }) (templatePart, error) {
	if sequence, ok := piece["Sequence"]; ok && sequence.ID == "A" {
		return templatePart{text: true}, nil
	}
	special, ok := piece["SpecialToken"]
	if !ok {
		return templatePart{}, fmt.Errorf("template piece %v: %w", piece, errUnsupported)
	}
	token, ok := c.SpecialTokens[special.ID]
	if !ok {
		return templatePart{}, fmt.Errorf("special token %q is not listed", special.ID)
	}
	return templatePart{ids: token.IDs}, nil
}

// readModel reads the model section.
func (s *settings) readModel(data string) error {
	if data == "" {
		return errors.New("missing")
	}
	reader := ordered.NewReader(data, maxJSONDepth)
	var vocabulary, merges string
	var model struct {
		Type                    *string
		Dropout                 *float64
		UnkToken                *string `json:"unk_token"`
		ContinuingSubwordPrefix string  `json:"continuing_subword_prefix"`
		EndOfWordSuffix         string  `json:"end_of_word_suffix"`
		FuseUnk                 bool    `json:"fuse_unk"`
		ByteFallback            bool    `json:"byte_fallback"`
		IgnoreMerges            bool    `json:"ignore_merges"`
	}
	var rest strings.Builder // the model without its two large parts
	err := reader.Object(func(key string) error {
		value, err := reader.Raw()
		switch key {
		case "vocab":
			vocabulary = value
		case "merges":
			merges = value
		default:
			name, _ := json.Marshal(key)
			fmt.Fprintf(&rest, ",%s:%s", name, value)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte("{"+strings.TrimPrefix(rest.String(), ",")+"}"), &model); err != nil {
		return err
	}
	switch {
	case model.Type != nil && *model.Type != "BPE":
		return fmt.Errorf("type %q: %w", *model.Type, errUnsupported)
	case model.Dropout != nil && *model.Dropout != 0:
		return fmt.Errorf("dropout: %w", errUnsupported)
	case model.ContinuingSubwordPrefix != "":
		return fmt.Errorf("continuing_subword_prefix: %w", errUnsupported)
	case model.EndOfWordSuffix != "":
		return fmt.Errorf("end_of_word_suffix: %w", errUnsupported)
	case merges == "":
		return errors.New("merges missing")
	}
	s.fuseUnknown, s.ignoreMerges, s.fallsBack = model.FuseUnk, model.IgnoreMerges, model.ByteFallback
	if model.UnkToken != nil {
		s.unknown = *model.UnkToken
	}
	return s.readLists(vocabulary, merges)
}

// readLists reads the vocabulary and prepares the merges.
func (s *settings) readLists(vocabulary, merges string) error {
	s.vocabulary = make(map[string]int32, min(strings.Count(vocabulary, ":"), 1<<18))
	reader := ordered.NewReader(vocabulary, maxJSONDepth)
	err := reader.Object(func(token string) error {
		id, err := readTokenID(reader)
		if err != nil {
			return fmt.Errorf("%q: %w", token, err)
		}
		s.vocabulary[token] = id
		return nil
	})
	if err != nil {
		return fmt.Errorf("vocab: %w", err)
	}
	s.merges = func(each func(left, right string) error) error { return readMerges(merges, each) }
	return nil
}

var errJSONType = errors.New("value has the wrong type")

func readTokenID(reader *ordered.Reader) (int32, error) {
	spelled, err := reader.Raw()
	if err != nil {
		return 0, err
	}
	id := int32(0)
	for i := range len(spelled) {
		digit := spelled[i] - '0'
		if digit > 9 {
			return 0, errJSONType
		}
		if id = id*10 + int32(digit); id > maxTokenID {
			return 0, fmt.Errorf("token id is above %d", maxTokenID)
		}
	}
	return id, nil
}

// readMerges reads a list of merges, each of which is either a string with a space or a pair of strings.
func readMerges(merges string, each func(left, right string) error) error {
	reader := ordered.NewReader(merges, maxJSONDepth)
	return reader.Array(func() error {
		if reader.Next() != '[' {
			merge, err := reader.Text()
			if err != nil {
				return err
			}
			if strings.HasPrefix(merge, "#version") {
				return nil
			}
			left, right, err := cutMerge(merge)
			if err != nil {
				return err
			}
			return each(left, right)
		}
		pair := make([]string, 0, 2)
		err := reader.Array(func() error {
			token, err := reader.Text()
			pair = append(pair, token)
			return err
		})
		if err != nil {
			return err
		}
		if len(pair) != 2 {
			return fmt.Errorf("%w: %q", errMerge, pair)
		}
		return each(pair[0], pair[1])
	})
}
