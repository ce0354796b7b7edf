package weights_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/shard/weights"
)

// tinyGGUF is a file of an untied head and two more tensors, each with values of its own.
func tinyGGUF() []byte {
	return ggufOf(ggufMeta{}, "token_embd.weight", "blk.0.attn_q.weight", "output.weight")
}

// ggufMeta are pairs of metadata.
type ggufMeta map[string]any

// ggufOf writes a little-endian version 3 file of 4 x 4 tensors of float32, with the smallest configuration that is taken
// and the metadata given.
func ggufOf(more ggufMeta, tensors ...string) []byte {
	var b bytes.Buffer
	put := func(v any) { binary.Write(&b, binary.LittleEndian, v) }
	text := func(s string) { put(uint64(len(s))); b.WriteString(s) }
	meta := ggufMeta{"general.architecture": "llama", "llama.embedding_length": uint32(4), "llama.feed_forward_length": uint32(4), "llama.block_count": uint32(1),
		"llama.attention.head_count": uint32(1), "llama.context_length": uint32(16), "llama.vocab_size": uint32(4)}
	for key, value := range more {
		meta[key] = value
	}
	b.WriteString("GGUF")
	put(uint32(3))
	put(uint64(len(tensors)))
	put(uint64(len(meta)))
	for key, value := range meta {
		text(key)
		switch v := value.(type) {
		case string:
			put(uint32(8))
			text(v)
		case uint32:
			put(uint32(4))
			put(v)
		case []string:
			put(uint32(9))
			put(uint32(8))
			put(uint64(len(v)))
			for _, s := range v {
				text(s)
			}
		case int32:
			put(uint32(5))
			put(v)
		case uint64:
			put(uint32(10))
			put(v)
		case bool:
			put(uint32(7))
			put(v)
		case float32:
			put(uint32(6))
			put(v)
		case []int32:
			put(uint32(9))
			put(uint32(5))
			put(uint64(len(v)))
			put(v)
		}
	}
	for i, tensor := range tensors {
		text(tensor)
		put(uint32(2))
		put(uint64(4))
		put(uint64(4))
		put(uint32(0))
		put(uint64(64 * i))
	}
	for b.Len()%32 != 0 {
		b.WriteByte(0)
	}
	for i := range 16 * len(tensors) {
		put(float32(i))
	}
	return b.Bytes()
}

