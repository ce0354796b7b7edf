package cpu

import (
	"encoding/binary"
	"math"

	"lockstep/shard/codes"
)

// pack spreads a row over its lane of a panel.
func (n *integers) pack(panel []byte, lane int, row *codes.Row) {
	f := &integerForms[n.form]
	size := f.bytes()
	panel = panel[:len(row.Codes)/integerColumns*size]
	n.packScales(panel, lane, row)
	f.packCodes(panel[f.scales.bytes(f.groups()):], size, lane, row.Codes)
}

// packCodes spreads codes over their lane of blocks of so many bytes.
func (f *integerForm) packCodes(out []byte, size, lane int, row []byte) {
	for _, p := range planes(f.kind) {
		plane := out[lane*4:]
		switch p.bits {
		case 1:
			packBits(plane, size, row, p.shift)
		case 2:
			packPairs(plane, size, row, p.shift)
		case 4:
			packNibbles(plane, size, row)
		case 8:
			packBytes(plane, size, row)
		}
		out = out[p.bits*lanes*4:]
	}
}

// wordBytes is how far a word of a lane is from the one before.
const wordBytes = lanes * 4

// packBits puts one bit of each code of all blocks into the words of a lane, of which out begins with the first; eight columns at a time.
func packBits(out []byte, size int, row []byte, shift int) {
	const field = 0x0101010101010101
	for ; len(row) >= integerColumns; row = row[integerColumns:] {
		a, b, c, d := eight(row)>>shift&field, eight(row[8:])>>shift&field, eight(row[16:])>>shift&field, eight(row[24:])>>shift&field
		all := a | b<<2 | c<<4 | d<<6
		binary.LittleEndian.PutUint32(out, uint32(all|all>>31))
		out = out[min(size, len(out)):]
	}
}

// packPairs is packBits for two bits of each code.
func packPairs(out []byte, size int, row []byte, shift int) {
	const field = 0x0303030303030303
	for ; len(row) >= integerColumns; row = row[integerColumns:] {
		a, b := eight(row)>>shift&field|eight(row[8:])>>shift&field<<4, eight(row[16:])>>shift&field|eight(row[24:])>>shift&field<<4
		_ = out[wordBytes+3]
		binary.LittleEndian.PutUint32(out, uint32(a|a>>30))
		binary.LittleEndian.PutUint32(out[wordBytes:], uint32(b|b>>30))
		out = out[min(size, len(out)):]
	}
}

// packNibbles is packBits for the low four bits of each code.
func packNibbles(out []byte, size int, row []byte) {
	const field = 0x0f0f0f0f0f0f0f0f
	for ; len(row) >= integerColumns; row = row[integerColumns:] {
		a, b, c, d := eight(row)&field, eight(row[8:])&field, eight(row[16:])&field, eight(row[24:])&field
		_ = out[3*wordBytes+3]
		binary.LittleEndian.PutUint32(out, uint32(a|a>>28))
		binary.LittleEndian.PutUint32(out[wordBytes:], uint32(b|b>>28))
		binary.LittleEndian.PutUint32(out[2*wordBytes:], uint32(c|c>>28))
		binary.LittleEndian.PutUint32(out[3*wordBytes:], uint32(d|d>>28))
		out = out[min(size, len(out)):]
	}
}

// packBytes is packBits for all of each code.
func packBytes(out []byte, size int, row []byte) {
	for ; len(row) >= integerColumns; row = row[integerColumns:] {
		words := out[:7*wordBytes+4]
		for i := range 8 {
			binary.LittleEndian.PutUint32(words[i*wordBytes:], binary.LittleEndian.Uint32(row[4*i:]))
		}
		out = out[min(size, len(out)):]
	}
}

func eight(row []byte) uint64 { return binary.LittleEndian.Uint64(row) }

// walk counts through the numbers of a row that stand each for so many of what is counted, from the one that holds the first.
type walk struct{ number, left, each int }

// walkFrom begins a walk at what has this place in a whole row.
func walkFrom(place, each int) walk { return walk{left: each - place%each, each: each} }

// next is the number, from 0 on, that the next one has.
func (w *walk) next() int {
	if w.left == 0 {
		w.number, w.left = w.number+1, w.each
	}
	w.left--
	return w.number
}

// packScales spreads a row's scales and offsets over their lane of all blocks.
func (n *integers) packScales(panel []byte, lane int, row *codes.Row) {
	f := &integerForms[n.form]
	switch f.scales {
	case halfPair:
		n.packNumbers(panel[2*lanes:], lane, row.Offset)
		fallthrough
	case halfScale:
		n.packNumbers(panel, lane, row.Scale)
	case nestedOne:
		n.packNested(panel, panel[2*lanes:], lane, n.scheme.Scale, row.Scale)
	case nestedPair:
		n.packNested(panel, panel[4*lanes:], lane, n.scheme.Scale, row.Scale)
		n.packNested(panel[2*lanes:], panel[(4+f.groups())*lanes:], lane, n.scheme.Offset, row.Offset)
	default:
		n.packWide(panel, lane, row)
	}
}

// packNumbers stores a number in every block.
func (n *integers) packNumbers(blocks []byte, lane int, row *codes.Row) {
	size, groups := integerForms[n.form].bytes(), walkFrom(n.first/integerColumns, n.scheme.Group/integerColumns)
	for at := 2 * lane; at < len(blocks); at += size {
		binary.LittleEndian.PutUint16(blocks[at:], uint16(row.Numbers[groups.next()]))
	}
}

// packNested stores in every block the codes of its groups' scales and the number that they are multiplied by; blocks and behind
// begin where the first block has these.
func (n *integers) packNested(blocks, behind []byte, lane int, s *codes.Scheme, row *codes.Row) {
	f := &integerForms[n.form]
	size, first, each := f.bytes(), n.first/f.group, n.scheme.Group/f.group
	groups, supers := walkFrom(first, each), walkFrom(first/f.groups(), each*s.Group/f.groups())
	codes, numbers, pair := row.Codes, row.Scale.Numbers, f.groups() == 2
	behind = behind[lane:]
	for at := 2 * lane; at < len(blocks); at += size {
		binary.LittleEndian.PutUint16(blocks[at:], uint16(numbers[supers.next()]))
		behind[0] = codes[groups.next()]
		if pair {
			behind[lanes] = codes[groups.next()]
		}
		behind = behind[min(size, len(behind)):]
	}
}

// packWide stores the values of scales and offsets.
func (n *integers) packWide(panel []byte, lane int, row *codes.Row) {
	f := &integerForms[n.form]
	start, end := n.scheme.Span(n.first, n.first+len(row.Codes))
	scales, offsets := make([]float32, end-start), make([]float32, end-start)
	n.scheme.Scale.Values(scales, row.Scale, start)
	if f.scales == widePair {
		n.scheme.Offset.Values(offsets, row.Offset, start)
	}
	groups := walkFrom(n.first/f.group, n.scheme.Group/f.group)
	for ; len(panel) > 0; panel = panel[f.bytes():] {
		for g := range f.groups() {
			group := groups.next()
			putFloat(panel[(4*g*lanes)+4*lane:], scales[group])
			if f.scales != widePair {
				continue
			}
			offset := offsets[group]
			if n.scheme.Zero {
				offset *= -scales[group]
			}
			putFloat(panel[4*(f.groups()+g)*lanes+4*lane:], offset)
		}
	}
}

func putFloat(to []byte, v float32) { binary.LittleEndian.PutUint32(to, math.Float32bits(v)) }
