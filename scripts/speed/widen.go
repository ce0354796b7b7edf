package main

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math"
	"os"

	"lockstep/shard/weights"
)

// widen writes a GGUF file's model with its matrices in bf16, as a checkpoint that was never quantised has them, and the rest in
// float32.
func widen(from, to string) error {
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
	tensors, pairs := little.Uint64(data[8:]), little.Uint64(data[16:])
	metadata := skip(data, 24, pairs)
	header, all, err := widened(data, append([]byte(nil), data[:metadata]...), metadata, int(tensors))
	if err != nil {
		return err
	}
	file, err := os.Create(to)
	if err != nil {
		return err
	}
	defer file.Close()
	out := bufio.NewWriterSize(file, 1<<20)
	out.Write(header)
	out.Write(make([]byte, -len(header)&31))
	for _, t := range all {
		found, err := files.Tensor(t.name, t.rows, t.columns)
		if err != nil {
			return err
		}
		written := 0
		for row := range t.rows {
			for _, v := range found.Floats(row, nil) {
				bits := math.Float32bits(v)
				if t.rows == 1 {
					out.Write(little.AppendUint32(nil, bits))
					written += 4
					continue
				}
				out.Write(little.AppendUint16(nil, uint16((bits+0x7fff+bits>>16&1)>>16)))
				written += 2
			}
		}
		out.Write(make([]byte, -written&31))
	}
	return out.Flush()
}

// tensor is one of the file.
type tensor struct {
	name          string
	rows, columns int
}

// widened appends the descriptions of tensors, which begin at a place of the data, to the header as they are written.
func widened(data, header []byte, at, tensors int) ([]byte, []tensor, error) {
	var all []tensor
	little, offset := binary.LittleEndian, uint64(0)
	for len(all) < tensors {
		size := int(little.Uint64(data[at:]))
		t := tensor{name: string(data[at+8:][:size]), rows: 1}
		dimensions := int(little.Uint32(data[at+8+size:]))
		shape := data[at+12+size:][:8*dimensions]
		t.columns = int(little.Uint64(shape))
		if dimensions == 2 {
			t.rows = int(little.Uint64(shape[8:]))
		} else if dimensions > 2 {
			return nil, nil, fmt.Errorf("tensor %s has %d dimensions", t.name, dimensions)
		}
		header = append(header, data[at:at+12+size+8*dimensions]...)
		kind, each := uint32(30), 2
		if dimensions == 1 {
			kind, each = 0, 4
		}
		header = little.AppendUint64(little.AppendUint32(header, kind), offset)
		offset += uint64(t.rows*t.columns*each+31) / 32 * 32
		all = append(all, t)
		at += 12 + size + 8*dimensions + 12
	}
	return header, all, nil
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
