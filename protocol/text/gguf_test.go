package text_test

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"lockstep/protocol"
	"lockstep/protocol/text"
)

// tinyGGUF returns the tokenizer of tinyJSON as a GGUF file would hold it.
func tinyGGUF(t testing.TB, pre string) *protocol.GGUFTokenizer {
	t.Helper()
	var file struct {
		AddedTokens []struct{ ID int32 } `json:"added_tokens"`
		Model       struct {
			Vocab  map[string]int32
			Merges [][2]string
		}
	}
	if err := json.Unmarshal(tinyJSON(t, nil), &file); err != nil {
		t.Fatal(err)
	}
	count := len(file.Model.Vocab)
	source := &protocol.GGUFTokenizer{
		Model: "gpt2", Pre: pre, BOSTokenID: 1, EOSTokenID: 0,
		Tokens: make([]string, count), TokenTypes: slices.Repeat([]int32{1}, count),
	}
	for token, id := range file.Model.Vocab {
		source.Tokens[id] = token
	}
	for _, added := range file.AddedTokens {
		source.TokenTypes[added.ID] = 3
	}
	for _, merge := range file.Model.Merges {
		source.Merges = append(source.Merges, merge[0]+" "+merge[1])
	}
	return source
}

// TestGGUFEqualsJSON compares GGUF's names with what the tokenizer.json files of such models say.
func TestGGUFEqualsJSON(t *testing.T) {
	const digits = `{"type":"Digits","individual_digits":true}`
	const bytes = `{"type":"ByteLevel","add_prefix_space":false,"use_regex":true}`
	const nfc = `{"type":"NFC"}`
	split := func(patterns ...string) string {
		steps := ""
		for _, pattern := range patterns {
			quoted, _ := json.Marshal(pattern)
			steps += `{"type":"Split","pattern":{"Regex":` + string(quoted) + `},"behavior":"Isolated","invert":false},`
		}
		return steps + `{"type":"ByteLevel","add_prefix_space":false,"use_regex":false}`
	}
	const cased = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
	const capital = `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`
	const rest = `| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
	const endings = `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
	for pre, want := range map[string][2]string{
		"gpt-2": {bytes}, "mpt": {bytes, nfc}, "smollm": {digits + `,` + bytes}, "starcoder": {digits + `,` + bytes},
		"command-r": {digits + `,` + bytes, nfc},
		"tekken":    {split(cased + `|` + capital + `|\p{N}` + rest)},
		"llama4":    {split(cased + endings + `?|` + capital + endings + `?|\p{N}{1,3}` + rest)},
		"qwen2":     {split(endings + `|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`), nfc},
		"deepseek-v3": {split(`\p{N}{1,3}`, "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
			"[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*"+
				`|\s*[\r\n]+|\s+(?!\S)|\s+`)},
		"viking": {split(` ?[^(\s|.,!?…。，、।۔،)]+`, `\p{N}`)},
	} {
		overrides := map[string]json.RawMessage{
			"pre_tokenizer": json.RawMessage(`{"type":"Sequence","pretokenizers":[` + want[0] + `]}`), "normalizer": json.RawMessage("null")}
		if want[1] != "" {
			overrides["normalizer"] = json.RawMessage(want[1])
		}
		checkGGUFEqualsJSON(t, pre, newTokenizer(t, tinyJSON(t, overrides)))
	}
}

func checkGGUFEqualsJSON(t *testing.T, pre string, want *text.Tokenizer) {
	t.Helper()
	source := tinyGGUF(t, pre)
	source.AddBOS = new(false)
	got := newFromGGUF(t, source)
	random := rand.New(rand.NewPCG(1, 2))
	inputs := []string{benchText(2000) + "<|user|> 1234"}
	for range 200 {
		inputs = append(inputs, randomText(random))
	}
	for _, input := range inputs {
		gotIDs, _ := got.Encode(input, false)
		wantIDs, _ := want.Encode(input, false)
		if !slices.Equal(gotIDs, wantIDs) {
			t.Errorf("%s: %q: got %v, want %v", pre, input, gotIDs, wantIDs)
		}
		if !utf8.ValidString(input) {
			t.Error("the test's texts are not UTF-8")
		}
	}
	if !got.IsSpecial(1) || got.IsSpecial(3) || got.IsSpecial(-1) || got.IsSpecial(1<<30) {
		t.Errorf("%s: special tokens are wrong", pre)
	}
}

// TestGGUFPres: every name that the refusal of another lists is served, and gives texts back.
func TestGGUFPres(t *testing.T) {
	_, err := text.New(protocol.TokenizerSource{GGUF: tinyGGUF(t, "no such")})
	if err == nil {
		t.Fatal("an unknown name is taken")
	}
	_, list, _ := strings.Cut(err.Error(), "these are: ")
	names := strings.Split(list, ", ")
	if len(names) < 50 {
		t.Fatalf("got %d names: %v", len(names), err)
	}
	random := rand.New(rand.NewPCG(3, 4))
	for _, pre := range names {
		source := tinyGGUF(t, pre)
		source.AddBOS = new(false)
		tokenizer := newFromGGUF(t, source)
		for range 20 {
			input := strings.ReplaceAll(randomText(random), "e\u0301", "e") // some names bring texts into form C
			checkRoundTrip(t, tokenizer, input)
		}
	}
}

// TestGGUFAbsentFlags: what llama.cpp takes for flags and ids that a file lacks.
func TestGGUFAbsentFlags(t *testing.T) {
	for pre, want := range map[string][]int32{"llama-bpe": {11}, "tekken": {11}, "qwen2": nil, "gpt-2": nil} {
		source := tinyGGUF(t, pre)
		source.BOSTokenID = -1
		if got, err := newFromGGUF(t, source).Encode("", true); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v, want %v", pre, got, err, want)
		}
	}
	source := tinyGGUF(t, "glm4")
	source.BOSTokenID, source.AddBOS = -1, new(true)
	checkRefused(t, protocol.TokenizerSource{GGUF: source}, "begin token")
}

func TestGGUFEnds(t *testing.T) {
	source := tinyGGUF(t, "llama-bpe")
	source.AddBOS, source.AddEOS = new(true), true
	source.TokenTypes[2] = 4
	tokenizer, err := text.New(protocol.TokenizerSource{GGUF: source})
	if err != nil {
		t.Fatal(err)
	}
	got, err := tokenizer.EncodeOffsets("a<|model|>", true)
	if err != nil {
		t.Fatal(err)
	}
	a, _ := tokenizer.TokenID("a")
	if want := []int32{1, a, 2, 0}; !slices.Equal(got.IDs, want) {
		t.Errorf("got %v, want %v", got.IDs, want)
	}
	if want := [][2]int32{{0, 0}, {0, 1}, {1, 10}, {0, 0}}; !slices.Equal(got.Offsets, want) {
		t.Errorf("got offsets %v, want %v", got.Offsets, want)
	}
	if got := tokenizer.Decode(got.IDs, true); got != "a<|model|>" {
		t.Errorf("got %q; a user-defined token is not special", got)
	}
}
