package metrics_test

import (
	"io"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/rs/zerolog"

	"lockstep/router/api/metrics"
	"lockstep/router/request"
)

// Each number of the load stands in the metric of its name.
func TestLoadShows(t *testing.T) {
	m := metrics.New(metrics.Config{MaxInputLength: 10, MaxTotalTokens: 20})
	m.Watch(func() request.Load {
		return request.Load{Queued: 1,
			Totals: request.Totals{PromptTokens: 2, CachedTokens: 3, Expired: 4, LedgerMismatches: 5, GroupsLost: 6, Resumed: 7},
			Groups: []request.GroupLoad{{Group: "a", CapacityTokens: 11, HeldTokens: 12, CachedTokens: 13, LedgerTokens: 14,
				ReservedTokens: 15, PeakTokens: 16, ErrorTokens: 17, Requests: 18, Parked: 19,
				Drafted: 20, Accepted: 21}}}
	}, zerolog.Nop())
	recorder := httptest.NewRecorder()
	m.Serve(recorder, httptest.NewRequest("GET", "/metrics", nil))
	text, err := io.ReadAll(recorder.Result().Body)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, match := range regexp.MustCompile(`(?m)^(lockstep_\w+)(?:\{group="a"\})? (\S+)$`).FindAllSubmatch(text, -1) {
		got[string(match[1])] = string(match[2])
	}
	for name, want := range map[string]string{"queue_size": "1", "prefix_prompt_tokens_total": "2", "prefix_hit_tokens_total": "3",
		"queue_expired_total": "4", "ledger_mismatches_total": "5", "groups_lost_total": "6", "requests_resumed_total": "7",
		"group_capacity_tokens": "11", "group_held_tokens": "12", "group_cached_tokens": "13", "ledger_tokens": "14",
		"ledger_reserved_tokens": "15", "ledger_peak_tokens": "16", "ledger_error_tokens": "17", "ledger_requests": "18",
		"group_parked_total": "19", "group_drafted_tokens_total": "20", "group_accepted_tokens_total": "21"} {
		if got["lockstep_"+name] != want {
			t.Errorf("%s: got %q, want %s", name, got["lockstep_"+name], want)
		}
	}
}