// parts writes a file's parts as gguf-split names them and returns their paths.
func parts(t *testing.T, data []byte, counts ...int) (paths []string) {
	t.Helper()
	folder := t.TempDir()
	for i, part := range weights.SplitGGUF(data, counts) {
		path := filepath.Join(folder, fmt.Sprintf("tiny-%05d-of-%05d.gguf", i+1, len(counts)))
		if err := os.WriteFile(path, part, 0o600); err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	return paths
}

// equal finds the first difference of two models' configurations and tensors.
func equal(t *testing.T, got, want *weights.Model) {
	t.Helper()
	if got.Fingerprint() != want.Fingerprint() || fmt.Sprint(got.Names()) != fmt.Sprint(want.Names()) {
		t.Errorf("got %+v with %v, want %+v with %v", got.Config, got.Names(), want.Config, want.Names())
	}
	for _, name := range want.Names() {
		rows, columns := want.Size(name)
		a, errA := got.Tensor(name, rows, columns)
		b, errB := want.Tensor(name, rows, columns)
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		for row := range rows {
			if !bytes.Equal(a.Row(row), b.Row(row)) {
				t.Fatalf("%s differs in row %d", name, row)
			}
		}
	}
}

// A model in parts is the model in one file, however it is cut.
func TestGGUFPartsAreTheWhole(t *testing.T) {
	data := tinyGGUF()
	want, err := openGGUF(t, data)
	if err != nil {
		t.Fatal(err)
	}
	for _, counts := range [][]int{{2, 1}, {0, 3}, {1, 1, 1}, {3}} {
		got, err := weights.Open(parts(t, data, counts...)[0])
		if err != nil {
			t.Fatal(counts, err)
		}
		equal(t, got, want)
		if got.Config.TiedHead {
			t.Errorf("%v: the head is tied, though it is there", counts)
		}
		got.Close()
	}
}

// The same for the real model, where scripts/get-model has brought it.
func TestGGUFPartsOfTheRealModel(t *testing.T) {
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skip(err)
	}
	data, err := os.ReadFile(filepath.Join(cache, "lockstep", "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		t.Skip(err)
	}
	want, err := openGGUF(t, data)
	if err != nil {
		t.Fatal(err)
	}
	count := weights.TensorCount(data)
	got, err := weights.Open(parts(t, data, count/2, count-count/2)[0])
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	equal(t, got, want)
}

// What is not whole is refused, and the error names what is missing.
func TestGGUFPartsThatAreNotWhole(t *testing.T) {
	data := tinyGGUF()
	for name, test := range map[string]struct {
		prepare func(paths []string) string // returns what is opened
		want    []string
	}{
		"the second part is missing": {func(paths []string) string { os.Remove(paths[1]); return paths[0] },
			[]string{"tiny-00002-of-00002.gguf, part 2 of 2 of the model, is missing", "one directory"}},
		"the second part is opened": {func(paths []string) string { return paths[1] },
			[]string{"tiny-00002-of-00002.gguf is part 2 of 2: serve ", "tiny-00001-of-00002.gguf"}},
		"another name": {func(paths []string) string {
			renamed := filepath.Join(filepath.Dir(paths[0]), "m.gguf")
			os.Rename(paths[0], renamed)
			return renamed
		}, []string{"m.gguf is the first of 2 parts", "-00001-of-00002.gguf", "rename it"}},
		"the first part twice": {func(paths []string) string {
			first, _ := os.ReadFile(paths[0])
			os.WriteFile(paths[1], first, 0o600)
			return paths[0]
		}, []string{"tiny-00002-of-00002.gguf says of itself that it is part 1 of 2"}},
		"a part of another model": {func(paths []string) string {
			other := weights.SplitGGUF(data, []int{1, 2})
			os.WriteFile(paths[1], other[1], 0o600)
			return paths[0]
		}, []string{"its 2 parts have 4 tensors, and split.tensors.count says 3"}},
		"a part that is cut off": {func(paths []string) string {
			second, _ := os.ReadFile(paths[1])
			os.WriteFile(paths[1], second[:len(second)-1], 0o600)
			return paths[0]
		}, []string{"lies outside the file", "fetch it anew"}},
		"only the name tells of parts": {func(paths []string) string {
			os.WriteFile(paths[0], ggufOf(nil, "token_embd.weight"), 0o600)
			return paths[0]
		}, []string{"its name says that it is part 1 of 2", "lacks output.weight"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := weights.Open(test.prepare(parts(t, data, 2, 1)))
			for _, want := range test.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got error %v, want one with %q", err, want)
				}
			}
		})
	}
}

// Metadata that cannot be believed are never taken for none: a file that tells of more than it holds would be served with a
// tied head, and one whose rotation is a text with the usual one.
func TestGGUFMetadataThatCannotBe(t *testing.T) {
	for name, c := range map[string]struct {
		meta ggufMeta
		want string // "": it is opened
	}{
		"one part, tensors missing": {ggufMeta{"split.count": uint32(1), "split.tensors.count": int32(2)}, "m.gguf has 1 tensors, and its split.tensors.count says 2"},
		"no parts, tensors missing": {ggufMeta{"split.tensors.count": int32(2)}, "split.tensors.count says 2"},
		"no parts, none counted":    {ggufMeta{"split.tensors.count": int32(0)}, "split.tensors.count says 0"},
		"whole":                     {ggufMeta{"split.count": uint32(1), "split.tensors.count": uint64(1)}, ""},
		"count of parts as a text":  {ggufMeta{"split.count": "2"}, `split.count is the text "2", and a whole number`},
		"tensors as a text":         {ggufMeta{"split.tensors.count": "2"}, "split.tensors.count is the text"},
		"number as a fraction":      {ggufMeta{"split.no": float32(0.5)}, "split.no is 0.5, and a whole number"},
		"negative count of parts":   {ggufMeta{"split.count": int32(-1)}, "split.count is -1"},
		"a count beyond all":        {ggufMeta{"split.count": uint64(1 << 63)}, "split.count is -"},
		"another part alone":        {ggufMeta{"split.no": uint32(1)}, "it is part 2 (split.no)"},
		"rotation as a text":        {ggufMeta{"llama.rope.freq_base": "500000"}, `llama.rope.freq_base is the text "500000", and a number`},
		"epsilon as a truth":        {ggufMeta{"llama.attention.layer_norm_rms_epsilon": true}, "rms_epsilon is true, and a number"},
		"experts as a text":         {ggufMeta{"llama.expert_count": "8"}, "llama.expert_count is the text"},
		"KV heads of each layer":    {ggufMeta{"llama.attention.head_count_kv": []int32{1}}, "head_count_kv is a list of numbers, and a whole number"},
		"scaling as a number":       {ggufMeta{"llama.rope.scaling.type": uint32(2)}, "rope.scaling.type is 2, and a text"},
		"BOS as a number":           {ggufMeta{"tokenizer.ggml.add_bos_token": uint32(1)}, "add_bos_token is 1, and true or false"},
		"end as a text":             {ggufMeta{"tokenizer.ggml.eos_token_id": "</s>"}, `eos_token_id is the text "</s>", and the id of a token`},
		"types as texts":            {ggufMeta{"tokenizer.ggml.token_type": []string{"3"}}, "token_type is a list of texts, and a list of numbers"},
		"what is not read":          {ggufMeta{"general.name": uint32(1)}, ""},
	} {
		_, err := openGGUF(t, ggufOf(c.meta, "token_embd.weight"))
		if (c.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want %q", name, err, c.want)
		}
	}
	twice := bytes.Replace(ggufOf(ggufMeta{"llama.block_bount": uint32(2)}, "token_embd.weight"), []byte("llama.block_bount"), []byte("llama.block_count"), 1)
	if _, err := openGGUF(t, twice); err == nil || !strings.Contains(err.Error(), "llama.block_count twice") {
		t.Errorf("got error %v", err)
	}
	nested := ggufOf(ggufMeta{"a": "12345678"}, "token_embd.weight")
	at := bytes.Index(nested, []byte("12345678")) - 12 // its type, length and bytes become an array of arrays
	copy(nested[at:], []byte{9, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0})
	if _, err := openGGUF(t, nested); err == nil || !strings.Contains(err.Error(), "array of arrays") {
		t.Errorf("got error %v", err)
	}
}

