package cpu

import (
	"encoding/binary"
	"math"
)

// Widen sets dst to the exact values of a row in the source layout of f, as Matrix.At gives them. len(dst) is the row's
// columns, a multiple of f.BlockColumns(), and in holds f.RowBytes(len(dst)) bytes.
func Widen(f Format, dst []float32, in []byte) {
	little := binary.LittleEndian
	switch f {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(little.Uint32(in[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = half32(little.Uint16(in[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(little.Uint16(in[2*i:])) << 16)
		}
	default:
		size := f.RowBytes(f.BlockColumns())
		for b := 0; b < len(dst)/32; b++ {
			widenBlock(f, dst[32*b:32*b+32], in[size*b:size*b+size])
		}
	}
}

func widenBlock(f Format, dst []float32, in []byte) {
	d := half32(binary.LittleEndian.Uint16(in))
	if f == Q8_0 {
		for i := range dst {
			dst[i] = fma32(d, float32(int8(in[2+i])), 0) // a zero is +0, as in Matrix.At
		}
		return
	}
	minimum, nibbles, offset := float32(0), in[2:], 8
	if f == Q4_1 {
		minimum, nibbles, offset = half32(binary.LittleEndian.Uint16(in[2:])), in[4:], 0
	}
	for i := range 16 {
		low, high := float32(int(nibbles[i]&15)-offset), float32(int(nibbles[i]>>4)-offset)
		dst[i], dst[16+i] = fma32(d, low, minimum), fma32(d, high, minimum)
	}
}
