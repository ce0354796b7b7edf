package weights_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// tinyGGUF is a file of an untied head and two more tensors, each with values of its own.
func tinyGGUF() []byte {
	return weightstest.TinyGGUF(weightstest.Metadata{}, "token_embd.weight", "blk.0.attn_q.weight", "output.weight")
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

// equal finds the first difference of two models' tensors.
func equal(t *testing.T, got, want *weights.Files) {
	t.Helper()
	if got.Fingerprint(nil) != want.Fingerprint(nil) || fmt.Sprint(got.Names()) != fmt.Sprint(want.Names()) {
		t.Errorf("got %v, want %v", got.Names(), want.Names())
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
		if !got.Has("output.weight") {
			t.Errorf("%v: the head is gone", counts)
		}
		got.Close()
	}
}

// The same for the real model, where scripts/get-model has brought it.
func TestGGUFPartsOfTheRealModel(t *testing.T) {
	data, err := os.ReadFile(outside.Cached(t, "get-model", "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if err != nil {
		t.Fatal(err)
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
			os.WriteFile(paths[0], weightstest.TinyGGUF(nil, "token_embd.weight"), 0o600)
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

// Directories whose files do not all lie there are refused, and the error names what is missing.
func TestDirectoriesThatAreNotWhole(t *testing.T) {
	tensor := func(name string) []byte {
		return weightstest.Safetensors(`{"`+name+`":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`, 24)
	}
	const index = "model.safetensors.index.json"
	two := []byte(`{"weight_map":{"a":"model-00001-of-00002.safetensors","b":"model-00002-of-00002.safetensors"}}`)
	for name, c := range map[string]struct {
		files map[string][]byte
		want  string // "": it is opened
	}{
		"whole": {map[string][]byte{index: two, "model-00001-of-00002.safetensors": tensor("a"),
			"model-00002-of-00002.safetensors": tensor("b")}, ""},
		"file of the index": {map[string][]byte{index: two, "model-00001-of-00002.safetensors": tensor("a")},
			"model-00002-of-00002.safetensors is missing, which model.safetensors.index.json names"},
		"tensor of the index": {map[string][]byte{index: two, "model-00001-of-00002.safetensors": tensor("a"),
			"model-00002-of-00002.safetensors": tensor("c")},
			"model-00002-of-00002.safetensors: tensor b is missing, which model.safetensors.index.json promises"},
		"index of other names": {map[string][]byte{index: two, "m.safetensors": tensor("a")},
			"model-00001-of-00002.safetensors is missing, which " + index +
				" names: fetch all files of the model; or, if m.safetensors holds all of it, take the index away"},
		"index of one too many": {map[string][]byte{index: two, "model-00001-of-00002.safetensors": tensor("a"),
			"model-00002-of-00002.safetensors": tensor("c")}, "if the file is whole without it, take the index away"},
		"a copy beside": {map[string][]byte{"m.safetensors": tensor("a"), "n.safetensors": tensor("a")},
			"n.safetensors: tensor a is there twice: take away the file"},
		"no index, names tell": {map[string][]byte{"model-00001-of-00002.safetensors": tensor("a")},
			"model-00002-of-00002.safetensors is missing, of which the name of model-00001-of-00002.safetensors tells"},
		"no index, whole": {map[string][]byte{"model-00001-of-00002.safetensors": tensor("a"),
			"model-00002-of-00002.safetensors": tensor("b")}, ""},
		"no index, other names":  {map[string][]byte{"weights.safetensors": tensor("a")}, ""},
		"empty index":            {map[string][]byte{index: []byte(`{}`)}, "no weight_map"},
		"one file beside others": {map[string][]byte{index: two, "model.safetensors": tensor("a")}, ""}, // as the reference does
	} {
		m, err := weights.OpenFS(weightstest.Directory(weightstest.Config, c.files))
		if c.want == "" && (err != nil || !m.Has("a")) {
			t.Errorf("%s: got error %v", name, err)
		}
		if c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
}
