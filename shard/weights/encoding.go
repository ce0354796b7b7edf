package weights

import (
	"encoding/binary"
	"fmt"
	"math"
	"strings"

	"lockstep/shard/codes"
	"lockstep/shard/half"
)

// Encoding is how the numbers of a tensor's row lie in its file. The table below says all that there is to know of each;
// a further one is a constant and an entry there.
type Encoding uint8

const (
	F32 Encoding = iota
	F16
	BF16
	Q8_0
	Q4_0
	Q4_1
	Q5_0
	Q5_1
	Q2_K
	Q3_K
	Q4_K
	Q5_K
	Q6_K
	IQ4_NL
	IQ4_XS
	MXFP4
	Quantised // over several tensors of a directory: Tensor.Scheme tells
)

// Form is one of the few ways in which backends take rows: each encoding is mapped onto one exactly, without a change of
// any value. All are row-major and little-endian; those with scales have blocks of 32 columns.
type Form uint8

const (
	FormF32     Form = iota
	FormF16          // half precision
	FormBF16         // the upper half of a float32
	FormInt8         // f16 scale, 32 int8; value = scale * q
	FormInt4         // f16 scale, 16 bytes: columns 0..15 in the low nibbles, the others in the high; value = scale * (q - 8)
	FormInt4Min      // f16 scale, f16 minimum, nibbles as above; value = scale * q + minimum
	FormCodes        // no bytes: Tensor.Codes gives rows, as it does for the three before, and Tensor.Scheme says what they mean
)

// encoding describes one Encoding.
type encoding struct {
	name string
	// gguf and safetensors are what the formats call it; 0, but for F32, and "" mean that they do not have it.
	gguf        uint32
	safetensors string
	// A block is what is stored together: so many columns of a row in so many bytes.
	blockColumns, blockBytes int
	// decode gives the exact values of whole blocks; nil: unpack does.
	decode func(values []float32, blocks []byte)
	form   Form
	// scheme and unpack are of the quantised ones: what rows mean, and how a block is spread out, its codes into blockColumns bytes.
	scheme *codes.Scheme
	unpack func(codes []byte, b *block, data []byte)
}

var encodings = [...]encoding{
	F32:  {name: "F32", gguf: 0, safetensors: "F32", blockColumns: 1, blockBytes: 4, decode: decodeF32, form: FormF32},
	F16:  {name: "F16", gguf: 1, safetensors: "F16", blockColumns: 1, blockBytes: 2, decode: decodeF16, form: FormF16},
	BF16: {name: "BF16", gguf: 30, safetensors: "BF16", blockColumns: 1, blockBytes: 2, decode: decodeBF16, form: FormBF16},
	Q8_0: {name: "Q8_0", gguf: 8, blockColumns: 32, blockBytes: 34, decode: decodeQ8, form: FormInt8, unpack: unpackQ8,
		scheme: &codes.Scheme{Kind: codes.Bits8, Group: 32, Scale: halves, Bias: -128}},
	Q4_0: {name: "Q4_0", gguf: 2, blockColumns: 32, blockBytes: 18, decode: decodeQ4, form: FormInt4, unpack: unpackQ4,
		scheme: &codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: halves, Bias: -8}},
	Q4_1: {name: "Q4_1", gguf: 3, blockColumns: 32, blockBytes: 20, decode: decodeQ4Min, form: FormInt4Min, unpack: unpackQ4Min,
		scheme: &codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: halves, Offset: halves}},
	Q5_0: {name: "Q5_0", gguf: 6, blockColumns: 32, blockBytes: 22, form: FormCodes, unpack: unpackQ5,
		scheme: &codes.Scheme{Kind: codes.Bits5, Group: 32, Scale: halves, Bias: -16}},
	Q5_1: {name: "Q5_1", gguf: 7, blockColumns: 32, blockBytes: 24, form: FormCodes, unpack: unpackQ5Min,
		scheme: &codes.Scheme{Kind: codes.Bits5, Group: 32, Scale: halves, Offset: halves}},
	Q2_K: {name: "Q2_K", gguf: 10, blockColumns: 256, blockBytes: 84, form: FormCodes, unpack: unpackQ2K,
		scheme: &codes.Scheme{Kind: codes.Bits2, Group: 16, Scale: scales(codes.Bits4, 16, 0), Offset: scales(codes.Bits4, 16, 0)}},
	Q3_K: {name: "Q3_K", gguf: 11, blockColumns: 256, blockBytes: 110, form: FormCodes, unpack: unpackQ3K,
		scheme: &codes.Scheme{Kind: codes.Bits3, Group: 16, Scale: scales(codes.Bits8, 16, -32), Bias: -4}},
	Q4_K: {name: "Q4_K", gguf: 12, blockColumns: 256, blockBytes: 144, form: FormCodes, unpack: unpackQ4K,
		scheme: &codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: scales(codes.Bits8, 8, 0), Offset: scales(codes.Bits8, 8, 0)}},
	Q5_K: {name: "Q5_K", gguf: 13, blockColumns: 256, blockBytes: 176, form: FormCodes, unpack: unpackQ5K,
		scheme: &codes.Scheme{Kind: codes.Bits5, Group: 32, Scale: scales(codes.Bits8, 8, 0), Offset: scales(codes.Bits8, 8, 0)}},
	Q6_K: {name: "Q6_K", gguf: 14, blockColumns: 256, blockBytes: 210, form: FormCodes, unpack: unpackQ6K,
		scheme: &codes.Scheme{Kind: codes.Bits6, Group: 16, Scale: scales(codes.Bits8, 16, -128), Bias: -32}},
	IQ4_NL: {name: "IQ4_NL", gguf: 20, blockColumns: 32, blockBytes: 18, form: FormCodes, unpack: unpackIQ4NL,
		scheme: &codes.Scheme{Kind: codes.NonLinear4, Group: 32, Scale: halves}},
	IQ4_XS: {name: "IQ4_XS", gguf: 23, blockColumns: 256, blockBytes: 136, form: FormCodes, unpack: unpackIQ4XS,
		scheme: &codes.Scheme{Kind: codes.NonLinear4, Group: 32, Scale: scales(codes.Bits8, 8, -32)}},
	MXFP4: {name: "MXFP4", gguf: 39, blockColumns: 32, blockBytes: 17, form: FormCodes, unpack: unpackMXFP4,
		scheme: &codes.Scheme{Kind: codes.FP4, Group: 32, Scale: &codes.Scheme{Kind: codes.BF16}}},
	Quantised: {name: "codes", blockColumns: 32, form: FormCodes},
}

