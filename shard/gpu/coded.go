package gpu

import (
	"encoding/binary"
	"fmt"
	"slices"

	"lockstep/shard/codes"
	"lockstep/shard/model"
)

// codedSettings are struct Coded of kernels/product.cuh, scaleSettings its struct Scales.
type (
	codedSettings struct {
		codes           Address
		levels          Address
		groups          Address
		expert          uint64
		scales, offsets scaleSettings
		bits            int32
		offset, zero    int32
		_               int32
	}
	scaleSettings struct {
		numbers, above                        Address
		expert, expertAbove                   uint64
		kind, groups, size, lead, shift, mask int32
		bias                                  float32
		_                                     int32
	}
)

// scaleKinds are the kernels' numbers of kinds of scales.
var scaleKinds = map[codes.Kind]int32{codes.F32: 0, codes.F16: 1, codes.BF16: 2, codes.Bits4: 3, codes.Bits8: 3}

// codedMatrix says how a matrix of codes lies on the device.
type codedMatrix struct {
	matrix
	linear          *model.Linear
	scheme          *codes.Scheme
	first           int // group
	groups          int
	order           []int32 // by column of the steps: the column of the input, whose chunks begin steps of their own; -1: none
	groupOf         []int32 // by step
	scales, offsets scaleSettings
}

// codeBytes is the size of a tile's codes.
func (m *codedMatrix) codeBytes() int { return m.taken * 32 * m.scheme.Kind.Bits() }

// numberBytes and aboveBytes are the sizes of a tile's scales, and of the scales of these.
func (s *scaleSettings) numberBytes() int {
	return int(s.groups) * step * map[int32]int{0: 4, 1: 2, 2: 2, 3: 1}[s.kind]
}

func (s *scaleSettings) aboveBytes() int {
	if s.kind != scaleKinds[codes.Bits8] {
		return 0
	}
	return int((s.groups+s.lead+s.size-1)/s.size) * step * 2
}

// describeCodes says how a rank's part of a linear operation of codes will lie.
func describeCodes(l *model.Linear) (*codedMatrix, error) {
	scheme := l.Scheme()
	m := &codedMatrix{linear: l, scheme: scheme}
	m.tiles, m.terms, m.coded = steps(l.Rows.Size()), 1, true
	var end int
	m.first, end = scheme.Span(l.Columns.From, l.Columns.To)
	m.groups = end - m.first
	m.arrange(l)
	var err error
	if m.scales, err = m.describeScales(scheme.Scale, scheme.Offset, 0); err == nil && scheme.Offset != nil {
		m.offsets, err = m.describeScales(scheme.Offset, scheme.Scale, 4)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.Name, err)
	}
	return m, nil
}

// arrange gives each group of a chunk steps of its own, in the order in which the groups begin.
func (m *codedMatrix) arrange(l *model.Linear) {
	columns := l.Columns.Size()
	chunkColumns := columns / l.Chunks
	m.input = inputOf(columns, l.Chunks)
	padded := m.steps / l.Chunks * step
	var chunks [][]int32 // of columns, -1 where a step has none
	var groups [][]int32
	longest := 0
	for chunk := range l.Chunks {
		byGroup := map[int][]int32{}
		var seen []int
		for i := range chunkColumns {
			group := m.scheme.GroupOf(l.Columns.From+chunk*chunkColumns+i) - m.first
			if byGroup[group] == nil {
				seen = append(seen, group)
			}
			byGroup[group] = append(byGroup[group], int32(chunk*padded+i))
		}
		slices.Sort(seen)
		var order, groupOf []int32
		for _, group := range seen {
			order = append(order, byGroup[group]...)
			for len(order)%step > 0 {
				order = append(order, -1)
			}
			for len(groupOf) < len(order)/step {
				groupOf = append(groupOf, int32(group))
			}
		}
		chunks, groups = append(chunks, order), append(groups, groupOf)
		longest = max(longest, len(order))
	}
	plain := longest == padded
	for chunk, order := range chunks {
		for len(order) < longest { // further steps go on with the last group
			order = append(order, -1)
		}
		for i, column := range order {
			plain = plain && (column < 0 && i >= chunkColumns || int(column) == chunk*padded+i)
		}
		m.order = append(m.order, order...)
		groupOf := groups[chunk]
		for len(groupOf) < longest/step {
			groupOf = append(groupOf, groupOf[len(groupOf)-1])
		}
		m.groupOf = append(m.groupOf, groupOf...)
	}
	m.taken = l.Chunks * longest / step
	if plain {
		m.order = nil
	}
}

