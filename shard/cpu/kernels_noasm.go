//go:build !amd64 || purego

package cpu

// detect returns the implementations beside plain Go: none in this build.
func detect() []*Kernels { return nil }
