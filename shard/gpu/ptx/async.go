package ptx

import (
	"fmt"
	"strconv"
)

// asyncCopy is a copy to shared memory that is under way: it shows when somebody waits for it.
type asyncCopy struct {
	to   uint64
	data []byte
}

// mbarrier is a barrier object in shared memory: a phase ends when all have arrived and all bytes that were announced have come.
type mbarrier struct {
	count, pending, bytes int
	parity                uint64 // of the phase under way
	copies                []asyncCopy
	maker                 int   // the warp that made it
	made                  int32 // the epoch of that
}

func (w *warp) bar(address uint64) *mbarrier {
	m := w.bars[address&(1<<32-1)]
	if m == nil {
		panic(faultf("no mbarrier at shared address %#x", address))
	}
	if m.made == w.epoch && m.maker != w.number {
		panic(faultf("race: warp %d made the mbarrier at %#x, and warp %d uses it before the next barrier", m.maker, address, w.number))
	}
	return m
}

// complete ends a phase if it is complete.
func (b *block) complete(m *mbarrier) {
	b.events++
	if m.pending < 0 {
		panic(fault("an mbarrier with more arrivals than it was made for"))
	}
	if m.pending == 0 && m.bytes == 0 {
		m.parity ^= 1
		m.pending = m.count
	}
}

// deliver ends the copies that are under way towards a barrier.
func (b *block) deliver(m *mbarrier) {
	copies := m.copies
	m.copies = nil
	for _, c := range copies {
		copy(b.free(c.to, len(c.data)), c.data)
		m.bytes -= len(c.data)
	}
	if len(copies) > 0 {
		b.complete(m)
	}
}

// mbarrier compiles the operations on barrier objects.
func (k *kernel) mbarrier(op string, args []string) (execute, error) {
	var at address
	operand, err := 0, error(nil)
	for i, arg := range args {
		if arg[0] != '[' {
			continue
		}
		if at, err = k.address(arg); err == nil && i+1 < len(args) {
			operand, err = k.source(args[i+1])
		}
		if err != nil {
			return nil, err
		}
	}
	lanewise := func(f func(w *warp, lane int, operand uint64)) (execute, error) {
		return func(w *warp, lanes uint32) {
			each(lanes, func(lane int) { f(w, lane, w.registers[operand][lane]) })
		}, nil
	}
	switch op {
	case "mbarrier.init.shared::cta.b64":
		return lanewise(func(w *warp, lane int, count uint64) {
			w.bars[at.of(w, lane)&(1<<32-1)] = &mbarrier{count: int(count), pending: int(count), maker: w.number, made: w.epoch}
		})
	case "mbarrier.arrive.shared::cta.b64", "mbarrier.arrive.expect_tx.shared::cta.b64":
		announces := op == "mbarrier.arrive.expect_tx.shared::cta.b64"
		return lanewise(func(w *warp, lane int, bytes uint64) {
			m := w.bar(at.of(w, lane))
			if announces {
				m.bytes += int(bytes)
			}
			m.pending--
			w.complete(m)
		})
	case "mbarrier.try_wait.parity.shared::cta.b64":
		done := k.register(args[0])
		return lanewise(func(w *warp, lane int, parity uint64) {
			m := w.bar(at.of(w, lane))
			if m.parity == parity {
				w.deliver(m)
			}
			w.yield = w.yield || m.parity == parity
			w.registers[done][lane] = truth(m.parity != parity)
		})
	}
	return nil, unknown(op)
}

// copy compiles asynchronous copies: cp.async of 16 bytes a lane, and the bulk copies that an mbarrier counts.
func (k *kernel) copy(op string, args []string) (execute, error) {
	switch op {
	case "cp.async.commit_group":
		return func(w *warp, _ uint32) { w.copies = append(w.copies, nil) }, nil
	case "cp.async.wait_group": // what was copied shows now, not before
		kept, err := strconv.Atoi(args[0])
		return func(w *warp, _ uint32) {
			done := max(0, len(w.copies)-1-kept)
			for _, group := range w.copies[:done] {
				for _, c := range group {
					copy(w.touch(c.to, len(c.data), w.number, true), c.data)
				}
			}
			w.copies = w.copies[done:]
		}, err
	case "cp.async.cg.shared.global":
		return k.copy16(args)
	case "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes":
		return k.copyBulk(args)
	}
	return nil, unknown(op)
}

func (k *kernel) copy16(args []string) (execute, error) {
	at, err := k.addresses(args[:2]...)
	if err != nil {
		return nil, err
	}
	size := k.constant(16) // a smaller one zeroes the rest
	if len(args) > 3 {
		if size, err = k.source(args[3]); err != nil {
			return nil, err
		}
	}
	return func(w *warp, lanes uint32) {
		open := &w.copies[len(w.copies)-1]
		each(lanes, func(lane int) {
			c := asyncCopy{to: at[0].of(w, lane), data: make([]byte, 16)}
			if n := int(w.registers[size][lane]); n > 0 {
				copy(c.data, w.global(at[1].of(w, lane), 16, false)[:n])
			}
			w.touch(c.to, 16, w.number, true)
			*open = append(*open, c)
		})
	}, nil
}

func (k *kernel) copyBulk(args []string) (execute, error) {
	if len(args) != 4 {
		return nil, fmt.Errorf("%d operands", len(args))
	}
	at, err := k.addresses(args[0], args[1], args[3])
	if err != nil {
		return nil, err
	}
	size, err := k.source(args[2])
	return func(w *warp, lanes uint32) {
		each(lanes, func(lane int) {
			to, from, n := at[0].of(w, lane)&(1<<32-1), at[1].of(w, lane), int(w.registers[size][lane])
			if n%16 != 0 || to%16 != 0 || from%16 != 0 {
				panic(faultf("a bulk copy of %d bytes from %#x to %#x: not aligned to 16", n, from, to))
			}
			c := asyncCopy{to, make([]byte, n)}
			for i := 0; i < n; i += 16 {
				copy(c.data[i:], w.global(from+uint64(i), 16, false))
			}
			under := w.free(to, n)
			for i := range under {
				under[i] = 0xff
			}
			m := w.bar(at[2].of(w, lane))
			m.copies = append(m.copies, c)
		})
	}, err
}
