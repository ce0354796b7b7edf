package cpu

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"lockstep/shard/codes"
)

// Coded is the format of a matrix whose weights are codes with scales, see NewCoded. It has no source layout.
const Coded Format = formats

// coded is the layout of one array of numbers in every panel of a matrix, followed by those of its scales and offsets:
//
//   - plain numbers as in a matrix of that format, [column][16] or, of BF16, [column pair][16];
//   - codes in planes: per block of unit columns, the low bits of all codes in [word][16] uint32, then those above. Each word
//     has the bits of consecutive columns, the first in the lowest.
//
// Scales are such an array whose columns are the groups.
type coded struct {
	scheme        *codes.Scheme
	columns       int     // with those that fill the last block
	offset, bytes int     // in a panel; bytes of all arrays
	index         []int32 // by column: 64 * (its group - the first), where its scales lie when they are widened; nil: plain
	groups        int
	mixed         bool   // groups change within a run
	scaleUnit     int    // groups are widened in multiples of it
	scale, shift  *coded // shift are the offsets; nil: none
}

// plane is a part of the bits of a code.
type plane struct{ bits, shift int }

// planes are those of a kind, in the order in which they lie.
func planes(k codes.Kind) []plane {
	switch k {
	case codes.Bits3:
		return []plane{{2, 0}, {1, 2}}
	case codes.Bits5:
		return []plane{{4, 0}, {1, 4}}
	case codes.Bits6:
		return []plane{{4, 0}, {2, 4}}
	}
	return []plane{{k.Bits(), 0}}
}

// unit returns the columns of a block: those of a word of the thinnest plane, but no fewer than 8, or a pair of numbers.
func unit(k codes.Kind) int {
	if k.Plain() {
		return 2
	}
	all := planes(k)
	return max(32/all[len(all)-1].bits, 8)
}

// run returns the columns, from a multiple of them on, that have one scale where groups are not mixed.
func run(k codes.Kind) int { return min(unit(k), 16) }

// roundUp returns the least multiple of unit, a power of two, that is no less than n.
func roundUp(n, unit int) int { return (n + unit - 1) &^ (unit - 1) }

// layout lays out columns from first on of rows of a scheme, rounded up to unit, offset bytes into a panel.
func layout(s *codes.Scheme, first, columns, unit, offset int) *coded {
	c := &coded{scheme: s, columns: roundUp(columns, unit), offset: offset}
	c.bytes = c.columns * s.Kind.Bits() / 8 * lanes
	if s.Kind.Plain() {
		return c
	}
	start, end := s.Span(first, first+columns)
	c.groups = end - start
	c.index = make([]int32, c.columns)
	for i := range c.index {
		c.index[i] = int32(s.GroupOf(first+min(i, columns-1))-start) * lanes * 4
	}
	for i := range c.index {
		c.mixed = c.mixed || c.index[i] != c.index[i&^(run(s.Kind)-1)]
	}
	c.scaleUnit = scaleUnit(s)
	c.scale = layout(s.Scale, start, c.groups, c.scaleUnit, offset+c.bytes)
	c.bytes += c.scale.bytes
	if s.Offset != nil {
		c.shift = layout(s.Offset, start, c.groups, c.scaleUnit, offset+c.bytes)
		c.bytes += c.shift.bytes
	}
	return c
}

// scaleUnit is what suits scales and offsets.
func scaleUnit(s *codes.Scheme) int {
	if s.Offset == nil {
		return unit(s.Scale.Kind)
	}
	return max(unit(s.Scale.Kind), unit(s.Offset.Kind))
}

// checkScheme refuses what has no layout: scales below scales below scales, and kinds that take more scales at a time than a
// small matrix has.
func checkScheme(s *codes.Scheme, depth int) error {
	if s.Kind.Plain() && depth > 0 {
		return nil
	}
	if s.Kind.Plain() || depth > 1 || depth > 0 && unit(s.Kind) > 8 || s.Scale == nil {
		return fmt.Errorf("%w: numbers of kind %d cannot stand there", ErrShape, s.Kind)
	}
	if err := checkScheme(s.Scale, depth+1); err != nil || s.Offset == nil {
		return err
	}
	return checkScheme(s.Offset, depth+1)
}

