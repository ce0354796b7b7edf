// Package drivertest builds an imitation of the NVIDIA driver's library for tests, which need no card with it. The source says how
// environment variables script it.
package drivertest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"lockstep/protocol/outside"
)

var build = sync.OnceValues(func() ([]byte, error) {
	_, file, _, _ := runtime.Caller(0)
	dir, err := os.MkdirTemp("", "lockstep-libcuda-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	library := filepath.Join(dir, "libcuda.so")
	source := filepath.Join(filepath.Dir(file), "..", "testdata", "libcuda.c")
	command := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wno-parentheses", "-o", library, source)
	if output, err := command.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w: %s", err, output)
	}
	return os.ReadFile(library)
})

// Library returns the path of a library of its own: what one test does shows in no other.
func Library(t testing.TB) string {
	t.Helper()
	outside.Tool(t, "gcc")
	library, err := build()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "libcuda.so.1")
	if err := os.WriteFile(path, library, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
