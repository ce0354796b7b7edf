package ptx

import (
	"fmt"
	"math/bits"
)

// vector is a register of all lanes.
type vector [32]uint64

// warp is 32 lanes that execute the same instruction, or a part of them each.
type warp struct {
	*block
	number    int
	registers []vector
	groups    []group // the one that runs first
	waiting   bool    // at a barrier
	yield     bool    // has looked at an mbarrier that is not ready
	local     []byte
	copies    [][]asyncCopy // groups of cp.async that are under way; the last is open
	// Products of the warpgroup that are under way, in groups, the last open; of each register who uses it; fences of registers that have
	// passed, and those of the block's memory when the warp's last did.
	products    [][]asyncProduct
	uses        []use
	fences      int32
	proxyFenced int32
}

// group are lanes that are at the same instruction.
type group struct {
	at    int
	lanes uint32
}

// every has all lanes.
const every = ^uint32(0)

// step runs a warp up to a barrier, a look at an mbarrier that is not ready, or its end.
func (w *warp) step() (err error) {
	var in *instruction
	defer func() {
		if thrown := recover(); thrown != nil {
			f, ok := thrown.(fault)
			if !ok {
				panic(thrown)
			}
			err = fmt.Errorf("warp %d, %s: %s", w.number, in.text, string(f))
		}
	}()
	for len(w.groups) > 0 {
		if len(w.groups) > 1 {
			w.choose()
		}
		g := &w.groups[0]
		in = &w.kernel.code[g.at]
		if w.instructions++; w.instructions > w.limit {
			panic(faultf("no end after %d instructions of the block", w.limit))
		}
		switch lanes := w.guarded(in, g.lanes); in.kind {
		case plain:
			if lanes != 0 {
				if w.uses != nil {
					w.note(in)
				}
				in.run(w, lanes)
			}
			if g.at++; w.yield {
				w.yield = false
				return nil
			}
		case branch:
			w.branch(lanes, in.target)
		case exit:
			if g.at++; lanes == g.lanes {
				if w.groups = append(w.groups[:0], w.groups[1:]...); len(w.groups) == 0 && w.multiplies() {
					panic(fault("an end before products under way were waited for"))
				}
			} else {
				g.lanes &^= lanes
			}
		case barrier:
			if len(w.groups) > 1 {
				panic(fault("a barrier that not all threads of the warp reach"))
			}
			g.at++
			w.waiting = true
			return nil
		}
	}
	return nil
}

// choose has the group of the lowest address run, with all that are at the same.
func (w *warp) choose() {
	for i := 1; i < len(w.groups); i++ {
		if w.groups[i].at < w.groups[0].at {
			w.groups[0], w.groups[i] = w.groups[i], w.groups[0]
		}
	}
	for i := len(w.groups) - 1; i > 0; i-- {
		if w.groups[i].at == w.groups[0].at {
			w.groups[0].lanes |= w.groups[i].lanes
			w.groups = append(w.groups[:i], w.groups[i+1:]...)
		}
	}
}

// guarded are those of lanes whose predicate lets them execute an instruction.
func (w *warp) guarded(in *instruction, lanes uint32) uint32 {
	if in.predicate < 0 {
		return lanes
	}
	p, pass := &w.registers[in.predicate], uint32(0)
	for lane := range 32 {
		if (p[lane] != 0) != in.negated {
			pass |= 1 << lane
		}
	}
	return lanes & pass
}

// branch parts the lanes that branch from those that do not.
func (w *warp) branch(lanes uint32, target int) {
	g := &w.groups[0]
	rest := g.lanes &^ lanes
	if rest == 0 {
		g.at = target
		return
	}
	g.at++
	if g.lanes = rest; lanes != 0 {
		w.groups = append(w.groups, group{target, lanes})
	}
}

// whole panics unless all lanes of the warp that live are here.
func (w *warp) whole(lanes uint32, what string) {
	if len(w.groups) > 1 || w.groups[0].lanes != lanes {
		panic(faultf("%s that not all threads of the warp reach", what))
	}
}

// each calls f for lanes.
func each(lanes uint32, f func(lane int)) {
	for ; lanes != 0; lanes &= lanes - 1 {
		f(bits.TrailingZeros32(lanes))
	}
}

// one executes an operation of one operand, two and three those of more.
func one(r []int, f func(a uint64) uint64) execute {
	return func(w *warp, lanes uint32) {
		d, a := &w.registers[r[0]], &w.registers[r[1]]
		if lanes == every {
			for lane := range 32 {
				d[lane] = f(a[lane])
			}
			return
		}
		for ; lanes != 0; lanes &= lanes - 1 {
			lane := bits.TrailingZeros32(lanes)
			d[lane] = f(a[lane])
		}
	}
}

func two(r []int, f func(a, b uint64) uint64) execute {
	return func(w *warp, lanes uint32) {
		d, a, b := &w.registers[r[0]], &w.registers[r[1]], &w.registers[r[2]]
		if lanes == every {
			for lane := range 32 {
				d[lane] = f(a[lane], b[lane])
			}
			return
		}
		for ; lanes != 0; lanes &= lanes - 1 {
			lane := bits.TrailingZeros32(lanes)
			d[lane] = f(a[lane], b[lane])
		}
	}
}

func three(r []int, f func(a, b, c uint64) uint64) execute {
	return func(w *warp, lanes uint32) {
		d, a, b, c := &w.registers[r[0]], &w.registers[r[1]], &w.registers[r[2]], &w.registers[r[3]]
		for ; lanes != 0; lanes &= lanes - 1 {
			lane := bits.TrailingZeros32(lanes)
			d[lane] = f(a[lane], b[lane], c[lane])
		}
	}
}
