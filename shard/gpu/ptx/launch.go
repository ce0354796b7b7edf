package ptx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// Launch says how a kernel is run.
type Launch struct {
	Kernel        string
	Grid, Threads [3]int
	Shared        int // bytes of dynamic shared memory
	Core          Core
	Workers       int // goroutines that run blocks; 0: one
	// Instructions bounds what the warps of a block execute: more is a loop without an end. 0: maxInstructions.
	Instructions int64
}

const maxInstructions = 1 << 34

// Run runs a kernel. Arguments are uint64 (addresses), int32, uint32, uint16 and float32, as the kernel declares them. It returns the
// number of instructions that warps have executed.
func (m *Module) Run(memory *Memory, l Launch, args ...any) (instructions int64, err error) {
	k := m.kernels[l.Kernel]
	if k == nil {
		return 0, fmt.Errorf("there is no kernel %s", l.Kernel)
	}
	params, err := k.arguments(args)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", l.Kernel, err)
	}
	var next, total atomic.Int64
	var failed atomic.Pointer[error]
	count := int64(l.Grid[0] * l.Grid[1] * l.Grid[2])
	run := func() {
		b := k.block(&l)
		defer k.blocks.Put(b)
		b.memory, b.params, b.core = memory, params, l.Core
		for i := next.Add(1) - 1; i < count && failed.Load() == nil; i = next.Add(1) - 1 {
			at := [3]int{int(i) % l.Grid[0], int(i) / l.Grid[0] % l.Grid[1], int(i) / l.Grid[0] / l.Grid[1]}
			b.begin(at, &l)
			err := b.run()
			if total.Add(b.instructions); err != nil {
				err = fmt.Errorf("%s, block %v: %w", l.Kernel, at, err)
				failed.CompareAndSwap(nil, &err)
			}
		}
	}
	var others sync.WaitGroup
	for range min(max(l.Workers, 1), int(count)) - 1 {
		others.Go(run)
	}
	run()
	others.Wait()
	if failure := failed.Load(); failure != nil {
		err = *failure
	}
	return total.Load(), err
}

// arguments lays arguments out as the kernel reads them.
func (k *kernel) arguments(args []any) ([]byte, error) {
	if len(args) != len(k.params) {
		return nil, fmt.Errorf("%d arguments, it has %d", len(args), len(k.params))
	}
	params := make([]byte, 4096)
	for i, arg := range args {
		var v uint64
		bytes := 4
		switch a := arg.(type) {
		case uint64:
			v, bytes = a, 8
		case int32:
			v = uint64(uint32(a))
		case uint32:
			v = uint64(a)
		case uint16:
			v, bytes = uint64(a), 2
		case float32:
			v = uint64(math.Float32bits(a))
		default:
			return nil, fmt.Errorf("argument %d is a %T", i, arg)
		}
		if p := k.params[i]; p.bytes != bytes {
			return nil, fmt.Errorf("argument %d has %d bytes, and its parameter %d", i, bytes, p.bytes)
		}
		var all [8]byte
		binary.LittleEndian.PutUint64(all[:], v)
		copy(params[k.params[i].offset:], all[:bytes])
	}
	return params, nil
}

// block is a block of threads that runs.
type block struct {
	kernel *kernel
	memory *Memory
	params []byte
	core   Core
	warps  []*warp
	shared []byte
	shadow []shadow
	epoch  int32 // barriers and blocks that have passed
	waited bool  // a warp has waited for the kernels before, which may still run until then
	bars   map[uint64]*mbarrier
	// proxyFences is how many fences between ordinary accesses to shared memory and products' have passed.
	proxyFences int32
	warpgroups  []warpgroup
	// events are what a warp could wait for: arrivals, and ends of warps.
	events              int
	instructions, limit int64
}

// block returns one for a launch. What earlier launches left in its registers no kernel reads, since compilers write no such code.
func (k *kernel) block(l *Launch) *block {
	size, warps := k.shared, (l.Threads[0]*l.Threads[1]*l.Threads[2]+31)/32
	if l.Shared > 0 {
		size = k.dynamicAt() + l.Shared
	}
	b, _ := k.blocks.Get().(*block)
	if b == nil {
		b = &block{kernel: k}
	}
	if cap(b.shared) < size {
		b.shared, b.shadow = make([]byte, size), make([]shadow, (size+1)/2)
	}
	b.shared = b.shared[:size]
	for len(b.warps) < warps {
		w := &warp{block: b, number: len(b.warps), registers: make([]vector, len(k.registers)), local: make([]byte, 32*k.local)}
		if k.asynchronous {
			w.uses = make([]use, len(k.registers))
		}
		for r, v := range k.constants {
			for lane := range 32 {
				w.registers[r][lane] = v
			}
		}
		b.warps = append(b.warps, w)
	}
	b.warps = b.warps[:warps]
	if k.asynchronous {
		b.warpgroups = make([]warpgroup, warps/4)
	}
	return b
}

// begin has all warps begin a block.
func (b *block) begin(at [3]int, l *Launch) {
	b.epoch++
	b.waited = false
	b.bars, b.events, b.instructions, b.limit = map[uint64]*mbarrier{}, 0, 0, l.Instructions
	if b.limit == 0 {
		b.limit = maxInstructions
	}
	for i := range b.shared {
		b.shared[i] = 0xff
	}
	if b.kernel.asynchronous {
		clear(b.shadow)
		clear(b.warpgroups)
	}
	threads := l.Threads[0] * l.Threads[1] * l.Threads[2]
	for n, w := range b.warps {
		var lanes uint32
		for lane := range min(32, threads-n*32) {
			lanes |= 1 << lane
			t := n*32 + lane
			for i, v := range [...]int{t % l.Threads[0], t / l.Threads[0] % l.Threads[1], t / l.Threads[0] / l.Threads[1],
				l.Threads[0], l.Threads[1], l.Threads[2], at[0], at[1], at[2], l.Grid[0], l.Grid[1], l.Grid[2], lane} {
				w.registers[i][lane] = uint64(v)
			}
		}
		w.groups, w.waiting, w.copies = append(w.groups[:0], group{0, lanes}), false, append(w.copies[:0], nil)
		clear(w.uses)
		w.products, w.fences, w.proxyFenced = append(w.products[:0], nil), 0, b.proxyFences
	}
}

// maxIdle is how many rounds over all warps may pass without an event: a warp that looks at a barrier over and over runs once in each.
const maxIdle = 100

// run runs the block to its end.
func (b *block) run() error {
	for idle := 0; ; idle++ {
		live, waiting, before := 0, 0, b.events
		for _, w := range b.warps {
			if len(w.groups) > 0 && !w.waiting {
				if err := w.step(); err != nil {
					return err
				}
				if len(w.groups) == 0 || w.waiting {
					b.events++
				}
			}
			if len(w.groups) > 0 {
				live++
				if w.waiting {
					waiting++
				}
			}
		}
		if live == 0 {
			if b.kernel.waits && !b.waited { // the kernel after this one waits for this one alone
				return errors.New("it ends without griddepcontrol.wait")
			}
			return b.meet()
		}
		if live == waiting {
			if err := b.meet(); err != nil {
				return err
			}
			b.epoch++
			for _, w := range b.warps {
				w.waiting = false
			}
		}
		if b.events != before {
			idle = 0
		}
		if idle > maxIdle {
			return fmt.Errorf("deadlock: %d of %d warps wait at a barrier, the others for an mbarrier", waiting, live)
		}
	}
}
