package kernels_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"lockstep/shard/gpu/kernels"
)

// The embedded results are those of the sources as they are: who edits a kernel runs make kernels.
func TestSourcesAreCompiled(t *testing.T) {
	manifest, err := kernels.ReadManifest()
	if err != nil {
		t.Fatal(err)
	}
	if manifest.Compiler != kernels.Compiler {
		t.Errorf("compiled by NVRTC %s, want %s", manifest.Compiler, kernels.Compiler)
	}
	var modules []string
	seen := map[string]bool{}
	for _, file := range kernels.Files(t) {
		source, err := fs.ReadFile(kernels.Sources, file)
		if err != nil {
			t.Fatal(err)
		}
		seen[file] = true
		if manifest.Sources[file] != kernels.Hash(source) {
			t.Errorf("%s is not what was compiled: run make kernels", file)
		}
		if name, ok := strings.CutSuffix(file, ".cu"); ok {
			modules = append(modules, name)
		}
	}
	for file := range manifest.Sources {
		if !seen[file] {
			t.Errorf("%s was compiled and is not there any more: run make kernels", file)
		}
	}
	if !slices.Equal(modules, kernels.Names) {
		t.Errorf("the modules are %v, and Names has %v", modules, kernels.Names)
	}
	for _, name := range kernels.Names {
		for _, target := range manifest.Targets {
			if code, err := kernels.Module(name, target); err != nil || len(code) == 0 {
				t.Errorf("%s for %s: %d bytes, %v", name, target, len(code), err)
			}
		}
	}
}

// Package ptx knows every instruction of every kernel.
func TestInterpreterKnowsAll(t *testing.T) {
	for target := range targets {
		for _, name := range kernels.Names {
			for kernel, shared := range module(t, name, target).Kernels() {
				t.Logf("%s for %s, %s: %d bytes of static shared memory", name, target, kernel, shared)
			}
		}
	}
}

// Whatever begins before the last kernel has ended waits for it, and lets the next begin.
func TestEveryKernelWaits(t *testing.T) {
	for _, name := range kernels.Names {
		code, err := kernels.Module(name, kernels.PTX90)
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range strings.Split(string(code), ".entry ")[1:] {
			kernel, _, _ := strings.Cut(body, "(")
			if !strings.Contains(body, "griddepcontrol.wait;") || !strings.Contains(body, "griddepcontrol.launch_dependents;") {
				t.Errorf("%s, %s: it does not wait, or does not let others begin", name, kernel)
			}
		}
	}
}
