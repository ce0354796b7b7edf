package text_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/text"
)

// patternTokenizer splits by a pattern that has no scanner.
func patternTokenizer(t *testing.T, pattern string) *text.Tokenizer {
	t.Helper()
	quoted, err := json.Marshal(pattern)
	if err != nil {
		t.Fatal(err)
	}
	split := `{"type":"Sequence","pretokenizers":[{"type":"Split","behavior":"Isolated","invert":false,"pattern":{"Regex":` +
		string(quoted) + `}},` +
		`{"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":false}]}`
	tokenizer, err := text.New(protocol.TokenizerSource{HuggingFace: tinyJSON(t,
		map[string]json.RawMessage{"pre_tokenizer": json.RawMessage(split)})})
	if err != nil {
		t.Fatal(err)
	}
	return tokenizer
}

// A pattern that is quadratic in the text, by many searches that are each short, ends with its context.
func TestEncodingEndsWithContext(t *testing.T) {
	tokenizer := patternTokenizer(t, `\s+x|\s`)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for _, offsets := range []bool{false, true} {
		if _, err := tokenizer.EncodeContext(ctx, strings.Repeat(" ", 50_000), true, offsets); !errors.Is(err, context.Canceled) {
			t.Errorf("got error %v, want %v", err, context.Canceled)
		}
	}
	plain, err := text.New(protocol.TokenizerSource{HuggingFace: tinyJSON(t, nil)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.EncodeContext(ctx, strings.Repeat("one two ", 50_000), true, false); !errors.Is(err, context.Canceled) {
		t.Errorf("words: got error %v, want %v", err, context.Canceled)
	}
}

// A search that backtracks without end is given up, in words that do not repeat the text.
func TestSearchesThatTakeLong(t *testing.T) {
	tokenizer := patternTokenizer(t, `(?:a|aa|aaa)+b|.`)
	_, err := tokenizer.Encode(strings.Repeat("a", 2000), true)
	if !errors.Is(err, text.ErrTakesLong) || strings.Contains(err.Error(), "aaa") {
		t.Errorf("got error %.200v, want %v", err, text.ErrTakesLong)
	}
}
