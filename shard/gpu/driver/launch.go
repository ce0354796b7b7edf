//go:build cuda && linux

package driver

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"unsafe"

	"lockstep/shard/gpu"
	"lockstep/shard/gpu/kernels"
)

// kernel is a function of a module.
type kernel struct {
	function uint64
	fixed    int // bytes of shared memory that it has in any case
	dynamic  int // bytes beside them that it may have
}

// plainShared is how many bytes of shared memory a block can have without asking.
const plainShared = 48 << 10

// loadModules brings the code of all kernels onto the card: cubins if there are any for it, else what the driver makes of PTX.
func (d *device) loadModules() error {
	manifest, err := kernels.ReadManifest()
	if err != nil {
		return err
	}
	target := d.card.target(manifest.Targets)
	if d.about.Capability = 10*d.card.Major + d.card.Minor; target == kernels.PTX80 {
		d.about.Capability = 80
	}
	for _, name := range kernels.Names {
		code, err := kernels.Module(name, target)
		if err != nil {
			return err
		}
		module, err := d.load(append(code, 0)) // PTX ends with a zero
		if failed := (*callError)(nil); errors.As(err, &failed) && d.failed == nil {
			err = explainCode(d.card, name+" ("+target+")", failed)
		}
		if err != nil {
			return err
		}
		d.modules = append(d.modules, module)
	}
	return nil
}

// load loads a cubin, or PTX; what the driver says of its translation is in the error.
func (d *device) load(image []byte) (module uint64, err error) {
	const errorLog, errorLogBytes = 5, 6 // CUjit_option
	options, values := (*[2]int32)(unsafe.Pointer(&d.launch[0])), (*[2]uintptr)(unsafe.Pointer(&d.launch[16]))
	*options, *values = [2]int32{errorLog, errorLogBytes}, [2]uintptr{d.writeText(""), textBytes - 1}
	err = d.do("cuModuleLoadDataEx", d.word(0), address(image), 2, address(d.launch), address(d.launch[16:]))
	runtime.KeepAlive(image)
	if log := d.written(); err != nil && log != "" {
		err = fmt.Errorf("%w: %s", err, log)
	}
	return d.words[0], err
}

// kernel finds a kernel in the modules.
func (d *device) kernel(name string) (*kernel, error) {
	if k := d.kernels[name]; k != nil {
		return k, nil
	}
	for _, module := range d.modules {
		err := d.do("cuModuleGetFunction", d.word(0), uintptr(module), d.writeText(name))
		failed := (*callError)(nil)
		if errors.As(err, &failed) && failed.code == notFound {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("kernel %s: %w", name, err)
		}
		const fixedShared = 1 // CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES
		k := &kernel{function: d.words[0]}
		if err := d.do("cuFuncGetAttribute", d.word(1), fixedShared, uintptr(k.function)); err != nil {
			return nil, fmt.Errorf("kernel %s: %w", name, err)
		}
		k.fixed = int(int32(d.words[1]))
		k.dynamic = plainShared - k.fixed
		d.kernels[name] = k
		return k, nil
	}
	return nil, fmt.Errorf("there is no kernel %s", name)
}

// allow lets a kernel have so much dynamic shared memory.
func (d *device) allow(k *kernel, l *gpu.Launch) error {
	const maxDynamicShared = 8 // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
	if k.fixed+l.Shared > d.about.Shared {
		return fmt.Errorf("kernel %s: %d bytes of shared memory, and a block of %v has %d", l.Kernel, k.fixed+l.Shared, d.card,
			d.about.Shared)
	}
	if err := d.do("cuFuncSetAttribute", uintptr(k.function), maxDynamicShared, uintptr(l.Shared)); err != nil {
		return fmt.Errorf("kernel %s: %d bytes of shared memory: %w", l.Kernel, l.Shared, err)
	}
	k.dynamic = l.Shared
	return nil
}

// What cuLaunchKernelEx reads, in library.launch: CUlaunchConfig (grid, threads and shared memory as seven uint32, at 32 the stream, at
// 40 the attributes and at 48 their number), pointers to arguments with a null behind the last, the arguments, and an attribute (its
// number as an uint32, and at 8 its value).
const (
	maxArguments = 32
	streamAt     = 32
	pointersAt   = 64
	argumentsAt  = pointersAt + 8*(maxArguments+1)
	attributeAt  = argumentsAt + 8*maxArguments
)

func (d *device) Launch(l *gpu.Launch) error {
	if d.failed != nil {
		return d.failed
	}
	k, err := d.kernel(l.Kernel)
	if err != nil {
		return err
	}
	if l.Shared > k.dynamic {
		if err := d.allow(k, l); err != nil {
			return err
		}
	}
	if err := layOut(d.launch, l, d.stream, d.overlaps() && !l.Serial); err != nil {
		return err
	}
	if d.capturing != nil {
		d.capturing.launches++
	}
	d.lastKernel, d.lastGrid, d.lastGraph = l.Kernel, l.Grid, nil
	err = d.do("cuLaunchKernelEx", address(d.launch), uintptr(k.function), address(d.launch[pointersAt:]), 0)
	if err != nil && d.failed == nil {
		err = fmt.Errorf("launch of %s, %v blocks of %v threads: %w", l.Kernel, l.Grid, l.Threads, err)
	}
	return err
}

// overlaps reports whether kernels may begin before the last one has ended: they wait for it before they touch what it leaves
// (programmatic dependent launch), in code for compute capability 9.0 and later.
func (d *device) overlaps() bool { return d.about.Capability >= 90 }

// layOut writes a launch to memory outside the Go heap. The driver copies what it reads of it.
func layOut(to []byte, l *gpu.Launch, stream uint64, overlaps bool) error {
	if len(l.Args) > maxArguments {
		return fmt.Errorf("kernel %s: %d arguments, at most %d", l.Kernel, len(l.Args), maxArguments)
	}
	*(*[7]uint32)(unsafe.Pointer(&to[0])) = [7]uint32{uint32(l.Grid[0]), uint32(l.Grid[1]), uint32(l.Grid[2]), uint32(l.Threads[0]),
		uint32(l.Threads[1]), uint32(l.Threads[2]), uint32(l.Shared)}
	attributes := uint64(0)
	if overlaps {
		const programmaticStreamSerialization, allowed = 6, 1 // CU_LAUNCH_ATTRIBUTE
		attributes = 1
		*(*[2]uint64)(unsafe.Pointer(&to[attributeAt])) = [2]uint64{programmaticStreamSerialization, allowed}
	}
	*(*[3]uint64)(unsafe.Pointer(&to[streamAt])) = [3]uint64{stream, uint64(uintptr(unsafe.Pointer(&to[attributeAt]))), attributes}
	pointers := (*[maxArguments + 1]uintptr)(unsafe.Pointer(&to[pointersAt]))
	arguments := (*[maxArguments]uint64)(unsafe.Pointer(&to[argumentsAt]))
	for i, arg := range l.Args {
		switch a := arg.(type) { // little-endian: a smaller one is read from the same address
		case gpu.Address:
			arguments[i] = uint64(a)
		case uint64:
			arguments[i] = a
		case int32:
			arguments[i] = uint64(uint32(a))
		case float32:
			arguments[i] = uint64(math.Float32bits(a))
		default:
			return fmt.Errorf("kernel %s: argument %d is a %T", l.Kernel, i, arg)
		}
		pointers[i] = uintptr(unsafe.Pointer(&arguments[i]))
	}
	pointers[len(l.Args)] = 0
	return nil
}
