package ptx

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
)

// Memory is the memory of a card. Each allocation is an address space of its own, so that no access reaches another.
type Memory struct{ buffers []*buffer }

// buffer is an allocation.
type buffer struct {
	data    []byte
	written atomic.Bool // by a kernel
}

// addressBits of an address are an offset into the allocation whose number, from 1 on, the others are.
const addressBits = 40

// Alloc takes bytes, filled with what no kernel should read.
func (m *Memory) Alloc(bytes int) uint64 {
	b := make([]byte, bytes)
	for i := range b {
		b[i] = 0xff
	}
	return m.Map(b)
}

// Map makes memory of the caller's an allocation, as that of the host which a card reaches.
func (m *Memory) Map(data []byte) uint64 {
	m.buffers = append(m.buffers, &buffer{data: data})
	return uint64(len(m.buffers)) << addressBits
}

// Free gives an allocation back. Its address is not used again.
func (m *Memory) Free(address uint64) { m.buffers[address>>addressBits-1] = &buffer{} }

// Bytes returns memory of an allocation, which must have so much from the address on.
func (m *Memory) Bytes(address uint64, bytes int) []byte {
	return m.buffers[address>>addressBits-1].data[address&(1<<addressBits-1):][:bytes:bytes]
}

// fault is what a kernel did wrong. It is thrown by instructions and caught by warp.step.
type fault string

func faultf(format string, values ...any) fault { return fault(fmt.Sprintf(format, values...)) }

// global is Memory.Bytes for a kernel.
func (b *block) global(address uint64, bytes int, write bool) []byte {
	m, i, offset := b.memory, int(address>>addressBits)-1, address&(1<<addressBits-1)
	if i < 0 || i >= len(m.buffers) || offset+uint64(bytes) > uint64(len(m.buffers[i].data)) {
		panic(faultf("global address %#x, %d bytes: outside every allocation", address, bytes))
	}
	if offset%uint64(bytes) != 0 {
		panic(faultf("global address %#x: not aligned to %d bytes", address, bytes))
	}
	a := m.buffers[i]
	switch {
	case !b.kernel.waits || b.waited:
	case write:
		panic(faultf("global address %#x: written before griddepcontrol.wait", address))
	case a.written.Load():
		panic(faultf("global address %#x: read before griddepcontrol.wait, and a kernel has written to this memory", address))
	}
	if write && !a.written.Load() {
		a.written.Store(true)
	}
	return a.data[offset:][:bytes]
}

// load reads a number; signed ones are widened.
func load(data []byte, signed bool) uint64 {
	switch len(data) {
	case 1:
		if signed {
			return uint64(int8(data[0]))
		}
		return uint64(data[0])
	case 2:
		v := binary.LittleEndian.Uint16(data)
		if signed {
			return uint64(int16(v))
		}
		return uint64(v)
	case 4:
		v := binary.LittleEndian.Uint32(data)
		if signed {
			return uint64(int32(v))
		}
		return uint64(v)
	}
	return binary.LittleEndian.Uint64(data)
}

func store(data []byte, v uint64) {
	switch len(data) {
	case 1:
		data[0] = byte(v)
	case 2:
		binary.LittleEndian.PutUint16(data, uint16(v))
	case 4:
		binary.LittleEndian.PutUint32(data, uint32(v))
	default:
		binary.LittleEndian.PutUint64(data, v)
	}
}

// shadow says who touched two bytes of shared memory last, and between which barriers.
type shadow struct {
	written, read  int32 // epochs
	writer, reader int16 // warps; reader several: more than one
	held           int32 // products under way that read it
	proxyFences    int32 // how many the block had passed when it was written
}

const several = -2

// touch returns bytes of shared memory, and notes the access of a warp.
func (b *block) touch(address uint64, bytes, warp int, write bool) []byte {
	data := b.inside(address, bytes)
	if address%uint64(bytes) != 0 {
		panic(faultf("shared address %#x: not aligned to %d bytes", address, bytes))
	}
	for i := address / 2; i < (address+uint64(bytes)+1)/2; i++ {
		s := &b.shadow[i]
		if s.written == b.epoch && int(s.writer) != warp {
			panic(faultf("race at shared address %#x: warp %d wrote it, and warp %d uses it before the next barrier", i*2, s.writer, warp))
		}
		switch {
		case write && s.read == b.epoch && int(s.reader) != warp:
			panic(faultf("race at shared address %#x: warp %d read it, and warp %d writes it before the next barrier", i*2, s.reader, warp))
		case write && s.held > 0:
			panic(faultf("shared address %#x is written, and a product that is under way reads it", i*2))
		case write:
			s.written, s.writer, s.proxyFences = b.epoch, int16(warp), b.proxyFences
		case s.read != b.epoch:
			s.read, s.reader = b.epoch, int16(warp)
		case int(s.reader) != warp:
			s.reader = several
		}
	}
	return data
}

// free returns bytes of shared memory for a bulk copy: no product under way may read them.
func (b *block) free(address uint64, bytes int) []byte {
	data := b.inside(address, bytes)
	for i := address / 2; i < (address+uint64(bytes)+1)/2; i++ {
		if b.shadow[i].held > 0 {
			panic(faultf("a bulk copy to shared address %#x, and a product that is under way reads it", i*2))
		}
	}
	return data
}

// inside returns bytes of shared memory without a look at races.
func (b *block) inside(address uint64, bytes int) []byte {
	if address+uint64(bytes) > uint64(len(b.shared)) {
		panic(faultf("shared address %#x, %d bytes: outside", address, bytes))
	}
	return b.shared[address:][:bytes]
}
