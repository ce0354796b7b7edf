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
)

// schemathesis asks a server whatever its document allows, and much that it does not, and returns what it found wrong, as
// "what: METHOD path".
func schemathesis(t *testing.T, url string, examples int, checks []string, more ...string) (found []string) {
	t.Helper()
	folder := t.TempDir()
	arguments := append([]string{"run", url + "/openapi.json", "--checks", strings.Join(checks, ","), "--phases", "examples,coverage,fuzzing",
		"--max-examples", strconv.Itoa(examples), "--seed", "1", "--workers", "2", "--request-timeout", "60", "--continue-on-failure", "--warnings", "off",
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
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d cases for %d operations", report.Cases.Generated, report.Operations.Tested)
	if !report.Complete || report.Operations.Tested == 0 || report.Cases.Generated == 0 || len(report.Errors) > 0 {
		t.Errorf("it did not get through: %s", data)
	}
	for _, failure := range report.Failures {
		for _, operation := range failure.Operations {
			found = append(found, failure.Title+": "+operation)
		}
	}
	if len(found) > 0 {
		t.Logf("%s", output)
	}
	return found
}

// conformance are the checks that hold for every dialect. Whether a request that breaks the schema is refused, and one that
// fits it taken, is not among them: the originals take positional arrays, bytes behind the body and fields of other types, and
// refuse what depends on several fields.
var conformance = []string{"not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
	"response_schema_conformance", "unsupported_method", "missing_required_header", "allow_header_conformance"}

// Whatever is asked in whatever dialect, no answer is an error of the server or breaks its schema.
func TestSchemathesis(t *testing.T) {
	requireAll(t)
	broughtClients(t, "schemathesis/bin/schemathesis")
	for name, flags := range map[string][]string{"newest": {"--lightllm-errors", "new"}, "TGI 3 and old LightLLM": {"--tgi-version", "3", "--lightllm-errors", "old"}} {
		t.Run(name, func(t *testing.T) {
			s := serveDemo(t, append([]string{"--max-total-tokens", "200"}, flags...)...)
			for _, failure := range schemathesis(t, s.url, 30, conformance) {
				// LightLLM answers these without a content type, so that its document cannot have one.
				if !slices.Contains([]string{"Missing Content-Type header: POST /lightllm/", "Missing Content-Type header: POST /lightllm/generate"}, failure) {
					t.Error(failure)
				}
			}
			if strings.HasPrefix(name, "TGI 3") {
				return // where more tokens than there is room for are no error
			}
			for _, failure := range schemathesis(t, s.url, 100, append([]string{"negative_data_rejection"}, conformance...), "--include-path-regex", "^/v1/|^/detokenize$") {
				t.Error(failure)
			}
		})
	}
}

// A browser opens the page with all routes and asks the server from it: no error, nothing from elsewhere.
func TestDocsInABrowser(t *testing.T) {
	requireAll(t)
	node, err := exec.LookPath("node")
	if err != nil {
		required(t, "LOCKSTEP_REQUIRE_CLIENTS", "node", err)
	}
	chromium, err := exec.LookPath("chromium")
	if err != nil {
		required(t, "LOCKSTEP_REQUIRE_CLIENTS", "chromium (scripts/get-clients)", err)
	}
	s := serveDemo(t)
	runClient(t, node, "../scripts/clients/docs_page.mjs", s.url, chromium)
}
