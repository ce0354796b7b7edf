package text_test

import (
	"encoding/json"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"lockstep/protocol"
	"lockstep/protocol/text"
)

// tinyJSON returns testdata/tiny.json, a byte-level tokenizer made for these tests, with some of its sections replaced.
func tinyJSON(t testing.TB, overrides map[string]json.RawMessage) []byte {
	t.Helper()
	return testdataJSON(t, "tiny.json", overrides)
}

// sentenceJSON is tinyJSON for testdata/sentence.json, which falls back to bytes as SentencePiece's do.
func sentenceJSON(t testing.TB, overrides map[string]json.RawMessage) []byte {
	t.Helper()
	return testdataJSON(t, "sentence.json", overrides)
}

func testdataJSON(t testing.TB, name string, overrides map[string]json.RawMessage) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	if len(overrides) == 0 {
		return data
	}
	var sections map[string]json.RawMessage
	if err := json.Unmarshal(data, &sections); err != nil {
		t.Fatal(err)
	}
	maps.Copy(sections, overrides)
	if data, err = json.Marshal(sections); err != nil {
		t.Fatal(err)
	}
	return data
}

// TestConfigurations compares with what the reference answered for tiny.json and sentence.json under many
// configurations.
func TestConfigurations(t *testing.T) {
	for cases, source := range map[string]string{"cases.json": "tiny.json", "sentence_cases.json": "sentence.json"} {
		data, err := os.ReadFile(filepath.Join("testdata", cases))
		if err != nil {
			t.Fatal(err)
		}
		var configurations []struct {
			Name      string
			Overrides map[string]json.RawMessage
			Cases     []goldenCase
			Decodes   []goldenCase // of ids alone
		}
		if err := json.Unmarshal(data, &configurations); err != nil {
			t.Fatal(err)
		}
		for _, configuration := range configurations {
			t.Run(configuration.Name, func(t *testing.T) {
				tokenizer := newTokenizer(t, testdataJSON(t, source, configuration.Overrides))
				for _, c := range configuration.Cases {
					checkConfiguration(t, tokenizer, c)
				}
				for _, c := range configuration.Decodes {
					checkDecode(t, tokenizer, c)
				}
			})
		}
	}
}

func checkConfiguration(t *testing.T, tokenizer *text.Tokenizer, c goldenCase) {
	encoding, err := tokenizer.EncodeOffsets(c.Text, true)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(encoding.IDs, c.IDs) || !slices.Equal(encoding.Offsets, c.Offsets) {
		t.Errorf("%q: got %v %v, want %v %v", c.Text, encoding.IDs, encoding.Offsets, c.IDs, c.Offsets)
	}
	if plain, _ := tokenizer.Encode(c.Text, true); !slices.Equal(plain, c.IDs) {
		t.Errorf("%q: got %v without offsets, want %v", c.Text, plain, c.IDs)
	}
	checkDecode(t, tokenizer, c)
}

// TestNewRefuses checks that what cannot be honoured is refused by name.
func TestNewRefuses(t *testing.T) {
	model := func(fields string) string { return `{"model":{"vocab":{"a":0,"b":1,"ab":2},` + fields + `}}` }
	for source, want := range map[string]string{
		``:             "neither",
		`{`:            "byte 1: a name is due",
		`[]`:           "an object is due",
		`{}]`:          "byte 2: the end is due",
		"{\"\xff\":0}": "not UTF-8",
		`{}`:           "model: missing",
		`{"model":{"type":"Unigram","vocab":[]}}`:             `"Unigram"`,
		`{"model":{"type":"WordPiece","vocab":{}}}`:           `"WordPiece"`,
		model(`"dropout":0.1,"merges":[]`):                    "dropout",
		model(`"end_of_word_suffix":"x","merges":[]`):         "end_of_word_suffix",
		model(`"continuing_subword_prefix":"x","merges":[]`):  "continuing_subword_prefix",
		model(`"type":"BPE"`):                                 "merges missing",
		`{"model":{"vocab":{"a":4194304},"merges":[]}}`:       "above",
		`{"model":{"vocab":{"a":-1},"merges":[]}}`:            "wrong type",
		`{"model":{"vocab":{"a":1e3},"merges":[]}}`:           "wrong type",
		strings.Repeat("[", 5000) + strings.Repeat("]", 5000): "an object is due",
		`{"x":` + strings.Repeat("[", 5000):                   "nests too deep",
	} {
		checkRefused(t, protocol.TokenizerSource{HuggingFace: json.RawMessage(source)}, want)
	}
	for want, change := range map[string]func(*protocol.GGUFTokenizer){
		`model "t5"`:     func(s *protocol.GGUFTokenizer) { s.Model = "t5" },
		`"llama" (Sente`: func(s *protocol.GGUFTokenizer) { s.Model = "bert" },
		`"kimi-k2"`:      func(s *protocol.GGUFTokenizer) { s.Pre = "kimi-k2" },
		`qwen2, qwen35,`: func(s *protocol.GGUFTokenizer) { s.Pre = "superbpe" },
		"0 scores":       func(s *protocol.GGUFTokenizer) { s.Model = "llama" },
		"token types":    func(s *protocol.GGUFTokenizer) { s.TokenTypes = s.TokenTypes[1:] },
		"begin token":    func(s *protocol.GGUFTokenizer) { s.AddBOS, s.BOSTokenID = new(true), int32(len(s.Tokens)) },
		"has the ids":    func(s *protocol.GGUFTokenizer) { s.Tokens[9] = s.Tokens[8] },
		"a space":        func(s *protocol.GGUFTokenizer) { s.Merges[0] = "ab" },
		"merge 0":        func(s *protocol.GGUFTokenizer) { s.Merges[0] = "a bcd" },
	} {
		source := tinyGGUF(t, "qwen2")
		change(source)
		checkRefused(t, protocol.TokenizerSource{GGUF: source}, want)
	}
}

