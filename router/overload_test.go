package router_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lockstep/router"
	"lockstep/router/api/tgi"
	"lockstep/router/fleettest"
)

// metric returns the line of a metric without its name, "" when there is none.
func metric(t testing.TB, url, name string) string {
	t.Helper()
	_, answer := fetch(t, url+"/metrics")
	for line := range strings.Lines(answer) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// slowGroup computes one request at a time.
func slowGroup(t testing.TB, natsURL string) *fleettest.Group {
	t.Helper()
	return fleettest.Start(t, natsURL, fleettest.Options{MaxSequences: 1, StepTime: 5 * time.Millisecond})
}

const overloadAnswer = `{"error":"Model is overloaded","error_type":"overloaded"}`

// With overload "wait", requests beyond what the groups take wait in a queue of bounded length; who leaves it costs nothing.
func TestOverloadWaits(t *testing.T) {
	natsURL := startNATS(t)
	group := slowGroup(t, natsURL)
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) {
		c.MaxConcurrentRequests, c.Overload, c.MaxQueueSize = 1, router.OverloadWait, 2
	}))
	next, hangUp := stream(t, url, body("one", 1500))
	next()
	_, leave := stream(t, url, body("two", 5))
	eventually(t, "it waits", func() bool { return metric(t, url, "lockstep_queue_size") == "1" })
	leave()
	eventually(t, "it has left", func() bool { return metric(t, url, "lockstep_queue_size") == "0" })
	type answer struct {
		status int
		body   string
	}
	answers := make(chan answer, 2)
	for i := range 2 {
		go func() {
			status, text := post(t, url+"/generate", body(fmt.Sprint("waiting ", i), 5))
			answers <- answer{status, text}
		}()
	}
	eventually(t, "both wait", func() bool { return metric(t, url, "lockstep_queue_size") == "2" })
	if status, got := post(t, url+"/generate", body("too many", 5)); status != 429 || got != overloadAnswer {
		t.Errorf("got %d %s", status, got)
	}
	hangUp()
	for range 2 {
		if got := <-answers; got.status != 200 {
			t.Errorf("got %+v", got)
		}
	}
	if got, want := group.Dispatched(), 3; got != want {
		t.Errorf("the group took %d requests, want %d", got, want)
	}
}

func TestQueueTimeout(t *testing.T) {
	natsURL := startNATS(t)
	slowGroup(t, natsURL)
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) { c.Overload, c.QueueTimeout = router.OverloadWait, 0.05 }))
	next, hangUp := stream(t, url, body("one", 1500))
	next()
	defer hangUp()
	if status, got := post(t, url+"/generate", body("two", 5)); status != 429 || got != overloadAnswer {
		t.Errorf("got %d %s", status, got)
	}
	eventually(t, "it is counted", func() bool { return metric(t, url, "lockstep_queue_expired_total") == "1" })
}

// A group that stands still makes the router unhealthy, in TGI's bytes.
func TestHealthAsksGroupsToCompute(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	group := fleettest.Start(t, natsURL, fleettest.Options{})
	url, _ := startRouter(t, natsURL, defaults)
	if status, got := fetch(t, url+"/health"); status != 200 || got != "" {
		t.Errorf("got %d %q", status, got)
	}
	group.Pause()
	eventually(t, "the last token is old", func() bool {
		status, got := fetch(t, url+"/health")
		return status == 503 && got == `{"error":"unhealthy","error_type":"healthcheck"}`
	})
	if got, want := metric(t, url, "tgi_request_count"), "0"; got != want {
		t.Errorf("probes count as %s requests, want %s", got, want)
	}
}

// The ledger's numbers show beside those of the groups.
func TestLedgerMetrics(t *testing.T) {
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: 5 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	post(t, url+"/generate", body(strings.Repeat("once ", 40), 3))
	post(t, url+"/generate", body(strings.Repeat("once ", 40), 3))
	next, hangUp := stream(t, url, body("two", 1500))
	next()
	defer hangUp()
	eventually(t, "the third request shows", func() bool {
		held := metric(t, url, `lockstep_group_held_tokens{group="group-1"}`)
		return metric(t, url, "lockstep_prefix_hit_tokens_total") == "32" && held != "0" &&
			metric(t, url, `lockstep_ledger_requests{group="group-1"}`) == "1"
	})
	for name, value := range map[string]string{"lockstep_ledger_mismatches_total": "0",
		`lockstep_ledger_error_tokens{group="group-1"}`:   "0",
		`lockstep_group_capacity_tokens{group="group-1"}`: "16384", `lockstep_group_parked_total{group="group-1"}`: "0"} {
		if got := metric(t, url, name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
	for _, name := range []string{"lockstep_ledger_tokens", "lockstep_ledger_reserved_tokens", "lockstep_ledger_peak_tokens",
		"lockstep_group_held_tokens"} {
		if got := metric(t, url, name+`{group="group-1"}`); got == "" || got == "0" {
			t.Errorf("%s: got %q", name, got)
		}
	}
}

func TestConfigRefusals(t *testing.T) {
	for _, change := range []func(*router.Config){
		func(c *router.Config) { c.Admission = "aggressive" }, func(c *router.Config) { c.Overload = "panic" },
		func(c *router.Config) { c.MaxQueueSize = 0 },
		func(c *router.Config) { c.QueueTimeout = -1 }, func(c *router.Config) { c.PayloadLimit = 0 },
		func(c *router.Config) { c.MaxStopSequences = -1 },
		func(c *router.Config) { c.Dialect = "klingon" }, func(c *router.Config) { c.DefaultDialect = "auto" },
		func(c *router.Config) { c.TGIVersion = "4" },
	} {
		config := settings(change)
		config.Name, config.NATSURLs = "r", []string{"nats://127.0.0.1:1"}
		if err := config.Validate(); err == nil {
			t.Errorf("%+v: got no error", config)
		}
	}
	config := router.DefaultConfig(tgi.Form3)
	config.Name, config.NATSURLs = "r", []string{"nats://127.0.0.1:1"}
	before := fmt.Sprint(config)
	if err := config.Validate(); err != nil || fmt.Sprint(config) != before {
		t.Errorf("got %+v, %v", config, err)
	}
}
