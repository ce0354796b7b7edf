package supervise_test

import (
	"testing"
	"time"

	"lockstep/launcher/supervise"
)

// heart plays a group of two ranks before an observer.
type heart struct {
	t     *testing.T
	pulse *supervise.Pulse
	now   time.Time
	beats []uint32
}

func newHeart(t *testing.T) *heart {
	return &heart{t: t, pulse: supervise.NewPulse(2, 0), now: epoch, beats: make([]uint32, 2)}
}

// pass lets time pass in looks, while the ranks whose interval is not 0 beat in that interval. It returns how much time
// passed until a rank was found to stand still, and which; -1: none was.
func (h *heart) pass(length time.Duration, intervals ...time.Duration) (stalled int, after time.Duration) {
	for start := h.now; h.now.Sub(start) < length; {
		before := h.now.Sub(start)
		h.now = h.now.Add(supervise.LookInterval)
		for rank, interval := range intervals {
			if interval != 0 && h.now.Sub(start)/interval > before/interval {
				h.beats[rank]++
			}
		}
		if rank, _, found := h.pulse.Look(h.now, h.beats); found {
			return rank, h.now.Sub(start)
		}
	}
	return -1, 0
}

// quiet wants that nothing is found.
func (h *heart) quiet(length time.Duration, intervals ...time.Duration) {
	h.t.Helper()
	if rank, after := h.pass(length, intervals...); rank >= 0 {
		h.t.Fatalf("rank %d was given up after %v", rank, after)
	}
}

// found wants that a rank is given up within a time, which is the script's whole point, and not before another.
func (h *heart) found(want int, from, to time.Duration, intervals ...time.Duration) {
	h.t.Helper()
	if rank, after := h.pass(2*to, intervals...); rank != want || after < from || after > to {
		h.t.Fatalf("rank %d was given up after %v, want rank %d after %v to %v", rank, after, want, from, to)
	}
}

const (
	beat  = 50 * time.Millisecond
	never = time.Duration(0)
)

func TestStalledRankIsFound(t *testing.T) {
	for rank := range 2 {
		h := newHeart(t)
		h.quiet(90*time.Second, never, never) // it loads, however long that takes
		h.quiet(10*time.Second, never, beat)  // one rank is ready before the other
		h.quiet(time.Second, beat, beat)
		h.pulse.Serving()
		h.quiet(time.Minute, beat, beat)
		intervals := []time.Duration{beat, beat}
		intervals[rank] = never
		h.found(rank, time.Second, 1300*time.Millisecond, intervals...)
	}
}

// A model whose layers take long at the largest step is given that time, for good: long after, a large step may come again.
func TestSlowModelIsNoStall(t *testing.T) {
	h := newHeart(t)
	h.quiet(20*time.Second, 1500*time.Millisecond, 1500*time.Millisecond) // the largest steps, before it serves
	h.pulse.Serving()
	h.quiet(10*time.Minute, beat, beat)
	h.quiet(time.Minute, 4*time.Second, 4*time.Second)
	h.found(1, 8*time.Second, 30*time.Second, beat, never)
	h.pulse.Restart()
	h.quiet(time.Minute, never, never)
	h.quiet(time.Second, beat, beat) // after a restart only small steps are computed
	h.pulse.Serving()
	h.quiet(time.Minute, 1500*time.Millisecond, 1500*time.Millisecond)
}

// Steps that grow slowly, as attention does over long prompts, take the limit along; the limit comes back when they do.
func TestLimitFollowsThePace(t *testing.T) {
	h := newHeart(t)
	h.quiet(time.Second, beat, beat)
	h.pulse.Serving()
	for pause := 200 * time.Millisecond; pause < 8*time.Second; pause = pause * 3 / 2 {
		h.quiet(4*pause, pause, pause)
	}
	h.quiet(3*time.Minute, beat, beat)
	if got := h.pulse.Limit(h.now); got > 2*time.Second {
		t.Errorf("minutes after the long steps the limit is still %v", got)
	}
}

// A pause or two that have another cause, in the largest steps or later, change nothing; it takes the pace of the model.
func TestRarePausesAreNoPace(t *testing.T) {
	h := newHeart(t)
	h.quiet(time.Second, beat, beat)
	h.quiet(8*time.Second, beat, never) // the machine was busy while it loaded
	h.quiet(time.Second, beat, beat)
	h.pulse.Serving()
	h.quiet(time.Second, beat, beat)
	h.quiet(900*time.Millisecond, beat, never)
	h.quiet(time.Second, beat, beat)
	h.quiet(900*time.Millisecond, never, beat)
	h.quiet(time.Second, beat, beat)
	h.found(1, time.Second, 1300*time.Millisecond, beat, never)
}

// When everything stood still, the observer too, nobody is to blame.
func TestObserverWasAbsent(t *testing.T) {
	h := newHeart(t)
	h.quiet(time.Second, beat, beat)
	h.pulse.Serving()
	for range 20 {
		h.now = h.now.Add(17 * time.Second)
		h.quiet(500*time.Millisecond, beat, beat)
	}
}

// A machine that is too busy is not made busier: each stall makes the next one rarer, so that there are few restarts; an
// hour later a real one is found as fast as ever.
func TestStallsThatComeAgain(t *testing.T) {
	h := newHeart(t)
	var stalls []time.Time
	for start := h.now; h.now.Sub(start) < 5*time.Minute; {
		h.quiet(time.Second, beat, beat)
		h.pulse.Serving()
		if rank, _ := h.pass(5*time.Minute, beat, never); rank >= 0 {
			stalls = append(stalls, h.now)
		}
		h.pulse.Restart()
		clear(h.beats)
	}
	const most = 8
	for i := most - 1; i < len(stalls); i++ {
		if within := stalls[i].Sub(stalls[i-most+1]); within < supervise.Window {
			t.Errorf("%d stalls within %v", most, within)
		}
	}
	h.quiet(time.Second, beat, beat)
	h.pulse.Serving()
	h.quiet(time.Hour, beat, beat)
	h.found(0, time.Second, 1300*time.Millisecond, never, beat)
}

func TestStalledUnitIsStartedAgain(t *testing.T) {
	u := served(t)
	for range 2 * supervise.MaxDeaths {
		expect(t, u.Stalled("rank 1 has stood still"), "abort kill")
		expect(t, u.Exited(epoch, 0, false, "killed"), "")
		expect(t, u.Stalled("rank 1 has stood still"), "")
		expect(t, u.Exited(epoch, 1, false, "killed"), "spawn")
		expect(t, u.Stalled("it loads"), "")
		expect(t, u.Ready(0), "")
		expect(t, u.Ready(1), "serving")
	}
	expect(t, u.Drain(epoch, epoch.Add(time.Hour)), "terminate")
	expect(t, u.Stalled("rank 1 has stood still"), "abort kill")
	expect(t, u.Exited(epoch, 0, false, "killed"), "abort kill")
	expect(t, u.Exited(epoch, 1, false, "killed"), "ended")
}