// lengthen gives the chunks so many steps in all. Those that are added have no columns, and go on with the last group of their chunk.
func (m *codedMatrix) lengthen(taken int) {
	have, more := m.taken/m.chunks, (taken-m.taken)/m.chunks
	for chunk := m.chunks; chunk > 0 && more > 0; chunk-- { // the last first: those before stay where they are
		end := chunk * have
		m.order = slices.Insert(m.order, end*step, slices.Repeat([]int32{-1}, more*step)...)
		m.groupOf = slices.Insert(m.groupOf, end, slices.Repeat(m.groupOf[end-1:end], more)...)
	}
	m.taken = taken
}

// describeScales says how scales, or offsets, lie. Two of 4 bits share a byte, in which these begin at a bit.
func (m *codedMatrix) describeScales(scheme, other *codes.Scheme, at int32) (s scaleSettings, err error) {
	kind, known := scaleKinds[scheme.Kind]
	s = scaleSettings{kind: kind, groups: int32(m.groups), size: 1, mask: 0xff, bias: scheme.Bias}
	switch {
	case !known:
		return s, fmt.Errorf("scales of kind %d are not computed on cards", scheme.Kind)
	case scheme.Kind.Plain():
		return s, nil
	case scheme.Offset != nil || scheme.Index != nil || scheme.Scale == nil || scheme.Scale.Kind != codes.F16:
		return s, fmt.Errorf("scales of scales of kind %d are not computed on cards", scheme.Kind)
	}
	s.size, s.lead = int32(scheme.Group), int32(m.first%scheme.Group)
	if scheme.Kind == codes.Bits4 && other != nil && other.Kind == codes.Bits4 {
		s.shift, s.mask = at, 15
	}
	return s, nil
}

// packTile puts the codes and scales of an output into its tile: codes, scales and those of scales, offsets and those of offsets.
func (m *codedMatrix) packTile(parts [][]byte, output int, row *codes.Row) {
	chunkColumns, padded := m.columns/m.chunks, m.steps/m.chunks*step
	bits := m.scheme.Kind.Bits()
	for i := range m.taken * step {
		column := i
		if m.order != nil {
			column = int(m.order[i])
		}
		if column < 0 || column%padded >= chunkColumns {
			continue
		}
		at := slot(output, i%step)
		putCode(parts[0][i/step*32*bits:][:32*bits], bits, at/8, at%8, row.Codes[column/padded*chunkColumns+column%padded])
	}
	m.scales.put(parts[1], parts[2], m.scheme.Scale, row.Scale, output)
	switch {
	case m.scheme.Offset == nil:
	case m.offsets.shift > 0:
		m.offsets.put(parts[1], parts[4], m.scheme.Offset, row.Offset, output)
	default:
		m.offsets.put(parts[3], parts[4], m.scheme.Offset, row.Offset, output)
	}
}

// lowBits is how many bits of a code are in the first plane, by its size.
var lowBits = [9]int{2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 8: 8}

// putCode puts the i-th code of a lane into a step's planes.
func putCode(to []byte, bits, lane, i int, code byte) {
	low := lowBits[bits]
	put := func(to []byte, bits int, code byte) { // of one plane, a lane's codes in a line
		at := (lane*8 + i) * bits
		to[at/8] |= code << (at % 8)
	}
	put(to, low, code&(1<<low-1))
	if high := bits - low; high > 0 {
		put(to[32*low:], high, code>>low)
	}
}

// put puts an output's scales into its tile's.
func (s *scaleSettings) put(numbers, above []byte, scheme *codes.Scheme, row *codes.Row, output int) {
	le := binary.LittleEndian
	for group, number := range row.Numbers {
		if at := group*step + output; scheme.Kind == codes.F32 {
			le.PutUint32(numbers[4*at:], number)
		} else {
			le.PutUint16(numbers[2*at:], uint16(number))
		}
	}
	if scheme.Kind.Plain() {
		return
	}
	for group, code := range row.Codes {
		numbers[group*step+output] |= code << s.shift
	}
	for group, number := range row.Scale.Numbers {
		le.PutUint16(above[2*(group*step+output):], uint16(number))
	}
}

// levels are those of a scheme's codes, with its bias, which stands for offsets where there are none.
func levels(s *codes.Scheme) []uint16 {
	bias := s.Bias
	if s.Offset != nil {
		bias = 0
	}
	all := make([]uint16, 1<<s.Kind.Bits())
	for code := range all {
		all[code] = bf16(s.Kind.Level(byte(code)) + bias)
	}
	return all
}