// NewCoded describes a matrix of codes: of whole rows that mean what the scheme says, the columns from first on. The caller
// fills data, of at least CodedBytes, with PackCoded. Where there is more than one chunk, each is a multiple of 32 columns.
func NewCoded(s *codes.Scheme, first, rows, columns, chunks int, data []byte) (*Matrix, error) {
	m := &Matrix{Format: Coded, Rows: rows, Columns: columns, Chunks: chunks, Data: data}
	if err := m.check(32, 1); err != nil {
		return nil, err
	}
	if err := checkScheme(s, 0); err != nil {
		return nil, err
	}
	m.coded = layout(s, first, columns, unit(s.Kind), 0)
	if m.coded.mixed && !slices.Contains([]codes.Kind{codes.Bits4, codes.Bits8, codes.E4M3}, s.Kind) {
		return nil, fmt.Errorf("%w: groups of %d columns of kind %d, which are no multiples of %d", ErrShape, s.Group, s.Kind, run(s.Kind))
	}
	return m, m.checkData()
}

// CodedBytes returns the size of the packed storage of a matrix of codes; 0: NewCoded refuses it.
func CodedBytes(s *codes.Scheme, first, rows, columns int) int {
	if columns < 1 || checkScheme(s, 0) != nil {
		return 0
	}
	return (rows + lanes - 1) / lanes * layout(s, first, columns, unit(s.Kind), 0).bytes
}

// PackCoded is PackPanel for a matrix of codes, also of Integers. row gives the columns of a row that the matrix has.
func (m *Matrix) PackCoded(panel int, row func(row int) *codes.Row) {
	out, rows := m.panel(panel), min(lanes, m.Rows-panel*lanes)
	if m.integers == nil || rows < lanes { // else every byte is written
		clear(out)
	}
	for lane := range rows {
		if m.integers != nil {
			m.integers.pack(out, lane, row(panel*lanes+lane))
			continue
		}
		m.coded.pack(out, lane, row(panel*lanes+lane))
	}
}

// pack spreads a row over its lane of a panel.
func (c *coded) pack(panel []byte, lane int, row *codes.Row) {
	if c.scheme.Kind.Plain() {
		for i, bits := range row.Numbers {
			c.packNumber(panel, lane, i, bits)
		}
		return
	}
	c.packCodes(panel[c.offset:], lane, row.Codes)
	c.scale.pack(panel, lane, row.Scale)
	if c.shift != nil {
		c.shift.pack(panel, lane, row.Offset)
	}
	if c.scheme.Kind == codes.E4M3 {
		c.packNaNs(panel, lane, row.Codes)
	}
}

// packNumber stores a plain number of a lane.
func (c *coded) packNumber(panel []byte, lane, column int, bits uint32) {
	out := panel[c.offset:]
	switch c.scheme.Kind {
	case codes.F32:
		binary.LittleEndian.PutUint32(out[(column*lanes+lane)*4:], bits)
	case codes.F16:
		binary.LittleEndian.PutUint16(out[(column*lanes+lane)*2:], uint16(bits))
	case codes.BF16:
		binary.LittleEndian.PutUint16(out[bf16Offset(column, lane):], uint16(bits))
	}
}

// packNaNs makes the scale one of the groups that have a code for what is no number: the kernels know no such code, and the sum
// over the row comes to the same.
func (c *coded) packNaNs(panel []byte, lane int, row []byte) {
	nan := map[codes.Kind]uint32{codes.F32: 0x7fc00000, codes.F16: 0x7e00, codes.BF16: 0x7fc0}[c.scale.scheme.Kind]
	for i, code := range row {
		if code&0x7f == 0x7f {
			c.scale.packNumber(panel, lane, int(c.index[i])/(lanes*4), nan)
		}
	}
}

func (c *coded) packCodes(out []byte, lane int, row []byte) {
	u, all := unit(c.scheme.Kind), planes(c.scheme.Kind)
	var block [32]byte
	for len(row) > 0 {
		n := copy(block[:u], row)
		clear(block[n:])
		row = row[n:]
		for _, p := range all {
			for i := 0; i < u; i += 8 {
				gather(out[(i*p.bits/32*lanes+lane)*4+i*p.bits/8%4:], binary.LittleEndian.Uint64(block[i:])>>p.shift, p.bits)
			}
			out = out[u*p.bits/8*lanes:]
		}
	}
}