// String returns the usual name.
func (e Encoding) String() string {
	if int(e) >= len(encodings) {
		return fmt.Sprintf("Encoding(%d)", int(e))
	}
	return encodings[e].name
}

// BlockColumns returns how many columns are stored together.
func (e Encoding) BlockColumns() int { return encodings[e].blockColumns }

// Form returns the form onto which rows are mapped.
func (e Encoding) Form() Form { return encodings[e].form }

// Plain reports whether each number stands for itself.
func (e Encoding) Plain() bool { return e <= BF16 }

// CutColumns is what a range of columns begins and ends at a multiple of, if it is to be computed with alone: the superblocks of
// 256 columns that some encodings have may be cut.
func (e Encoding) CutColumns() int { return min(e.BlockColumns(), 32) }

// RowBytes returns the bytes of a row, or of a part of one; columns is a multiple of BlockColumns.
func (e Encoding) RowBytes(columns int) int {
	return columns / encodings[e].blockColumns * encodings[e].blockBytes
}

// Decode sets values to the exact numbers of a row, or of a part of one. len(values) is a multiple of BlockColumns. A
// quantised number whose value is zero is +0, whatever the sign of its scale.
func (e Encoding) Decode(values []float32, row []byte) {
	d := &encodings[e]
	if d.decode != nil {
		d.decode(values, row)
		return
	}
	var spread codes.Row
	d.spread(&spread, row, 0, len(values))
	d.scheme.Values(values, &spread, 0)
}

func decodeF32(values []float32, blocks []byte) {
	for i := range values {
		values[i] = math.Float32frombits(binary.LittleEndian.Uint32(blocks[4*i:]))
	}
}

func decodeF16(values []float32, blocks []byte) {
	for i := range values {
		values[i] = half.Float32(binary.LittleEndian.Uint16(blocks[2*i:]))
	}
}

func decodeBF16(values []float32, blocks []byte) {
	for i := range values {
		values[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(blocks[2*i:])) << 16)
	}
}

// scaleAt reads a scale, or a minimum, of a block.
func scaleAt(block []byte) float32 { return half.Float32(binary.LittleEndian.Uint16(block)) }

// The products of a scale and a small integer are exact in float32; adding +0 makes +0 of -0.

func decodeQ8(values []float32, blocks []byte) {
	for ; len(values) > 0; values, blocks = values[32:], blocks[34:] {
		scale := scaleAt(blocks)
		for i, q := range blocks[2:34] {
			values[i] = float32(scale*float32(int8(q))) + 0
		}
	}
}

func decodeQ4(values []float32, blocks []byte) {
	for ; len(values) > 0; values, blocks = values[32:], blocks[18:] {
		decodeNibbles(values, blocks[2:18], scaleAt(blocks), 8, 0)
	}
}

func decodeQ4Min(values []float32, blocks []byte) {
	for ; len(values) > 0; values, blocks = values[32:], blocks[20:] {
		decodeNibbles(values, blocks[4:20], scaleAt(blocks), 0, scaleAt(blocks[2:]))
	}
}

func decodeNibbles(values []float32, nibbles []byte, scale float32, offset int, minimum float32) {
	for i, pair := range nibbles {
		values[i] = float32(scale*float32(int(pair&15)-offset)) + minimum
		values[16+i] = float32(scale*float32(int(pair>>4)-offset)) + minimum
	}
}

// ofGGUF finds the encoding of a GGUF file's type number.
func ofGGUF(kind uint32) (Encoding, bool) {
	for e, d := range encodings {
		if d.gguf == kind && (kind != 0 || e == int(F32)) {
			return Encoding(e), true
		}
	}
	return 0, false
}

// ofSafetensors finds the encoding of a safetensors file's dtype.
func ofSafetensors(dtype string) (Encoding, bool) {
	for e, d := range encodings {
		if d.safetensors == dtype && dtype != "" {
			return Encoding(e), true
		}
	}
	return 0, false
}

// fileTypes are llama.cpp's names of a GGUF file's general.file_type: of what its matrices are in, most of them in the encoding
// that stands first (https://github.com/ggml-org/llama.cpp/blob/master/include/llama.h, llama_ftype).
var fileTypes = map[int]string{0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 7: "q8_0", 8: "q5_0", 9: "q5_1", 10: "q2_k", 11: "q3_k_s",
	12: "q3_k_m", 13: "q3_k_l", 14: "q4_k_s", 15: "q4_k_m", 16: "q5_k_s", 17: "q5_k_m", 18: "q6_k", 21: "q2_k_s", 25: "iq4_nl",
	30: "iq4_xs", 32: "bf16", 38: "mxfp4_moe"}

// served lists the encodings that a file format has, for errors.
func served(has func(e encoding) bool) string {
	var names []string
	for _, d := range encodings {
		if has(d) {
			names = append(names, d.name)
		}
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}
