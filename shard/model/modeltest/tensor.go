package modeltest

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/shard/half"
	"lockstep/shard/weights/weightstest"
)

// tensor is a tensor of a safetensors file; cell is the size in bytes of what its last dimension counts.
type tensor struct {
	kind  string
	shape []int
	cell  int
	data  []byte
}

// tensorsOf reads the safetensors files of a directory.
func tensorsOf(t testing.TB, dir fstest.MapFS) map[string]tensor {
	t.Helper()
	all := map[string]tensor{}
	for name, file := range dir {
		if !strings.HasSuffix(name, ".safetensors") {
			continue
		}
		length := binary.LittleEndian.Uint64(file.Data)
		header := map[string]json.RawMessage{}
		if err := json.Unmarshal(file.Data[8:8+length], &header); err != nil {
			t.Fatal(err)
		}
		delete(header, "__metadata__")
		for name, entry := range header {
			var e struct {
				Kind    string `json:"dtype"`
				Shape   []int  `json:"shape"`
				Offsets [2]int `json:"data_offsets"`
			}
			if err := json.Unmarshal(entry, &e); err != nil {
				t.Fatal(err)
			}
			cell := map[string]int{"F32": 4, "F16": 2, "BF16": 2, "U8": 1}[e.Kind]
			all[name] = tensor{e.Kind, e.Shape, cell, file.Data[8+int(length):][e.Offsets[0]:e.Offsets[1]]}
		}
	}
	return all
}

// vector is a vector of float32.
func vector(values []float32) tensor {
	x := tensor{"F32", []int{len(values)}, 4, nil}
	for _, v := range values {
		x.data = binary.LittleEndian.AppendUint32(x.data, math.Float32bits(v))
	}
	return x
}

// floats are a vector's numbers.
func (x tensor) floats() (values []float32) {
	for at := 0; at < len(x.data); at += x.cell {
		switch bits := x.data[at:]; x.kind {
		case "F32":
			values = append(values, math.Float32frombits(binary.LittleEndian.Uint32(bits)))
		case "BF16":
			values = append(values, math.Float32frombits(uint32(binary.LittleEndian.Uint16(bits))<<16))
		case "F16":
			values = append(values, half.Float32(binary.LittleEndian.Uint16(bits)))
		default:
			panic("a vector of " + x.kind)
		}
	}
	return values
}

// plusOne adds one to a vector's numbers.
func (x tensor) plusOne() tensor {
	values := x.floats()
	for i := range values {
		values[i]++
	}
	return vector(values)
}

// rowBytes is the size of what the first dimension counts.
func (x tensor) rowBytes() int { return len(x.data) / x.shape[0] }

// rows are rows of a matrix, or elements of a vector.
func (x tensor) rows(from, to int) tensor {
	size := x.rowBytes()
	x.data = x.data[from*size : to*size]
	x.shape = append([]int{to - from}, x.shape[1:]...)
	return x
}

// cut cuts a tensor in equal parts of rows. Of one in three dimensions it gives matrices.
func (x tensor) cut(parts int) (all []tensor) {
	each := x.shape[0] / parts
	for i := range parts {
		part := x.rows(i*each, (i+1)*each)
		if len(x.shape) == 3 {
			part.shape = x.shape[1:]
		}
		all = append(all, part)
	}
	return all
}

// joined joins tensors by their rows.
func joined(parts ...tensor) tensor {
	all := parts[0]
	all.data, all.shape = nil, slices.Clone(all.shape)
	all.shape[0] = 0
	for _, part := range parts {
		all.data = append(all.data, part.data...)
		all.shape[0] += part.shape[0]
	}
	return all
}

// paired lays row i of each head and row i + dims/2 beside each other.
func (x tensor) paired(dims int) tensor {
	var rows []tensor
	for head := 0; head < x.shape[0]; head += dims {
		for i := range dims {
			row := head + i/2 + i%2*dims/2
			rows = append(rows, x.rows(row, row+1))
		}
	}
	return joined(rows...)
}

// transposed turns a matrix over.
func (x tensor) transposed() tensor {
	rows, columns := x.shape[0], x.shape[1]
	out := tensor{x.kind, []int{columns, rows}, x.cell, nil}
	for column := range columns {
		for row := range rows {
			out.data = append(out.data, x.data[(row*columns+column)*x.cell:][:x.cell]...)
		}
	}
	return out
}

// alternate takes the even and the odd rows of each matrix of three dimensions apart, or of a matrix the columns.
func (x tensor) alternate() (even, odd tensor) {
	flat := x
	flat.shape = []int{x.shape[0] * x.shape[1]}
	var parts [2][]tensor
	for i := range flat.shape[0] {
		parts[i%2] = append(parts[i%2], flat.rows(i, i+1))
	}
	even, odd = joined(parts[0]...), joined(parts[1]...)
	even.shape = append([]int{x.shape[0], x.shape[1] / 2}, x.shape[2:]...)
	odd.shape = even.shape
	return even, odd
}

// microscaled joins blocks of two codes a byte and their scales into GGUF's blocks, where code i and code i + 16 share a byte.
func (x tensor) microscaled(scales tensor) tensor {
	out := tensor{"MXFP4", []int{x.shape[0], x.shape[1], 32 * x.shape[2]}, 0, nil}
	for i, scale := range scales.data {
		block := x.data[16*i:][:16]
		code := func(i int) byte { return block[i/2] >> (i % 2 * 4) & 15 }
		out.data = append(out.data, scale)
		for j := range 16 {
			out.data = append(out.data, code(j)|code(j+16)<<4)
		}
	}
	return out
}

// gguf is the tensor as GGUF has it: vectors, and the biases of experts, in F32.
func (x tensor) gguf(name string) weightstest.GGUFTensor {
	if len(x.shape) == 1 || strings.HasSuffix(name, ".bias") || strings.HasSuffix(name, "ffn_gate_inp.weight") {
		shape := x.shape
		x = vector(x.floats())
		x.shape = shape
	}
	kinds := map[string]uint32{"F32": 0, "F16": 1, "BF16": 30, "MXFP4": 39}
	dimensions := slices.Clone(x.shape)
	slices.Reverse(dimensions)
	return weightstest.GGUFTensor{Name: name, Kind: kinds[x.kind], Dimensions: dimensions, Data: x.data}
}
