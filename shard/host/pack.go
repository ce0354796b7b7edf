package host

import (
	"encoding/binary"
	"fmt"

	"lockstep/shard/codes"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/weights"
)

// pack lays this rank's part of a matrix out for the kernels, for products of these numerics or of ones that round less; nil: it
// has none.
func (b *Backend) pack(l *model.Linear, most numerics) (*cpu.Matrix, error) {
	format, used := most.format(l)
	b.used = max(b.used, used) // the same on all ranks, also on those that have no part
	if l.Rows.Size() == 0 || l.Columns.Size() == 0 {
		return nil, nil
	}
	switch format {
	case cpu.Coded:
		return b.packCodes(l, cpu.CodedBytes(l.Scheme(), l.Columns.From, l.Rows.Size(), l.Columns.Size()), cpu.NewCoded)
	case cpu.Integers:
		bytes := cpu.IntegerBytes(l.Scheme(), l.Columns.From, l.Rows.Size(), l.Columns.Size(), l.Chunks)
		return b.packCodes(l, bytes, cpu.NewIntegers)
	}
	return b.packBytes(l, format, func(buffer *[]byte, row int) []byte {
		if l.Encoding.Form() == weights.FormCodes {
			return codesAsBlocks(buffer, l, row)
		}
		return l.Bytes(buffer, row, l.Columns.From, l.Columns.To)
	})
}

// packBytes is pack for a matrix whose rows are of a format's bytes.
func (b *Backend) packBytes(l *model.Linear, format cpu.Format, bytes func(buffer *[]byte, row int) []byte) (*cpu.Matrix, error) {
	data, err := b.packed(cpu.PackedBytes(format, l.Rows.Size(), l.Columns.Size()))
	if err != nil {
		return nil, err
	}
	matrix, err := cpu.NewMatrix(format, l.Rows.Size(), l.Columns.Size(), l.Chunks, data)
	if err != nil {
		return nil, fmt.Errorf("tensor %s: %w", l.Name, err)
	}
	return matrix, b.packPanels(l, matrix, len(data), func(first, end int) {
		var buffer []byte
		for panel := first; panel < end; panel++ {
			matrix.PackPanel(panel, func(row int) []byte {
				return bytes(&buffer, l.Rows.From+row)
			})
		}
	})
}

// packPieceBytes is how much is packed between two times that what was read for it is given back, and between two looks at what is
// left of the memory.
const packPieceBytes = 32 << 20

// packPanels has the team pack a matrix of so many bytes, piece by piece: beside what is packed, the memory holds no more of the
// files than makes a piece.
func (b *Backend) packPanels(l *model.Linear, matrix *cpu.Matrix, bytes int, pack func(first, end int)) error {
	if b.Reused() {
		return nil
	}
	pieces := (bytes + packPieceBytes - 1) / packPieceBytes
	piece := (matrix.Panels() + pieces - 1) / pieces
	for from := 0; from < matrix.Panels(); from += piece {
		if b.unseen += min(bytes, packPieceBytes); b.unseen >= packPieceBytes {
			free, of, err := b.FreeBytes()
			if err == nil {
				err = roomToPack(free, of, b.part.Ranks)
			}
			if err != nil {
				return err
			}
			b.unseen = 0
		}
		count := min(piece, matrix.Panels()-from)
		if b.keeper != nil { // of which the matrix is the last part
			b.keeper.fill(b.team, b.keeper.end-int64(bytes-bytes/matrix.Panels()*(from+count)))
		}
		b.team.Share(count, 8, func(_, first, end int) { pack(from+first, from+end) })
		l.Release()
	}
	return nil
}

// roomToPack refuses to go on where the kernel would soon kill for want of memory: so many ranks may take a piece each.
func roomToPack(free int64, of string, ranks int) error {
	if free < 2*packPieceBytes*int64(ranks) {
		return fmt.Errorf("the model's weights do not fit: only %d MiB of memory of %s are left, and they are not all packed: free some, "+
			"give more, or serve a smaller or quantised model", free>>20, of)
	}
	return nil
}

// packCodes is pack for a matrix of codes, which make makes of so many bytes.
func (b *Backend) packCodes(l *model.Linear, bytes int,
	make func(s *codes.Scheme, first, rows, columns, chunks int, data []byte) (*cpu.Matrix, error)) (*cpu.Matrix, error) {
	data, err := b.packed(bytes)
	if err != nil {
		return nil, err
	}
	matrix, err := make(l.Scheme(), l.Columns.From, l.Rows.Size(), l.Columns.Size(), l.Chunks, data)
	if err != nil {
		return nil, fmt.Errorf("tensor %s: %w", l.Name, err)
	}
	return matrix, b.packPanels(l, matrix, len(data), func(first, end int) {
		var spread codes.Row
		for panel := first; panel < end; panel++ {
			matrix.PackCoded(panel, func(row int) *codes.Row {
				l.Codes(&spread, l.Rows.From+row, l.Columns.From, l.Columns.To)
				return &spread
			})
		}
	})
}

// blocksOf returns the format with kernels of its own into which codes can be brought exactly, in no more than 1.1 times their
// bytes: of symmetric ones of four bits that is Q4_0, and of eight bits Q8_0.
func blocksOf(l *model.Linear) (cpu.Format, bool) {
	s := l.Scheme()
	switch {
	case s.Index != nil || s.Offset != nil || s.Scale.Kind != codes.F16 || s.Group%32 != 0 || l.Columns.Size()%32 != 0:
	case s.Kind == codes.Bits4 && s.Bias == -8 && s.Group <= 128:
		return cpu.Q4_0, true
	case s.Kind == codes.Bits8 && s.Bias == -128:
		return cpu.Q8_0, true
	}
	return 0, false
}

// codesAsBlocks returns a row of codes in the format of blocksOf.
func codesAsBlocks(buffer *[]byte, l *model.Linear, row int) []byte {
	var spread codes.Row
	l.Codes(&spread, row, l.Columns.From, l.Columns.To)
	first, _ := l.Scheme().Span(l.Columns.From, l.Columns.To)
	out := (*buffer)[:0]
	for at := 0; at < len(spread.Codes); at += 32 {
		group := l.Scheme().GroupOf(l.Columns.From+at) - first
		out = binary.LittleEndian.AppendUint16(out, uint16(spread.Scale.Numbers[group]))
		block := spread.Codes[at:][:32]
		if l.Scheme().Kind == codes.Bits4 {
			for i, low := range block[:16] {
				out = append(out, low|block[16+i]<<4)
			}
			continue
		}
		for _, code := range block {
			out = append(out, code^0x80)
		}
	}
	*buffer = out
	return out
}
