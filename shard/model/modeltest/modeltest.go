// Package modeltest gives tests the small reference models of shard/model/testdata, and writes GGUF files.
package modeltest

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/model"
)

// folder is shard/model/testdata, from wherever a test runs.
func folder() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "testdata")
}

// Names lists the reference models.
func Names(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(folder())
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

// Files returns a reference model's files, unpacked, beside a tokenizer.json that says nothing.
func Files(t testing.TB, name string) fstest.MapFS {
	t.Helper()
	dir := Unpacked(t, filepath.Join(folder(), name))
	dir["tokenizer.json"] = &fstest.MapFile{Data: []byte("{}")}
	return dir
}

// Unpacked returns a folder's files, unpacked.
func Unpacked(t testing.TB, path string) fstest.MapFS {
	t.Helper()
	dir := fstest.MapFS{}
	files, err := os.ReadDir(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(filepath.Join(path, file.Name()))
		plain, zipped := strings.CutSuffix(file.Name(), ".gz")
		if err == nil && zipped {
			var reader *gzip.Reader
			if reader, err = gzip.NewReader(bytes.NewReader(data)); err == nil {
				data, err = io.ReadAll(reader)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		dir[plain] = &fstest.MapFile{Data: data}
	}
	return dir
}

// Open opens a reference model and returns its files too.
func Open(t testing.TB, name string) (*model.Model, fstest.MapFS) {
	t.Helper()
	dir := Files(t, name)
	return OpenFS(t, dir), dir
}

// OpenFS opens a model that must be one.
func OpenFS(t testing.TB, dir fstest.MapFS) *model.Model {
	t.Helper()
	m, err := model.OpenFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.Close)
	return m
}

// Cases reads reference cases, one a line.
func Cases[Case any](t testing.TB, data []byte) []Case {
	t.Helper()
	var out []Case
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var c Case
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// Replace changes every file of a directory. Both texts must be equally long where they stand in a safetensors header.
func Replace(dir fstest.MapFS, old, new string) {
	for name, file := range dir {
		dir[name] = &fstest.MapFile{Data: bytes.ReplaceAll(file.Data, []byte(old), []byte(new))}
	}
}
