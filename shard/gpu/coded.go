package gpu

import (
	"encoding/binary"
	"fmt"
	"slices"

	"lockstep/shard/codes"
	"lockstep/shard/model"
	"lockstep/shard/weights"
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

// schemeOf says what the codes of a linear operation mean; nil: it has none.
func schemeOf(l *model.Linear) *codes.Scheme {
	halves := &codes.Scheme{Kind: codes.F16}
	switch l.Encoding.Form() {
	case weights.FormInt8:
		return &codes.Scheme{Kind: codes.Bits8, Group: 32, Scale: halves, Bias: -128}
	case weights.FormInt4:
		return &codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: halves, Bias: -8}
	case weights.FormInt4Min:
		return &codes.Scheme{Kind: codes.Bits4, Group: 32, Scale: halves, Offset: halves}
	}
	return l.Scheme()
}

// readCodes sets spread to the columns of a row that a rank has.
func readCodes(l *model.Linear, row int, buffer *[]byte, spread *codes.Row) {
	from, to := l.Columns.From, l.Columns.To
	form := l.Encoding.Form()
	if form == weights.FormCodes {
		l.Codes(spread, row, from, to)
		return
	}
	spread.Reset(schemeOf(l))
	block := map[weights.Form]int{weights.FormInt8: 34, weights.FormInt4: 18, weights.FormInt4Min: 20}[form]
	for data := l.Bytes(buffer, row, from, to); len(data) > 0; data = data[block:] {
		spread.Scale.Numbers = append(spread.Scale.Numbers, uint32(binary.LittleEndian.Uint16(data)))
		packed := data[2:block]
		switch form {
		case weights.FormInt8:
			for _, code := range packed {
				spread.Codes = append(spread.Codes, code^0x80)
			}
			continue
		case weights.FormInt4Min:
			spread.Offset.Numbers = append(spread.Offset.Numbers, uint32(binary.LittleEndian.Uint16(packed)))
			packed = packed[2:]
		}
		for _, pair := range packed {
			spread.Codes = append(spread.Codes, pair&15)
		}
		for _, pair := range packed {
			spread.Codes = append(spread.Codes, pair>>4)
		}
	}
}

// codedMatrix is a packed matrix of codes before it is on the device.
type codedMatrix struct {
	matrix
	scheme          *codes.Scheme
	first           int // group
	groups          int
	order           []int32 // by column of the steps: the column of the input, whose chunks begin steps of their own; -1: none
	groupOf         []int32 // by step
	codes           []byte
	scales, offsets packedScales
}

// packedScales are scales or offsets, as struct Scales of kernels/product.cuh has them.
type packedScales struct {
	numbers []byte
	above   []uint16
	settled scaleSettings
}

