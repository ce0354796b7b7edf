package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"lockstep/shard/gpu"
)

// mirror is a device that does everything on several: on an emulation and a card, whose memory it compares after each launch; or on a
// card alone, of whose launches it keeps a list. Its addresses are its own, so that it finds them in what is uploaded.
type mirror struct {
	sides    []gpu.Device
	memory   []allocation
	loaded   int  // of the memory so much is of weights, which no launch writes
	compare  bool // the sides, after each launch
	filling  bool // large uploads become random numbers on the device
	keeping  bool
	launches []gpu.Launch
	kept     *kept // of a graph that is captured
	way      way
	found    map[string]*comparison // by kernel
	// processors and capability are told of the card in place of its own, where they are not 0.
	processors, capability int
}

// way is how the launches of steps are told to a card.
type way struct {
	single bool // one by one, where there is a graph
	serial bool // none begins before the last one has ended
	ahead  bool // a step is launched before the tokens of the one before it are known
}

func (w way) String() string {
	text := "as a graph"
	if w.single {
		text = "kernel by kernel"
	}
	if !w.serial {
		text += ", overlapping"
	}
	if w.ahead {
		text += ", ahead of its tokens"
	}
	return text
}

// kept are captured launches, and the card's graphs of them: of launches that overlap, and of others.
type kept struct {
	launches            []gpu.Launch
	overlapping, serial gpu.Graph
}

// comparison is what became of the launches of a kernel.
type comparison struct {
	launches, bytes, differ int
	first                   string // difference
}

type allocation struct {
	at    []gpu.Address // by side
	bytes int
	told  []int // allocations to which its contents point
	freed bool
}

// An address of a mirror is this mark, the number of an allocation, and an offset into it, which may be negative, above a middle.
const (
	addressMark = 0x6b << 56
	offsetBits  = 42
	middle      = 1 << (offsetBits - 1)
	// toldBytes is the size of what is looked through for addresses: structs of settings are below.
	toldBytes = 4096
	// filledBytes is the size from which uploads are weights.
	filledBytes = 32 << 10
)

func newMirror(sides ...gpu.Device) *mirror {
	return &mirror{sides: sides, found: map[string]*comparison{}}
}

// locate finds an allocation.
func (m *mirror) locate(address gpu.Address) (number, offset int, ok bool) {
	number, offset = int(address<<8>>(offsetBits+8)), int(address&(1<<offsetBits-1))-middle
	return number, offset, address>>56 == addressMark>>56 && number < len(m.memory)
}

// on is an address on a side; what is no address of a mirror, as null, is the same everywhere.
func (m *mirror) on(side int, address gpu.Address) gpu.Address {
	if number, offset, ok := m.locate(address); ok {
		return m.memory[number].at[side] + gpu.Address(offset)
	}
	return address
}

func (m *mirror) Describe() gpu.Description {
	d := m.sides[len(m.sides)-1].Describe()
	if m.processors > 0 {
		d.Processors = m.processors
	}
	if m.capability > 0 {
		d.Capability = m.capability
	}
	return d
}
func (m *mirror) FreeBytes() (int64, string, error)      { return m.sides[len(m.sides)-1].FreeBytes() }
func (m *mirror) Download(d []byte, a gpu.Address) error { return m.sides[0].Download(d, m.on(0, a)) }
func (m *mirror) Alloc(bytes int) (_ gpu.Address, err error) {
	a := allocation{bytes: bytes}
	for _, side := range m.sides {
		at, err := side.Alloc(bytes)
		if err != nil {
			return 0, err
		}
		a.at = append(a.at, at)
	}
	m.memory = append(m.memory, a)
	address := gpu.Address(addressMark | (len(m.memory)-1)<<offsetBits | middle)
	if m.compare { // fresh memory is the same everywhere
		return address, m.Upload(address, bytes0xff(bytes))
	}
	return address, nil
}

func bytes0xff(n int) []byte { return bytes.Repeat([]byte{0xff}, n) }

func (m *mirror) Free(address gpu.Address) {
	number, _, ok := m.locate(address)
	if !ok || m.memory[number].freed {
		return
	}
	m.memory[number].freed = true
	for i, side := range m.sides {
		side.Free(m.memory[number].at[i])
	}
}

// Close gives back the memory, and leaves the devices open.
func (m *mirror) Close() error {
	for i := range m.memory {
		m.Free(gpu.Address(addressMark | i<<offsetBits | middle))
	}
	return nil
}

func (m *mirror) Upload(to gpu.Address, data []byte) error {
	if m.filling && len(data) >= filledBytes {
		return m.Launch(&gpu.Launch{Kernel: "fill", Grid: [3]int{1024, 1, 1}, Threads: [3]int{256, 1, 1},
			Args: []any{to, uint64(len(data) / 4), int32(to >> offsetBits)}})
	}
	number, _, _ := m.locate(to)
	for side, device := range m.sides {
		translated := data
		if len(data) <= toldBytes {
			translated = bytes.Clone(data)
			for at := 0; at+8 <= len(data); at += 8 {
				address := gpu.Address(binary.LittleEndian.Uint64(data[at:]))
				other, offset, ok := m.locate(address)
				if !ok || offset < 0 || offset > m.memory[other].bytes {
					continue
				}
				binary.LittleEndian.PutUint64(translated[at:], uint64(m.on(side, address)))
				m.memory[number].told = append(m.memory[number].told, other)
			}
		}
		if err := device.Upload(m.on(side, to), translated); err != nil {
			return err
		}
	}
	return nil
}

