package text_test

import (
	"math/rand/v2"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"lockstep/router/text"
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
	for _, decoder := range []string{`{"type":"ByteLevel"}`, `null`} {
		tokenizer := newTokenizer(t, tinyJSON(t, map[string]rawJSON{"decoder": rawJSON(decoder)}))
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

// TestStreamHoldsLong checks that text held back for very long costs no more than other text.
func TestStreamHoldsLong(t *testing.T) {
	tokenizer := newTokenizer(t, tinyJSON(t, nil))
	lone, ok := tokenizer.TokenID("Ģ") // the byte 0x80
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
