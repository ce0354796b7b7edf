package router_test

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/router"
	"lockstep/router/api/tgi"
	"lockstep/router/fleettest"
)

// still are the families that are 0 here, each for a reason.
var still = map[string]string{
	"tgi_batch_inference_failure": "a step that fails ends its group, and the requests go on elsewhere",
	"tgi_batch_concat":            "there are no batches that are joined",
	"tgi_batch_concat_duration":   "the same",
	"tgi_batch_filter_duration":   "there are no batches that are filtered",
	"tgi_batch_decode_duration":   "groups do not decode text",
	"tgi_request_skipped_tokens":  "what was guessed is counted for a group, not for a request",

	"lockstep_ledger_mismatches_total": "the ledger is right; router/api/metrics has a test of its own for these three",
	"lockstep_ledger_error_tokens":     "the same",
	"lockstep_group_parked_total":      "no group runs out of blocks",

	"lockstep_group_drafted_tokens_total":  "no group guesses; shard tests what is counted, and router/api/metrics that it is told",
	"lockstep_group_accepted_tokens_total": "the same",
}

// scrape notes which families of a router have ever had a value, and returns all of them.
func scrape(t *testing.T, url string, moved map[string]bool) (families []string) {
	t.Helper()
	_, text := fetch(t, url+"/metrics")
	family := ""
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		switch {
		case strings.HasPrefix(line, "# TYPE "):
			family = fields[2]
			families = append(families, family)
		case !strings.HasPrefix(line, "#") && len(fields) > 1:
			value, err := strconv.ParseFloat(fields[len(fields)-1], 64)
			if err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			moved[family] = moved[family] || value != 0
		}
	}
	return families
}

// Every family that there is moves in the life of a router; what a board of TGI 3 asks for is there from the beginning.
func TestEveryMetricMoves(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	options := fleettest.Options{Name: "a", MaxSequences: 1, StepTime: 5 * time.Millisecond}
	first := fleettest.Start(t, natsURL, options)
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) {
		c.TGIVersion, c.Overload, c.QueueTimeout, c.Build = tgi.Form3, router.OverloadWait, 0.5, "1.2.3"
	}))
	moved := map[string]bool{}
	families := scrape(t, url, moved)
	for _, name := range []string{"tgi_batch_forward_duration", "tgi_batch_decode_duration", "tgi_batch_filter_duration",
		"tgi_batch_concat_duration", "tgi_batch_concat",
		"tgi_request_skipped_tokens", "tgi_request_failure", "tgi_batch_inference_duration", "lockstep_build_info"} {
		if !slices.Contains(families, name) {
			t.Errorf("%s is not there", name)
		}
	}
	if got := metric(t, url, `lockstep_build_info{version="1.2.3"}`); got != "1" {
		t.Errorf("the build is told as %q", got)
	}
	for range 2 {
		post(t, url+"/generate", body(strings.Repeat("once ", 40), 3))
	}
	post(t, url+"/generate", `{"inputs":"a","parameters":{"top_p":9}}`)
	next, hangUp := stream(t, url, body("two", 900))
	next()
	scrape(t, url, moved)
	expired := make(chan int, 1)
	go func() {
		status, _ := post(t, url+"/generate", body("waits", 5))
		expired <- status
	}()
	eventually(t, "a request waits", func() bool {
		scrape(t, url, moved)
		return moved["tgi_queue_size"] && moved["lockstep_queue_size"]
	})
	if status := <-expired; status != 429 {
		t.Errorf("a request that waited too long: got status %d", status)
	}
	options.Name = "b"
	fleettest.Start(t, natsURL, options)
	first.Kill(true)
	eventually(t, "all families have moved", func() bool {
		families = scrape(t, url, moved)
		return !slices.ContainsFunc(families, func(name string) bool { return !moved[name] && still[name] == "" }) || t.Failed()
	})
	hangUp()
	for _, name := range slices.Sorted(maps.Keys(still)) {
		if moved[name] || !slices.Contains(families, name) {
			t.Errorf("%s moves, or is not there: it is no exception", name)
		}
	}
}
