package weights

import (
	"encoding/binary"
	"math"
	"testing"
)

// ParseGGUF reads a GGUF file that is in memory.
func ParseGGUF(data []byte) error {
	return (&Files{}).openGGUF("m.gguf", func(string) ([]byte, error) { return data, nil })
}

// SplitGGUF cuts a GGUF file as llama.cpp's gguf-split does: part i has the next counts[i] tensors, the first one also
// the metadata.
func SplitGGUF(data []byte, counts []int) (parts [][]byte) {
	whole, err := readGGUF(data)
	if err != nil {
		panic(err)
	}
	header := &ggufReader{data: data, at: 8}
	_, pairs := header.u64(), header.u64()
	from := header.at
	for range pairs {
		header.text()
		header.value(header.u32())
	}
	little, rest := binary.LittleEndian, whole.tensors
	for number, count := range counts {
		out := little.AppendUint32([]byte("GGUF"), 3)
		out = little.AppendUint64(out, uint64(count))
		metadata := data[from:header.at]
		if number > 0 {
			metadata, pairs = nil, 0
		}
		out = little.AppendUint64(out, pairs+3)
		out = append(out, metadata...)
		for _, pair := range []struct {
			key   string
			kind  uint32
			value int
		}{{"split.no", 2, number}, {"split.count", 2, len(counts)}, {"split.tensors.count", 5, len(whole.tensors)}} {
			out = append(little.AppendUint64(out, uint64(len(pair.key))), pair.key...)
			out = little.AppendUint32(out, pair.kind)
			if pair.kind == 2 {
				out = little.AppendUint16(out, uint16(pair.value))
			} else {
				out = little.AppendUint32(out, uint32(pair.value))
			}
		}
		var payload []byte
		for _, t := range rest[:count] {
			out = append(little.AppendUint64(out, uint64(len(t.name))), t.name...)
			out = little.AppendUint32(out, uint32(len(t.dimensions)))
			for _, d := range t.dimensions {
				out = little.AppendUint64(out, d)
			}
			out = little.AppendUint64(little.AppendUint32(out, t.kind), uint64(len(payload)))
			tensor, err := t.tensor()
			if err != nil {
				panic(err)
			}
			payload = append(payload, whole.payload[t.offset:][:tensor.Rows*tensor.Encoding.RowBytes(tensor.Columns)]...)
			payload = append(payload, make([]byte, -len(payload)&31)...)
		}
		rest = rest[count:]
		out = append(out, make([]byte, -len(out)&31)...)
		parts = append(parts, append(out, payload...))
	}
	return parts
}

// TensorCount counts the tensors of a GGUF file.
func TensorCount(data []byte) int {
	file, err := readGGUF(data)
	if err != nil {
		return math.MinInt
	}
	return len(file.tensors)
}

// GGUFTensors returns the tensors of a GGUF file in encodings that are served, by the file's names for them.
func GGUFTensors(t *testing.T, data []byte) map[string]Tensor {
	t.Helper()
	file, err := readGGUF(data)
	if err != nil {
		t.Fatal(err)
	}
	tensors := map[string]Tensor{}
	for _, entry := range file.tensors {
		if tensor, err := entry.tensor(); err == nil {
			tensor.data = file.payload[entry.offset:]
			tensors[entry.name] = tensor
		}
	}
	return tensors
}

// Encodings lists all.
func Encodings() (all []Encoding) {
	for e := range encodings[:Quantised] {
		all = append(all, Encoding(e))
	}
	return all
}

// NewTensor returns a tensor of these bytes.
func NewTensor(e Encoding, rows, columns int, data []byte) Tensor {
	return Tensor{Encoding: e, Rows: rows, Columns: columns, data: data}
}