// TestNewRefusesSections is TestNewRefuses for the sections besides the model.
func TestNewRefusesSections(t *testing.T) {
	nested := strings.Repeat(`{"type":"Sequence","normalizers":[`, 30) + strings.Repeat("]}", 30)
	split := `{"type":"Split","behavior":"Isolated","pattern":{"Regex":`
	metaspace := `{"type":"Metaspace","replacement":"▁"`
	decoders := func(list string) string { return `{"type":"Sequence","decoders":[` + list + `]}` }
	for section, refused := range map[string]map[string]string{
		"normalizer": {
			`{"type":"NFKC"}`: "NFKC", nested: "nested deeper", `{"type":"Prepend","prepend":""}`: "prepends nothing",
			`{"type":"Replace","pattern":{"Regex":" +"},"content":"x"}`: "Regex", `{"type":"Replace","content":"x"}`: "no pattern",
		},
		"decoder": {
			`{"type":"WordPiece"}`: "WordPiece", metaspace + `,"add_prefix_space":false}`: "does not match",
			decoders(metaspace + `},{"type":"ByteFallback"}`):                               "behind ByteLevel or Metaspace",
			decoders(`{"type":"Fuse"},` + metaspace + `}`):                                  "behind other decoders",
			decoders(`{"type":"Fuse"},{"type":"ByteLevel"}`):                                "behind other decoders",
			decoders(`{"type":"Fuse"},{"type":"ByteFallback"}`):                             "behind ByteFallback or Fuse",
			decoders(`{"type":"Strip","content":" ","start":1}`):                            "not right behind Fuse",
			decoders(`{"type":"Fuse"},{"type":"Strip","content":"","start":1}`):             "not one character",
			decoders(`{"type":"Fuse"},{"type":"Strip","content":" ","stop":1}`):             "stop 1",
			decoders(`{"type":"ByteFallback"},{"type":"Replace","pattern":{"String":"x"}}`): "behind ByteFallback or Fuse",
		},
		"pre_tokenizer": {
			`{"type":"Metaspace"}`: "not one character", metaspace + `,"prepend_scheme":"odd"}`: "odd",
			`{"type":"Sequence","pretokenizers":[` + metaspace + `},` + metaspace + `}]}`: "behind Metaspace",
			split + `"(a"}}`: "(a", split + `"^a"}}`: `"^"`,
			split + `"[a&&b]"}}`: "&", split + `"\\h"}}`: `\\h`, `{"type":"Split","behavior":"Odd"}`: "Odd",
			`{"type":"Sequence","pretokenizers":[{"type":"ByteLevel"},{"type":"Digits"}]}`: "must not follow",
		},
		"post_processor": {
			`{"type":"Odd"}`: "Odd", `{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"x"}}]}`: `"x"`,
		},
		"added_tokens": {
			`[{"id":0,"content":"qqzz"}]`: "same id", `[{"id":9,"content":"a"}]`: "has the ids",
			`[{"id":4000000,"content":"x"}]`: "ids up to", `[{"id":-5,"content":"x"}]`: "out of range",
		},
	} {
		for value, want := range refused {
			data := tinyJSON(t, map[string]json.RawMessage{section: json.RawMessage(value)})
			checkRefused(t, protocol.TokenizerSource{HuggingFace: data}, want)
		}
	}
}

