package weights_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// mappedKilobytes is how much of a mapped file is in this process's memory.
func mappedKilobytes(t *testing.T, path string) (kilobytes int) {
	t.Helper()
	maps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	_, entry, found := strings.Cut(string(maps), path)
	if !found {
		t.Fatalf("%s is not mapped", path)
	}
	_, entry, _ = strings.Cut(entry, "\nRss:")
	if _, err := fmt.Sscan(entry, &kilobytes); err != nil {
		t.Fatal(err)
	}
	return kilobytes
}

// What was read of a mapped file is given back, and can be read again; of what is in other memory nothing is lost either.
func TestRelease(t *testing.T) {
	const rows, columns = 512, 1024
	data := weightstest.Safetensors(fmt.Sprintf(`{"a":{"dtype":"F32","shape":[%d,%d],"data_offsets":[0,%d]}}`, rows, columns,
		4*rows*columns), 4*rows*columns)
	for i := len(data) - 4*rows*columns; i < len(data); i++ {
		data[i] = byte(i * 7 >> 3)
	}
	files := weightstest.Directory(weightstest.Config, map[string][]byte{"model.safetensors": data})
	dir := t.TempDir()
	for name, file := range files {
		if err := os.WriteFile(filepath.Join(dir, name), file.Data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	read := func(tensor weights.Tensor) (all []byte) {
		for row := range rows {
			all = append(all, tensor.Row(row)...)
		}
		return all
	}
	mapped, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer mapped.Close()
	inMemory, err := weights.OpenFS(files)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]*weights.Files{"mapped": mapped, "in memory": inMemory} {
		tensor, err := m.Tensor("a", rows, columns)
		if err != nil {
			t.Fatal(err)
		}
		first := tensor.Row(0)
		want := read(tensor)
		path := filepath.Join(dir, "model.safetensors")
		if name == "mapped" && mappedKilobytes(t, path) < 4*rows*columns>>10 {
			t.Errorf("only %d KB are mapped of what was read", mappedKilobytes(t, path))
		}
		tensor.Release()
		tensor.As(weights.Q8_0).Release()                      // of what it is made from
		if name == "mapped" && mappedKilobytes(t, path) > 64 { // the header's pages, and what the kernel maps around them
			t.Errorf("%d KB are still there", mappedKilobytes(t, path))
		}
		if got := read(tensor); !bytes.Equal(got, want) || !bytes.Equal(first, want[:len(first)]) ||
			bytes.Equal(want, make([]byte, len(want))) {
			t.Errorf("%s: other bytes are read behind Release", name)
		}
	}
}
