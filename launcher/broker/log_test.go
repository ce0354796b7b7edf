package broker

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// A dead peer is told of once, then ever more rarely with a count; another peer's trouble is told of beside it; and what
// is remembered has a bound.
func TestRepeatedWarningsAreSummedUp(t *testing.T) {
	var out bytes.Buffer
	log := newNATSLog(zerolog.New(&out).Level(zerolog.InfoLevel))
	now := time.Unix(1000, 0)
	log.now = func() time.Time { return now }
	said := func() (lines []string) {
		for line := range strings.Lines(out.String()) {
			lines = append(lines, line)
		}
		out.Reset()
		return lines
	}
	attempt := 0
	dead := func() {
		attempt++
		log.Errorf("Error trying to connect to route (attempt %v): dial tcp 10.0.0.7:%d: connect: connection refused", attempt, 4000+attempt)
	}
	var at []time.Duration
	var held []string
	for start := now; now.Sub(start) < 20*time.Minute; now = now.Add(time.Second) {
		dead()
		for _, line := range said() {
			at, held = append(at, now.Sub(start)), append(held, line)
		}
	}
	if got, want := fmt.Sprint(at), "[0s 1m0s 3m0s 7m0s 15m0s]"; got != want {
		t.Errorf("said at %s, want %s", got, want)
	}
	if !strings.Contains(held[2], `"held_back":119`) {
		t.Errorf("got %s", held[2])
	}
	log.Errorf("Error trying to connect to route (attempt %v): dial tcp 10.0.0.8:1: connect: connection refused", 1)
	if lines := said(); len(lines) != 1 {
		t.Errorf("another peer: said %q", lines)
	}
	now = now.Add(3 * time.Hour)
	dead()
	if lines := said(); len(lines) != 1 || strings.Contains(lines[0], "held_back") {
		t.Errorf("after hours: said %q", lines)
	}
	for i := range 10 * maxRepeats {
		log.Errorf("trouble of kind %d.", i)
	}
	if len(log.repeats) > maxRepeats {
		t.Errorf("%d warnings are remembered", len(log.repeats))
	}
}
