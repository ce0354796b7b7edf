//go:build cuda && linux

package driver

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"github.com/ebitengine/purego"
	"golang.org/x/sys/unix"

	"lockstep/shard/gpu"
)

// device is a card with a context, which is the only one of this process. A context is current on a thread: the goroutine that called
// Open is locked to its own until Close, and alone uses the device.
type device struct {
	*library
	card       Card
	handle     uint64
	stream     uint64
	options    Options
	about      gpu.Description
	modules    []uint64
	kernels    map[string]*kernel
	staging    staging
	landing    []byte // what Download takes comes here
	fetching   fetching
	capturing  *graph // nil: launches run
	lastKernel string // that was launched, and its grid
	lastGrid   [3]int
	lastGraph  *graph // that was launched behind it; nil: none was
	// failed is why the context is dead; nothing is asked of it then.
	failed error
	closed bool
}

var _ gpu.Fetcher = (*device)(nil)

// Open takes a card. The goroutine that calls it is locked to its thread until it has called Close, and alone uses the device. A
// failure of the card, or of a kernel, kills the context: every call returns it from then on, and only another process can compute on
// the card again.
func Open(options Options) (_ gpu.Device, err error) {
	l, err := open(options.Library)
	if err != nil {
		return nil, err
	}
	if options.GiveUp == nil {
		options.GiveUp = func() error { return nil }
	}
	d := &device{library: l, options: options, kernels: map[string]*kernel{}}
	runtime.LockOSThread()
	for _, step := range []func() error{d.choose, d.begin, d.reserve, d.loadModules} {
		if err := step(); err != nil {
			d.Close() //nolint:errcheck // the first error counts
			return nil, err
		}
	}
	return d, nil
}

// choose finds the card and asks what it is.
func (d *device) choose() error {
	cards, err := d.cards()
	if err != nil {
		return err
	}
	at := slices.IndexFunc(cards, func(c Card) bool { return c.UUID == d.options.UUID })
	if at < 0 {
		return fmt.Errorf("the card %s is not there any more, or not for this process; the driver shows %s", d.options.UUID, list(cards))
	}
	d.card = cards[at]
	if err := d.card.usable(); err != nil {
		return err
	}
	if d.handle, err = d.library.device(at); err != nil {
		return err
	}
	d.about = gpu.Description{Name: d.card.Name, Type: "cuda", Class: d.card.class(), OwnMemory: !d.options.Shared}
	if d.about.Processors, err = d.attribute(d.handle, attributeProcessors); err != nil {
		return err
	}
	d.about.Shared, err = d.attribute(d.handle, attributeShared)
	return err
}

// begin takes the card's primary context and a stream that waits for no other.
func (d *device) begin() error {
	err := d.call("cuDevicePrimaryCtxRetain", d.word(0), uintptr(d.handle))
	if err == nil {
		err = d.call("cuCtxSetCurrent", uintptr(d.words[0]))
	}
	if failed := (*callError)(nil); errors.As(err, &failed) {
		mode, _ := d.attribute(d.handle, attributeComputeMode)
		return explainOpen(d.card, mode, failed)
	}
	const nonBlocking, priority = 1, 0
	err = d.do("cuStreamCreateWithPriority", d.word(0), nonBlocking, priority)
	d.stream = d.words[0]
	return err
}

// reserve takes the memory of the host through which everything goes to the card and comes from it.
func (d *device) reserve() (err error) {
	if d.staging.memory, err = d.pinned(2 * stagingBytes); err != nil {
		return err
	}
	if d.landing, err = d.pinned(stagingBytes); err != nil {
		return err
	}
	if d.fetching.memory, err = d.pinned(2 * gpu.MaxFetch); err != nil {
		return err
	}
	const withoutTiming = 2
	for _, events := range []*[2]uint64{&d.staging.events, &d.fetching.events} {
		for half := range events {
			if err := d.do("cuEventCreate", d.word(0), withoutTiming); err != nil {
				return err
			}
			events[half] = d.words[0]
		}
	}
	return nil
}

