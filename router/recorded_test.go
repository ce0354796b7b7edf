package router_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"lockstep/router"
	"lockstep/router/fleettest"
)

// recordedProfiles are the flags of the recorded originals, and how many of their cases must pass at least.
var recordedProfiles = []struct {
	name    string
	config  router.Config
	step    time.Duration
	atLeast int
}{
	{"default", router.Config{}, time.Millisecond, 215},
	{"small", router.Config{MaxInputLength: 16, MaxTotalTokens: 32, MaxBestOf: 4, MaxStopSequences: 1, ValidationWorkers: 1,
		MaxWaitingTokens: 7, WaitingServedRatio: 0.5, MaxConcurrentRequests: 9}, time.Millisecond, 7},
	{"mc1", router.Config{MaxConcurrentRequests: 1}, 20 * time.Millisecond, 9},
	{"bo1", router.Config{MaxBestOf: 1}, time.Millisecond, 3},
	{"cors", router.Config{CORSAllowOrigin: []string{"http://a.example", "https://b.example"}}, time.Millisecond, 5},
}

// TestRecordedTGI replays what the real router of TGI 0.9.4 answered.
func TestRecordedTGI(t *testing.T) {
	t.Parallel()
	shared := os.Getenv("LOCKSTEP_SHARED")
	if shared == "" {
		shared = "../../shared"
	}
	skip := t.Skip
	if os.Getenv("LOCKSTEP_REQUIRE_SHARED") == "1" {
		skip = t.Fatal
	}
	compare, cases := filepath.Join(shared, "golden/http/compare.py"), filepath.Join(shared, "golden/http/tgi094.jsonl")
	if _, err := os.Stat(compare); err != nil {
		skip("no recorded cases: ", err)
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		skip("no python3: ", err)
	}
	for _, profile := range recordedProfiles {
		t.Run(profile.name, func(t *testing.T) {
			natsURL := startNATS(t)
			startGroup(t, natsURL, fleettest.Options{StepInterval: profile.step})
			profile.config.Dialect = "tgi" // two of the recorded bodies are in other dialects
			url, _ := startRouter(t, natsURL, profile.config)
			// The exit status only says whether all passed; the counts are judged here.
			output, _ := exec.Command(python, compare, cases, url, "--profile", profile.name, "--json", "--timeout", "20").Output()
			var result struct {
				Pass, Fail, Skip int
				Failures         []struct {
					Name string
					Why  []string
				}
			}
			if err := json.Unmarshal(output, &result); err != nil {
				t.Fatalf("%v: %s", err, output)
			}
			for _, failure := range result.Failures {
				t.Logf("%s: %.300q", failure.Name, failure.Why)
			}
			t.Logf("%d passed, %d failed", result.Pass, result.Fail)
			if result.Pass < profile.atLeast {
				t.Errorf("got %d passes, want at least %d", result.Pass, profile.atLeast)
			}
		})
	}
}