// TestNewRefusesFallbackBehindBytes: no character would ever be lacking.
func TestNewRefusesFallbackBehindBytes(t *testing.T) {
	data := sentenceJSON(t, map[string]json.RawMessage{"pre_tokenizer": json.RawMessage(`{"type":"ByteLevel"}`)})
	checkRefused(t, protocol.TokenizerSource{HuggingFace: data}, "byte_fallback")
}

func checkRefused(t *testing.T, source protocol.TokenizerSource, want string) {
	t.Helper()
	_, err := text.New(source)
	if err == nil {
		t.Errorf("%.200s: accepted, want an error that says %s", source.HuggingFace, want)
	} else if !strings.Contains(err.Error(), want) {
		t.Errorf("got error %q, want one that says %s", err, want)
	}
}

func TestDecodeHostile(t *testing.T) {
	tokenizer := newTokenizer(t, tinyJSON(t, nil))
	if got := tokenizer.Decode([]int32{-1, 1 << 30, int32(tokenizer.VocabularySize())}, false); got != "" {
		t.Errorf("got %q for ids that do not exist", got)
	}
	// A character without its last byte, a letter, and the same again.
	ids, err := tokenizer.Encode("語a語", false)
	if err != nil {
		t.Fatal(err)
	}
	cut := append(slices.Clone(ids[:2]), ids[3:6]...)
	if got, want := tokenizer.Decode(cut, false), "\ufffda\ufffd"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestEncodeInvalidUTF8(t *testing.T) {
	tokenizer := newTokenizer(t, tinyJSON(t, nil))
	got, err := tokenizer.EncodeOffsets("a\xff\xe4\xbdb", false)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := tokenizer.EncodeOffsets("a\ufffd\ufffdb", false)
	if !slices.Equal(got.IDs, want.IDs) || !slices.Equal(got.Offsets, want.Offsets) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestEncodeLongTexts checks, for byte-level tokenizers and those with byte fallback, that texts which are hard for naive
// algorithms take no more than a moment.
func TestEncodeLongTexts(t *testing.T) {
	const length = 1 << 20
	nfc := json.RawMessage(`{"type":"NFC"}`)
	tokenizers := []*text.Tokenizer{
		newTokenizer(t, tinyJSON(t, map[string]json.RawMessage{"normalizer": nfc})),
		newTokenizer(t, sentenceJSON(t, nil)), // all of a text is one word
		newTokenizer(t, sentenceJSON(t, map[string]json.RawMessage{
			"normalizer": nfc, "pre_tokenizer": json.RawMessage(`{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}`),
		})),
		newFromGGUF(t, pieceVariants(t)[0].source()),
	}
	units := []string{
		"a", "the", " ", "\n", " \n", "'", "1", "<", "<|user|", "<|user|>", "\u0301", "e\u0301\u0323", "模", "\xff", "\x00", "don't ",
		"\u3000",
		"the token and ", "▁", "中",
	}
	for i := range len(tokenizers) * len(units) {
		tokenizer, unit := tokenizers[i/len(units)], units[i%len(units)]
		start := time.Now()
		input := strings.Repeat(unit, length/len(unit))
		ids, err := tokenizer.Encode(input, false)
		if err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%q repeated: took %v", unit, took)
		}
		if len(ids) == 0 {
			t.Errorf("%q repeated: no ids", unit)
		}
	}
}

// randomText returns text of many kinds of characters, seeded.
func randomText(random *rand.Rand) string {
	atoms := []string{
		"the ", " a", "n't", "'s", "12", " ", "\n", "\t", "模型", "é", "e\u0301", "👩\u200d👧", "<|user|>", "<", "!", "--", "\u3000",
	}
	var out strings.Builder
	for range random.IntN(40) {
		if random.IntN(4) == 0 {
			out.WriteRune([]rune{rune(random.IntN(0x300)), rune(0x1f300 + random.IntN(999)), 0xac00, 0x10ffff}[random.IntN(4)])
			continue
		}
		out.WriteString(atoms[random.IntN(len(atoms))])
	}
	return out.String()
}

// TestRoundTrip checks that decoding gives the text back, whatever it is, and that offsets cover it in order.
func TestRoundTrip(t *testing.T) {
	tokenizer, sentence := newTokenizer(t, tinyJSON(t, nil)), newTokenizer(t, sentenceJSON(t, nil))
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for range 2000 {
		checkRoundTrip(t, tokenizer, randomText(random))
		checkSentenceRoundTrip(t, sentence, randomText(random))
	}
	if t.Failed() {
		t.Logf("seed %d", seed)
	}
}

var sentenceAdded = regexp.MustCompile(`<unk>|</?s>|<\|user\|>`)

// checkSentenceRoundTrip is checkRoundTrip for sentence.json. What differs from the text is what its format cannot tell
// apart: U+2581 comes back as a space, and the space that is put before each part between added tokens stays but at the
// very beginning.
func checkSentenceRoundTrip(t *testing.T, tokenizer *text.Tokenizer, input string) {
	t.Helper()
	encoding, err := tokenizer.EncodeOffsets(input, false)
	if err != nil {
		t.Fatal(err)
	}
	want, at := "", 0
	for _, match := range append(sentenceAdded.FindAllStringIndex(input, -1), []int{len(input), len(input)}) {
		if part := input[at:match[0]]; part != "" {
			want += " " + part
		}
		want += input[match[0]:match[1]]
		at = match[1]
	}
	want = strings.TrimPrefix(strings.ReplaceAll(want, "▁", " "), " ")
	if got := tokenizer.Decode(encoding.IDs, false); got != want {
		t.Errorf("got %q back, want %q for %q", got, want, input)
	}
	checkOffsets(t, input, encoding)
}

func checkRoundTrip(t *testing.T, tokenizer *text.Tokenizer, input string) {
	t.Helper()
	encoding, err := tokenizer.EncodeOffsets(input, false)
	if err != nil {
		t.Fatal(err)
	}
	if got := tokenizer.Decode(encoding.IDs, false); got != input {
		t.Errorf("got %q back, want %q", got, input)
	}
	end, characters := int32(0), int32(utf8.RuneCountInString(input))
	for i, o := range encoding.Offsets {
		if o[0] > end || o[0] >= o[1] || o[1] < end || o[1] > characters {
			t.Errorf("%q: token %d has offsets %v after %d", input, i, o, end)
		}
		end = o[1]
	}
	if end != characters {
		t.Errorf("%q: offsets end at %d of %d", input, end, characters)
	}
}

func TestConcurrentUse(t *testing.T) {
	tokenizer := newTokenizer(t, tinyJSON(t, nil))
	input := benchText(3000)
	want, err := tokenizer.Encode(input, true)
	if err != nil {
		t.Fatal(err)
	}
	fresh := newTokenizer(t, tinyJSON(t, nil))
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if got, err := fresh.Encode(input, true); err != nil || !slices.Equal(got, want) {
				t.Errorf("got %v, %v, want %v", got, err, want)
			}
		})
	}
	group.Wait()
}

