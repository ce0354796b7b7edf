package cpu_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/cpu"
)

// ggufTensor is one tensor of a GGUF file: data is everything from its start.
type ggufTensor struct {
	columns, rows int
	data          []byte
}

// ggufTensors reads just enough of a trusted GGUF file to find its tensors.
func ggufTensors(file []byte) map[string]ggufTensor {
	at := 8
	u32 := func() int { at += 4; return int(binary.LittleEndian.Uint32(file[at-4:])) }
	u64 := func() int { at += 8; return int(binary.LittleEndian.Uint64(file[at-8:])) }
	text := func() string { n := u64(); at += n; return string(file[at-n : at]) }
	sizes := [...]int{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8}
	var skip func(kind int)
	skip = func(kind int) {
		switch kind {
		case 8:
			text()
		case 9:
			kind = u32()
			for range u64() {
				skip(kind)
			}
		default:
			at += sizes[kind]
		}
	}
	tensors, pairs, alignment := u64(), u64(), 32
	for range pairs {
		key, kind := text(), u32()
		if key == "general.alignment" {
			alignment = u32()
			continue
		}
		skip(kind)
	}
	out, offsets := map[string]ggufTensor{}, map[string]int{}
	for range tensors {
		name, dims := text(), u32()
		tensor := ggufTensor{rows: 1}
		for i := range dims {
			if n := u64(); i == 0 {
				tensor.columns = n
			} else {
				tensor.rows *= n
			}
		}
		u32()
		out[name], offsets[name] = tensor, u64()
	}
	base := (at + alignment - 1) / alignment * alignment
	for name, tensor := range out {
		tensor.data = file[base+offsets[name]:]
		out[name] = tensor
	}
	return out
}

// TestGolden compares packed weights with values that the reference decoder of
// GGUF gave.
func TestGolden(t *testing.T) {
	folder := outside.Reference(t, "../weights/testdata/gguf", "golden", "gguf")
	for _, f := range allFormats {
		if f == cpu.BF16Dot { // as BF16
			continue
		}
		prefix := "type_" + strings.ToLower(f.String())
		file, err := os.ReadFile(filepath.Join(folder, prefix+".gguf"))
		if err != nil {
			t.Fatal(err)
		}
		compared := 0
		for name, tensor := range ggufTensors(file) {
			golden, err := os.ReadFile(filepath.Join(folder, prefix+"."+name+".f32"))
			if err != nil {
				continue
			}
			bytes := f.RowBytes(tensor.columns)
			rows := make([][]byte, tensor.rows)
			for r := range rows {
				rows[r] = tensor.data[r*bytes:][:bytes]
			}
			m := pack(t, f, tensor.rows, tensor.columns, 1, rows)
			for i := range len(golden) / 4 {
				want := math.Float32frombits(binary.LittleEndian.Uint32(golden[i*4:]))
				got := m.At(i/tensor.columns, i%tensor.columns)
				if got != want && (got == got || want == want) {
					t.Fatalf("%v %s: weight %d is %v, want %v", f, name, i, got, want)
				}
				compared++
			}
		}
		if compared == 0 {
			t.Errorf("%v: no golden tensor found in the file", f)
		}
		t.Logf("%v: %d weights", f, compared)
	}
}