// packCodes lays a rank's part of a linear operation of codes out.
func (b *Backend) packCodes(l *model.Linear, scheme *codes.Scheme) (*codedMatrix, error) {
	m := &codedMatrix{scheme: scheme}
	m.tiles, m.terms = steps(l.Rows.Size()), 1
	var end int
	m.first, end = scheme.Span(l.Columns.From, l.Columns.To)
	m.groups = end - m.first
	m.arrange(l)
	bits := scheme.Kind.Bits()
	m.codes = make([]byte, m.tiles*m.taken*32*bits)
	if err := m.layScales(&m.scales, scheme.Scale, scheme.Offset, 0); err != nil {
		return nil, fmt.Errorf("%s: %w", l.Name, err)
	}
	if scheme.Offset != nil {
		if err := m.layScales(&m.offsets, scheme.Offset, scheme.Scale, 4); err != nil {
			return nil, fmt.Errorf("%s: %w", l.Name, err)
		}
	}
	if b.unread {
		return m, nil
	}
	var buffer []byte
	var spread codes.Row
	for output := range l.Rows.Size() {
		readCodes(l, l.Rows.From+output, &buffer, &spread)
		m.packRow(output, bits, &spread, l.Columns.Size()/l.Chunks)
	}
	l.Release()
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

// layScales makes room for scales, or offsets. Two of 4 bits share a byte, in which these begin at a bit.
func (m *codedMatrix) layScales(s *packedScales, scheme, other *codes.Scheme, at int32) error {
	kind, known := scaleKinds[scheme.Kind]
	if !known {
		return fmt.Errorf("scales of kind %d are not computed on cards", scheme.Kind)
	}
	s.settled = scaleSettings{kind: kind, groups: int32(m.groups), size: 1, mask: 0xff, bias: scheme.Bias}
	numbers := m.tiles * m.groups * step
	if scheme.Kind.Plain() {
		s.numbers = make([]byte, numbers*scheme.Kind.Bits()/8)
		return nil
	}
	if scheme.Offset != nil || scheme.Index != nil || scheme.Scale == nil || scheme.Scale.Kind != codes.F16 {
		return fmt.Errorf("scales of scales of kind %d are not computed on cards", scheme.Kind)
	}
	s.settled.size, s.settled.lead = int32(scheme.Group), int32(m.first%scheme.Group)
	s.above = make([]uint16, m.tiles*s.aboves()*step)
	if scheme.Kind == codes.Bits4 && other != nil && other.Kind == codes.Bits4 {
		s.settled.shift, s.settled.mask = at, 15
		if at > 0 {
			s.numbers = m.scales.numbers
			return nil
		}
	}
	s.numbers = make([]byte, numbers)
	return nil
}

// packRow puts an output's codes and scales into its tile.
func (m *codedMatrix) packRow(output, bits int, row *codes.Row, chunkColumns int) {
	tile, in := output/step, output%step
	padded := steps(chunkColumns) * step
	for i := range m.taken * step {
		column := i
		if m.order != nil {
			column = int(m.order[i])
		}
		if column < 0 || column%padded >= chunkColumns {
			continue
		}
		code := row.Codes[column/padded*chunkColumns+column%padded]
		at := slot(in, i%step)
		putCode(m.codes[(tile*m.taken+i/step)*32*bits:][:32*bits], bits, at/8, at%8, code)
	}
	m.scales.put(m.scheme.Scale, row.Scale, tile, in, m.groups)
	if m.scheme.Offset != nil {
		m.offsets.put(m.scheme.Offset, row.Offset, tile, in, m.groups)
	}
}

// putCode puts the i-th code of a lane into a step's planes.
func putCode(to []byte, bits, lane, i int, code byte) {
	low := map[int]int{2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 8: 8}[bits]
	put := func(to []byte, bits int, code byte) { // of one plane, a lane's codes in a line
		at := (lane*8 + i) * bits
		to[at/8] |= code << (at % 8)
	}
	put(to, low, code&(1<<low-1))
	if high := bits - low; high > 0 {
		put(to[32*low:], high, code>>low)
	}
}

// put puts an output's scales.
func (s *packedScales) put(scheme *codes.Scheme, row *codes.Row, tile, in, groups int) {
	at := func(group int) int { return (tile*groups+group)*step + in }
	if scheme.Kind.Plain() {
		for group, number := range row.Numbers {
			if scheme.Kind == codes.F32 {
				binary.LittleEndian.PutUint32(s.numbers[4*at(group):], number)
			} else {
				binary.LittleEndian.PutUint16(s.numbers[2*at(group):], uint16(number))
			}
		}
		return
	}
	for group, code := range row.Codes {
		s.numbers[at(group)] |= code << s.settled.shift
	}
	for group, number := range row.Scale.Numbers {
		s.above[(tile*s.aboves()+group)*step+in] = uint16(number)
	}
}

// aboves is how many scales of scales a tile has for an output.
func (s *packedScales) aboves() int {
	return int((s.settled.groups + s.settled.lead + s.settled.size - 1) / s.settled.size)
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

// uploadCodes uploads the same matrix of several experts, or of one operation, whose codes are all of one form.
func (b *Backend) uploadCodes(all []*codedMatrix) (m matrix, err error) {
	first := all[0]
	s := codedSettings{bits: int32(first.scheme.Kind.Bits()), expert: uint64(len(first.codes)), scales: first.scales.settled,
		offsets: first.offsets.settled}
	if first.scheme.Offset != nil {
		s.zero = truth(first.scheme.Zero)
		s.offset = 1 - s.zero
	}
	join := func(at *Address, part func(m *codedMatrix) []byte) {
		if err != nil {
			return
		}
		size := len(part(first))
		if *at, err = b.alloc(size * len(all)); err != nil || size == 0 {
			return
		}
		for i, m := range all {
			if err = b.device.Upload(*at+Address(i*size), part(m)); err != nil {
				return
			}
		}
	}
	join(&s.codes, func(m *codedMatrix) []byte { return m.codes })
	join(&s.scales.numbers, func(m *codedMatrix) []byte { return m.scales.numbers })
	join(&s.scales.above, func(m *codedMatrix) []byte { return bytesOf(m.scales.above) })
	s.scales.expert, s.scales.expertAbove = uint64(len(first.scales.numbers)), uint64(len(first.scales.above))
	if first.scheme.Offset != nil {
		if s.offsets.numbers = s.scales.numbers; s.offsets.shift == 0 {
			join(&s.offsets.numbers, func(m *codedMatrix) []byte { return m.offsets.numbers })
		}
		join(&s.offsets.above, func(m *codedMatrix) []byte { return bytesOf(m.offsets.above) })
		s.offsets.expert, s.offsets.expertAbove = uint64(len(first.offsets.numbers)), uint64(len(first.offsets.above))
	}
	m = first.matrix
	m.coded = true
	for _, u := range []struct {
		to   *Address
		data []byte
	}{{&s.levels, bytesOf(levels(first.scheme))}, {&s.groups, bytesOf(first.groupOf)}, {&m.order, bytesOf(first.order)}} {
		if err == nil && len(u.data) > 0 {
			*u.to, err = b.tell(u.data)
		}
	}
	if err == nil {
		m.data, err = b.tell(bytesOfStruct(&s))
	}
	return m, err
}

// sameForm reports whether two experts' matrices can lie behind one another.
func (m *codedMatrix) sameForm(other *codedMatrix) bool {
	return m.tiles == other.tiles && m.taken == other.taken && m.scheme.Kind == other.scheme.Kind && m.groups == other.groups &&
		slices.Equal(m.order, other.order) && slices.Equal(m.groupOf, other.groupOf) && m.scales.settled == other.scales.settled &&
		m.offsets.settled == other.offsets.settled && m.scheme.Bias == other.scheme.Bias && m.scheme.Zero == other.scheme.Zero
}
