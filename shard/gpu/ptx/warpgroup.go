package ptx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// asyncProduct is a warp's part of a warpgroup's product that is under way: it shows when the warp waits for it. What it reads and adds to
// stays as it is until then.
type asyncProduct struct {
	d, a []int // registers: the sums, 16 rows of all columns; 16 rows of A
	b    matrix
}

// matrix is B in shared memory: so many columns of 16 numbers each, of which 8 are a pattern of 256 bytes.
type matrix struct {
	at, apart uint64 // of the first pattern; of two
	columns   int
}

// Fields of a descriptor: addresses and distances without their last 4 bits, and how halves of rows are exchanged.
const (
	descriptorBits = 1<<14 - 1
	swizzle32      = 3
	patternBytes   = 256
)

// described reads a descriptor of a matrix whose rows of 32 bytes, those of its columns, have exchanged halves in every other 4.
func described(v uint64, columns int) matrix {
	m := matrix{at: v & descriptorBits << 4, apart: v >> 32 & descriptorBits << 4, columns: columns}
	switch {
	case v>>62 != swizzle32:
		panic(faultf("a descriptor of swizzle mode %d: only %d, of 32 bytes, is known", v>>62, swizzle32))
	case v>>16&descriptorBits != 1:
		panic(faultf("a descriptor whose leading offset is %d units, not 1, which it is of whole rows", v>>16&descriptorBits))
	case v>>49&7 != 0 || m.at%patternBytes != 0 || m.apart%patternBytes != 0:
		panic(faultf("a descriptor of base offset %d, from %#x on, %d bytes apart: not aligned to %d", v>>49&7, m.at, m.apart,
			patternBytes))
	case v != swizzle32<<62|m.apart>>4<<32|1<<16|m.at>>4:
		panic(faultf("a descriptor with bits that mean nothing: %#x", v))
	}
	return m
}

// half is the address of 8 of a column's numbers, those of rows 0 to 7 of B or of the others.
func (m *matrix) half(column, half int) uint64 {
	return m.at + uint64(column/8)*m.apart + uint64(column%8*32+(half^column>>2&1)*16)
}

// each calls f for all halves of all columns.
func (m *matrix) each(f func(at uint64)) {
	for column := range m.columns {
		f(m.half(column, 0))
		f(m.half(column, 1))
	}
}

// use says who uses a register besides the instruction that runs.
type use struct {
	sums, factors int16 // products under way that add to it, and that read it
	fences        int32 // those of the warp that had passed when an instruction used it last
}

// note checks that an instruction uses no register of a product under way, and notes what it uses.
func (w *warp) note(in *instruction) {
	for _, r := range in.registers {
		u := &w.uses[r]
		if u.sums > 0 || u.factors > 0 {
			panic(fault("a register of a product that is under way: nobody has waited for it"))
		}
		u.fences = w.fences
	}
}

// operation is what the warps of a warpgroup do together: an instruction, by its place, and its descriptor.
type operation struct {
	at         int
	descriptor uint64
}

// warpgroup are four warps whose products are one. Each must do what the others do, in the same order.
type warpgroup struct {
	operations []operation // that some have done
	done       [4]int      // how many each has
}

// together has a warp do an operation of its warpgroup.
func (w *warp) together(lanes uint32, o operation) {
	if w.whole(lanes, "an operation of a warpgroup"); lanes != every {
		panic(fault("an operation of a warpgroup that threads do not reach which have returned"))
	}
	number := w.number / 4
	if number*4+4 > len(w.warps) {
		panic(fault("an operation of a warpgroup that has no four warps"))
	}
	g, mine := &w.warpgroups[number], w.number%4
	if n := g.done[mine]; n == len(g.operations) {
		g.operations = append(g.operations, o)
	} else if g.operations[n].at != o.at {
		panic(fault("the warps of a warpgroup do not come to the same operations"))
	} else if g.operations[n] != o {
		panic(fault("the warps of a warpgroup have different descriptors"))
	}
	g.done[mine]++
}

// meet makes sure that where warps wait for each other, or end, those of warpgroups have done the same.
func (b *block) meet() error {
	for i := range b.warpgroups {
		g := &b.warpgroups[i]
		if g.done != [4]int{g.done[0], g.done[0], g.done[0], g.done[0]} {
			return fmt.Errorf("warpgroup %d: its warps come to %v operations of it, not to the same", i, g.done)
		}
		g.operations, g.done = g.operations[:0], [4]int{}
	}
	return nil
}

