package ptx

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"
)

// compile returns what an instruction does.
func (k *kernel) compile(op string, args []string) (execute, error) {
	family, _, _ := strings.Cut(op, ".")
	switch family {
	case "ld", "st":
		return k.access(op, args)
	case "mbarrier":
		return k.mbarrier(op, args)
	case "mma":
		return k.product(op, args)
	case "wgmma":
		return k.warpgroup(op, args)
	case "ldmatrix":
		return k.loadMatrix(op, args)
	case "cp":
		return k.copy(op, args)
	case "shfl":
		return k.shuffle(op, args)
	case "griddepcontrol":
		if op == "griddepcontrol.wait" {
			k.waits = true
			return func(w *warp, _ uint32) { w.waited = true }, nil
		}
		return func(*warp, uint32) {}, nil
	case "fence":
		if op == "fence.proxy.async" || strings.HasPrefix(op, "fence.proxy.async.shared") {
			return func(w *warp, _ uint32) {
				w.proxyFences++
				w.proxyFenced = w.proxyFences
			}, nil
		}
		return func(*warp, uint32) {}, nil
	case "membar", "prefetch": // of order between what happens in order here
		return func(*warp, uint32) {}, nil
	}
	switch op {
	case "nanosleep.u32":
		return func(*warp, uint32) { time.Sleep(time.Microsecond) }, nil
	case "mov.u64":
		if len(args) == 2 && args[1] == "%globaltimer" {
			r := k.register(args[0])
			return func(w *warp, lanes uint32) {
				now := uint64(time.Now().UnixNano())
				each(lanes, func(lane int) { w.registers[r][lane] = now })
			}, nil
		}
	}
	if op == "bar.warp.sync" { // lanes that lag run first
		return func(*warp, uint32) {}, nil
	}
	if size, ok := map[string]int{"mov.b32": 32, "mov.b64": 64}[op]; ok && strings.Contains(args[0]+args[1], "{") {
		return k.pack(size, args)
	}
	r, err := k.sources(args)
	if err != nil {
		return nil, err
	}
	if f, ok := ofOne[op]; ok && len(r) == 2 {
		return one(r, f), nil
	}
	if f, ok := ofTwo[op]; ok && len(r) == 3 {
		return two(r, f), nil
	}
	if f, ok := ofThree[op]; ok && len(r) == 4 {
		return three(r, f), nil
	}
	if size := map[string]int{"bfi.b32": 32, "bfi.b64": 64}[op]; size > 0 && len(r) == 5 {
		return insert(r, size), nil
	}
	return nil, unknown(op)
}

func unknown(op string) error {
	if parts := strings.Split(op, "."); parts[len(parts)-1] == "f32" && len(parts) == 2 || strings.Contains(op, ".approx") {
		return fmt.Errorf("%s may be contracted or approximated: compile with --fmad=false, and use operations that round", op)
	}
	return fmt.Errorf("instruction %s is not known", op)
}

// pack makes one register of several, or several of one.
func (k *kernel) pack(size int, args []string) (execute, error) {
	to, err := k.vector(args[0])
	if err != nil {
		return nil, err
	}
	from, err := k.vector(args[1])
	if err != nil {
		return nil, err
	}
	return func(w *warp, lanes uint32) {
		each(lanes, func(lane int) {
			all := uint64(0)
			for i, r := range from {
				all |= masked(w.registers[r][lane], size/len(from)) << (i * size / len(from))
			}
			for i, r := range to {
				w.registers[r][lane] = masked(all>>(i*size/len(to)), size/len(to))
			}
		})
	}, nil
}

// insert puts bits into a number: bfi d, a, b, position, length.
func insert(r []int, size int) execute {
	return func(w *warp, lanes uint32) {
		d, a, b, at, n := &w.registers[r[0]], &w.registers[r[1]], &w.registers[r[2]], &w.registers[r[3]], &w.registers[r[4]]
		each(lanes, func(lane int) {
			position, length := at[lane]&0xff, n[lane]&0xff
			field := masked((uint64(1)<<length-1)<<position, size)
			d[lane] = b[lane]&^field | a[lane]<<position&field
		})
	}
}

