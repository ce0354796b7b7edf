package masks_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/protocol/guide/cases"
	"lockstep/protocol/outside"
	"lockstep/protocol/text"
	"lockstep/shard/masks"
	"lockstep/shard/sample"
)

// maskCase is a text so far, and what may follow it.
type maskCase struct {
	ID, Case, Tokenizer string
	Tokens              []int32
	EOS                 []int32 `json:"eos_ids"`
	Size                int     `json:"n_vocab"`
	Complete            bool
	Count               int
	SHA256              string
}

// TestGolden compares masks with those of an acceptor written separately, token by token. With LOCKSTEP_GOLDEN_OUT set to a file it writes
// its answers there as check_guided.py reads them.
func TestGolden(t *testing.T) {
	sources := map[string]guide.Source{}
	for _, file := range []string{"schema_cases.jsonl", "regex_cases.jsonl", "ebnf_cases.jsonl"} {
		for _, c := range outside.Lines[cases.Case](t, outside.Shared(t, "golden", "guided", file)) {
			sources[c.ID] = c.Source()
		}
	}
	vocabularies := map[string]*masks.Vocabulary{}
	guides := map[[2]string]*masks.Guide{}
	var answers []map[string]any
	for _, c := range outside.Lines[maskCase](t, outside.Shared(t, "golden", "guided", "mask_cases.jsonl")) {
		v := vocabularies[c.Tokenizer]
		if v == nil {
			v = vocabularyOf(t, c.Tokenizer, c.Size, c.EOS)
			vocabularies[c.Tokenizer] = v
		}
		key := [2]string{c.Tokenizer, c.Case}
		if guides[key] == nil {
			program, err := guide.Compile(sources[c.Case])
			if err != nil {
				t.Errorf("%s: %v", c.ID, err)
				continue
			}
			guides[key] = masks.New(v, program)
		}
		var place masks.Place
		mask, err := guides[key].Mask(&place, c.Tokens)
		if err != nil {
			t.Errorf("%s: %v", c.ID, err)
			continue
		}
		count, sum := fingerprint(mask, c.Size)
		if count != c.Count || sum != c.SHA256 {
			t.Errorf("%s: %d tokens allowed, want %d (%s, want %s)", c.ID, count, c.Count, sum, c.SHA256)
		}
		complete := slices.ContainsFunc(c.EOS, mask.Has)
		if complete != c.Complete {
			t.Errorf("%s: complete %v, want %v", c.ID, complete, c.Complete)
		}
		answers = append(answers, map[string]any{"id": c.ID, "count": count, "sha256": sum, "complete": complete})
	}
	outside.WriteAnswers(t, answers)
}

// fingerprint counts the tokens of a mask, and sums them up in order.
func fingerprint(mask *sample.Mask, size int) (count int, sum string) {
	var data []byte
	for id := range int32(size) {
		if mask.Has(id) {
			count++
			data = binary.LittleEndian.AppendUint32(data, uint32(id))
		}
	}
	hash := sha256.Sum256(data)
	return count, hex.EncodeToString(hash[:])
}

// vocabularyOf is that of a tokenizer of the reference data, of what scripts/get-tokenizers brings, or of the demo model.
func vocabularyOf(t testing.TB, name string, size int, ends []int32) *masks.Vocabulary {
	t.Helper()
	tokenizer := tokenizerOf(t, name)
	return masks.NewVocabulary(size, func(id int32) string {
		if tokenizer.IsSpecial(id) {
			return ""
		}
		return tokenizer.Bytes(id)
	}, ends)
}

func tokenizerOf(t testing.TB, name string) *text.Tokenizer {
	t.Helper()
	tokenizer, err := text.New(protocol.TokenizerSource{HuggingFace: tokenizerJSON(t, name)})
	if err != nil {
		t.Fatal(err)
	}
	return tokenizer
}

func tokenizerJSON(t testing.TB, name string) []byte {
	t.Helper()
	path := filepath.Join("..", "..", "launcher", "demo", "model", "tokenizer.json")
	if name != "demo" {
		packed := filepath.Join(outside.Shared(t, "golden", "tokenizers", name), "tokenizer.json.xz")
		if _, err := os.Stat(packed); err == nil {
			data, err := exec.Command(outside.Tool(t, "xz"), "-dc", packed).Output()
			if err != nil {
				t.Fatal(err)
			}
			return data
		}
		path = outside.Cached(t, "get-tokenizers", "tokenizers", name+".json")
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
