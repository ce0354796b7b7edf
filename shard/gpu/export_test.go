package gpu

import "testing"

// BoundResults bounds the results of attention that are kept at once during a test.
func BoundResults(t *testing.T, bytes int) {
	before := maxResultBytes
	maxResultBytes = bytes
	t.Cleanup(func() { maxResultBytes = before })
}
