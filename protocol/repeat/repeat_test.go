package repeat_test

import (
	"fmt"
	"testing"
	"time"

	"lockstep/protocol/repeat"
)

func TestDue(t *testing.T) {
	var f repeat.Filter
	start := time.Unix(1000, 0)
	var at []time.Duration
	var counts []int
	for now := start; now.Sub(start) < 20*time.Minute; now = now.Add(time.Second) {
		if held, say := f.Due("a dead peer", now); say {
			at, counts = append(at, now.Sub(start)), append(counts, held)
		}
	}
	if got, want := fmt.Sprint(at, counts), "[0s 1m0s 3m0s 7m0s 15m0s] [0 59 119 239 479]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, say := f.Due("another", start); !say {
		t.Error("one hides another")
	}
	if held, say := f.Due("a dead peer", start.Add(5*time.Hour)); !say || held != 0 {
		t.Errorf("after hours: %d, %v", held, say)
	}
	said := 0
	for i := range 100 * repeat.MaxKeys { // within a second
		if _, say := f.Due(fmt.Sprint("kind ", i), start.Add(6*time.Hour+time.Duration(i)*time.Microsecond)); say {
			said++
		}
	}
	if said > 2*repeat.MaxKeys {
		t.Errorf("%d of many kinds were said within a second", said)
	}
}
