package shard

import (
	"sync"
	"sync/atomic"
	"time"

	"lockstep/shard/collective"
)

const (
	// beatInterval lies between two beats of a rank 0 that is at rest.
	beatInterval = 50 * time.Millisecond
	// minStallTime and stallFactor, times the slowest step so far, are how long a step must take to count as stalled.
	minStallTime = 500 * time.Millisecond
	stallFactor  = 3
)

// pace is how long rank 0's steps take. Its methods may be called from any goroutine.
type pace struct {
	began   atomic.Int64 // of the present step, in Unix nanoseconds; 0 between steps
	slowest atomic.Int64 // nanoseconds
}

func (p *pace) begin() { p.began.Store(time.Now().UnixNano()) }

func (p *pace) end() {
	p.slowest.Store(max(p.slowest.Load(), time.Now().UnixNano()-p.began.Swap(0)))
}

// scale takes steps into account that are so many times as large as those so far.
func (p *pace) scale(factor int) { p.slowest.Store(p.slowest.Load() * int64(max(factor, 1))) }

// stalled reports whether the present step takes far longer than any before: new requests should go elsewhere, whether or
// not the launcher is going to start the group again.
func (p *pace) stalled() bool {
	began := p.began.Load()
	limit := max(minStallTime, stallFactor*time.Duration(p.slowest.Load()))
	return began != 0 && time.Since(time.Unix(0, began)) > limit
}

// beatAtRest shows that rank 0 is alive between its steps, whatever it waits for there; within a step the step itself shows
// it. It goes on until the function that it returns has been called.
func (p *pace) beatAtRest(group *collective.Group) (stop func()) {
	ended := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		ticker := time.NewTicker(beatInterval)
		defer ticker.Stop()
		for {
			if p.began.Load() == 0 {
				group.Beat()
			}
			select {
			case <-ticker.C:
			case <-ended:
				return
			}
		}
	})
	return func() {
		close(ended)
		running.Wait()
	}
}
