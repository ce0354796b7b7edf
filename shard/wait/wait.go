// Package wait lets threads and processes wait for a word of memory to change: a bounded spin first, then yielding the
// core, then sleeping on a futex. Pure spinning collapses when there are more ranks than cores; sleeping at once costs
// ten microseconds a wake-up.
package wait

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// spins is how often a word is read before the core is given to others for the first time.
	spins = 2000
	// checkEvery is how many yields pass between two looks at the clock and at the stop function.
	checkEvery = 64
	// YieldTime is how long a waiter yields before it sleeps.
	YieldTime = 50 * time.Microsecond
	// sleepTime bounds one sleep, so that a stop is noticed although nobody wakes the sleeper.
	sleepTime = 50 * time.Millisecond
)

// Word is a futex word; it may lie in memory that processes share. Sleepers counts who sleeps on it, so that Set costs a
// system call only when somebody does.
type Word struct {
	value    atomic.Uint32
	sleepers atomic.Uint32
}

// Load returns the value.
func (w *Word) Load() uint32 { return w.value.Load() }

// Set stores value and wakes all who sleep on the word.
func (w *Word) Set(value uint32) {
	w.value.Store(value)
	if w.sleepers.Load() != 0 {
		futex(&w.value, futexWake, 1<<30, nil)
	}
}

// Until waits until reached(value) holds. stop is asked now and then and ends the wait early with its error. Values may
// wrap; reached must allow for that.
func (w *Word) Until(reached func(value uint32) bool, stop func(waited time.Duration) error) error {
	for range spins {
		if reached(w.value.Load()) {
			return nil
		}
	}
	start, sleeping := time.Now(), false
	for i := 1; ; i++ {
		if reached(w.value.Load()) {
			return nil
		}
		if i%checkEvery != 0 && !sleeping {
			yield()
			continue
		}
		waited := time.Since(start)
		if err := stop(waited); err != nil {
			return err
		}
		if sleeping = waited > YieldTime; sleeping {
			w.sleep(reached)
		}
	}
}

func (w *Word) sleep(reached func(uint32) bool) {
	w.sleepers.Add(1)
	if value := w.value.Load(); !reached(value) {
		timeout := unix.NsecToTimespec(int64(sleepTime))
		futex(&w.value, futexWait, value, &timeout)
	}
	w.sleepers.Add(^uint32(0))
}

// AtLeast is a condition for Until on counters that grow and wrap.
func AtLeast(target uint32) func(uint32) bool {
	return func(value uint32) bool { return int32(value-target) >= 0 }
}

func futex(word *atomic.Uint32, operation int, value uint32, timeout *unix.Timespec) {
	unix.Syscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), uintptr(operation), uintptr(value), uintptr(unsafe.Pointer(timeout)), 0, 0)
}

func yield() { unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0) }

// Operations of futex(2); without FUTEX_PRIVATE_FLAG, since words may lie in memory that processes share.
const (
	futexWait = 0
	futexWake = 1
)
