package weights_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/codes"
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

// Any bytes are numbers: nothing that a block may hold stops its decoding, and a part of a row has the numbers of the whole.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint8(1), uint8(5))
	f.Add([]byte{0xff}, uint8(0), uint8(64))
	f.Add([]byte{0, 0xfc}, uint8(1), uint8(86)) // infinite scales
	f.Fuzz(func(t *testing.T, data []byte, from, to uint8) {
		if len(data) == 0 || from >= to {
			return
		}
		for _, e := range weights.Encodings() {
			columns := max(e.BlockColumns(), 256)
			row := bytes.Repeat(data, e.RowBytes(columns)/len(data)+1)[:e.RowBytes(columns)]
			whole := make([]float32, columns)
			e.Decode(whole, row)
			tensor := weights.NewTensor(e, 1, columns, row)
			if tensor.Scheme() == nil {
				continue
			}
			var part codes.Row
			tensor.Codes(&part, 0, int(from), int(to))
			values := make([]float32, to-from)
			tensor.Scheme().Values(values, &part, int(from))
			for i, v := range values {
				if want := whole[int(from)+i]; math.Float32bits(v) != math.Float32bits(want) && (v == v || want == want) {
					t.Fatalf("%v: column %d of [%d, %d) is %v, want %v", e, int(from)+i, from, to, v, want)
				}
			}
		}
	})
}