// gather puts the low bits of 8 bytes together, the first byte's lowest, into a quarter or half of a lane's word, or one or two
// words.
func gather(out []byte, x uint64, bits int) {
	switch bits {
	case 1:
		out[0] = byte(x & 0x0101010101010101 * 0x0102040810204080 >> 56) // byte i times 2^(56-7i) leaves its bit at 56+i
	case 2:
		x &= 0x0303030303030303
		x = (x | x>>6) & 0x000f000f000f000f
		x = (x | x>>12) & 0x000000ff000000ff
		binary.LittleEndian.PutUint16(out, uint16(x|x>>24))
	case 4:
		x &= 0x0f0f0f0f0f0f0f0f
		x = (x | x>>4) & 0x00ff00ff00ff00ff
		x = (x | x>>8) & 0x0000ffff0000ffff
		binary.LittleEndian.PutUint32(out, uint32(x|x>>16))
	case 8:
		binary.LittleEndian.PutUint32(out, uint32(x))
		binary.LittleEndian.PutUint32(out[lanes*4:], uint32(x>>32))
	}
}

// codeAt returns the code of column i (of unit) of a lane in a block.
func codeAt(k codes.Kind, block []byte, lane, i int) (code byte) {
	for _, p := range planes(k) {
		each := 32 / p.bits
		word := binary.LittleEndian.Uint32(block[(i/each*lanes+lane)*4:])
		code |= byte(word>>(i%each*p.bits)) & (1<<p.bits - 1) << p.shift
		block = block[unit(k)/each*lanes*4:]
	}
	return code
}

// at returns the exact value of one number of a lane.
func (c *coded) at(panel []byte, lane, column int) float32 {
	data := panel[c.offset:]
	kind := c.scheme.Kind
	switch kind {
	case codes.F32:
		return math.Float32frombits(binary.LittleEndian.Uint32(data[(column*lanes+lane)*4:]))
	case codes.F16:
		return halfAt(data[(column*lanes+lane)*2:])
	case codes.BF16:
		return kind.Number(uint32(binary.LittleEndian.Uint16(data[bf16Offset(column, lane):])))
	}
	u := unit(kind)
	level := kind.Level(codeAt(kind, data[c.codeBytes(column/u*u):], lane, column%u))
	group := int(c.index[column]) / (lanes * 4)
	scale, offset := c.scale.at(panel, lane, group), float32(0)
	switch {
	case c.shift != nil && c.scheme.Zero:
		offset = -c.shift.at(panel, lane, group) * scale
	case c.shift != nil:
		offset = c.shift.at(panel, lane, group)
	case c.scheme.Bias != 0:
		offset = scale * c.scheme.Bias
	}
	return fma32(level, scale, offset)
}

// codeBytes returns where a column lies behind offset; it is a multiple of unit.
func (c *coded) codeBytes(column int) int { return column * c.scheme.Kind.Bits() / 8 * lanes }

// span returns the groups that count columns need, widened to whole units.
func (c *coded) span(column, count int) (first, n int) {
	end := c.groups
	if c.scheme.Index == nil {
		first = int(c.index[column]) / (lanes * 4) &^ (c.scaleUnit - 1)
		end = int(c.index[column+count-1])/(lanes*4) + 1
	}
	return first, roundUp(end-first, c.scaleUnit)
}

// ones are what biases, and activations without a gate, are multiplied by; they are never changed.
var ones = slices.Repeat([]float32{1}, 64*lanes)

// widen writes count columns of a panel as [count][16] floats, and those that fill the last unit. column is a multiple of the
// unit. depth is 0 for weights and 1 for their scales.
func (k *Kernels) widen(dst []float32, panel unsafe.Pointer, c *coded, column, count, depth int, s *Scratch) {
	if depth == 0 { // else it is
		count = roundUp(count, unit(c.scheme.Kind))
	}
	data := (*byte)(unsafe.Add(panel, c.offset+c.codeBytes(column)))
	switch kind := c.scheme.Kind; kind {
	case codes.F32:
		copy(dst, unsafe.Slice((*float32)(unsafe.Pointer(data)), count*lanes))
		return
	case codes.F16:
		k.dequant[F16](&dst[0], data, count)
		return
	case codes.BF16:
		k.dequant[BF16](&dst[0], data, count)
		return
	}
	first, n := c.span(column, count)
	scales, offsets := Grow(&s.scales[depth], n*lanes), Grow(&s.offsets[depth], n*lanes)
	k.widenScales(scales, offsets, panel, c, first, n, depth, s)
	kernel := k.codes[c.scheme.Kind]
	if c.mixed {
		kernel = k.mixed[c.scheme.Kind]
	}
	kernel(&dst[0], data, &scales[0], &offsets[0], &c.index[column], first*lanes*4, count)
}