// access compiles loads and stores.
func (k *kernel) access(op string, args []string) (execute, error) {
	parts := strings.Split(op, ".")
	isLoad, kind := parts[0] == "ld", parts[len(parts)-1]
	bytes := typeBytes[kind]
	if bytes == 0 || len(args) != 2 {
		return nil, unknown(op)
	}
	what, where := args[0], args[1]
	if !isLoad {
		what, where = where, what
	}
	at, err := k.address(where)
	if err != nil {
		return nil, err
	}
	values, err := k.vector(what)
	if err != nil {
		return nil, err
	}
	total := bytes * len(values)
	memory, err := space(op, parts, total)
	if err != nil {
		return nil, err
	}
	signed := kind[0] == 's'
	if slices.Contains(parts, "acquire") || slices.Contains(parts, "release") {
		return between(values[0], at, memory, isLoad, bytes)
	}
	return func(w *warp, lanes uint32) {
		each(lanes, func(lane int) {
			data := memory(w, lane, at.of(w, lane), !isLoad)
			for i, r := range values {
				if part := data[i*bytes:][:bytes]; isLoad {
					w.registers[r][lane] = load(part, signed)
				} else {
					store(part, w.registers[r][lane])
				}
			}
		})
	}, nil
}

// between compiles loads and stores that order what other devices and the host see: they are the processor's atomic ones. Who looks at
// such a word waits for another, which may need this thread.
func between(r int, at address, memory func(w *warp, lane int, at uint64, write bool) []byte, isLoad bool, bytes int) (execute, error) {
	if bytes != 4 {
		return nil, fmt.Errorf("an ordered access of %d bytes is not known", bytes)
	}
	return func(w *warp, lanes uint32) {
		if isLoad {
			runtime.Gosched()
		}
		each(lanes, func(lane int) {
			word := (*uint32)(unsafe.Pointer(&memory(w, lane, at.of(w, lane), !isLoad)[0]))
			if isLoad {
				w.registers[r][lane] = uint64(atomic.LoadUint32(word))
			} else {
				atomic.StoreUint32(word, uint32(w.registers[r][lane]))
			}
		})
	}, nil
}

// space returns how an access reaches its address space.
func space(op string, parts []string, bytes int) (func(w *warp, lane int, at uint64, write bool) []byte, error) {
	for _, part := range append(parts, "generic") {
		switch part {
		case "param":
			return func(w *warp, _ int, at uint64, _ bool) []byte { return w.params[at:][:bytes] }, nil
		case "global":
			return func(w *warp, _ int, at uint64, write bool) []byte { return w.global(at, bytes, write) }, nil
		case "shared":
			return func(w *warp, _ int, at uint64, write bool) []byte {
				return w.touch(at&(1<<32-1), bytes, w.number, write)
			}, nil
		case "generic": // addresses of shared memory are small
			return func(w *warp, _ int, at uint64, write bool) []byte {
				if at >= 1<<addressBits {
					return w.global(at, bytes, write)
				}
				return w.touch(at, bytes, w.number, write)
			}, nil
		case "local":
			return func(w *warp, lane int, at uint64, _ bool) []byte {
				if at+uint64(bytes) > uint64(w.kernel.local) {
					panic(faultf("local address %#x, %d bytes: outside", at, bytes))
				}
				return w.local[lane*w.kernel.local+int(at):][:bytes]
			}, nil
		}
	}
	return nil, unknown(op)
}

// shuffle compiles an exchange between the lanes of a warp.
func (k *kernel) shuffle(op string, args []string) (execute, error) {
	parts := strings.Split(op, ".")
	from := map[string]func(lane, by int) int{
		"bfly": func(lane, by int) int { return lane ^ by },
		"idx":  func(_, by int) int { return by },
		"down": func(lane, by int) int {
			if lane+by > 31 {
				return lane
			}
			return lane + by
		},
	}[parts[min(2, len(parts)-1)]]
	if from == nil || len(args) != 5 {
		return nil, unknown(op)
	}
	destination, _, _ := strings.Cut(args[0], "|")
	r, err := k.sources(append([]string{destination}, args[1:]...))
	return func(w *warp, lanes uint32) {
		w.whole(lanes, "a shuffle")
		a := w.registers[r[1]]
		each(lanes, func(lane int) { w.registers[r[0]][lane] = a[from(lane, int(w.registers[r[2]][lane]))&31] })
	}, err
}

// loadMatrix compiles ldmatrix: eight rows of 16 bytes for each of the result's registers, from addresses that eight lanes give.
func (k *kernel) loadMatrix(op string, args []string) (execute, error) {
	if !strings.HasPrefix(op, "ldmatrix.sync.aligned.m8n8.x") || !strings.HasSuffix(op, ".shared.b16") || strings.Contains(op, "trans") {
		return nil, unknown(op)
	}
	destination, err := k.vector(args[0])
	if err != nil {
		return nil, err
	}
	at, err := k.address(args[1])
	return func(w *warp, lanes uint32) {
		w.whole(lanes, "ldmatrix")
		var out [4]vector
		for i := range destination {
			for row := range 8 {
				data := w.touch(at.of(w, i*8+row), 16, w.number, false)
				for t := range 4 {
					out[i][row*4+t] = load(data[t*4:][:4], false)
				}
			}
		}
		for i, r := range destination {
			w.registers[r] = out[i]
		}
	}, err
}
