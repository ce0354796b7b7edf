package gpu

import "unsafe"

// Address is memory of a device.
type Address uint64

// Device is a card, or what computes in place of one. One goroutine owns it. What is launched runs in order.
type Device interface {
	Describe() Description
	// Alloc takes memory, which is not cleared.
	Alloc(bytes int) (Address, error)
	Free(address Address)
	// FreeBytes is the memory that Alloc can still take, and whose it is.
	FreeBytes() (bytes int64, of string, err error)
	// Upload copies to the device behind what was launched; data may be changed when it returns.
	Upload(to Address, data []byte) error
	// Download waits for all that was launched and copies from the device.
	Download(data []byte, from Address) error
	Launch(l *Launch) error
	Close() error
}

// Peered is a Device whose memory other ranks' devices can reach, also from other processes.
type Peered interface {
	Device
	// Export takes memory, which is zero, and returns what Import makes an address of on other devices.
	Export(bytes int) (at Address, handle []byte, err error)
	// Import opens memory that another rank has exported. Close gives it back, and before the exporter's may fail to be read.
	Import(handle []byte) (Address, error)
	// Register makes whole pages of the host's memory reachable, for reading.
	Register(pages []byte) (Address, error)
}

// Fetcher is a Device that copies without waiting for what is launched later.
type Fetcher interface {
	Device
	// Fetch copies behind what was launched. At most two are under way, of at most MaxFetch bytes each.
	Fetch(reads ...Read) error
	// Await waits for the oldest, and for nothing behind it.
	Await() error
}

// Read is a copy from the device.
type Read struct {
	To   []byte
	From Address
}

// MaxFetch is the most bytes of a Fetch.
const MaxFetch = 1 << 20

// Description says what a device is.
type Description struct {
	Name  string // for people: "NVIDIA H100 80GB HBM3"
	Type  string // as clients know it: "cuda"
	Class string // of its tensor cores' sums: "h" or "a", see ptx.Core
	// OwnMemory says that no other rank takes of FreeBytes.
	OwnMemory bool
	// Capability is the compute capability that the code which it runs is for, 90 for 9.0: kernels of later ones are not there.
	Capability int
	// Processors is how many multiprocessors it has, Shared how many bytes of shared memory a block can have.
	Processors, Shared int
}

// Launch says how a kernel is run. Arguments are Address, int32, uint64 and float32, as its source declares them.
type Launch struct {
	Kernel        string
	Grid, Threads [3]int
	Shared        int // bytes of dynamic shared memory
	Args          []any
	// Serial says that it does not begin before the last one has ended, which its kernel could: for measuring what that gains.
	Serial bool
}

// bytesOf are the bytes of numbers, or of structs of numbers.
func bytesOf[T any](numbers []T) []byte {
	if len(numbers) == 0 {
		return nil
	}
	var one T
	return unsafe.Slice((*byte)(unsafe.Pointer(&numbers[0])), len(numbers)*int(unsafe.Sizeof(one)))
}