// widenScales writes scales and offsets of n groups as [n][16] floats.
func (k *Kernels) widenScales(scales, offsets []float32, panel unsafe.Pointer, c *coded, first, n, depth int, s *Scratch) {
	k.widen(scales, panel, c.scale, first, n, depth+1, s)
	bias := c.scheme.Bias
	switch {
	case c.shift != nil:
		k.widen(offsets, panel, c.shift, first, n, depth+1, s)
		if c.scheme.Zero {
			k.scale(&offsets[0], &offsets[0], &scales[0], n*lanes, -1)
		}
	case bias == 0:
		clear(offsets)
	default:
		for at := 0; at < n*lanes; at += len(ones) {
			k.scale(&offsets[at], &scales[at], &ones[0], min(len(ones), n*lanes-at), bias)
		}
	}
}

// gemvColumns are what gemvCoded takes at a time of each panel, enough that few scales are widened in vain. Where groups lie in
// any order, it takes all that it can: each time, the scales of all groups are widened.
const gemvColumns = 512

// gemvCoded is MatMul for one row of a matrix of codes.
func (k *Kernels) gemvCoded(dst, x []float32, w *Matrix, panel0, panel1 int, s *Scratch) {
	chunk, panelBytes, step := w.Columns/w.Chunks, w.panelBytes(), gemvColumns
	kernels := &k.gemvCodes[w.coded.scheme.Kind]
	if w.coded.mixed {
		kernels = &k.gemvMixed[w.coded.scheme.Kind]
	}
	if w.coded.scheme.Index != nil && kernels[1] != nil {
		step = chunk
	}
	sums := Grow(&s.sums, 4*maxPanels*lanes)
	for panel := panel0; panel < panel1; {
		count := 1
		if panel+1 < panel1 && kernels[2] != nil {
			count = 2
		}
		n, depth := lanes*count, 0
		data := unsafe.Pointer(&w.Data[panel*panelBytes])
		for c := range w.Chunks {
			top := sums[depth*n:][:n]
			clear(top)
			for column := c * chunk; column < (c+1)*chunk; column += step {
				k.gemvSlice(kernels[count], top, x[column:], data, panelBytes, w.coded, column, min(step, (c+1)*chunk-column), s)
			}
			depth = k.combine(sums, n, depth+1, c)
		}
		out := panel * lanes
		copy(dst[out:min(out+n, w.Rows)], sums[:n])
		panel += count
	}
}

// gemvSlice continues the chains of sums, 16 of a panel, over count columns: by the kernel, if there is one, but for the last
// columns that are no whole unit, which are widened.
func (k *Kernels) gemvSlice(kernel gemvCodesFunc, sums, x []float32, panel unsafe.Pointer, panelBytes int, c *coded, column, count int,
	s *Scratch) {
	panels, whole := len(sums)/lanes, 0
	if kernel != nil {
		whole = count &^ (unit(c.scheme.Kind) - 1)
	}
	if whole > 0 {
		first, n := c.span(column, whole)
		scales, offsets := Grow(&s.scales[0], panels*n*lanes), Grow(&s.offsets[0], panels*n*lanes)
		for i := range panels {
			k.widenScales(scales[i*n*lanes:][:n*lanes], offsets[i*n*lanes:][:n*lanes], unsafe.Add(panel, i*panelBytes), c, first, n, 0, s)
		}
		data := (*byte)(unsafe.Add(panel, c.offset+c.codeBytes(column)))
		kernel(&sums[0], &x[0], data, panelBytes, &scales[0], &offsets[0], n*lanes*4, &c.index[column], first*lanes*4, whole)
	}
	if rest := count - whole; rest > 0 {
		wide := Grow(&s.weights, gemvColumns*lanes)
		for i := range panels {
			k.widen(wide, unsafe.Add(panel, i*panelBytes), c, column+whole, rest, 0, s)
			k.gemv[F32][1](&sums[i*lanes], &x[whole], (*byte)(unsafe.Pointer(&wide[0])), 0, rest)
		}
	}
}
