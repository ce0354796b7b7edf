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

// packCodes spreads codes over their lane of blocks of so many bytes, eight columns at a time.
func (f *integerForm) packCodes(out []byte, size, lane int, row []byte) {
	for _, p := range planes(f.kind) {
		for block := range len(row) / integerColumns {
			packPlane(out[block*size+lane*4:], (*[integerColumns]byte)(row[block*integerColumns:]), p)
		}
		out = out[p.bits*lanes*4:]
	}
}

// packPlane puts the bits of a block's codes that a plane has into the words of a lane, of which out begins with the first.
func packPlane(out []byte, row *[integerColumns]byte, p plane) {
	const word = lanes * 4 // from one of a lane to the next
	little := binary.LittleEndian
	columns := func(i int) uint64 { return little.Uint64(row[8*i:]) >> p.shift }
	switch p.bits {
	case 1:
		const field = 0x0101010101010101
		a, b, c, d := columns(0)&field, columns(1)&field, columns(2)&field, columns(3)&field
		all := a | b<<2 | c<<4 | d<<6
		little.PutUint32(out, uint32(all|all>>31))
	case 2:
		const field = 0x0303030303030303
		a, b := columns(0)&field|columns(1)&field<<4, columns(2)&field|columns(3)&field<<4
		little.PutUint32(out, uint32(a|a>>30))
		little.PutUint32(out[word:], uint32(b|b>>30))
	case 4:
		const field = 0x0f0f0f0f0f0f0f0f
		out = out[:3*word+4]
		for i := range 4 {
			a := columns(i) & field
			little.PutUint32(out[i*word:], uint32(a|a>>28))
		}
	case 8:
		out = out[:7*word+4]
		for i := range 8 {
			little.PutUint32(out[i*word:], little.Uint32(row[4*i:]))
		}
	}
}

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
	size, first := f.bytes(), n.first/f.group
	each := n.scheme.Group / f.group
	groups, supers := walkFrom(first, each), walkFrom(first, each*s.Group)
	for at := 0; at < len(blocks); at += size {
		super := 0
		for g := range f.groups() {
			behind[at+g*lanes+lane] = row.Codes[groups.next()]
			super = supers.next()
		}
		binary.LittleEndian.PutUint16(blocks[at+2*lane:], uint16(row.Scale.Numbers[super]))
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
