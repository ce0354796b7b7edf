package weights

import (
	"encoding/binary"

	"lockstep/shard/codes"
)

// The blocks of codes of GGUF files, as ggml has them
// (https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h and ggml-quants.c).

// block is what one holds beside its codes.
type block struct {
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
	first, end := from/d.blockColumns, (to+d.blockColumns-1)/d.blockColumns
	if all := (end - first) * d.blockColumns; cap(row.Codes) < all {
		row.Codes = make([]byte, all)
	} else {
		row.Codes = row.Codes[:all]
	}
	var b block
	for i := first; i < end; i++ {
		d.unpack(row.Codes[(i-first)*d.blockColumns:][:d.blockColumns], &b, data[i*d.blockBytes:][:d.blockBytes])
		if d.scheme.Scale.Kind.Plain() && d.scheme.Group == d.blockColumns {
			row.Scale.Numbers = append(row.Scale.Numbers, b.scale)
			if d.scheme.Offset != nil {
				row.Offset.Numbers = append(row.Offset.Numbers, b.offset)
			}
			continue
		}
		at := i * d.blockColumns
		low, high := d.scheme.Span(max(from-at, 0), min(to-at, d.blockColumns))
		appendScales(row.Scale, b.scales[low:high], b.scale)
		if d.scheme.Offset != nil {
			appendScales(row.Offset, b.offsets[low:high], b.offset)
		}
	}
	if before := from - first*d.blockColumns; before > 0 {
		copy(row.Codes, row.Codes[before:])
	}
	row.Codes = row.Codes[:to-from]
}

// appendScales appends the scales of one superblock and the number that they are multiplied by.
func appendScales(row *codes.Row, scales []byte, number uint32) {
	row.Codes = append(row.Codes, scales...)
	row.Scale.Numbers = append(row.Scale.Numbers, number)
}

func halfBits(data []byte) uint32 { return uint32(binary.LittleEndian.Uint16(data)) }

// negative turns a minimum that is subtracted into one that is added.
func negative(bits uint32) uint32 { return bits ^ 0x8000 }

// Codes are spread eight at a time, as the bytes of a word; masks are of each of its bytes.

func eight(data []byte) uint64         { return binary.LittleEndian.Uint64(data) }
func putEight(codes []byte, to uint64) { binary.LittleEndian.PutUint64(codes, to) }

const (
	lowBits    = 0x0101010101010101
	lowPairs   = 3 * lowBits
	lowNibbles = 15 * lowBits
	highBits   = 128 * lowBits
)

// bitsOf are the bits of a byte, the lowest first.
func bitsOf(b byte) uint64 {
	const each = 0x8040201008040201
	return (uint64(b)*lowBits&each + 127*lowBits) >> 7 & lowBits
}

// unpackNibbles spreads 16 bytes: the low nibbles are the first 16 codes.
func unpackNibbles(to, nibbles []byte) {
	to, nibbles = to[:32], nibbles[:16]
	for i := 0; i < 16; i += 8 {
		pairs := eight(nibbles[i:])
		putEight(to[i:], pairs&lowNibbles)
		putEight(to[16+i:], pairs>>4&lowNibbles)
	}
}

func unpackQ4(to []byte, b *block, data []byte) {
	b.scale = halfBits(data)
	unpackNibbles(to, data[2:])
}

func unpackQ4Min(to []byte, b *block, data []byte) {
	b.scale, b.offset = halfBits(data), halfBits(data[2:])
	unpackNibbles(to, data[4:])
}

func unpackQ8(to []byte, b *block, data []byte) {
	b.scale = halfBits(data)
	to, data = to[:32], data[2:34]
	for i := 0; i < 32; i += 8 {
		putEight(to[i:], eight(data[i:])^highBits) // from signed to above -128
	}
}

func unpackFive(to, data []byte) {
	to, data = to[:32], data[:20]
	for i := 0; i < 16; i += 8 {
		pairs := eight(data[4+i:])
		putEight(to[i:], pairs&lowNibbles|bitsOf(data[i/8])<<4)
		putEight(to[16+i:], pairs>>4&lowNibbles|bitsOf(data[2+i/8])<<4)
	}
}