// packCodes uploads a rank's part of the same linear operation of several experts, or of one alone, whose codes are all of one form.
func (b *Backend) packCodes(all []*codedMatrix) (matrix, error) {
	first, taken := all[0], 0
	for _, m := range all {
		taken = max(taken, m.taken)
	}
	for _, m := range all {
		m.lengthen(taken)
	}
	m, s := first.matrix, codedSettings{bits: int32(first.scheme.Kind.Bits()), scales: first.scales, offsets: first.offsets}
	if first.scheme.Offset != nil {
		s.zero = truth(first.scheme.Zero)
		s.offset = 1 - s.zero
	}
	layout := &tileLayout{tiles: m.tiles}
	numbers, above := []int{first.scales.numberBytes(), 0}, []int{first.scales.aboveBytes(), 0}
	if first.scheme.Offset != nil {
		numbers[1], above[1] = first.offsets.numberBytes(), first.offsets.aboveBytes()
		if first.offsets.shift > 0 {
			numbers[1] = 0
		}
	}
	s.expert = uint64(m.tiles * first.codeBytes())
	s.scales.expert, s.scales.expertAbove = uint64(m.tiles*numbers[0]), uint64(m.tiles*above[0]/2)
	s.offsets.expert, s.offsets.expertAbove = uint64(m.tiles*numbers[1]), uint64(m.tiles*above[1]/2)
	for _, part := range []struct {
		to    *Address
		bytes int
	}{{&s.codes, first.codeBytes()}, {&s.scales.numbers, numbers[0]}, {&s.scales.above, above[0]}, {&s.offsets.numbers, numbers[1]},
		{&s.offsets.above, above[1]}} {
		var err error
		if *part.to, err = b.alloc(part.bytes * m.tiles * len(all)); err != nil {
			return m, err
		}
		layout.parts = append(layout.parts, tilePart{*part.to, part.bytes})
	}
	for _, codes := range all {
		if err := b.uploadCodes(layout, codes); err != nil {
			return m, err
		}
		for j := range layout.parts {
			layout.parts[j].to += Address(m.tiles * layout.parts[j].bytes)
		}
	}
	if first.offsets.shift > 0 {
		s.offsets.numbers, s.offsets.expert = s.scales.numbers, s.scales.expert
	}
	return b.tellCodes(m, all, &s)
}

// uploadCodes uploads what one expert has, or a linear operation alone.
func (b *Backend) uploadCodes(layout *tileLayout, m *codedMatrix) error {
	l := m.linear
	spread := make([]codes.Row, b.team.Size())
	layout.release = l.Release
	layout.pack = func(worker, tile int, parts [][]byte) {
		for i := range min(step, l.Rows.Size()-tile*step) {
			l.Codes(&spread[worker], l.Rows.From+tile*step+i, l.Columns.From, l.Columns.To)
			m.packTile(parts, i, &spread[worker])
		}
	}
	return b.uploadTiles(layout)
}

// tellCodes uploads what kernels are told of matrices of codes that lie behind one another.
func (b *Backend) tellCodes(m matrix, all []*codedMatrix, s *codedSettings) (matrix, error) {
	var groups, order []int32
	for _, codes := range all {
		groups, order = append(groups, codes.groupOf...), append(order, codes.order...)
	}
	for _, u := range []struct {
		to   *Address
		data []byte
	}{{&s.levels, bytesOf(levels(all[0].scheme))}, {&s.groups, bytesOf(groups)}, {&m.order, bytesOf(order)}} {
		if len(u.data) > 0 {
			var err error
			if *u.to, err = b.tell(u.data); err != nil {
				return m, err
			}
		}
	}
	var err error
	m.data, err = b.tell(bytesOfStruct(s))
	return m, err
}

// sameForm reports whether two experts' matrices can lie behind one another. Orders, and which group a step is of, are each one's own.
func (m *codedMatrix) sameForm(other *codedMatrix) bool {
	return m.scales == other.scales && m.offsets == other.offsets && m.tiles == other.tiles && m.groups == other.groups &&
		(m.order == nil) == (other.order == nil) && m.scheme.Kind == other.scheme.Kind &&
		m.scheme.Bias == other.scheme.Bias && m.scheme.Zero == other.scheme.Zero && (m.scheme.Offset == nil) == (other.scheme.Offset == nil)
}
