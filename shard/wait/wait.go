// Package wait lets threads and processes wait for a word of memory to change: a bounded spin first, then sleep on a futex.
// Pure spinning collapses when there are more threads than cores; sleeping at once costs a wake-up of ten microseconds, or fifty
// in a virtual machine. Nobody yields: beside somebody else's busy program sched_yield gives that program a slice of
// milliseconds, hundreds of times in a step.
package wait

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// SpinTime is how long a waiter spins before it sleeps: longer than the work between two operations of a step that are
	// shared out.
	SpinTime = 50 * time.Microsecond
	// briefSpin is how long one spins for whom spinning is of no use.
	briefSpin = 2 * time.Microsecond
	// patience is how many waits in a row must outlast SpinTime for that.
	patience = 8
	// probeEvery is how many waits pass before such a waiter tries SpinTime again.
	probeEvery = 32
	// looks is how often a word is read between two looks at the clock.
	looks = 128
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
	w.wake()
}

// CountDown takes n off the value, and wakes all who sleep on the word if nothing is left.
func (w *Word) CountDown(n uint32) {
	if w.value.Add(-n) == 0 {
		w.wake()
	}
}

func (w *Word) wake() {
	if w.sleepers.Load() != 0 {
		futex(&w.value, futexWake, 1<<30, nil)
	}
}

// Waiter is one that waits, again and again, for words to change. It spins for SpinTime at most, unless that is known or found
// to be in vain: the one that is waited for does not run before the waiter sleeps when they have one core together. One
// goroutine owns it.
type Waiter struct {
	// Brief says that there are more threads than cores, so that who spins takes a core from who is waited for.
	Brief bool
	vain  uint32 // waits since the last that ended while it spun
}

// Until waits until reached holds for the word's value. Before each sleep it asks stop, which ends the wait early with its
// error. Values may wrap; reached must allow for that.
func (w *Waiter) Until(word *Word, reached func(value uint32) bool, stop func(waited time.Duration) error) error {
	if reached(word.value.Load()) {
		return nil
	}
	start := time.Now()
	if w.spins(word, reached, start) {
		return nil
	}
	for !reached(word.value.Load()) {
		if err := stop(time.Since(start)); err != nil {
			return err
		}
		word.sleep(reached)
	}
	return nil
}

// spins reports whether spinning saw the end of the wait.
func (w *Waiter) spins(word *Word, reached func(value uint32) bool, start time.Time) bool {
	limit := SpinTime
	if w.Brief || w.vain >= patience && w.vain%probeEvery != 0 {
		limit = briefSpin
	}
	for {
		for range looks {
			if reached(word.value.Load()) {
				w.vain = 0
				return true
			}
		}
		if time.Since(start) >= limit {
			w.vain++
			return false
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

// Operations of futex(2); without FUTEX_PRIVATE_FLAG, since words may lie in memory that processes share.
const (
	futexWait = 0
	futexWake = 1
)