func unpackQ5(to []byte, b *block, data []byte) {
	b.scale = halfBits(data)
	unpackFive(to, data[2:])
}

func unpackQ5Min(to []byte, b *block, data []byte) {
	b.scale, b.offset = halfBits(data), halfBits(data[2:])
	unpackFive(to, data[4:])
}

// unpackPairs spreads 64 bytes: each of the two halves has codes of two bits in 32 bytes, every 32 columns two bits higher.
func unpackPairs(to, data []byte) {
	to, data = to[:256], data[:64]
	for i := 0; i < 256; i += 8 {
		putEight(to[i:], eight(data[i/128*32+i%32:])>>(i%128/32*2)&lowPairs)
	}
}

func unpackQ2K(to []byte, b *block, data []byte) {
	for i, both := range data[:16] {
		b.scales[i], b.offsets[i] = both&15, both>>4
	}
	unpackPairs(to, data[16:])
	b.scale, b.offset = halfBits(data[80:]), negative(halfBits(data[82:]))
}

func unpackQ3K(to []byte, b *block, data []byte) {
	unpackPairs(to, data[32:])
	addBits(to, data, 2)
	packed := data[96:108]
	for i := range b.scales {
		b.scales[i] = packed[i%8]>>(i/8*4)&15 | packed[8+i%4]>>(i/4*2)&3<<4
	}
	b.scale = halfBits(data[108:])
}

// addBits adds the bits of 32 bytes to 256 codes, shifted so far: the lowest are those of the first 32 codes.
func addBits(to, data []byte, shift int) {
	to, data = to[:256], data[:32]
	for i := 0; i < 256; i += 8 {
		putEight(to[i:], eight(to[i:])|eight(data[i%32:])>>(i/32)&lowBits<<shift)
	}
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
func unpackQuarters(to, data []byte) {
	to, data = to[:256], data[:128]
	for i := 0; i < 128; i += 32 {
		for j := i; j < i+32; j += 8 {
			pairs := eight(data[j:])
			putEight(to[i+j:], pairs&lowNibbles)
			putEight(to[i+j+32:], pairs>>4&lowNibbles)
		}
	}
}

func unpackQ4K(to []byte, b *block, data []byte) {
	unpackScalesK(b, data)
	unpackQuarters(to, data[16:])
}

func unpackQ5K(to []byte, b *block, data []byte) {
	unpackScalesK(b, data)
	unpackQuarters(to, data[48:])
	addBits(to, data[16:], 4)
}

func unpackQ6K(to []byte, b *block, data []byte) {
	to, data = to[:256], data[:210]
	for i := 0; i < 32; i += 8 {
		for half := range 2 {
			out, low := to[half*128+i:], data[half*64+i:]
			pairs, more, high := eight(low), eight(low[32:]), eight(data[128+half*32+i:])
			putEight(out, pairs&lowNibbles|high&lowPairs<<4)
			putEight(out[32:], more&lowNibbles|high>>2&lowPairs<<4)
			putEight(out[64:], pairs>>4&lowNibbles|high>>4&lowPairs<<4)
			putEight(out[96:], more>>4&lowNibbles|high>>6&lowPairs<<4)
		}
	}
	for i, scale := range data[192:208] { // signed
		b.scales[i] = scale ^ 0x80
	}
	b.scale = halfBits(data[208:])
}

func unpackIQ4NL(to []byte, b *block, data []byte) {
	b.scale = halfBits(data)
	unpackNibbles(to, data[2:])
}

func unpackIQ4XS(to []byte, b *block, data []byte) {
	b.scale = halfBits(data)
	high := binary.LittleEndian.Uint16(data[2:])
	for i := range 8 {
		b.scales[i] = data[4+i/2]>>(i%2*4)&15 | byte(high>>(2*i)&3<<4)
		unpackNibbles(to[i*32:], data[8+i*16:])
	}
}

func unpackMXFP4(to []byte, b *block, data []byte) {
	b.scale = halfPower(data[0])
	unpackNibbles(to, data[1:])
}

// halfPower is the BF16 of 2^(exponent-128): half of what an E8M0 scale says, since levels are doubled.
func halfPower(exponent byte) uint32 {
	if exponent < 2 {
		return 0x20 << exponent // subnormal
	}
	return uint32(exponent-1) << 7
}