// warpgroup compiles asynchronous products of warpgroups.
func (k *kernel) warpgroup(op string, args []string) (execute, error) {
	k.asynchronous = true
	place := len(k.code)
	switch op {
	case "wgmma.fence.sync.aligned":
		return func(w *warp, lanes uint32) {
			w.together(lanes, operation{at: place})
			w.fences++
		}, nil
	case "wgmma.commit_group.sync.aligned":
		return func(w *warp, lanes uint32) {
			w.together(lanes, operation{at: place})
			w.products = append(w.products, nil)
		}, nil
	case "wgmma.wait_group.sync.aligned":
		kept, err := strconv.Atoi(args[0])
		return func(w *warp, lanes uint32) {
			w.together(lanes, operation{at: place})
			done := max(0, len(w.products)-1-kept)
			for _, group := range w.products[:done] {
				for i := range group {
					w.finish(&group[i])
				}
			}
			w.products = slices.Delete(w.products, 0, done)
		}, err
	}
	shape, ok := strings.CutPrefix(op, "wgmma.mma_async.sync.aligned.m64n")
	columns, err := strconv.Atoi(strings.TrimSuffix(shape, "k16.f32.bf16.bf16"))
	known := len(args) == 7 && slices.Equal(args[3:], []string{"1", "1", "1", "0"}) // added to, not negated, not transposed
	if !ok || err != nil || columns%8 != 0 || columns < 8 || columns > 256 || !known {
		return nil, unknown(op)
	}
	return k.productAsync(columns, args[:3])
}

// productAsync compiles D += A B of so many columns, of which A is in registers.
func (k *kernel) productAsync(columns int, args []string) (execute, error) {
	place := len(k.code)
	d, err := k.vector(args[0])
	if err != nil {
		return nil, err
	}
	a, err := k.vector(args[1])
	if err != nil {
		return nil, err
	}
	b, err := k.source(args[2])
	if err != nil {
		return nil, err
	}
	if len(d) != columns/2 || len(a) != 4 {
		return nil, fmt.Errorf("%d registers of sums and %d of A for %d columns", len(d), len(a), columns)
	}
	return func(w *warp, lanes uint32) {
		descriptor := w.registers[b][0]
		if slices.ContainsFunc(w.registers[b][:], func(v uint64) bool { return v != descriptor }) {
			panic(fault("the threads of a warp have different descriptors"))
		}
		w.together(lanes, operation{place, descriptor})
		w.issue(asyncProduct{d, a, described(descriptor, columns)})
	}, nil
}

// multiplies says that products are under way.
func (w *warp) multiplies() bool {
	return slices.ContainsFunc(w.products, func(group []asyncProduct) bool { return len(group) > 0 })
}

// issue has a product be under way.
func (w *warp) issue(p asyncProduct) {
	continues := slices.ContainsFunc(w.products, func(group []asyncProduct) bool {
		return slices.ContainsFunc(group, func(o asyncProduct) bool { return slices.Equal(o.d, p.d) })
	})
	for _, r := range p.d {
		u := &w.uses[r]
		switch {
		case u.factors > 0, u.sums > 0 && !continues:
			panic(fault("a register of another product that is under way"))
		case u.sums == 0 && u.fences >= w.fences:
			panic(fault("sums that were used behind the last wgmma.fence"))
		}
		u.sums++
	}
	for _, r := range p.a {
		switch u := &w.uses[r]; {
		case u.sums > 0:
			panic(fault("a register of another product that is under way"))
		case u.fences >= w.fences:
			panic(fault("a part of A that was used behind the last wgmma.fence"))
		default:
			u.factors++
		}
	}
	p.b.each(func(at uint64) {
		w.touch(at, 16, w.number, false)
		for i := at / 2; i < at/2+8; i++ {
			s := &w.shadow[i]
			if s.written != 0 && w.warps[s.writer].proxyFenced <= s.proxyFences && w.proxyFenced <= s.proxyFences {
				panic(faultf("shared address %#x was written without fence.proxy.async behind it", at))
			}
			s.held++
		}
	})
	open := &w.products[len(w.products)-1]
	*open = append(*open, p)
}

// finish computes a product, and gives back what it used.
func (w *warp) finish(p *asyncProduct) {
	var left [16]row
	for lane := range 32 {
		g, t := lane/4, lane%4
		for i, r := range p.a {
			left[g+i%2*8].put(2*t+i/2*8, w.registers[r][lane])
		}
	}
	for column := range p.b.columns {
		var right row
		for half := range 2 {
			data := w.touch(p.b.half(column, half), 16, w.number, false) // whoever writes before the next barrier is too early
			for i := range 4 {
				right.put(half*8+i*2, load(data[i*4:][:4], false))
			}
		}
		for i := range left {
			sum := &w.registers[p.d[column/8*4+i/8*2+column%2]][i%8*4+column%8/2]
			if changes(*sum, &left[i], &right) {
				*sum = uint64(w.core.sum(&left[i].numbers, &right.numbers, uint32(*sum), left[i].special || right.special))
			}
		}
	}
	p.b.each(func(at uint64) {
		for i := at / 2; i < at/2+8; i++ {
			w.shadow[i].held--
		}
	})
	for _, r := range p.d {
		w.uses[r].sums--
	}
	for _, r := range p.a {
		w.uses[r].factors--
	}
}
