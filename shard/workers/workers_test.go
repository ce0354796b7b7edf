package workers_test

import (
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"lockstep/shard/workers"
)

func TestShareDoesEveryPieceOnce(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, size := range []int{1, 2, 5} {
		team := workers.New(size, nil)
		for count := range 50 {
			var pieces [50]atomic.Int32
			team.Share(count, 3, func(_, from, to int) {
				for i := from; i < to; i++ {
					pieces[i].Add(1)
				}
			})
			for i := range pieces {
				if got, want := pieces[i].Load() == 1, i < count; got != want {
					t.Fatalf("size %d, count %d: piece %d done: %v, want %v", size, count, i, got, want)
				}
			}
		}
		team.Close()
	}
}
