package workers

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

// An operation ends when its pieces are done, though no other worker ever comes; and one that comes late finds nothing to do.
func TestNobodyWaitsForAWorkerThatDoesNotCome(t *testing.T) {
	team := &Team{size: 4, spans: make([]span, 4)} // its threads never start
	for count := range 100 {
		done := 0
		team.Share(count, 1, func(worker, from, to int) {
			if worker != 0 {
				t.Errorf("worker %d came", worker)
			}
			done += to - from
		})
		team.take(1)
		if done != count {
			t.Fatalf("%d of %d pieces are done", done, count)
		}
	}
}

// One that comes in the middle of an operation, and stays for those behind it, does pieces of these and nothing else.
func TestWorkersThatComeLate(t *testing.T) {
	const operations, most = 3000, 24
	for _, size := range []int{2, 4} {
		defer goleak.VerifyNone(t)
		team := New(size, nil)
		var late sync.WaitGroup
		var over atomic.Bool
		for worker := range 4 { // beside the team's own: they come when they like
			late.Go(func() {
				for random := rand.New(rand.NewPCG(uint64(worker), 1)); !over.Load(); {
					team.take(worker + size)
					for range random.IntN(100) {
						runtime.Gosched()
					}
				}
			})
		}
		random := rand.New(rand.NewPCG(1, uint64(size)))
		var ran [most]atomic.Int64 // by piece: the operation that did it, 0 before it is done
		for operation := int64(1); operation <= operations; operation++ {
			for i := range ran {
				ran[i].Store(0)
			}
			// Few counts, so that the word of claims often is what it was in an earlier operation.
			count, grain, idle := most-random.IntN(3), 1+random.IntN(2), random.IntN(8) == 0
			team.Share(count, grain, func(_, from, to int) {
				for i := from; i < to; i++ {
					if idle {
						runtime.Gosched()
					}
					if before := ran[i].Swap(operation); before != 0 {
						t.Errorf("operation %d: piece %d was done before, in %d", operation, i, before)
					}
				}
			})
			for i := range ran {
				if got, want := ran[i].Load() == operation, i < count; got != want {
					t.Fatalf("operation %d: piece %d of %d done: %v", operation, i, count, got)
				}
			}
		}
		over.Store(true)
		late.Wait()
		team.Close()
	}
}

// What is computed piece by piece does not depend on the number of workers.
func TestWorkersDoNotChangeResults(t *testing.T) {
	defer goleak.VerifyNone(t)
	compute := func(size int) []uint64 {
		team := New(size, nil)
		defer team.Close()
		values := make([]uint64, 257)
		for round := range uint64(200) { // each operation reads what the last has left
			last := slices.Clone(values)
			team.Share(len(values), 1+int(round%5), func(_, from, to int) {
				for i := from; i < to; i++ {
					values[i] = 31*last[(i+100)%len(last)] + last[i] ^ round
				}
			})
		}
		return values
	}
	want := compute(1)
	for size := 2; size <= 4; size++ {
		if got := compute(size); !slices.Equal(got, want) {
			t.Errorf("%d workers compute something else than one", size)
		}
	}
}
