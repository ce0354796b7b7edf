package text_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"lockstep/protocol/text"
)

// plainStream is TGI's method word for word, Python's negative slices included.
type plainStream struct {
	tokenizer    *text.Tokenizer
	ids          []int32
	prefix, read int
}

func (s *plainStream) from(i int) int {
	if i < 0 {
		i = max(0, len(s.ids)+i)
	}
	return i
}

func (s *plainStream) next(id int32) (shown, held string) {
	s.ids = append(s.ids, id)
	start, before := s.from(s.prefix), ""
	if start < s.read {
		before = s.tokenizer.Decode(s.ids[start:s.read], false)
	}
	now := s.tokenizer.Decode(s.ids[start:], false)
	rest := []rune(now)[min(utf8.RuneCountInString(before), utf8.RuneCountInString(now)):]
	if len(rest) == 0 || strings.HasSuffix(now, "\ufffd") {
		return "", string(rest)
	}
	s.prefix, s.read = s.read, len(s.ids)
	return string(rest), ""
}

func TestStreamEqualsPlainMethod(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	metaspace := rawJSON(`{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}`)
	for _, data := range [][]byte{
		tinyJSON(t, nil), tinyJSON(t, map[string]rawJSON{"decoder": rawJSON("null")}),
		sentenceJSON(t, nil), sentenceJSON(t, map[string]rawJSON{"decoder": metaspace}),
		sentenceJSON(t, map[string]rawJSON{"decoder": rawJSON(`{"type":"Sequence","decoders":[{"type":"ByteFallback"},` +
			`{"type":"Fuse"},{"type":"Strip","content":"▁","start":3,"stop":0}]}`)}),
	} {
		tokenizer := newTokenizer(t, data)
		for range 500 {
			var ids []int32
			for len(ids) < 60 {
				if random.IntN(3) == 0 {
					ids = append(ids, int32(random.IntN(tokenizer.VocabularySize()+2)-1))
					continue
				}
				more, err := tokenizer.Encode(randomText(random), false)
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, more...)
			}
			prompt := random.IntN(9)
			plain := plainStream{tokenizer, append([]int32(nil), ids[:prompt]...), prompt - 5, prompt}
			stream := tokenizer.NewStream(ids[:prompt])
			for i, id := range ids[prompt:] {
				want, held := plain.next(id)
				if got := stream.Next(id); got != want || stream.Held() != held {
					t.Fatalf("seed %d, prompt of %d, token %d of %v: got %q and %q held, want %q and %q",
						seed, prompt, i, ids[prompt:], got, stream.Held(), want, held)
				}
			}
		}
	}
}

// TestStreamsOfText checks that the pieces of a text joined are the text, as decoding at once gives it.
func TestStreamsOfText(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	random := rand.New(rand.NewPCG(seed, 0))
	for _, data := range [][]byte{tinyJSON(t, nil), sentenceJSON(t, nil)} {
		tokenizer := newTokenizer(t, data)
		prompt, err := tokenizer.Encode("the tokens and the 中模", false)
		if err != nil || len(prompt) < 5 {
			t.Fatal(prompt, err)
		}
		for range 500 {
			ids, err := tokenizer.Encode(randomText(random), false)
			if err != nil {
				t.Fatal(err)
			}
			stream, joined := tokenizer.NewStream(prompt), ""
			for _, id := range ids {
				piece := stream.Next(id)
				if strings.Contains(piece, "\ufffd") {
					t.Errorf("seed %d: %v shows a part of a character: %q", seed, ids, piece)
				}
				joined += piece
			}
			want := strings.TrimPrefix(tokenizer.Decode(slices.Concat(prompt, ids), false), tokenizer.Decode(prompt, false))
			if joined != want || stream.Held() != "" {
				t.Errorf("seed %d: %v: got %q and %q held, want %q", seed, ids, joined, stream.Held(), want)
			}
		}
	}
}

