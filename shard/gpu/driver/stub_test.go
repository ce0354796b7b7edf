//go:build !cuda || !linux

package driver

import (
	"errors"
	"strings"
	"testing"
)

func TestWithoutTheTagNothingOpens(t *testing.T) {
	_, listed := Cards("")
	_, opened := Open(Options{})
	for _, err := range []error{listed, opened} {
		if !errors.Is(err, ErrNotBuilt) || !strings.Contains(err.Error(), "built without cuda") {
			t.Errorf("got %v", err)
		}
	}
}