func (m *mirror) Launch(l *gpu.Launch) error {
	if m.kept != nil {
		m.kept.launches = append(m.kept.launches, *l)
		return nil
	}
	for side, device := range m.sides {
		real := *l
		real.Serial = m.way.serial
		real.Args = slices.Clone(l.Args)
		for i, arg := range real.Args {
			if address, ok := arg.(gpu.Address); ok {
				real.Args[i] = m.on(side, address)
			}
		}
		if err := device.Launch(&real); err != nil {
			return err
		}
	}
	if m.keeping {
		kept := *l
		kept.Args = slices.Clone(l.Args)
		m.launches = append(m.launches, kept)
	}
	if m.compare {
		return m.compareAfter(l)
	}
	return nil
}

// Capture keeps launches, of a card alone.
func (m *mirror) Capture(f func() error) (gpu.Graph, error) {
	k, device := &kept{}, m.sides[0].(gpu.Grapher)
	m.kept = k
	err := f()
	m.kept = nil
	before := m.way
	defer func() { m.way = before }()
	all := func() error {
		for i := range k.launches {
			if err := m.Launch(&k.launches[i]); err != nil {
				return err
			}
		}
		return nil
	}
	if m.way.serial = false; err == nil {
		k.overlapping, err = device.Capture(all)
	}
	if m.way.serial = true; err == nil {
		k.serial, err = device.Capture(all)
	}
	return k, err
}

// Replay launches what was kept as the mirror's way is, or one by one for its list.
func (m *mirror) Replay(graph gpu.Graph) error {
	k, device := graph.(*kept), m.sides[0].(gpu.Grapher)
	if !m.way.single && !m.keeping {
		if m.way.serial {
			return device.Replay(k.serial)
		}
		return device.Replay(k.overlapping)
	}
	for i := range k.launches {
		if err := m.Launch(&k.launches[i]); err != nil {
			return err
		}
	}
	return nil
}

// Fetch and Await are those of a card alone.
func (m *mirror) Fetch(reads ...gpu.Read) error {
	for i := range reads {
		reads[i].From = m.on(0, reads[i].From)
	}
	return m.sides[0].(gpu.Fetcher).Fetch(reads...)
}

func (m *mirror) Await() error { return m.sides[0].(gpu.Fetcher).Await() }

// reached are the allocations that a launch may touch, by its arguments and what these point to.
func (m *mirror) reached(l *gpu.Launch) (all []int) {
	add := func(number int) {
		if !m.memory[number].freed && !slices.Contains(all, number) {
			all = append(all, number)
		}
	}
	for _, arg := range l.Args {
		if address, ok := arg.(gpu.Address); ok {
			if number, _, ok := m.locate(address); ok {
				add(number)
			}
		}
	}
	for i := 0; i < len(all); i++ {
		for _, number := range m.memory[all[i]].told {
			add(number)
		}
	}
	return all
}

// weightBytes is the size of the weights that a launch reads.
func (m *mirror) weightBytes(l *gpu.Launch) (bytes int) {
	for _, number := range m.reached(l) {
		if number < m.loaded {
			bytes += m.memory[number].bytes
		}
	}
	return bytes
}

// compareAfter compares what a launch may have written. Where the sides differ the first counts, and the others get it, so that the
// next launches begin alike.
func (m *mirror) compareAfter(l *gpu.Launch) error {
	c := m.found[l.Kernel]
	if c == nil {
		c = &comparison{}
		m.found[l.Kernel] = c
	}
	c.launches++
	differs := false
	for _, number := range m.reached(l) {
		a := &m.memory[number]
		if number < m.loaded || len(a.told) > 0 { // settings have other addresses on each side, and no launch writes them
			continue
		}
		c.bytes += a.bytes
		want, got := make([]byte, a.bytes), make([]byte, a.bytes)
		if err := errors.Join(m.sides[0].Download(want, a.at[0]), m.sides[1].Download(got, a.at[1])); err != nil {
			return err
		}
		if bytes.Equal(want, got) {
			continue
		}
		differs = true
		if c.first == "" {
			at := 0
			for want[at] == got[at] {
				at++
			}
			word := at &^ 3
			c.first = fmt.Sprintf("grid %v, %v: byte %d of %d of allocation %d: %x, want %x", l.Grid, l.Args, at, a.bytes, number,
				got[word:min(word+4, len(got))], want[word:min(word+4, len(want))])
		}
		if err := m.sides[1].Upload(a.at[1], want); err != nil {
			return err
		}
	}
	if differs {
		c.differ++
	}
	return nil
}
