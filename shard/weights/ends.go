package weights

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"lockstep/protocol"
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

// turnEnds are the tokens by which chat models end their turn. They count where the vocabulary adds them to those of texts,
// and in GGUF, whose converters often mark them as none, always, as in llama.cpp, whatever the configuration says: it often
// names the end of a text only, and a model runs on through turns of its own making. Tokens that end texts
// (<|endoftext|>, </s>) and those of code infilling count only where a file names them.
var turnEnds = []string{"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|end_of_turn|>", "<|END_OF_TURN_TOKEN|>", "<end_of_turn>",
	"<turn|>",
	"<end_of_utterance>", "<|end|>", "<|return|>", "<|call|>", "<|calls|>", "[EOT]"}

// messageEnd ends a mere part of a turn in vocabularies that have one of turnReturns.
const messageEnd = "<|end|>"

var turnReturns = []string{"<|return|>", "<|calls|>"}

// endsSpelled are the turnEnds among tokens.
func endsSpelled(tokens map[string]int32) (ids []int32) {
	for _, content := range turnEnds {
		id, ok := tokens[content]
		if content == messageEnd && slices.ContainsFunc(turnReturns, func(other string) bool { _, ok := tokens[other]; return ok }) {
			continue
		}
		if ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// endSources is what the files say of the ends of a sequence, as they say it.
type endSources struct {
	tokens *vocabulary
	// spelled are the tokens among which turnEnds count.
	spelled map[string]int32
	named   []namedEnds
	doubts  []string
}

// namedEnds are what one source says: ids, and in words what it names and cannot be one.
type namedEnds struct {
	source string
	ids    []int32
	doubts []string
}

// Ends returns the tokens that end a sequence of a model of so large a vocabulary: the union of what its files say. What
// cannot be taken as it is said goes to Doubts.
func (f *Files) Ends(vocabulary int) (ends []End) {
	v := f.ends.tokens
	add := func(source string, ids ...int32) {
		for _, id := range ids {
			if id < 0 || int(id) >= vocabulary {
				f.doubt("%s: token %d is to end a sequence, and the model has the tokens 0 to %d only", source, id, vocabulary-1)
				continue
			}
			at := slices.IndexFunc(ends, func(end End) bool { return end.ID == id })
			if at < 0 {
				at = len(ends)
				ends = append(ends, End{ID: id, Content: v.content(id)})
			}
			ends[at].Sources = append(ends[at].Sources, source)
		}
	}
	for _, doubt := range f.ends.doubts {
		f.doubt("%s", doubt)
	}
	for _, named := range f.ends.named {
		for _, doubt := range named.doubts {
			f.doubt("%s", doubt)
		}
		add(named.source, named.ids...)
	}
	for _, id := range endsSpelled(f.ends.spelled) {
		if !v.special[id] {
			f.doubt("token %d %s is not marked as special; it is taken as the end of a turn for its spelling", id, v.content(id))
		}
		add("its spelling", id)
	}
	f.doubtTokensBeyond(vocabulary)
	return ends
}

// doubtTokensBeyond notes the tokens that the model has no rows for.
func (f *Files) doubtTokensBeyond(vocabulary int) {
	count, first := 0, int32(math.MaxInt32)
	for _, id := range f.ends.tokens.all {
		if id < 0 || int(id) >= vocabulary {
			count, first = count+1, min(first, id)
		}
	}
	if count > 0 {
		f.doubt("%d tokens of the tokenizer are beyond the model's vocabulary of %d, the first is %d %s: prompts that have them are "+
			"refused; see whether both are of one model",
			count, vocabulary, first, f.ends.tokens.content(first))
	}
}

// vocabulary finds tokens by their spelling.
type vocabulary struct {
	special map[int32]bool
	added   map[string]int32 // HF: to those that texts are cut into
	all     map[string]int32 // also the added ones
}

func (v *vocabulary) content(id int32) string {
	for content, other := range v.all {
		if other == id {
			return content
		}
	}
	return ""
}

// maxDoubts bounds the list of doubts; a file can give cause for any number.
const maxDoubts = 20

// doubt notes what the files say and is not taken as they say it. What exceeds maxDoubts is left out.
func (f *Files) doubt(format string, args ...any) {
	if len(f.Doubts) == maxDoubts {
		return
	}
	f.Doubts = append(f.Doubts, fmt.Sprintf(format, args...))
}

// endsOfDirectory reads what the files of a directory in Hugging Face format say; eos is config.json's eos_token_id.
func endsOfDirectory(dir fs.FS, tokenizer []byte, eos json.RawMessage, special map[string]string) (s endSources, err error) {
	v, err := hfVocabulary(tokenizer)
	if err != nil {
		return s, err
	}
	s.tokens, s.spelled = v, v.added
	var generation struct {
		EOS json.RawMessage `json:"eos_token_id"`
	}
	if _, err := readJSON(dir, "generation_config.json", &generation); err != nil {
		return s, err
	}
	var config struct {
		Decoder json.RawMessage `json:"added_tokens_decoder"`
	}
	if _, err := readJSON(dir, "tokenizer_config.json", &config); err != nil {
		return s, err
	}
	if !v.addDecoder(config.Decoder) {
		s.doubts = append(s.doubts, "tokenizer_config.json: added_tokens_decoder is no object of tokens by their ids, and is not read")
	}
	for _, source := range []struct {
		name string
		eos  json.RawMessage
	}{{"config.json", eos}, {"generation_config.json", generation.EOS}} {
		ids, unread := v.ids(source.eos)
		named := namedEnds{source: source.name, ids: ids}
		for _, what := range unread {
			named.doubts = append(named.doubts, fmt.Sprintf("%s: eos_token_id is or contains %s, which names no token", source.name, what))
		}
		s.named = append(s.named, named)
	}
	if content := special["eos_token"]; content != "" {
		named := namedEnds{source: "eos_token of the tokenizer"}
		if id, ok := v.all[content]; ok {
			named.ids = []int32{id}
		} else {
			named.doubts = []string{fmt.Sprintf("eos_token of the tokenizer is %q, which is no token of its vocabulary", content)}
		}
		s.named = append(s.named, named)
	}
	return s, nil
}

// addedToken is a token as tokenizer.json and tokenizer_config.json describe it.
type addedToken struct {
	ID      int32
	Content string
	Special bool
}

// hfVocabulary reads the tokens of a tokenizer.json.
func hfVocabulary(tokenizer []byte) (*vocabulary, error) {
	var file struct {
		Added []addedToken `json:"added_tokens"`
		Model struct {
			Vocabulary json.RawMessage `json:"vocab"`
		} `json:"model"`
	}
	if err := parseJSON("tokenizer.json", tokenizer, &file); err != nil {
		return nil, err
	}
	v := &vocabulary{special: map[int32]bool{}, added: map[string]int32{}, all: map[string]int32{}}
	if len(file.Model.Vocabulary) > 0 && file.Model.Vocabulary[0] == '{' { // Unigram's is a list
		if err := parseJSON("tokenizer.json: model.vocab", file.Model.Vocabulary, &v.all); err != nil {
			return nil, err
		}
	}
	for _, token := range file.Added {
		v.add(token)
	}
	return v, nil
}

func (v *vocabulary) add(token addedToken) {
	v.all[token.Content], v.added[token.Content] = token.ID, token.ID
	if token.Special {
		v.special[token.ID] = true
	}
}

// addDecoder takes the tokens of tokenizer_config.json's added_tokens_decoder, but those that tokenizer.json has with other
// ids, and reports whether it could read them.
func (v *vocabulary) addDecoder(raw json.RawMessage) bool {
	var tokens map[int32]addedToken
	if len(raw) > 0 && json.Unmarshal(raw, &tokens) != nil {
		return false
	}
	for _, id := range slices.Sorted(maps.Keys(tokens)) {
		token := tokens[id]
		if known, ok := v.all[token.Content]; !ok || known == id {
			token.ID = id
			v.add(token)
		}
	}
	return true
}

// ids reads an eos_token_id: a number, also as a text, or else the token's own text, or an object with that as its content;
// or a list of such. What names no token is unread.
func (v *vocabulary) ids(raw json.RawMessage) (ids []int32, unread []string) {
	var all any
	if len(raw) > 0 && json.Unmarshal(raw, &all) != nil {
		return nil, []string{"what is not JSON"}
	}
	var take func(value any)
	take = func(value any) {
		switch value := value.(type) {
		case nil:
			return
		case []any:
			for _, one := range value {
				take(one)
			}
			return
		case map[string]any:
			if content, ok := value["content"].(string); ok {
				take(content)
				return
			}
		case float64:
			if value == math.Trunc(value) && math.Abs(value) <= math.MaxInt32 {
				ids = append(ids, int32(value))
				return
			}
		case string:
			if number, err := strconv.ParseInt(strings.TrimSpace(value), 10, 32); err == nil {
				ids = append(ids, int32(number))
				return
			} else if id, ok := v.all[value]; ok {
				ids = append(ids, id)
				return
			}
		}
		text, _ := json.Marshal(value) // of what has just been read
		unread = append(unread, fmt.Sprintf("%.60s", text))
	}
	take(all)
	return ids, unread
}

// GGUF's types of tokens, as far as they matter here.
const (
	normal  = 1
	control = 3 // special tokens
)

// endsOfGGUF reads what a GGUF file's metadata say.
func endsOfGGUF(meta *Metadata) endSources {
	tokens := meta.Texts("tokenizer.ggml.tokens")
	v := &vocabulary{special: map[int32]bool{}, all: make(map[string]int32, len(tokens))}
	types := meta.Numbers("tokenizer.ggml.token_type")
	for id, content := range tokens {
		v.all[content] = int32(id)
		if id < len(types) && types[id] == control {
			v.special[int32(id)] = true
		}
	}
	s := endSources{tokens: v, spelled: v.all}
	for _, name := range []string{"eos", "eot", "eom"} {
		key := "tokenizer.ggml." + name + "_token_id"
		if id := meta.ID(key); id >= 0 {
			s.named = append(s.named, namedEnds{source: key, ids: []int32{id}})
		}
	}
	return s
}

// markControl has tokens cut out of texts and left out of answers, as llama.cpp does whatever a file says of them: chat
// templates write the ends of turns as texts.
func markControl(tokenizer *protocol.GGUFTokenizer, ids []int32) {
	if len(ids) > 0 && len(tokenizer.TokenTypes) == 0 {
		tokenizer.TokenTypes = slices.Repeat([]int32{normal}, len(tokenizer.Tokens))
	}
	for _, id := range ids {
		if int(id) < len(tokenizer.TokenTypes) {
			tokenizer.TokenTypes[id] = control
		}
	}
}
