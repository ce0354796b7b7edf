package router_test

import (
	"testing"
	"time"

	"lockstep/router"
	"lockstep/router/fleettest"
)

// Who is not done when the time to drain is over gets an error of his dialect, and the caller of Run too.
func TestDrainThatEndsTooSoon(t *testing.T) {
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: 100 * time.Millisecond})
	url, stop := startRouter(t, natsURL, settings(func(c *router.Config) { c.GracefulTerminationTimeout = 0.2 }))
	next, _ := stream(t, url, body("to be cut off", 400))
	if _, ok := next(); !ok {
		t.Fatal("the stream does not begin")
	}
	if err := stop(); err == nil {
		t.Error("the router says that all is well")
	}
	var last event
	for e, ok := next(); ok; e, ok = next() {
		last = e
	}
	if last.Error == "" || last.GeneratedText != nil {
		t.Errorf("the stream's last event is %+v, want an error", last)
	}
}
