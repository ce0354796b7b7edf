// Package workers runs the computing threads of a rank, each an operating-system thread of its own. They compute what is shared
// out in counted pieces, which whoever is awake takes: an operation ends when its pieces are done, not when every worker has
// shown up. So one that a busy machine does not let run holds nobody up, but for the piece that it may be in.
//
// How an operation goes. Its leader, worker 0, is alone when it begins one: all pieces of the last are done. It writes the work,
// the number of pieces that are left to be done, and then the word of claims, (count, next); then it wakes who sleeps. Everyone
// claims pieces by exchanging the word for one with a larger next, computes them, and takes them off what is left. The leader
// returns when nothing is left.
//
//   - A claim is always of the operation that is going on. A worker may read the word, be late by any time, and find it equal
//     though operations have ended and begun meanwhile, with the same count and the same next: then the exchange claims those
//     pieces of the present operation, and nobody else has them. That is why the word needs no number of the operation, and why no
//     such number can wrap. Where the word differs the exchange fails.
//   - The work is read behind the claim only. It is written before the word of its operation, so it is there; and it is not
//     written again before nothing is left, so not before the one that claimed is done with it. An old worker cannot run an old
//     function, nor old pieces.
//   - The least size of a range is read before the claim and may be that of another operation; the size is then another one, and
//     the range is right all the same, since count and next are the word's.
//   - No wake-up is lost. A worker notes the round, looks for pieces, and sleeps only while the round is what it noted; the
//     leader changes the round behind the word. (If the round came around to the same number in between, 2^32 operations later,
//     the others would do that operation.) A worker that takes the last piece off what is left may wake the leader only once
//     the next operation has begun: it finds pieces left, and sleeps again.
package workers

import (
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"lockstep/shard/wait"
)

// Team is a fixed set of threads. The goroutine that calls Share is worker 0; one goroutine owns a Team.
type Team struct {
	size   int
	ended  chan struct{}
	cpus   []int
	waiter wait.Waiter // worker 0's

	_ [lineBytes]byte // what an operation writes at its begin is together, and apart from what changes at its end
	// claims holds the count of pieces in its upper half, and the number of the next to be claimed in its lower.
	claims  atomic.Uint64
	round   wait.Word    // counts operations
	grain   atomic.Int64 // least size of a range
	work    func(worker, from, to int)
	beat    func()
	closing atomic.Bool

	_    [lineBytes]byte
	left wait.Word // pieces that are not done
	_    [lineBytes]byte
}

const (
	lineBytes = 64
	// leastRanges is in how many ranges an operation is done at least, if it has so many pieces.
	leastRanges = 8
)

// New starts size-1 threads. They and the caller's thread may run on cpus alone, if these are not empty, but on any of them:
// a thread that is tied to a core stands still while somebody else's program has it, though another core may be free. The caller
// becomes worker 0: its goroutine is locked to its thread.
func New(size int, cpus []int) *Team {
	t := &Team{size: size, ended: make(chan struct{}, size), cpus: cpus}
	runtime.LockOSThread()
	t.restrict()
	for worker := 1; worker < size; worker++ {
		go t.loop(worker)
	}
	return t
}

// Size returns the number of workers.
func (t *Team) Size() int { return t.size }

// Beat has the workers call beat with each range that they begin, from now on: a sign that the team moves.
func (t *Team) Beat(beat func()) { t.beat = beat }

// Share calls work for the pieces [0,count) in ranges, and returns when all are done: each worker takes the next range when it
// is free, half of an equal share of what is left and an eighth of all at most, but at least grain pieces. A core that is busy
// with something else takes fewer, and all end together. There may be fewer than 2^32 pieces. It allocates nothing.
func (t *Team) Share(count, grain int, work func(worker, from, to int)) {
	if count <= grain {
		if count > 0 {
			work(0, 0, count)
		}
		return
	}
	t.work = work
	t.grain.Store(int64(grain))
	t.left.Set(uint32(count))
	t.claims.Store(uint64(count) << 32)
	t.round.Set(t.round.Load() + 1)
	t.take(0)
	t.waiter.Until(&t.left, isZero, never)
}

// take works on pieces until none is left to be claimed.
func (t *Team) take(worker int) {
	for {
		claims := t.claims.Load()
		count, from := int(claims>>32), int(uint32(claims))
		if from >= count {
			return
		}
		to := min(count, from+max(int(t.grain.Load()), min((count-from)/(2*t.size), count/leastRanges)))
		if t.claims.CompareAndSwap(claims, claims+uint64(to-from)) {
			if t.beat != nil {
				t.beat()
			}
			t.work(worker, from, to)
			t.left.CountDown(uint32(to - from))
		}
	}
}

// Close ends the threads and waits for them.
func (t *Team) Close() {
	t.closing.Store(true)
	t.round.Set(t.round.Load() + 1)
	for worker := 1; worker < t.size; worker++ {
		<-t.ended
	}
}

func (t *Team) loop(worker int) {
	runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
	t.restrict()
	var waiter wait.Waiter
	for {
		round := t.round.Load()
		t.take(worker)
		if t.closing.Load() {
			t.ended <- struct{}{}
			return
		}
		waiter.Until(&t.round, func(value uint32) bool { return value != round }, never)
	}
}

// restrict ties the calling thread to the team's CPUs.
func (t *Team) restrict() {
	if len(t.cpus) == 0 {
		return
	}
	var set unix.CPUSet
	for _, cpu := range t.cpus {
		set.Set(cpu)
	}
	unix.SchedSetaffinity(0, &set) // a refusal costs speed only
}

func isZero(value uint32) bool { return value == 0 }

func never(time.Duration) error { return nil }
