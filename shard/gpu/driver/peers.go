//go:build cuda && linux

package driver

import (
	"encoding/binary"
	"fmt"
	"os"
	"unsafe"

	"lockstep/shard/gpu"
)

// A handle is the exporter's process, the address there, and CUDA's handle for other processes.
const (
	ipcBytes    = 64
	handleBytes = 4 + 8 + ipcBytes
)

// Export takes memory, which is zero, that other ranks' processes can open. It was never run on a card.
func (d *device) Export(bytes int) (gpu.Address, []byte, error) {
	at, err := d.Alloc(bytes)
	if err != nil {
		return 0, nil, err
	}
	if err := d.do("cuMemsetD8Async", uintptr(at), 0, uintptr(bytes), uintptr(d.stream)); err != nil {
		return 0, nil, err
	}
	if err := d.wait("cuStreamQuery", d.stream); err != nil {
		return 0, nil, err
	}
	if err := d.do("cuIpcGetMemHandle", address(d.text), uintptr(at)); err != nil {
		return 0, nil, fmt.Errorf("%v's memory for other ranks: %w", d.card, err)
	}
	handle := binary.LittleEndian.AppendUint32(nil, uint32(os.Getpid()))
	handle = binary.LittleEndian.AppendUint64(handle, uint64(at))
	return at, append(handle, d.text[:ipcBytes]...), nil
}

// Import opens what another rank has exported. Within a process, where CUDA opens no handle, it is the address itself.
func (d *device) Import(handle []byte) (gpu.Address, error) {
	if len(handle) != handleBytes {
		return 0, fmt.Errorf("a handle of %d bytes, want %d", len(handle), handleBytes)
	}
	if binary.LittleEndian.Uint32(handle) == uint32(os.Getpid()) {
		return gpu.Address(binary.LittleEndian.Uint64(handle[4:])), nil
	}
	const lazyPeerAccess = 1
	// The handle goes by value, which puts it on the stack behind six registers, of which the function has two.
	args := []uintptr{d.word(0), lazyPeerAccess, 0, 0, 0, 0}
	for at := 4 + 8; at < handleBytes; at += 8 {
		args = append(args, uintptr(binary.LittleEndian.Uint64(handle[at:])))
	}
	if err := d.do("cuIpcOpenMemHandle_v2", args...); err != nil {
		return 0, fmt.Errorf("%v does not reach another rank's memory: %w", d.card, err)
	}
	return gpu.Address(d.words[0]), nil
}

// Register makes whole pages of the host's memory reachable.
func (d *device) Register(pages []byte) (gpu.Address, error) {
	const portable, mapped = 1, 2
	at := uintptr(unsafe.Pointer(&pages[0])) // outside the Go heap, as pages of a mapping are
	if err := d.do("cuMemHostRegister_v2", at, uintptr(len(pages)), portable|mapped); err != nil {
		return 0, fmt.Errorf("%v does not reach the machine's memory: %w", d.card, err)
	}
	if err := d.do("cuMemHostGetDevicePointer_v2", d.word(0), at, 0); err != nil {
		return 0, err
	}
	return gpu.Address(d.words[0]), nil
}
