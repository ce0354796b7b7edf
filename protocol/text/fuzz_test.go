package text_test

import (
	"encoding/json"
	"slices"
	"testing"
	"unicode/utf8"

	"lockstep/protocol"
	"lockstep/protocol/text"
)

type rawJSON = json.RawMessage

// FuzzNew feeds New malformed files; what it accepts must encode and decode without a panic.
func FuzzNew(f *testing.F) {
	f.Add(tinyJSON(f, nil))
	f.Add([]byte(`{"model":{"vocab":{"a":0,"b":1,"ab":2},"merges":["a b",["a","b"]]},"pre_tokenizer":{"type":"ByteLevel"}}`))
	f.Add([]byte(`{"model":{"vocab":{"":0},"merges":[" "],"unk_token":""},"pre_tokenizer":{"type":"ByteLevel"},` +
		`"added_tokens":[{"id":1,"content":" ","rstrip":true,"lstrip":true,"normalized":true}],"normalizer":{"type":"NFC"}}`))
	f.Add(sentenceJSON(f, nil))
	f.Add([]byte(`{"model":{"vocab":{"<unk>":0,"▁":1,"a":2,"▁a":3,"<0x20>":4},"merges":["▁ a"],"unk_token":"<unk>","fuse_unk":true,` +
		`"byte_fallback":true},"pre_tokenizer":{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"},` +
		`"decoder":{"type":"Metaspace","replacement":"▁"},"normalizer":{"type":"Replace","pattern":{"String":"e"},"content":""}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		tokenizer, err := text.New(protocol.TokenizerSource{HuggingFace: data})
		if err != nil {
			return
		}
		encoding, err := tokenizer.EncodeOffsets("ab  <|user|>'s é e\u0301 12 \n", true)
		if err != nil {
			return
		}
		if len(encoding.IDs) != len(encoding.Offsets) {
			t.Errorf("got %d ids, but %d offsets", len(encoding.IDs), len(encoding.Offsets))
		}
		tokenizer.Decode(encoding.IDs, true)
	})
}

// FuzzGGUF is FuzzNew for what GGUF files say.
func FuzzGGUF(f *testing.F) {
	for _, source := range []*protocol.GGUFTokenizer{tinyGGUF(f, "deepseek-v3"),
		{Model: "llama", Tokens: []string{"<unk>", "a", "aé", "▁", "<0xC3>", "<s>"}, TokenTypes: []int32{2, 1, 1, 1, 6, 3},
			Scores: []float32{0, -1, -2, -2, 0, 0}, BOSTokenID: -1, EOSTokenID: 2, AddEOS: true, RemoveExtraWhitespaces: true}} {
		data, err := json.Marshal(source)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		source := new(protocol.GGUFTokenizer)
		if json.Unmarshal(data, source) != nil {
			return
		}
		tokenizer, err := text.New(protocol.TokenizerSource{GGUF: source})
		if err != nil {
			return
		}
		encoding, err := tokenizer.EncodeOffsets("ab  <s>'s é e\u0301 12 \n", true)
		if err != nil {
			return
		}
		if len(encoding.IDs) != len(encoding.Offsets) {
			t.Errorf("got %d ids, but %d offsets", len(encoding.IDs), len(encoding.Offsets))
		}
		tokenizer.Decode(encoding.IDs, true)
	})
}

// FuzzEncode checks texts of any bytes: with and without offsets gives the same ids, which decode to the text.
func FuzzEncode(f *testing.F) {
	for _, seed := range []string{"", "a", benchText(500), "\xff\xe4", "e\u0301\u0323", "<|user|> 'ſ", " \n\r\t\u3000x"} {
		f.Add(seed)
	}
	plain := newTokenizer(f, tinyJSON(f, nil))
	composing := newTokenizer(f, tinyJSON(f, map[string]rawJSON{
		"normalizer":    rawJSON(`{"type":"NFC"}`),
		"pre_tokenizer": rawJSON(`{"type":"ByteLevel","add_prefix_space":true}`),
	}))
	sentence := newTokenizer(f, sentenceJSON(f, nil))
	first := newTokenizer(f, sentenceJSON(f, map[string]rawJSON{
		"normalizer":    rawJSON(`{"type":"Replace","pattern":{"String":"in"},"content":"xyz"}`),
		"pre_tokenizer": rawJSON(`{"type":"Metaspace","replacement":"▁","prepend_scheme":"first"}`),
	}))
	f.Fuzz(func(t *testing.T, input string) {
		for _, tokenizer := range []*text.Tokenizer{plain, composing, sentence, first} {
			encoding, err := tokenizer.EncodeOffsets(input, true)
			if err != nil {
				t.Fatal(err)
			}
			if ids, _ := tokenizer.Encode(input, true); !slices.Equal(ids, encoding.IDs) {
				t.Errorf("%q: got %v without offsets, %v with", input, ids, encoding.IDs)
			}
		}
		if utf8.ValidString(input) {
			checkRoundTrip(t, plain, input)
			checkSentenceRoundTrip(t, sentence, input)
		}
	})
}

// FuzzDecode checks that a stream shows what the plain method does, whatever the ids.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 2, 200, 201, 40})
	f.Add([]byte{3, 0, 233, 89, 178, 5, 250, 199, 73, 159, 150})
	tokenizers := []*text.Tokenizer{newTokenizer(f, tinyJSON(f, nil)), newTokenizer(f, sentenceJSON(f, nil))}
	f.Fuzz(func(t *testing.T, data []byte) {
		ids := make([]int32, 0, len(data))
		for i, b := range data {
			ids = append(ids, int32(b)+int32(i%2)*100-2)
		}
		for _, tokenizer := range tokenizers {
			if got := tokenizer.Decode(ids, len(ids)%2 == 1); !utf8.ValidString(got) {
				t.Errorf("%v: got %q", ids, got)
			}
			prompt := len(ids) / 4
			plain := plainStream{tokenizer, slices.Clone(ids[:prompt]), prompt - 5, prompt}
			stream := tokenizer.NewStream(ids[:prompt])
			for _, id := range ids[prompt:] {
				want, held := plain.next(id)
				if got := stream.Next(id); got != want || !utf8.ValidString(got) || stream.Held() != held {
					t.Fatalf("%v: got %q and %q held, want %q and %q", ids, got, stream.Held(), want, held)
				}
			}
		}
	})
}