// TestStreamOfBytes checks what byte tokens show: a character once it is whole, and all bytes of a run as U+FFFD once
// it is certain that they are not text.
func TestStreamOfBytes(t *testing.T) {
	tokenizer := newTokenizer(t, sentenceJSON(t, nil))
	id := func(content string) int32 {
		id, ok := tokenizer.TokenID(content)
		if !ok {
			t.Fatalf("no token %q", content)
		}
		return id
	}
	for _, c := range []struct {
		prompt, tokens, pieces []string
	}{
		{[]string{"a", "a", "a", "a", "a"}, []string{"<0xF0>", "<0x9F>", "<0x91>", "<0xA9>", "▁the"}, []string{"", "", "", "👩", " the"}},
		{[]string{"a", "a", "a", "a", "a"}, []string{"<0xE4>", "<0xB8>", "a", "▁"}, []string{"", "", "\ufffd\ufffda", " "}},
		{
			[]string{"a", "a", "a", "a", "a"}, []string{"<0xC3>", "<0xA9>", "<0xC3>", "<0xA9>", "<0xC3>", "e"},
			[]string{"", "é", "", "é", "", "\ufffd\ufffde"},
		},
		{[]string{"a", "a", "a", "a", "<0xC3>"}, []string{"<0xA9>", "▁a"}, []string{"", " a"}},
		{[]string{"<s>", "▁the", "▁a", "▁in", "▁token"}, []string{"▁the", "▁▁", "on"}, []string{" the", "  ", "on"}},
		{[]string{"<s>", "▁the", "▁a", "▁in"}, []string{"▁the", "▁and"}, []string{"the", " and"}},
	} {
		var prompt []int32
		for _, token := range c.prompt {
			prompt = append(prompt, id(token))
		}
		stream := tokenizer.NewStream(prompt)
		for i, token := range c.tokens {
			if got := stream.Next(id(token)); got != c.pieces[i] {
				t.Errorf("%v after %v: got %q for token %d, want %q", c.tokens, c.prompt, got, i, c.pieces[i])
			}
		}
	}
}

// TestStreamHoldsLong checks that text held back for very long costs no more than other text.
func TestStreamHoldsLong(t *testing.T) {
	for _, c := range []struct {
		data []byte
		lone string // the token of the byte 0x80
	}{{tinyJSON(t, nil), "Ģ"}, {sentenceJSON(t, nil), "<0x80>"}} {
		tokenizer := newTokenizer(t, c.data)
		lone, ok := tokenizer.TokenID(c.lone)
		if !ok {
			t.Fatal("no token for the byte 0x80")
		}
		const count = 300_000
		stream := tokenizer.NewStream(make([]int32, 10))
		start := time.Now()
		for range count {
			if got := stream.Next(lone); got != "" {
				t.Fatalf("got %q", got)
			}
		}
		letter, _ := tokenizer.TokenID("a")
		if got, want := stream.Next(letter), strings.Repeat("\ufffd", count)+"a"; got != want {
			t.Errorf("got %d bytes, want %d", len(got), len(want))
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Errorf("took %v", took)
		}
	}
}

// Behind any prompt, however short, the pieces of a plain stream are the text of the generated ids.
func TestPlainStreamAfterShortPrompts(t *testing.T) {
	data, err := os.ReadFile("../../launcher/demo/model/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	tokenizer := newTokenizer(t, data)
	prompt, err := tokenizer.Encode("One small day was the best", false)
	if err != nil {
		t.Fatal(err)
	}
	generated, err := tokenizer.Encode(" naïve 👩👩 中文 and so on", false)
	if err != nil {
		t.Fatal(err)
	}
	for length := range len(prompt) + 1 {
		stream := tokenizer.NewPlainStream(prompt[:length])
		got := ""
		for _, id := range generated {
			got += stream.Next(id)
		}
		if want := tokenizer.Decode(generated, false); got != want {
			t.Errorf("behind %d ids: got %q, want %q", length, got, want)
		}
	}
}
