package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lockstep/protocol/outside"
)

// schemathesis asks a server whatever its document allows, and much that it does not, and fails for what it finds wrong. It has
// one worker: with more, Python 3.11 fails now and then (AST constructor recursion depth mismatch).
func schemathesis(t *testing.T, url string, examples int, checks []string, more ...string) {
	t.Helper()
	folder := t.TempDir()
	// By itself it does not know that a refusal may have these statuses.
	const configuration = "[checks.negative_data_rejection]\nexpected-statuses = [400, 401, 404, 405, 413, 415, 417, 422, 424]\n"
	if err := os.WriteFile(filepath.Join(folder, "schemathesis.toml"), []byte(configuration), 0o600); err != nil {
		t.Fatal(err)
	}
	arguments := append([]string{"run", url + "/openapi.json", "--checks", strings.Join(checks, ","), "--phases",
		"examples,coverage,fuzzing",
		"--max-examples", strconv.Itoa(examples), "--seed", "1", "--workers", "1", "--request-timeout", "60", "--continue-on-failure",
		"--warnings", "off",
		"--report", "json", "--report-dir", folder}, more...)
	command := exec.Command(broughtClients(t, "schemathesis/bin/schemathesis"), arguments...)
	command.Dir = folder // it leaves notes where it runs
	output, err := command.CombinedOutput()
	reports, _ := filepath.Glob(filepath.Join(folder, "*.json"))
	if len(reports) != 1 {
		t.Fatalf("no report: %v\n%s", err, output)
	}
	data, err := os.ReadFile(reports[0])
	if err != nil {
		t.Fatal(err)
	}
	var report struct {
		Complete   bool
		Operations struct{ Total, Tested int }
		Cases      struct{ Generated, Errored int } `json:"test_cases"`
		Failures   []struct {
			Title      string
			Operations []string
		}
		Errors []json.RawMessage
	}
	var found []string
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases for %d operations", report.Cases.Generated, report.Operations.Tested)
	if !report.Complete || report.Operations.Tested == 0 || report.Cases.Generated == 0 || len(report.Errors) > 0 {
		t.Errorf("it did not get through: %s\n%s", report.Errors, output)
	}
	for _, failure := range report.Failures {
		for _, operation := range failure.Operations {
			// LightLLM answers these without a content type, so that its document cannot have one.
			if failure := failure.Title + ": " + operation; !slices.Contains(untyped, failure) {
				found = append(found, failure)
			}
		}
	}
	if len(found) > 0 {
		t.Errorf("it found %v\n%s", found, output)
	}
}

var untyped = []string{"Missing Content-Type header: POST /lightllm/", "Missing Content-Type header: POST /lightllm/generate"}

// conformance are the checks that hold for every dialect. Whether a request that fits the schema is taken is not among them:
// all dialects refuse what depends on several fields, on the template or on the length of the prompt.
var conformance = []string{"not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
	"response_schema_conformance", "unsupported_method", "missing_required_header", "allow_header_conformance"}

// strict are the paths where whatever breaks the schema is refused. TGI's own take arrays for objects and bytes behind the
// body, as the original does, and so do /tokenize and /chat_tokenize, which are TGI 3's.
const strict = "^/(v1|mindie|lightllm)/|^/detokenize$"

// Whatever is asked in whatever dialect, no answer is an error of the server or breaks its schema.
func TestSchemathesis(t *testing.T) {
	outside.Slow(t)
	broughtClients(t, "schemathesis/bin/schemathesis")
	for _, c := range []struct {
		name  string
		flags []string
	}{
		{"newest", []string{"--lightllm-errors", "new"}},
		{"TGI 3 and old LightLLM", []string{"--tgi-version", "3", "--lightllm-errors", "old"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serveDemo(t, append([]string{"--max-total-tokens", "200"}, c.flags...)...)
			schemathesis(t, s.url, 20, conformance, "--exclude-path-regex", strict)
			schemathesis(t, s.url, 30, append([]string{"negative_data_rejection"}, conformance...), "--include-path-regex", strict)
		})
	}
}

// A browser opens the page with all routes and asks the server from it: no error, nothing from elsewhere.
func TestDocsInABrowser(t *testing.T) {
	outside.Slow(t)
	node := outside.Tool(t, "node")
	chromium := outside.Tool(t, "chromium")
	s := serveDemo(t)
	runClient(t, node, "../scripts/clients/docs_page.mjs", s.url, chromium)
}
