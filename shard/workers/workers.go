// Package workers runs the computing threads of a rank. Each is an operating-system thread of its own, pinned to a core
// when there are enough; between pieces of work they meet at a barrier that spins briefly, yields, and sleeps when idle.
package workers

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lockstep/shard/wait"
)

// Team is a fixed set of threads. The goroutine that calls Run is worker 0; one goroutine owns a Team.
type Team struct {
	size  int
	work  func(worker int)
	start wait.Word // counts the calls of Run
	done  []doneWord
	ended chan struct{}
	// closing is written before start and read after it.
	closing bool
	cpus    []int
	next    atomic.Int64
}

// doneWord has a cache line of its own, so that finishing workers do not disturb each other.
type doneWord struct {
	wait.Word
	_ [56]byte
}

// New starts size-1 threads; worker i is pinned to cpus[i] if cpus is not empty. The caller becomes worker 0: its
// goroutine is locked to its thread.
func New(size int, cpus []int) *Team {
	t := &Team{size: size, done: make([]doneWord, size), ended: make(chan struct{}, size), cpus: cpus}
	runtime.LockOSThread()
	t.pin(0)
	for worker := 1; worker < size; worker++ {
		go t.loop(worker)
	}
	return t
}

// Size returns the number of workers.
func (t *Team) Size() int { return t.size }

// Run calls work once on every worker and returns when all have finished. It allocates nothing.
func (t *Team) Run(work func(worker int)) {
	if t.size == 1 {
		work(0)
		return
	}
	t.work = work
	round := t.start.Load() + 1
	t.start.Set(round)
	work(0)
	reached := wait.AtLeast(round)
	for worker := 1; worker < t.size; worker++ {
		t.done[worker].Until(reached, never)
	}
}

// Share calls work for the pieces [0,count) in ranges: each worker takes the next range when it is free, half of an equal
// share of what is left, but at least grain pieces. A core that is busy with something else takes fewer, and all end together.
func (t *Team) Share(count, grain int, work func(worker, from, to int)) {
	if count <= grain || t.size == 1 {
		if count > 0 {
			work(0, 0, count)
		}
		return
	}
	t.next.Store(0)
	t.Run(func(worker int) {
		for {
			from := int(t.next.Load())
			if from >= count {
				return
			}
			to := min(count, from+max(grain, (count-from)/(2*t.size)))
			if t.next.CompareAndSwap(int64(from), int64(to)) {
				work(worker, from, to)
			}
		}
	})
}

// Close ends the threads and waits for them.
func (t *Team) Close() {
	t.closing = true
	t.start.Set(t.start.Load() + 1)
	for worker := 1; worker < t.size; worker++ {
		<-t.ended
	}
}

func (t *Team) loop(worker int) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	t.pin(worker)
	for round := uint32(1); ; round++ {
		t.start.Until(wait.AtLeast(round), never)
		if t.closing {
			t.ended <- struct{}{}
			return
		}
		t.work(worker)
		t.done[worker].Set(round)
	}
}

func (t *Team) pin(worker int) {
	if worker >= len(t.cpus) {
		return
	}
	var set unix.CPUSet
	set.Set(t.cpus[worker])
	unix.SchedSetaffinity(0, &set) // a refusal costs speed only
}

func never(time.Duration) error { return nil }
