package weights_test

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/outside"
	"lockstep/protocol/text"
	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// TestVocabularies has what the reference answers for texts of which the vocabularies of llama.cpp have the ids.
func TestVocabularies(t *testing.T) {
	folder := outside.Cached(t, "get-tokenizers", "tokenizers", "vocabularies")
	for name, want := range map[string]string{"command-r": "gpt2 command-r", "deepseek-coder": "gpt2 deepseek-coder",
		"deepseek-llm": "gpt2 deepseek-llm", "falcon": "gpt2 falcon", "gpt-2": "gpt2 gpt-2", "llama-bpe": "gpt2 llama-bpe",
		"llama-spm": "llama default", "mpt": "gpt2 mpt", "phi-3": "llama default", "qwen2": "gpt2 qwen2", "refact": "gpt2 refact",
		"starcoder": "gpt2 starcoder"} {
		t.Run(name, func(t *testing.T) { checkVocabulary(t, filepath.Join(folder, "ggml-vocab-"+name+".gguf"), want) })
	}
}

func checkVocabulary(t *testing.T, path, kind string) {
	file, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if got := file.Tokenizer.GGUF.Model + " " + file.Tokenizer.GGUF.Pre; got != kind {
		t.Errorf("got a tokenizer %q, want %q", got, kind)
	}
	tokenizer, err := text.New(file.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	var texts, answers []byte
	if texts, err = os.ReadFile(path + ".inp"); err == nil {
		answers, err = os.ReadFile(path + ".out")
	}
	if err != nil {
		t.Fatal(err)
	}
	inputs, lines := strings.Split(string(texts), "\n__ggml_vocab_test__\n"), strings.Split(string(answers), "\n")
	if len(inputs) < 40 || len(inputs) > len(lines) {
		t.Fatalf("%d texts, %d answers", len(inputs), len(lines))
	}
	for i, input := range inputs {
		var want []int32
		for _, field := range strings.Fields(lines[i]) {
			id, err := strconv.Atoi(field)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, int32(id))
		}
		if got, err := tokenizer.Encode(input, false); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %v, %v, want %v", input, got, err, want)
		}
	}
}

// TestTokenizerOfGGUF checks what becomes of keys of the tokenizer, given and absent.
func TestTokenizerOfGGUF(t *testing.T) {
	tokens := []string{"<unk>", "<s>", "</s>", "a"}
	read := func(meta weightstest.Metadata) *protocol.GGUFTokenizer {
		t.Helper()
		meta["tokenizer.ggml.tokens"] = tokens
		m, err := openGGUF(t, weightstest.TinyGGUF(meta, "token_embd.weight"))
		if err != nil {
			t.Fatal(err)
		}
		return m.Tokenizer.GGUF
	}
	scores := []float32{0, 0, 0, -1.5}
	got := read(weightstest.Metadata{"tokenizer.ggml.model": "llama", "tokenizer.ggml.scores": scores,
		"tokenizer.ggml.add_bos_token": false, "tokenizer.ggml.add_space_prefix": true, "tokenizer.ggml.unknown_token_id": uint32(3),
		"tokenizer.ggml.remove_extra_whitespaces": true, "general.name": "Phi-3 Mini"})
	if !slices.Equal(got.Scores, scores) || got.AddBOS == nil || *got.AddBOS || got.AddSpacePrefix == nil || !*got.AddSpacePrefix ||
		got.UnknownTokenID != 3 || !got.RemoveExtraWhitespaces || !got.SpecialsTakeSpaces {
		t.Errorf("got %+v", got)
	}
	if _, err := openGGUF(t, weightstest.TinyGGUF(weightstest.Metadata{"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens,
		"tokenizer.ggml.scores": []float32{0, float32(math.Inf(-1)), 0, 0}}, "token_embd.weight")); err == nil ||
		!strings.Contains(err.Error(), "tokenizer.ggml.scores") || !strings.Contains(err.Error(), "finite") {
		t.Errorf("got %v for a score that is not finite", err)
	}
	got = read(weightstest.Metadata{"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.scores": scores})
	if got.Scores != nil || got.AddBOS != nil || got.AddSpacePrefix != nil || got.BOSTokenID != -1 || got.UnknownTokenID != 0 ||
		got.RemoveExtraWhitespaces || got.SpecialsTakeSpaces {
		t.Errorf("got %+v", got)
	}
}
