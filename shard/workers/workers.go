// Package workers runs the computing threads of a rank, each an operating-system thread of its own. They compute what is shared
// out in counted pieces, which whoever is awake takes: an operation ends when its pieces are done, not when every worker has
// shown up. So one that a busy machine does not let run holds nobody up, but for the piece that it may be in.
//
// Each worker begins with a span of the pieces that is its own, the same part of them in every operation, and goes on with what the
// others have left of theirs: so a row, where rows are the pieces, stays in the caches of one core.
//
// How an operation goes. Its leader, worker 0, is alone when it begins one: all pieces of the last are done. It writes the work,
// the number of pieces that are left to be done, and then for each span the word of claims, (end, next); then it wakes who sleeps.
// Everyone claims pieces by exchanging a word for one with a larger next, computes them, and takes them off what is left. The
// leader returns when nothing is left.
//
//   - A claim is always of the operation that is going on. A worker may read the word, be late by any time, and find it equal
//     though operations have ended and begun meanwhile, with the same end and the same next: then the exchange claims those
//     pieces of the present operation, and nobody else has them. That is why the word needs no number of the operation, and why no
//     such number can wrap. Where the word differs the exchange fails. A word that the leader has not written yet is that of the
//     last operation, of which no piece is to be claimed.
//   - The work is read behind the claim only. It is written before the words of its operation, so it is there; and it is not
//     written again before nothing is left, so not before the one that claimed is done with it. An old worker cannot run an old
//     function, nor old pieces.
//   - The sizes of ranges are read before the claim and may be those of another operation; the size is then another one, and
//     the range is right all the same, since end and next are the word's.
//   - No wake-up is lost. A worker notes the round, looks for pieces, and sleeps only while the round is what it noted; the
//     leader changes the round behind the words. (If the round came around to the same number in between, 2^32 operations later,
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

	spans []span // by worker

	_       [lineBytes]byte // what an operation writes at its begin is together, and apart from what changes at its end
	round   wait.Word       // counts operations
	grain   atomic.Int64    // least size of a range
	most    atomic.Int64    // largest size of a range
	work    func(worker, from, to int)
	beat    func()
	closing atomic.Bool

	_    [lineBytes]byte
	left wait.Word // pieces that are not done
	_    [lineBytes]byte
}

// span is the pieces that a worker begins with. claims holds the number behind the last of them in its upper half, and that of the
// next to be claimed in its lower.
type span struct {
	claims atomic.Uint64
	_      [lineBytes - 8]byte
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
	t := &Team{size: size, spans: make([]span, size), ended: make(chan struct{}, size), cpus: cpus}
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
// is free, of its own equal part of the pieces as long as there are any, half of what is left of a part and an eighth of all at most,
// but at least grain pieces. A core that is busy with something else takes fewer, and all end together. There may be fewer than
// 2^32 pieces. It allocates nothing.
func (t *Team) Share(count, grain int, work func(worker, from, to int)) {
	if count <= grain {
		if count > 0 {
			work(0, 0, count)
		}
		return
	}
	t.work = work
	t.grain.Store(int64(grain))
	t.most.Store(int64(max(grain, count/leastRanges)))
	t.left.Set(uint32(count))
	for i := range t.spans {
		t.spans[i].claims.Store(uint64(count*(i+1)/t.size)<<32 | uint64(count*i/t.size))
	}
	t.round.Set(t.round.Load() + 1)
	t.take(0)
	t.waiter.Until(&t.left, isZero, never)
}

// take works on pieces until none is left to be claimed.
func (t *Team) take(worker int) {
	for i := range t.spans {
		for s := &t.spans[(worker+i)%t.size]; t.takeOf(s, worker); {
		}
	}
}

// takeOf works on the next range of a span, and reports whether there was one.
func (t *Team) takeOf(s *span, worker int) bool {
	claims := s.claims.Load()
	end, from := int(claims>>32), int(uint32(claims))
	if from >= end {
		return false
	}
	to := min(end, from+max(int(t.grain.Load()), min((end-from)/2, int(t.most.Load()))))
	if s.claims.CompareAndSwap(claims, claims+uint64(to-from)) {
		if t.beat != nil {
			t.beat()
		}
		t.work(worker, from, to)
		t.left.CountDown(uint32(to - from))
	}
	return true
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
