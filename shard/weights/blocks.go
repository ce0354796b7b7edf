package weights

import (
	"encoding/binary"

	"lockstep/shard/codes"
)

// The blocks of codes of GGUF files, as ggml has them
// (https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h and ggml-quants.c).

// block is what one holds, spread out.
type block struct {
	codes [256]byte
	// scales and offsets are those of the groups in a superblock; scale and offset are f16 (BF16 of MXFP4): of the block, or what
	// its scales and offsets are multiplied by.
	scales, offsets [16]byte
	scale, offset   uint32
}

var halves = &codes.Scheme{Kind: codes.F16}

// scales are scales that are codes themselves, each in a group of so many.
func scales(kind codes.Kind, group int, bias float32) *codes.Scheme {
	return &codes.Scheme{Kind: kind, Group: group, Scale: halves, Bias: bias}
}

// spread sets row to the columns [from, to) of a row of blocks.
func (d *encoding) spread(row *codes.Row, data []byte, from, to int) {
	row.Reset(d.scheme)
	var b block
	for at := from / d.blockColumns * d.blockColumns; at < to; at += d.blockColumns {
		d.unpack(&b, data[at/d.blockColumns*d.blockBytes:][:d.blockBytes])
		low, high := max(from-at, 0), min(to-at, d.blockColumns)
		row.Codes = append(row.Codes, b.codes[low:high]...)
		first, end := d.scheme.Span(low, high)
		appendScales(row.Scale, d.scheme.Scale, b.scales[first:end], b.scale)
		appendScales(row.Offset, d.scheme.Offset, b.offsets[first:end], b.offset)
	}
}

// appendScales appends the scales of one block: a number, or codes and the number that they are multiplied by.
func appendScales(row *codes.Row, scheme *codes.Scheme, scales []byte, number uint32) {
	switch {
	case scheme == nil:
	case scheme.Kind.Plain():
		row.Numbers = append(row.Numbers, number)
	default:
		row.Codes = append(row.Codes, scales...)
		row.Scale.Numbers = append(row.Scale.Numbers, number)
	}
}

func halfBits(data []byte) uint32 { return uint32(binary.LittleEndian.Uint16(data)) }

// negative turns a minimum that is subtracted into one that is added.
func negative(bits uint32) uint32 { return bits ^ 0x8000 }

// unpackNibbles spreads 16 bytes: the low nibbles are the first 16 codes.
func unpackNibbles(to, nibbles []byte) {
	for i, pair := range nibbles[:16] {
		to[i], to[16+i] = pair&15, pair>>4
	}
}

func unpackQ4(b *block, data []byte) {
	b.scale = halfBits(data)
	unpackNibbles(b.codes[:], data[2:])
}

func unpackQ4Min(b *block, data []byte) {
	b.scale, b.offset = halfBits(data), halfBits(data[2:])
	unpackNibbles(b.codes[:], data[4:])
}

func unpackQ8(b *block, data []byte) {
	b.scale = halfBits(data)
	for i, code := range data[2:34] {
		b.codes[i] = code ^ 0x80 // from signed to above -128
	}
}

func unpackFive(b *block, data []byte) {
	high := binary.LittleEndian.Uint32(data)
	unpackNibbles(b.codes[:], data[4:])
	for i := range 32 {
		b.codes[i] |= byte(high>>i&1) << 4
	}
}

func unpackQ5(b *block, data []byte) {
	b.scale = halfBits(data)
	unpackFive(b, data[2:])
}

func unpackQ5Min(b *block, data []byte) {
	b.scale, b.offset = halfBits(data), halfBits(data[2:])
	unpackFive(b, data[4:])
}

// unpackPairs spreads 64 bytes: each of the two halves has codes of two bits in 32 bytes, every 32 columns two bits higher.
func unpackPairs(b *block, data []byte) {
	for i := range b.codes {
		b.codes[i] = data[i/128*32+i%32] >> (i % 128 / 32 * 2) & 3
	}
}

func unpackQ2K(b *block, data []byte) {
	for i, both := range data[:16] {
		b.scales[i], b.offsets[i] = both&15, both>>4
	}
	unpackPairs(b, data[16:])
	b.scale, b.offset = halfBits(data[80:]), negative(halfBits(data[82:]))
}

func unpackQ3K(b *block, data []byte) {
	unpackPairs(b, data[32:])
	for i := range b.codes {
		b.codes[i] |= data[i%32] >> (i / 32) & 1 << 2
	}
	packed := data[96:108]
	for i := range b.scales {
		b.scales[i] = packed[i%8]>>(i/8*4)&15 | packed[8+i%4]>>(i/4*2)&3<<4
	}
	b.scale = halfBits(data[108:])
}

// unpackScalesK spreads the 12 bytes of 8 scales and 8 minimums of 6 bits.
func unpackScalesK(b *block, data []byte) {
	b.scale, b.offset = halfBits(data), negative(halfBits(data[2:]))
	packed := data[4:16]
	for i := range 4 {
		b.scales[i], b.offsets[i] = packed[i]&63, packed[4+i]&63
		b.scales[4+i] = packed[8+i]&15 | packed[i]>>6<<4
		b.offsets[4+i] = packed[8+i]>>4 | packed[4+i]>>6<<4
	}
}

// unpackQuarters spreads 128 bytes: of each 32 the low nibbles are 32 codes, and the high ones the next.
func unpackQuarters(b *block, data []byte) {
	for i := range b.codes {
		b.codes[i] = data[i/64*32+i%32] >> (i % 64 / 32 * 4) & 15
	}
}

func unpackQ4K(b *block, data []byte) {
	unpackScalesK(b, data)
	unpackQuarters(b, data[16:])
}

func unpackQ5K(b *block, data []byte) {
	unpackScalesK(b, data)
	unpackQuarters(b, data[48:])
	for i := range b.codes {
		b.codes[i] |= data[16+i%32] >> (i / 32) & 1 << 4
	}
}

func unpackQ6K(b *block, data []byte) {
	for i := range b.codes {
		half, quarter, at := i/128, i%128/32, i%32
		low := data[half*64+quarter%2*32+at] >> (quarter / 2 * 4) & 15
		b.codes[i] = low | data[128+half*32+at]>>(quarter*2)&3<<4
	}
	for i, scale := range data[192:208] { // signed
		b.scales[i] = scale ^ 0x80
	}
	b.scale = halfBits(data[208:])
}

func unpackIQ4NL(b *block, data []byte) {
	b.scale = halfBits(data)
	unpackNibbles(b.codes[:], data[2:])
}

func unpackIQ4XS(b *block, data []byte) {
	b.scale = halfBits(data)
	high := binary.LittleEndian.Uint16(data[2:])
	for i := range 8 {
		b.scales[i] = data[4+i/2]>>(i%2*4)&15 | byte(high>>(2*i)&3<<4)
		unpackNibbles(b.codes[i*32:], data[8+i*16:])
	}
}

func unpackMXFP4(b *block, data []byte) {
	b.scale = halfPower(data[0])
	unpackNibbles(b.codes[:], data[1:])
}

// halfPower is the BF16 of 2^(exponent-128): half of what an E8M0 scale says, since levels are doubled.
func halfPower(exponent byte) uint32 {
	if exponent < 2 {
		return 0x20 << exponent // subnormal
	}
	return uint32(exponent-1) << 7
}
