//go:build cuda && linux

package driver

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"
)

// functions are those of the driver's library, under the names of their symbols: one with a suffix is another function than the one
// without.
var functions = []string{"cuInit", "cuDriverGetVersion", "cuGetErrorName", "cuGetErrorString", "cuDeviceGetCount", "cuDeviceGet",
	"cuDeviceGetName", "cuDeviceGetUuid_v2", "cuDeviceGetAttribute", "cuDeviceTotalMem_v2", "cuDevicePrimaryCtxRetain",
	"cuDevicePrimaryCtxRelease_v2", "cuCtxSetCurrent", "cuMemGetInfo_v2", "cuMemAlloc_v2", "cuMemFree_v2", "cuMemHostAlloc",
	"cuMemFreeHost", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuStreamCreateWithPriority", "cuStreamDestroy_v2",
	"cuStreamQuery", "cuEventCreate", "cuEventRecord", "cuEventQuery", "cuEventDestroy_v2", "cuModuleLoadDataEx", "cuModuleUnload",
	"cuModuleGetFunction", "cuFuncGetAttribute", "cuFuncSetAttribute", "cuLaunchKernelEx", "cuMemsetD8Async", "cuIpcGetMemHandle",
	"cuIpcOpenMemHandle_v2", "cuMemHostRegister_v2", "cuMemHostGetDevicePointer_v2", "cuStreamBeginCapture_v2", "cuStreamEndCapture",
	"cuGraphInstantiateWithFlags", "cuGraphDestroy", "cuGraphLaunch"}

// Attributes of a device (CUdevice_attribute).
const (
	attributeProcessors  = 16
	attributeComputeMode = 20
	attributeMajor       = 75
	attributeMinor       = 76
	attributeShared      = 97 // of a block, for kernels that ask for it
)

const (
	words        = 8    // results of calls
	textBytes    = 4096 // texts that calls write
	launchBytes  = 1024 // what a launch reads, see layOut
	outsideBytes = 8*words + textBytes + launchBytes
)

// library is the driver's library, started. One goroutine uses it.
type library struct {
	addresses map[string]uintptr
	// outside lies outside the Go heap, so that the driver may read and write it while Go moves stacks: words, text, launch.
	outside []byte
	words   *[words]uint64
	text    []byte
	launch  []byte
}

// open opens the library and starts the driver.
func open(path string) (*library, error) {
	if path == "" {
		path = DefaultLibrary
	}
	runtime.LockOSThread() // dlerror tells only the thread whose call failed
	defer runtime.UnlockOSThread()
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, noLibrary(path, err)
	}
	l := &library{addresses: map[string]uintptr{}}
	if l.outside, err = unix.Mmap(-1, 0, outsideBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		return nil, fmt.Errorf("memory for calls of the driver: %w", err)
	}
	l.words = (*[words]uint64)(unsafe.Pointer(&l.outside[0]))
	l.text, l.launch = l.outside[8*words:][:textBytes], l.outside[8*words+textBytes:]
	if err := l.start(handle); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *library) start(handle uintptr) error {
	missing := ""
	for _, name := range functions {
		address, err := purego.Dlsym(handle, name)
		if err != nil || address == 0 {
			missing = name
			continue
		}
		l.addresses[name] = address
	}
	if l.addresses["cuDriverGetVersion"] != 0 && l.call("cuDriverGetVersion", l.word(0)) == nil {
		if version := int(int32(l.words[0])); version < minVersion {
			return tooOld(fmt.Sprintf("it is for CUDA %d.%d", version/1000, version%1000/10))
		}
	}
	if missing != "" {
		return tooOld("it has no " + missing)
	}
	var failed *callError
	if errors.As(l.call("cuInit", 0), &failed) {
		return explainStart(failed)
	}
	return nil
}

// close frees what calls have used. The library itself stays: it cannot be unloaded.
func (l *library) close() { unix.Munmap(l.outside) } //nolint:errcheck // it was mapped

// word is the address of a word that a call may write.
func (l *library) word(i int) uintptr {
	l.words[i] = 0
	return uintptr(unsafe.Pointer(&l.words[i]))
}

// address is that of memory outside the Go heap.
func address(memory []byte) uintptr { return uintptr(unsafe.Pointer(&memory[0])) }

// call calls a function. What arguments point to lies outside the Go heap.
func (l *library) call(name string, args ...uintptr) error {
	result, _, _ := purego.SyscallN(l.addresses[name], args...)
	return l.check(name, int32(result))
}

// check makes a *callError of what is no success.
func (l *library) check(call string, code int32) error {
	if code == success {
		return nil
	}
	return &callError{call, code, l.describe("cuGetErrorName", code), l.describe("cuGetErrorString", code)}
}

// describe asks for the name or the text of a result.
func (l *library) describe(function string, code int32) string {
	if l.addresses[function] == 0 {
		return "?"
	}
	const at = words - 1 // the others may have results
	result, _, _ := purego.SyscallN(l.addresses[function], uintptr(code), l.word(at))
	if text := *(**byte)(unsafe.Pointer(&l.words[at])); int32(result) == success && text != nil {
		return unix.BytePtrToString(text)
	}
	return "?"
}

// written is the text that a call has written.
func (l *library) written() string { return unix.ByteSliceToString(l.text) }

// writeText puts a text where calls can read it.
func (l *library) writeText(text string) uintptr {
	n := copy(l.text[:len(l.text)-1], text)
	l.text[n] = 0
	return address(l.text)
}

func (l *library) attribute(device uint64, attribute int) (int, error) {
	err := l.call("cuDeviceGetAttribute", l.word(0), uintptr(attribute), uintptr(device))
	return int(int32(l.words[0])), err
}

// Built says whether this binary can open the driver.
const Built = true

// Cards lists what the driver shows. It takes no card.
func Cards(library string) ([]Card, error) {
	l, err := open(library)
	if err != nil {
		return nil, err
	}
	defer l.close()
	return l.cards()
}

func (l *library) cards() ([]Card, error) {
	if err := l.call("cuDeviceGetCount", l.word(0)); err != nil {
		return nil, err
	}
	cards := make([]Card, int32(l.words[0]))
	if len(cards) == 0 {
		return nil, explainStart(&callError{"cuDeviceGetCount", noDevice, "no card", "the count is 0"})
	}
	for i := range cards {
		if err := l.describeCard(i, &cards[i]); err != nil {
			return nil, fmt.Errorf("card %d does not answer: %w", i, err)
		}
	}
	return cards, nil
}

func (l *library) describeCard(index int, c *Card) (err error) {
	device, err := l.device(index)
	if err != nil {
		return err
	}
	if err := l.call("cuDeviceGetName", address(l.text), textBytes, uintptr(device)); err != nil {
		return err
	}
	c.Index, c.Name = index, l.written()
	if err := l.call("cuDeviceGetUuid_v2", address(l.text), uintptr(device)); err != nil {
		return err
	}
	u := l.text[:16]
	c.UUID = fmt.Sprintf("GPU-%x-%x-%x-%x-%x", u[:4], u[4:6], u[6:8], u[8:10], u[10:])
	if err := l.call("cuDeviceTotalMem_v2", l.word(0), uintptr(device)); err != nil {
		return err
	}
	c.Memory = int64(l.words[0])
	if c.Major, err = l.attribute(device, attributeMajor); err != nil {
		return err
	}
	c.Minor, err = l.attribute(device, attributeMinor)
	return err
}

// device is the driver's handle of a card.
func (l *library) device(index int) (uint64, error) {
	err := l.call("cuDeviceGet", l.word(0), uintptr(index))
	return l.words[0], err
}
