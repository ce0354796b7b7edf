// Package checkpoint writes the model of a GGUF file anew: in another encoding, or as a directory in Hugging Face format, so that
// what programs do with equal weights can be compared. It is for programs that measure.
package checkpoint

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"

	"lockstep/shard/weights"
)

// GGUF's numbers of the types that are written.
const (
	kindF32  = 0
	kindQ8_0 = 8
	kindBF16 = 30
)

// Widen writes a GGUF file's model with its matrices in bf16, as a checkpoint that was never quantised has them, and the rest in
// float32.
func Widen(from, to string) error {
	return rewrite(from, to, kindBF16, 2, func(t weights.Tensor, row int) []byte {
		return appendBF16(nil, t.Floats(row, nil))
	})
}

// Quantise writes a GGUF file's model of plain numbers with its matrices in Q8_0.
func Quantise(from, to string) error {
	var buffer []byte
	return rewrite(from, to, kindQ8_0, 34./32, func(t weights.Tensor, row int) []byte {
		return t.As(weights.Q8_0).Bytes(&buffer, row, 0, t.Columns)
	})
}

func appendBF16(to []byte, values []float32) []byte {
	for _, v := range values {
		bits := math.Float32bits(v)
		to = binary.LittleEndian.AppendUint16(to, uint16((bits+0x7fff+bits>>16&1)>>16))
	}
	return to
}

// rewrite writes a file's model with the rows of its matrices as bytesOf gives them, of a kind with so many bytes for each number.
func rewrite(from, to string, kind uint32, each float64, bytesOf func(t weights.Tensor, row int) []byte) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	files, err := weights.Open(from)
	if err != nil {
		return err
	}
	defer files.Close()
	little := binary.LittleEndian
	metadata := skip(data, 24, little.Uint64(data[16:]))
	all, err := tensorsAt(data[metadata:], int(little.Uint64(data[8:])))
	if err != nil {
		return err
	}
	return write(to, func(out *bufio.Writer) error {
		header := append(data[:metadata:metadata], describe(all, kind, each)...)
		out.Write(header)
		out.Write(make([]byte, -len(header)&31))
		for _, t := range all {
			found, err := files.Tensor(t.name, t.rows, t.columns)
			if err != nil {
				return err
			}
			written := 0
			for row := range t.rows {
				bytes := bytesOf
				if t.rows == 1 {
					bytes = plainRow
				}
				n, _ := out.Write(bytes(found, row))
				written += n
			}
			out.Write(make([]byte, -written&31))
		}
		return nil
	})
}

func plainRow(t weights.Tensor, row int) (bytes []byte) {
	for _, v := range t.Floats(row, nil) {
		bytes = binary.LittleEndian.AppendUint32(bytes, math.Float32bits(v))
	}
	return bytes
}

// write makes a file whole or not at all: a killed program leaves none that looks like one.
func write(path string, content func(out *bufio.Writer) error) (err error) {
	file, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, file.Close()); err == nil {
			err = os.Rename(path+".part", path)
		}
	}()
	out := bufio.NewWriterSize(file, 1<<20)
	if err := content(out); err != nil {
		return err
	}
	return out.Flush()
}

// tensor is one of the file.
type tensor struct {
	name          string
	rows, columns int
}

// tensorsAt reads the descriptions of so many tensors.
func tensorsAt(data []byte, count int) (all []tensor, err error) {
	little := binary.LittleEndian
	for range count {
		size := int(little.Uint64(data))
		t := tensor{name: string(data[8:][:size]), rows: 1}
		dimensions := int(little.Uint32(data[8+size:]))
		shape := data[12+size:]
		t.columns = int(little.Uint64(shape))
		if dimensions == 2 {
			t.rows = int(little.Uint64(shape[8:]))
		} else if dimensions > 2 {
			return nil, fmt.Errorf("tensor %s has %d dimensions", t.name, dimensions)
		}
		all = append(all, t)
		data = shape[8*dimensions+12:]
	}
	return all, nil
}

// describe is the descriptions of tensors whose matrices are of a kind with so many bytes for each number.
func describe(all []tensor, kind uint32, each float64) (header []byte) {
	little, offset := binary.LittleEndian, uint64(0)
	for _, t := range all {
		header = append(little.AppendUint64(header, uint64(len(t.name))), t.name...)
		bytes := uint64(float64(t.rows*t.columns) * each)
		if t.rows == 1 {
			header = little.AppendUint64(little.AppendUint32(header, 1), uint64(t.columns))
			header, bytes = little.AppendUint32(header, kindF32), uint64(4*t.columns)
		} else {
			header = little.AppendUint64(little.AppendUint32(header, 2), uint64(t.columns))
			header = little.AppendUint32(little.AppendUint64(header, uint64(t.rows)), kind)
		}
		header = little.AppendUint64(header, offset)
		offset += (bytes + 31) / 32 * 32
	}
	return header
}

// skip returns where the metadata end.
func skip(data []byte, at int, pairs uint64) int {
	little := binary.LittleEndian
	sizes := map[uint32]int{0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
	value := func(kind uint32) {
		if kind == 8 {
			at += 8 + int(little.Uint64(data[at:]))
			return
		}
		at += sizes[kind]
	}
	for range pairs {
		value(8)
		kind := little.Uint32(data[at:])
		if at += 4; kind != 9 {
			value(kind)
			continue
		}
		kind, count := little.Uint32(data[at:]), little.Uint64(data[at+4:])
		at += 12
		for range count {
			value(kind)
		}
	}
	return at
}
