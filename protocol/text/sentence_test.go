package text_test

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"lockstep/protocol"
	"lockstep/protocol/text"
)

// sentenceGGUF returns the tokenizer.json of a SentencePiece model as a GGUF file would hold it. Merges that come first make what
// has the better score.
func sentenceGGUF(t testing.TB, data []byte) *protocol.GGUFTokenizer {
	t.Helper()
	var file struct {
		AddedTokens []struct {
			ID      int32
			Content string
			Special bool
		} `json:"added_tokens"`
		Normalizer json.RawMessage
		Model      struct {
			Vocab    map[string]int32
			Merges   []json.RawMessage
			UnkToken string `json:"unk_token"`
		}
	}
	if err := json.Unmarshal(data, &file); err != nil {
		t.Fatal(err)
	}
	size := int32(0)
	for _, id := range file.Model.Vocab {
		size = max(size, id+1)
	}
	for _, added := range file.AddedTokens {
		size = max(size, added.ID+1)
	}
	source := &protocol.GGUFTokenizer{Model: "llama", BOSTokenID: -1, EOSTokenID: -1, Tokens: make([]string, size),
		TokenTypes: slices.Repeat([]int32{1}, int(size)), Scores: make([]float32, size),
		UnknownTokenID: file.Model.Vocab[file.Model.UnkToken]}
	for content, id := range file.Model.Vocab {
		source.Tokens[id], source.Scores[id] = content, -1e9
		if len(content) == 6 && strings.HasPrefix(content, "<0x") {
			source.TokenTypes[id], source.Scores[id] = 6, 0
		}
	}
	for rank, merge := range slices.Backward(file.Model.Merges) {
		var parts [2]string
		var joined string
		if json.Unmarshal(merge, &parts) == nil {
			joined = parts[0] + parts[1]
		} else if err := json.Unmarshal(merge, &joined); err != nil {
			t.Fatal(err)
		}
		source.Scores[file.Model.Vocab[strings.ReplaceAll(joined, " ", "")]] = -float32(rank)
	}
	for _, added := range file.AddedTokens {
		source.Tokens[added.ID], source.TokenTypes[added.ID], source.Scores[added.ID] = added.Content, 4, 0
		if added.Special {
			source.TokenTypes[added.ID] = 3
		}
	}
	source.TokenTypes[source.UnknownTokenID] = 2
	if !strings.Contains(string(file.Normalizer), "Prepend") {
		source.AddSpacePrefix = new(false)
	}
	return source
}

func newFromGGUF(t testing.TB, source *protocol.GGUFTokenizer) *text.Tokenizer {
	t.Helper()
	tokenizer, err := text.New(protocol.TokenizerSource{GGUF: source})
	if err != nil {
		t.Fatal(err)
	}
	return tokenizer
}

// TestGoldenSentencePiece has the reference's answers for a tokenizer.json from the same vocabulary as GGUF files hold it.
func TestGoldenSentencePiece(t *testing.T) {
	tokenizer := newFromGGUF(t, sentenceGGUF(t, goldenJSON(t, "llama2")))
	checkGolden(t, "llama2", tokenizer)
}

// pieceVariant is a model that SentencePiece 0.2.3 trained on this project's own pages, with what it answered for some texts. The
// models cover 98% of the characters, so that many fall back to bytes.
type pieceVariant struct {
	AddSpacePrefix         bool `json:"add_space_prefix"`
	RemoveExtraWhitespaces bool `json:"remove_extra_whitespaces"`
	Tokens                 []string
	Scores                 []float32
	Types                  []int32
	Cases                  []goldenCase
}

func (v *pieceVariant) source() *protocol.GGUFTokenizer {
	return &protocol.GGUFTokenizer{Model: "llama", Tokens: slices.Clone(v.Tokens), Scores: slices.Clone(v.Scores),
		TokenTypes: slices.Clone(v.Types), BOSTokenID: -1, EOSTokenID: -1, AddSpacePrefix: &v.AddSpacePrefix,
		RemoveExtraWhitespaces: v.RemoveExtraWhitespaces}
}

func pieceVariants(t testing.TB) []pieceVariant {
	t.Helper()
	var file struct{ Variants []pieceVariant }
	if err := json.Unmarshal(testdataJSON(t, "pieces.json", nil), &file); err != nil {
		t.Fatal(err)
	}
	return file.Variants
}

