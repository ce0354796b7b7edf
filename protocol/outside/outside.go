// Package outside finds for tests what does not lie in the repository: the reference data beside it, what scripts/get-* bring,
// and tools of the machine. A test for which something is missing skips, and says how to get it; where all is asked for, as
// .ci/run does, it fails.
package outside

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Environment variables.
const (
	sharedFolder   = "LOCKSTEP_SHARED"          // the reference data; unset: ../shared
	requireShared  = "LOCKSTEP_REQUIRE_SHARED"  // 1: it must be there
	requireClients = "LOCKSTEP_REQUIRE_CLIENTS" // 1: tools and what scripts/get-* bring must be there
	requireCard    = "LOCKSTEP_REQUIRE_CARD"    // 1: there must be a card that computes
	all            = "LOCKSTEP_ALL"             // not empty: slow tests run too
	goldenOut      = "LOCKSTEP_GOLDEN_OUT"      // where a golden test writes its answers; unset: nowhere
	cacheFolder    = "LOCKSTEP_CACHE"           // where scripts/get-* put things; unset: lockstep in the user's cache
)

// All reports whether slow tests are to run: make test-all asks for them.
func All() bool { return os.Getenv(all) != "" }

// Slow skips a test that only runs with all.
func Slow(t testing.TB) {
	t.Helper()
	if !All() {
		t.Skip("runs in make test-all")
	}
}

// Shared returns the path of a file or folder of the reference data.
func Shared(t testing.TB, elements ...string) string {
	t.Helper()
	path := shared(elements)
	if _, err := os.Stat(path); err != nil {
		missing(t, requireShared, "the reference data ("+sharedFolder+" says where it is)", err)
	}
	return path
}

// Reference is Shared for data of which the tree has a sample, which is used where the data is not there.
func Reference(t testing.TB, sample string, elements ...string) string {
	t.Helper()
	if _, err := os.Stat(shared(elements)); err != nil && os.Getenv(requireShared) != "1" {
		return sample
	}
	return Shared(t, elements...)
}

func shared(elements []string) string {
	root := os.Getenv(sharedFolder)
	if root == "" {
		_, file, _, _ := runtime.Caller(0)
		root = filepath.Join(filepath.Dir(file), "..", "..", "..", "shared")
	}
	return filepath.Join(append([]string{root}, elements...)...)
}

// Cached returns the path of a file or folder that the script named brings.
func Cached(t testing.TB, script string, elements ...string) string {
	t.Helper()
	root := os.Getenv(cacheFolder)
	if root == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		root = filepath.Join(cache, "lockstep")
	}
	path := filepath.Join(append([]string{root}, elements...)...)
	if _, err := os.Stat(path); err != nil {
		Missing(t, "what scripts/"+script+" brings", err)
	}
	return path
}

// Tool returns the path of a program of the machine.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		Missing(t, name, err)
	}
	return path
}

// Lines reads a file of JSON values, which has one at least.
func Lines[T any](t testing.TB, path string) (values []T) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	for decoder := json.NewDecoder(bufio.NewReader(file)); decoder.More(); {
		var value T
		if err := decoder.Decode(&value); err != nil {
			t.Fatal(err)
		}
		values = append(values, value)
	}
	if len(values) == 0 {
		t.Fatalf("%s is empty", path)
	}
	return values
}

// WriteAnswers writes what a golden test answers, a JSON value a line, to the file that LOCKSTEP_GOLDEN_OUT names, if it names one: a
// reference can judge it there. One such test is to run at a time.
func WriteAnswers[T any](t testing.TB, answers []T) {
	t.Helper()
	path := os.Getenv(goldenOut)
	if path == "" {
		return
	}
	var lines bytes.Buffer
	encoder := json.NewEncoder(&lines)
	for i := range answers {
		if err := encoder.Encode(&answers[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, lines.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Missing ends a test for which the machine lacks something.
func Missing(t testing.TB, what string, err error) {
	t.Helper()
	missing(t, requireClients, what, err)
}

// MissingCard ends a test for which the machine has no card that computes.
func MissingCard(t testing.TB, err error) {
	t.Helper()
	missing(t, requireCard, "a card to test on", err)
}

func missing(t testing.TB, required, what string, err error) {
	t.Helper()
	if os.Getenv(required) == "1" {
		t.Fatalf("%s is not here, and %s=1 asks for it: %v", what, required, err)
	}
	t.Skipf("%s is not here: %v", what, err)
}