// A single GGUF file without a head is how that format says that the head is tied.
func TestGGUFWithoutHead(t *testing.T) {
	m, err := openGGUF(t, ggufOf(nil, "token_embd.weight"))
	if err != nil {
		t.Fatal(err)
	}
	if !m.Config.TiedHead {
		t.Error("the head is not tied")
	}
}

// Directories whose files do not all lie there are refused, and the error names what is missing.
func TestDirectoriesThatAreNotWhole(t *testing.T) {
	tensor := func(name string) []byte {
		return safetensors(`{"`+name+`":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`, 24)
	}
	const index = "model.safetensors.index.json"
	two := []byte(`{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`)
	for name, c := range map[string]struct {
		files map[string][]byte
		want  string // "": it is opened
	}{
		"whole":                  {map[string][]byte{index: two, "model-00001-of-00002.safetensors": tensor("a"), "model-00002-of-00002.safetensors": tensor("b")}, ""},
		"file of the index":      {map[string][]byte{index: two, "model-00001-of-00002.safetensors": tensor("a")}, "model-00002-of-00002.safetensors is missing, which model.safetensors.index.json names"},
		"tensor of the index":    {map[string][]byte{index: two, "model-00001-of-00002.safetensors": tensor("a"), "model-00002-of-00002.safetensors": tensor("c")}, "model-00002-of-00002.safetensors: tensor b is missing, which model.safetensors.index.json promises"},
		"index of other names":   {map[string][]byte{index: two, "m.safetensors": tensor("a")}, "model-00001-of-00002.safetensors is missing, which " + index + " names: fetch all files of the model; or, if m.safetensors holds all of it, take the index away"},
		"index of one too many":  {map[string][]byte{index: two, "model-00001-of-00002.safetensors": tensor("a"), "model-00002-of-00002.safetensors": tensor("c")}, "if the file is whole without it, take the index away"},
		"a copy beside":          {map[string][]byte{"m.safetensors": tensor("a"), "n.safetensors": tensor("a")}, "n.safetensors: tensor a is there twice: take away the file"},
		"no index, names tell":   {map[string][]byte{"model-00001-of-00002.safetensors": tensor("a")}, "model-00002-of-00002.safetensors is missing, of which the name of model-00001-of-00002.safetensors tells"},
		"no index, whole":        {map[string][]byte{"model-00001-of-00002.safetensors": tensor("a"), "model-00002-of-00002.safetensors": tensor("b")}, ""},
		"no index, other names":  {map[string][]byte{"weights.safetensors": tensor("a")}, ""},
		"empty index":            {map[string][]byte{index: []byte(`{}`)}, "no weight_map"},
		"one file beside others": {map[string][]byte{index: two, "model.safetensors": tensor("a")}, ""}, // as the reference does
	} {
		m, err := weights.OpenFS(directory(config, c.files))
		if c.want == "" && (err != nil || !m.Has("a")) {
			t.Errorf("%s: got error %v", name, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
}
