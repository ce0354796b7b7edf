package wait_test

import (
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/shard/wait"
)

func never(time.Duration) error { return nil }

// Two that wait for each other, and more than there are cores, see every value; whether they spin or sleep.
func TestUntil(t *testing.T) {
	defer goleak.VerifyNone(t)
	for _, brief := range []bool{false, true} {
		const pairs, rounds = 4, 300
		var all sync.WaitGroup
		for range pairs {
			var ping, pong wait.Word
			all.Go(func() {
				waiter := wait.Waiter{Brief: brief}
				for round := range uint32(rounds) {
					ping.Set(round + 1)
					waiter.Until(&pong, wait.AtLeast(round+1), never)
				}
			})
			all.Go(func() {
				waiter := wait.Waiter{Brief: brief}
				for round := range uint32(rounds) {
					waiter.Until(&ping, wait.AtLeast(round+1), never)
					pong.Set(round + 1)
				}
			})
		}
		all.Wait()
	}
}

// The last that counts down wakes who sleeps until nothing is left, and none before it does.
func TestCountDown(t *testing.T) {
	defer goleak.VerifyNone(t)
	for range 200 {
		var left wait.Word
		left.Set(6)
		var all sync.WaitGroup
		for _, n := range []uint32{1, 2, 3} {
			all.Go(func() { left.CountDown(n) })
		}
		waiter := wait.Waiter{Brief: true}
		waiter.Until(&left, func(value uint32) bool { return value == 0 }, never)
		all.Wait()
		if left.Load() != 0 {
			t.Fatalf("%d are left", left.Load())
		}
	}
}

// A wait for what never comes ends with the error of stop.
func TestStop(t *testing.T) {
	var word wait.Word
	var waiter wait.Waiter
	want, asked := errors.New("stop"), 0
	err := waiter.Until(&word, wait.AtLeast(1), func(time.Duration) error {
		if asked++; asked == 3 {
			return want
		}
		return nil
	})
	if !errors.Is(err, want) || asked != 3 {
		t.Errorf("got %v, asked %d times", err, asked)
	}
}
