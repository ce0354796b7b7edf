package broker

import (
	"bytes"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// A dead peer is told of once, whatever differs from attempt to attempt; another peer's trouble is told of beside it.
func TestRepeatedWarningsAreSummedUp(t *testing.T) {
	var out bytes.Buffer
	log := newNATSLog(zerolog.New(&out).Level(zerolog.InfoLevel))
	for _, peer := range []string{"10.0.0.7", "10.0.0.8"} {
		for attempt := range 100 {
			log.Errorf("Error trying to connect to route (attempt %v): dial tcp %s:%d: connect: connection refused", attempt, peer,
				4000+attempt)
		}
	}
	if got := strings.Count(out.String(), "\n"); got != 2 {
		t.Errorf("%d lines: %s", got, out.String())
	}
}
