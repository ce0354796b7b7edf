package weights

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"
)

// End is a token that ends a sequence, and which of the model's files say so.
type End struct {
	ID      int32
	Content string // empty: not known
	Sources []string
}

func (e End) String() string {
	return strings.TrimSpace(fmt.Sprintf("%d %s", e.ID, e.Content)) + " (" + strings.Join(e.Sources, ", ") + ")"
}

// turnEnds are the tokens by which chat models end their turn. They count where the vocabulary marks them as special,
// whatever the configuration says: it often names the end of a text only, and a model runs on through turns of its own
// making. Tokens that end texts (<|endoftext|>, </s>) and those of code infilling count only where a file names them.
var turnEnds = []string{"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>", "<end_of_turn>", "<turn|>",
	"<end_of_utterance>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>", "[EOT]"}

// messageEnd ends a mere part of a turn in vocabularies that have one of turnReturns.
const messageEnd = "<|end|>"

var turnReturns = []string{"<|return|>", "<|calls|>"}

// endsSpelled are the turnEnds among a vocabulary's special tokens.
func endsSpelled(special map[string]int32) (ids []int32) {
	for _, content := range turnEnds {
		id, ok := special[content]
		if content == messageEnd && slices.ContainsFunc(turnReturns, func(other string) bool { _, ok := special[other]; return ok }) {
			continue
		}
		if ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// vocabulary finds tokens by their spelling.
type vocabulary struct {
	special map[string]int32
	all     map[string]int32 // also the special ones
}

func (v *vocabulary) content(id int32) string {
	for content, other := range v.all {
		if other == id {
			return content
		}
	}
	return ""
}

// addEnds takes what one source says. Ids that the model cannot produce are left out.
func (m *Model) addEnds(v *vocabulary, source string, ids ...int32) {
	for _, id := range ids {
		if id < 0 || int(id) >= m.Config.Vocabulary {
			continue
		}
		at := slices.Index(m.Config.EOSTokenIDs, id)
		if at < 0 {
			at = len(m.Ends)
			m.Config.EOSTokenIDs = append(m.Config.EOSTokenIDs, id)
			m.Ends = append(m.Ends, End{ID: id, Content: v.content(id)})
		}
		m.Ends[at].Sources = append(m.Ends[at].Sources, source)
	}
}

// findEnds unites what the files of a directory in Hugging Face format say; eos is config.json's eos_token_id.
func (m *Model) findEnds(dir fs.FS, eos json.RawMessage) error {
	v, err := hfVocabulary(m.Tokenizer.HuggingFace)
	if err != nil {
		return err
	}
	var generation struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	if _, err := readJSON(dir, "generation_config.json", &generation); err != nil {
		return err
	}
	m.addEnds(v, "config.json", v.ids(eos)...)
	m.addEnds(v, "generation_config.json", v.ids(generation.EOS)...)
	if content := m.Chat.SpecialTokens["eos_token"]; content != "" {
		if id, ok := v.all[content]; ok {
			m.addEnds(v, "eos_token of the tokenizer", id)
		}
	}
	m.addEnds(v, "its spelling", endsSpelled(v.special)...)
	return nil
}

// hfVocabulary reads the tokens of a tokenizer.json.
func hfVocabulary(tokenizer []byte) (*vocabulary, error) {
	var file struct {
		Added []struct {
			ID      int32
			Content string
			Special bool
		} `json:"added_tokens"`
		Model struct {
			Vocabulary json.RawMessage `json:"vocab"`
		} `json:"model"`
	}
	if err := parseJSON("tokenizer.json", tokenizer, &file); err != nil {
		return nil, err
	}
	v := &vocabulary{special: map[string]int32{}, all: map[string]int32{}}
	if len(file.Model.Vocabulary) > 0 && file.Model.Vocabulary[0] == '{' { // Unigram's is a list
		if err := parseJSON("tokenizer.json: model.vocab", file.Model.Vocabulary, &v.all); err != nil {
			return nil, err
		}
	}
	for _, token := range file.Added {
		v.all[token.Content] = token.ID
		if token.Special {
			v.special[token.Content] = token.ID
		}
	}
	return v, nil
}

// ids reads an eos_token_id: a number or a list of numbers, each also as a text; or the token's own text.
func (v *vocabulary) ids(raw json.RawMessage) (ids []int32) {
	var one any
	if len(raw) == 0 || json.Unmarshal(raw, &one) != nil {
		return nil
	}
	list, ok := one.([]any)
	if !ok {
		list = []any{one}
	}
	for _, value := range list {
		switch value := value.(type) {
		case float64:
			if value == math.Trunc(value) && math.Abs(value) < maxDimension {
				ids = append(ids, int32(value))
			}
		case string:
			if id, ok := v.all[value]; ok {
				ids = append(ids, id)
			} else if number, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32); err == nil {
				ids = append(ids, int32(number))
			}
		}
	}
	return ids
}

// control is GGUF's token type of special tokens.
const control = 3

// findEndsGGUF unites what a GGUF file's metadata say.
func (m *Model) findEndsGGUF(meta *ggufMeta) {
	v := &vocabulary{special: map[string]int32{}, all: map[string]int32{}}
	types := meta.numbers("tokenizer.ggml.token_type")
	for id, content := range meta.texts("tokenizer.ggml.tokens") {
		v.all[content] = int32(id)
		if id < len(types) && types[id] == control {
			v.special[content] = int32(id)
		}
	}
	for _, name := range []string{"eos", "eot", "eom"} {
		key := "tokenizer.ggml." + name + "_token_id"
		m.addEnds(v, key, meta.id(key))
	}
	m.addEnds(v, "its spelling", endsSpelled(v.special)...)
}