func TestSentencePiece(t *testing.T) {
	variants := pieceVariants(t)
	if len(variants) != 4 {
		t.Fatal(len(variants))
	}
	for _, variant := range variants {
		tokenizer := newFromGGUF(t, variant.source())
		for _, c := range variant.Cases {
			got, err := tokenizer.EncodeOffsets(c.Text, false)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got.IDs, c.IDs) {
				t.Errorf("prefix %v, thin %v, %q: got %v, want %v",
					variant.AddSpacePrefix, variant.RemoveExtraWhitespaces, c.Text, got.IDs, c.IDs)
			}
			want := strings.ReplaceAll(c.Text, "▁", " ")
			if decoded := tokenizer.Decode(got.IDs, false); decoded != want && !variant.RemoveExtraWhitespaces {
				t.Errorf("got %q back, want %q", decoded, want)
			}
			if begun, _ := tokenizer.Encode(c.Text, true); !slices.Equal(begun, append([]int32{1}, c.IDs...)) {
				t.Errorf("%q: got %v, want the begin token first", c.Text, begun)
			}
			checkOffsets(t, c.Text, got)
		}
	}
}

// checkOffsets checks that offsets go forward and lie within the text, but for those of a prefix and of bytes, which share a
// character.
func checkOffsets(t *testing.T, input string, encoding text.Encoding) {
	t.Helper()
	last := [2]int32{}
	for i, o := range encoding.Offsets {
		if o[0] < last[0] || o[0] >= o[1] || o[1] < last[1] || o[1] > int32(utf8.RuneCountInString(input)) {
			t.Errorf("%q: token %d has offsets %v after %v", input, i, o, last)
		}
		last = o
	}
}

// TestSentencePieceParts: special and user-defined tokens are cut out, and each part between them begins with a space.
func TestSentencePieceParts(t *testing.T) {
	variant := pieceVariants(t)[0]
	source := variant.source()
	source.AddEOS = true
	source.Tokens, source.Scores = append(source.Tokens, "  <x>", ""), append(source.Scores, -1000, 0)
	source.TokenTypes = append(source.TokenTypes, 4, 5)
	tokenizer := newFromGGUF(t, source)
	mine := int32(len(variant.Tokens))
	the, _ := tokenizer.TokenID("▁the")
	user, _ := tokenizer.TokenID("<user>")
	got, err := tokenizer.Encode("the<user>the  <x>the<unk>", true)
	if want := []int32{1, the, user, the, mine, the, 0, 2}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if got, want := tokenizer.Decode(got, true), "the the  <x> the"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !tokenizer.IsSpecial(user) || !tokenizer.IsSpecial(0) || tokenizer.IsSpecial(mine) {
		t.Error("the special tokens are not right")
	}
	source.SpecialsTakeSpaces = true
	if got, _ := newFromGGUF(t, source).Encode("<user>  the", false); !slices.Equal(got, []int32{user, the}) {
		t.Errorf("got %v, want the spaces behind the special token gone", got)
	}
}

// TestSentencePieceBare: a character that is no token still is a part of those that hold it; alone it is spelled in bytes, and
// without these it is unknown.
func TestSentencePieceBare(t *testing.T) {
	source := &protocol.GGUFTokenizer{Model: "llama", AddBOS: new(false), AddSpacePrefix: new(false), BOSTokenID: -1, EOSTokenID: -1,
		Tokens: []string{"<unk>", "a", "aé", "éé", "<0xC3>", "<0xA9>", "aéé"}, TokenTypes: []int32{2, 1, 1, 1, 6, 6, 1},
		Scores: []float32{0, 0, -1, -2, 0, 0, -3}}
	tokenizer := newFromGGUF(t, source)
	for input, want := range map[string][]int32{
		"aé": {2}, "éé": {3}, "é": {4, 5}, "éa": {4, 5, 1}, "aéé": {6}, "ééé": {3, 4, 5}, "xya": {0, 1}, "éxé": {4, 5, 0, 4, 5},
	} {
		if got, err := tokenizer.Encode(input, true); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", input, got, err, want)
		}
	}
}

func TestSentencePieceRefuses(t *testing.T) {
	variant := pieceVariants(t)[0]
	for want, change := range map[string]func(*protocol.GGUFTokenizer){
		"619 scores":   func(s *protocol.GGUFTokenizer) { s.Scores = s.Scores[1:] },
		"not a number": func(s *protocol.GGUFTokenizer) { s.Scores[7] = float32(math.NaN()) },
		"not UTF-8":    func(s *protocol.GGUFTokenizer) { s.Tokens[300] = "\xff" },
		"1025 bytes":   func(s *protocol.GGUFTokenizer) { s.Tokens[300] = strings.Repeat("x", 1025) },
		"unknown":      func(s *protocol.GGUFTokenizer) { s.UnknownTokenID = 620 },
		"begin token":  func(s *protocol.GGUFTokenizer) { s.BOSTokenID = 620 },
		"end token":    func(s *protocol.GGUFTokenizer) { s.AddEOS, s.EOSTokenID = true, 620 },
	} {
		source := variant.source()
		change(source)
		checkRefused(t, protocol.TokenizerSource{GGUF: source}, want)
	}
}
