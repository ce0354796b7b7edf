package kernels

import (
	"io/fs"
	"testing"
)

var Sources = sources

// Files are the names of all sources.
func Files(t *testing.T) (names []string) {
	entries, err := fs.ReadDir(sources, ".")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
