package weights_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/weights"
)

// Every encoding of a GGUF file that is served decodes to the values that the reference decoder gives.
func TestDecodeGolden(t *testing.T) {
	folder := outside.Reference(t, "testdata/gguf", "golden", "gguf")
	files, err := filepath.Glob(filepath.Join(folder, "type_*.gguf"))
	if err != nil || len(files) == 0 {
		t.Fatalf("got %d files, %v", len(files), err)
	}
	decoded := map[weights.Encoding]int{}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		stem := strings.TrimSuffix(path, ".gguf")
		for name, tensor := range weights.GGUFTensors(t, data) {
			golden, err := os.ReadFile(stem + "." + name + ".f32")
			if err != nil {
				continue // too large to be in the folder
			}
			var row []float32
			for i := range len(golden) / 4 {
				if i%tensor.Columns == 0 {
					row = tensor.Floats(i/tensor.Columns, row)
				}
				got, want := row[i%tensor.Columns], math.Float32frombits(binary.LittleEndian.Uint32(golden[4*i:]))
				if got != want && (got == got || want == want) {
					t.Fatalf("%s %s: number %d is %v, want %v", path, name, i, got, want)
				}
			}
			decoded[tensor.Encoding] += len(golden) / 4
		}
	}
	for _, e := range weights.Encodings() {
		if decoded[e] == 0 {
			t.Errorf("%v: no reference values found", e)
		}
		t.Logf("%v: %d numbers", e, decoded[e])
	}
}
