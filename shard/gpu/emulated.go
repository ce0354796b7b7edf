package gpu

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"lockstep/shard/gpu/kernels"
	"lockstep/shard/gpu/ptx"
)

// emulated computes with the kernels' PTX on the CPU, by package ptx. It is exact and slow: for tests, and for trying what cards
// compute where there is none.
type emulated struct {
	modules map[string]*ptx.Module // by kernel
	memory  ptx.Memory
	card    Description
	core    ptx.Core
	workers int
	free    func() (bytes int64, of string, err error)
	shared  [][]byte   // mappings
	files   []*os.File // of those that are exported
	kept    *graph     // while launches are captured
}

// NewEmulated returns a device that runs the blocks of a kernel on so many goroutines, in memory of the machine, of which free tells how
// much there is. It runs what an H100 runs.
func NewEmulated(workers int, free func() (bytes int64, of string, err error)) (Device, error) {
	return NewEmulatedOf(90, workers, free)
}

// NewEmulatedOf is NewEmulated for a card of compute capability 9.0 or 8.0, as 90 or 80.
func NewEmulatedOf(capability, workers int, free func() (bytes int64, of string, err error)) (Device, error) {
	e := &emulated{modules: map[string]*ptx.Module{}, workers: workers, free: free, core: ptx.Hopper, card: Description{
		Name: "emulated card (PTX)", Type: "ptx", Class: "h", Capability: capability, Processors: 132, Shared: 227 << 10}}
	target := kernels.PTX90
	if capability < 90 {
		target, e.core, e.card.Class = kernels.PTX80, ptx.Ampere, "a"
		e.card.Processors, e.card.Shared = 108, 163<<10
	}
	for _, name := range kernels.Names {
		code, err := kernels.Module(name, target)
		if err != nil {
			return nil, err
		}
		module, err := ptx.Parse(string(code))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		for kernel := range module.Kernels() {
			e.modules[kernel] = module
		}
	}
	return e, nil
}

func (e *emulated) Describe() Description { return e.card }

func (e *emulated) Alloc(bytes int) (Address, error) { return Address(e.memory.Alloc(bytes)), nil }

func (e *emulated) Free(address Address) { e.memory.Free(uint64(address)) }

func (e *emulated) FreeBytes() (int64, string, error) { return e.free() }

func (e *emulated) Upload(to Address, data []byte) error {
	if e.kept != nil {
		return errCapturing
	}
	copy(e.memory.Bytes(uint64(to), len(data)), data)
	return nil
}

func (e *emulated) Download(data []byte, from Address) error {
	if e.kept != nil {
		return errCapturing
	}
	copy(data, e.memory.Bytes(uint64(from), len(data)))
	return nil
}

func (e *emulated) Launch(l *Launch) error {
	if e.kept != nil {
		e.kept.launches = append(e.kept.launches, *l)
		return nil
	}
	module := e.modules[l.Kernel]
	if module == nil {
		return fmt.Errorf("there is no kernel %s", l.Kernel)
	}
	args := make([]any, len(l.Args))
	for i, arg := range l.Args {
		switch a := arg.(type) {
		case Address:
			args[i] = uint64(a)
		case int32, uint64, float32:
			args[i] = a
		default:
			return fmt.Errorf("kernel %s: argument %d is a %T", l.Kernel, i, arg)
		}
	}
	_, err := module.Run(&e.memory, ptx.Launch{Kernel: l.Kernel, Grid: l.Grid, Threads: l.Threads, Shared: l.Shared, Core: e.core,
		Workers: e.workers}, args...)
	return err
}

func (e *emulated) Fetch(reads ...Read) error {
	for _, r := range reads {
		if err := e.Download(r.To, r.From); err != nil {
			return err
		}
	}
	return nil
}

func (e *emulated) Await() error { return nil }

// graph is a list of launches.
type graph struct{ launches []Launch }

var errCapturing = errors.New("launches are captured, and a copy is none")

func (e *emulated) Capture(f func() error) (Graph, error) {
	g := &graph{}
	e.kept = g
	err := f()
	e.kept = nil
	return g, err
}

func (e *emulated) Replay(kept Graph) error {
	for i := range kept.(*graph).launches {
		if err := e.Launch(&kept.(*graph).launches[i]); err != nil {
			return err
		}
	}
	return nil
}

func (e *emulated) Close() error {
	for _, data := range e.shared {
		unix.Munmap(data) //nolint:errcheck // it was mapped
	}
	for _, file := range e.files {
		file.Close()
	}
	e.shared, e.files = nil, nil
	return nil
}

// Export shares memory by a file of this process without a name.
func (e *emulated) Export(bytes int) (Address, []byte, error) {
	fd, err := unix.MemfdCreate("lockstep card", unix.MFD_CLOEXEC)
	if err != nil {
		return 0, nil, err
	}
	file := os.NewFile(uintptr(fd), "card")
	e.files = append(e.files, file)
	if err := file.Truncate(int64(bytes)); err != nil {
		return 0, nil, err
	}
	at, err := e.mapped(fd, bytes)
	return at, fmt.Appendf(nil, "%d %d %d", os.Getpid(), fd, bytes), err
}

func (e *emulated) mapped(fd, bytes int) (Address, error) {
	data, err := unix.Mmap(fd, 0, bytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, err
	}
	e.shared = append(e.shared, data)
	return Address(e.memory.Map(data)), nil
}

// Import maps another rank's file.
func (e *emulated) Import(handle []byte) (Address, error) {
	var pid, fd, bytes int
	if _, err := fmt.Sscanf(string(handle), "%d %d %d", &pid, &fd, &bytes); err != nil {
		return 0, fmt.Errorf("the handle of another rank's memory: %w", err)
	}
	file, err := os.OpenFile(fmt.Sprintf("/proc/%d/fd/%d", pid, fd), os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	return e.mapped(int(file.Fd()), bytes)
}

// Register makes memory of the host the device's too.
func (e *emulated) Register(pages []byte) (Address, error) { return Address(e.memory.Map(pages)), nil }
