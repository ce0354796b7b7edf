package tgi_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/protocol/outside"
	"lockstep/router/api"
	"lockstep/router/api/answertest"
	"lockstep/router/api/tgi"
)

// recordedProfile is a set of flags with which an original was recorded.
type recordedProfile struct {
	name    string
	config  func(*api.Config)
	model   answertest.Options
	atLeast int // of its cases must pass
}

var recordedTGI094 = []recordedProfile{
	{name: "default", atLeast: 216},
	{name: "small", atLeast: 7, model: answertest.Options{MaxInputLength: 16, MaxTotalTokens: 32}, config: func(c *api.Config) {
		c.MaxBestOf, c.MaxStopSequences, c.ValidationWorkers, c.MaxConcurrentRequests = 4, 1, 1, 9
		c.MaxWaitingTokens, c.WaitingServedRatio = 7, 0.5
	}},
	{name: "mc1", atLeast: 9, model: answertest.Options{Step: 20 * time.Millisecond},
		config: func(c *api.Config) { c.MaxConcurrentRequests = 1 }},
	{name: "bo1", atLeast: 3, config: func(c *api.Config) { c.MaxBestOf = 1 }},
	{name: "cors", atLeast: 5, config: func(c *api.Config) { c.CORSAllowOrigin = []string{"http://a.example", "https://b.example"} }},
}

var recordedTGI3 = []recordedProfile{
	{name: "v3", atLeast: 20},
	{name: "v3key", atLeast: 4, config: func(c *api.Config) { c.APIKeys = []string{"sesame"} }},
}

// TestRecordedTGI replays what the real router of TGI 0.9.4 answered.
func TestRecordedTGI(t *testing.T) {
	t.Parallel()
	replayRecorded(t, "tgi094.jsonl", "0.9.4", recordedTGI094, func(c recordedCase) bool { return headsOfHTTP[c.Name] == "" })
}

// headsOfHTTP are the cases whose heads net/http writes or reads in another way than the original's library, and why that
// is left so. Status and body are those of the original wherever there is an answer; other tests hold them.
var headsOfHTTP = map[string]string{
	"k_close":             "a connection that ends is told by a header, as RFC 9112 asks",
	"k_no_host":           "HTTP/1.1 without Host is refused, as RFC 9112 asks",
	"z_over_2mib":         "the reason phrase of 413; no client reads it",
	"z_over_2mib_stream":  "the reason phrase of 413",
	"z_over_2mib_chunked": "the reason phrase of 413",
}

// TestRecordedTGI3 replays what the real router of TGI 3.3.7 answered, but for grammars and OpenAI's two routes, where more
// is told here than the original tells: ids, cached tokens, error objects.
func TestRecordedTGI3(t *testing.T) {
	t.Parallel()
	replayRecorded(t, "tgi337.jsonl", "3", recordedTGI3, func(c recordedCase) bool {
		path := c.Request.Path
		openAI := strings.HasPrefix(path, "/v1/chat/") || strings.HasPrefix(path, "/v1/completions")
		return !openAI && c.Name != "g3_grammar"
	})
}

// recordedCase is the part of a case by which cases are chosen.
type recordedCase struct {
	Name    string
	Request struct{ Path string }
}

// replayRecorded replays those cases of a file that are wanted, for each profile against a router with its flags.
func replayRecorded(t *testing.T, file, version string, profiles []recordedProfile, wanted func(recordedCase) bool) {
	compare := outside.Shared(t, "golden", "http", "compare.py")
	recorded, err := os.ReadFile(outside.Shared(t, "golden", "http", file))
	if err != nil {
		t.Fatal(err)
	}
	python := outside.Tool(t, "python3")
	var kept []byte
	for line := range bytes.Lines(recorded) {
		var c recordedCase
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatal(err)
		}
		if wanted(c) {
			kept = append(kept, line...)
		}
	}
	cases := filepath.Join(t.TempDir(), file)
	if err := os.WriteFile(cases, kept, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, profile := range profiles {
		t.Run(profile.name, func(t *testing.T) {
			profile.model.NoGroups = true
			url := answertest.Serve(t, profile.model, func(c *api.Config) {
				c.Dialect, c.TGIVersion = tgi.Name, version // two of the recorded bodies are in other dialects
				if profile.config != nil {
					profile.config(c)
				}
			})
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
