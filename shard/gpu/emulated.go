package gpu

import (
	"fmt"

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
	copy(e.memory.Bytes(uint64(to), len(data)), data)
	return nil
}

func (e *emulated) Download(data []byte, from Address) error {
	copy(data, e.memory.Bytes(uint64(from), len(data)))
	return nil
}

func (e *emulated) Launch(l *Launch) error {
	module := e.modules[l.Kernel]
	if module == nil {
		return fmt.Errorf("there is no kernel %s", l.Kernel)
	}
	args := make([]any, len(l.Args))
	for i, arg := range l.Args {
		if address, ok := arg.(Address); ok {
			arg = uint64(address)
		}
		args[i] = arg
	}
	_, err := module.Run(&e.memory, ptx.Launch{Kernel: l.Kernel, Grid: l.Grid, Threads: l.Threads, Shared: l.Shared, Core: e.core,
		Workers: e.workers}, args...)
	return err
}

func (e *emulated) Close() error { return nil }