func TestDecodeAfter(t *testing.T) {
	joining := newTokenizer(t, tinyJSON(t, map[string]json.RawMessage{"decoder": json.RawMessage("null")}))
	plain := newTokenizer(t, tinyJSON(t, nil))
	for _, tokenizer := range []*text.Tokenizer{plain, joining} {
		ids, err := tokenizer.Encode("one two é", false)
		if err != nil || len(ids) < 3 {
			t.Fatal(ids, err)
		}
		special, _ := tokenizer.TokenID("<|user|>")
		for at := 1; at < len(ids); at++ {
			want := strings.TrimPrefix(tokenizer.Decode(ids[at-1:], true), tokenizer.Decode(ids[at-1:at], true))
			if got := tokenizer.DecodeAfter(ids[at-1], ids[at:]); got != want {
				t.Errorf("after %d: got %q, want %q", ids[at-1], got, want)
			}
		}
		if got, want := tokenizer.DecodeAfter(special, ids), tokenizer.Decode(ids, true); got != want {
			t.Errorf("after a special token: got %q, want %q", got, want)
		}
	}
	ids, _ := joining.Encode("one", false)
	if got := joining.DecodeAfter(ids[0], ids); !strings.HasPrefix(got, " ") || strings.HasPrefix(joining.Decode(ids, true), " ") {
		t.Errorf("the space between two tokens is lost: %q", got)
	}
}
