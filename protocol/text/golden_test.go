package text_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/outside"
	"lockstep/protocol/text"
)

// The golden tests compare with what the reference implementation answered.

func goldenNames() []string { return []string{"gpt2", "llama2", "llama3", "qwen3", "smollm2"} }

// goldenJSON returns the tokenizer.json of a golden set: of the reference data, or what scripts/get-tokenizers brings.
func goldenJSON(t testing.TB, name string) []byte {
	t.Helper()
	packed := filepath.Join(outside.Shared(t, "golden", "tokenizers", name), "tokenizer.json.xz")
	var data []byte
	var err error
	if _, statErr := os.Stat(packed); statErr == nil {
		data, err = exec.Command(outside.Tool(t, "xz"), "-dc", packed).Output()
	} else {
		data, err = os.ReadFile(outside.Cached(t, "get-tokenizers", "tokenizers", name+".json"))
	}
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func newTokenizer(t testing.TB, data []byte) *text.Tokenizer {
	t.Helper()
	tokenizer, err := text.New(protocol.TokenizerSource{HuggingFace: data})
	if err != nil {
		t.Fatal(err)
	}
	return tokenizer
}

// goldenCase is a line of encode.jsonl, decode.jsonl or stream.jsonl.
type goldenCase struct {
	ID          string     `json:"id"`
	Text        string     `json:"text"`
	IDs         []int32    `json:"ids"`
	Offsets     [][2]int32 `json:"offsets"`
	IDsSpecial  []int32    `json:"ids_special"`
	Decoded     string     `json:"decoded"`
	DecodedSkip string     `json:"decoded_skip"`
	PromptIDs   []int32    `json:"prompt_ids"`
	Pieces      []string   `json:"pieces"`
	HeldBack    string     `json:"held_back"`
}

func goldenCases(t testing.TB, name, kind string) []goldenCase {
	t.Helper()
	file, err := os.Open(outside.Shared(t, "golden", "tokenizers", name, kind+".jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var cases []goldenCase
	for decoder := json.NewDecoder(bufio.NewReader(file)); decoder.More(); {
		var c goldenCase
		if err := decoder.Decode(&c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	if len(cases) == 0 {
		t.Fatalf("%s: no %s cases", name, kind)
	}
	return cases
}

func TestGolden(t *testing.T) {
	for _, name := range goldenNames() {
		t.Run(name, func(t *testing.T) { checkGolden(t, name, newTokenizer(t, goldenJSON(t, name))) })
	}
}

// checkGolden compares a tokenizer with all that the reference answered for it.
func checkGolden(t *testing.T, name string, tokenizer *text.Tokenizer) {
	for _, part := range []struct {
		kind  string
		check func(*testing.T, *text.Tokenizer, goldenCase)
	}{{"encode", checkEncode}, {"decode", checkDecode}, {"stream", checkStream}} {
		failed := 0
		cases := goldenCases(t, name, part.kind)
		for _, c := range cases {
			if !t.Run(c.ID, func(t *testing.T) { part.check(t, tokenizer, c) }) {
				failed++
			}
		}
		t.Logf("%s: %d passed, %d failed", part.kind, len(cases)-failed, failed)
	}
}

func checkEncode(t *testing.T, tokenizer *text.Tokenizer, c goldenCase) {
	encoding, err := tokenizer.EncodeOffsets(c.Text, false)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(encoding.IDs, c.IDs) {
		t.Fatalf("%q: got ids %v, want %v", c.Text, encoding.IDs, c.IDs)
	}
	if !slices.Equal(encoding.Offsets, c.Offsets) {
		t.Errorf("%q: got offsets %v, want %v", c.Text, encoding.Offsets, c.Offsets)
	}
	special, err := tokenizer.Encode(c.Text, true)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(special, c.IDsSpecial) {
		t.Errorf("%q: got ids %v with special tokens, want %v", c.Text, special, c.IDsSpecial)
	}
	c.IDs = c.IDsSpecial
	checkDecode(t, tokenizer, c)
}

func checkDecode(t *testing.T, tokenizer *text.Tokenizer, c goldenCase) {
	if got := tokenizer.Decode(c.IDs, false); got != c.Decoded {
		t.Errorf("%v: got %q, want %q", c.IDs, got, c.Decoded)
	}
	if got := tokenizer.Decode(c.IDs, true); got != c.DecodedSkip {
		t.Errorf("%v: got %q without special tokens, want %q", c.IDs, got, c.DecodedSkip)
	}
}

func checkStream(t *testing.T, tokenizer *text.Tokenizer, c goldenCase) {
	stream := tokenizer.NewStream(c.PromptIDs)
	for i, id := range c.IDs {
		if got := stream.Next(id); got != c.Pieces[i] {
			t.Fatalf("token %d of %v: got %q, want %q", i, c.IDs, got, c.Pieces[i])
		}
	}
	if got := stream.Held(); got != c.HeldBack {
		t.Errorf("%v: got %q held back, want %q", c.IDs, got, c.HeldBack)
	}
}

// TestGoldenModels loads the tiny models' tokenizers and encodes the chats that the reference has the ids of.
func TestGoldenModels(t *testing.T) {
	paths, err := filepath.Glob(filepath.Join(outside.Shared(t, "golden", "models"), "*", "tokenizer.json"))
	if err != nil || len(paths) == 0 {
		t.Fatal(os.ErrNotExist)
	}
	passed := 0
	for _, path := range paths {
		folder := filepath.Dir(path)
		t.Run(filepath.Base(folder), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			tokenizer := newTokenizer(t, data)
			for _, c := range goldenChats(t, folder) {
				got, err := tokenizer.Encode(c.Chat, true)
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(got, c.PromptIDs) {
					t.Errorf("%q: got ids %v, want %v", c.Chat, got, c.PromptIDs)
					continue
				}
				passed++
			}
		})
	}
	t.Logf("%d tokenizers, %d chats passed", len(paths), passed)
	if passed == 0 {
		t.Error("the reference data has no chats")
	}
}

type goldenChat struct {
	Chat      string
	PromptIDs []int32 `json:"prompt_ids"`
}

// goldenChats returns the chats of a reward model's reference data; other models have none.
func goldenChats(t *testing.T, folder string) []goldenChat {
	t.Helper()
	file, err := os.Open(filepath.Join(folder, "golden_reward.jsonl"))
	if err != nil {
		return nil
	}
	defer file.Close()
	var chats []goldenChat
	for decoder := json.NewDecoder(bufio.NewReader(file)); decoder.More(); {
		var c goldenChat
		if err := decoder.Decode(&c); err != nil {
			t.Fatal(err)
		}
		if c.Chat != "" {
			chats = append(chats, c)
		}
	}
	return chats
}