// pinned takes memory of the host that the card can reach at any time.
func (d *device) pinned(bytes int) ([]byte, error) {
	const portable = 1
	if err := d.do("cuMemHostAlloc", d.word(0), uintptr(bytes), portable); err != nil {
		return nil, fmt.Errorf("%d MiB of memory of the machine for copies: %w", bytes>>20, err)
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&d.words[0])), bytes), nil
}

// do calls a function of the card's context.
func (d *device) do(name string, args ...uintptr) error {
	if d.failed != nil {
		return d.failed
	}
	return d.judge(d.call(name, args...))
}

// judge remembers an error that the context does not survive.
func (d *device) judge(err error) error {
	failed := (*callError)(nil)
	if !errors.As(err, &failed) || !failed.dead() {
		return err
	}
	last := "nothing was launched before"
	switch {
	case d.lastGraph != nil:
		last = fmt.Sprintf("the last launch was a graph of %d launches (with --cuda-graphs 0, and CUDA_LAUNCH_BLOCKING=1 in the "+
			"environment, it is the kernel that failed)", d.lastGraph.launches)
	case d.lastKernel != "":
		last = fmt.Sprintf("the last launch was %s on a grid of %v (with CUDA_LAUNCH_BLOCKING=1 in the environment it is the one that "+
			"failed)", d.lastKernel, d.lastGrid)
	}
	d.failed = fmt.Errorf("%v has failed: %w; %s", d.card, failed, last)
	return d.failed
}

func (d *device) Describe() gpu.Description { return d.about }

func (d *device) FreeBytes() (bytes int64, of string, err error) {
	err = d.do("cuMemGetInfo_v2", d.word(0), d.word(1))
	return int64(d.words[0]), d.card.String(), err
}

// A process that was killed gives its memory back within a second or two: Alloc waits while more becomes free.
const (
	allocPatience = 500 * time.Millisecond
	allocLook     = 20 * time.Millisecond
)

// Alloc takes memory. Where there is too little its error is a *MemoryError.
func (d *device) Alloc(bytes int) (gpu.Address, error) {
	last, since := int64(-1), time.Now()
	for {
		err := d.do("cuMemAlloc_v2", d.word(0), uintptr(bytes))
		failed := (*callError)(nil)
		if !errors.As(err, &failed) || failed.code != outOfMemory {
			return gpu.Address(d.words[0]), err
		}
		free, _, err := d.FreeBytes()
		if err != nil {
			return 0, err
		}
		if free > last {
			last, since = free, time.Now()
		}
		if time.Since(since) > allocPatience {
			return 0, &MemoryError{d.card, int64(bytes), free}
		}
		if err := d.options.GiveUp(); err != nil {
			return 0, err
		}
		time.Sleep(allocLook)
	}
}

func (d *device) Free(address gpu.Address) {
	d.do("cuMemFree_v2", uintptr(address)) //nolint:errcheck // a dead context has nothing to free
}

// Waiting asks again at once for busyWait, which most steps last, and then every pause.
const (
	busyWait = time.Millisecond
	pause    = 20 * time.Microsecond
)

// wait asks a query of the driver until its answer is no "not ready". It never blocks in the driver: there nobody could give up.
func (d *device) wait(query string, handle uint64) error {
	if d.failed != nil {
		return d.failed
	}
	function, began := d.addresses[query], time.Now()
	for {
		if code, _, _ := purego.SyscallN(function, uintptr(handle)); int32(code) != notReady {
			return d.judge(d.check(query, int32(code)))
		}
		if err := d.options.GiveUp(); err != nil {
			return err
		}
		if time.Since(began) > busyWait {
			unix.Nanosleep(&unix.Timespec{Nsec: int64(pause)}, nil) //nolint:errcheck // a shorter pause is none the worse
		}
	}
}

// Close gives the card back. What is on it is gone. A second call does nothing.
func (d *device) Close() (err error) {
	if d.closed {
		return nil
	}
	if d.failed == nil && d.stream != 0 { // else the context goes with the process
		err = d.do("cuDevicePrimaryCtxRelease_v2", uintptr(d.handle))
	}
	d.closed, d.failed = true, errClosed
	d.library.close()
	runtime.UnlockOSThread()
	return err
}

var errClosed = errors.New("the card was given back")
