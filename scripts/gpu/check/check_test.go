package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/gpu/driver/drivertest"
)

// program builds this command, with cuda, and returns how to run it in the root of the tree.
func program(t *testing.T, environment ...string) func(args ...string) (output string, err error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "check")
	build := exec.Command("go", "build", "-tags", "cuda", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	return func(args ...string) (string, error) {
		command := exec.Command(path, args...)
		command.Dir, command.Env = filepath.Join("..", "..", ".."), append(os.Environ(), environment...)
		output, err := command.CombinedOutput()
		return string(output), err
	}
}

// Every step that the emulation can run holds on it, and leaves figures.
func TestDry(t *testing.T) {
	outside.Slow(t)
	run, out := program(t), t.TempDir()
	output, err := run("-out", out, "dry")
	report, _ := os.ReadFile(filepath.Join(out, "report.md"))
	if err != nil {
		t.Fatalf("%v: %s\n%s", err, output, report)
	}
	for _, want := range []string{"# Check of a card", "**core: done", "leave the emulation's bits", "| holds |", "read rate",
		"| tiny int4, product |", "| attend_8 | 1 | 512 |", "**whole: done"} {
		if !strings.Contains(string(report), want) {
			t.Errorf("the report lacks %q: %s", want, report)
		}
	}
	found := map[any]bool{}
	for _, values := range records(out) {
		found[values["step"]] = true
	}
	for _, step := range []string{"run", "bindings", "core", "vectors", "goldens", "roofs", "products", "attention", "prefill", "whole"} {
		if !found[step] {
			t.Errorf("step %s has left no figures", step)
		}
	}
}

// Over a driver that computes nothing, what compares bits fails, and what takes times does not.
func TestFakeDriver(t *testing.T) {
	outside.Slow(t)
	library := drivertest.Library(t)
	run, carried, out := program(t, "CUDA_FAKE_CARDS=Fake H100:9.0:16384:0"), t.TempDir(), t.TempDir()
	if output, err := run("build", carried); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	output, err := run("-dir", carried, "-out", out, "-library", library, "-quick", "run")
	report, _ := os.ReadFile(filepath.Join(out, "report.md"))
	if err == nil {
		t.Errorf("it holds: %s", output)
	}
	for _, want := range []string{"Fake H100", "**bindings: done", "sums are not the model's",
		"launches differ from the emulation, in bits",
		"**goldens: failed: ", "**roofs: done", "**products: done", "**attention: done", "**prefill: done", "**whole: done"} {
		if !strings.Contains(string(report), want) {
			t.Errorf("the report lacks %q: %s", want, report)
		}
	}
}

// A step that takes too long is stopped, what it has found stays, and the next begins.
func TestLimit(t *testing.T) {
	outside.Slow(t)
	run, carried, out := program(t), t.TempDir(), t.TempDir()
	if output, err := run("build", carried); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	if _, err := run("-dir", carried, "-out", out, "-emulated", "-limit", "7s", "run", "goldens", "whole"); err == nil {
		t.Error("it holds")
	}
	report, _ := os.ReadFile(filepath.Join(out, "report.md"))
	for _, want := range []string{"| model | numerics |", "**goldens: failed: stopped after its 7 s",
		"**whole: not started: the time is over**"} {
		if !strings.Contains(string(report), want) {
			t.Errorf("the report lacks %q: %s", want, report)
		}
	}
}

// Without a driver, and without time, each step says so.
func TestWithout(t *testing.T) {
	outside.Slow(t)
	run, out := program(t), t.TempDir()
	if _, err := run("-out", out, "-library", "libcuda-of-nobody.so.1", "run", "bindings", "core"); err == nil {
		t.Error("it holds")
	}
	if _, err := run("-out", out, "-limit", "1s", "run", "whole"); err != nil {
		t.Error(err)
	}
	report, _ := os.ReadFile(filepath.Join(out, "report.md"))
	for _, want := range []string{"**bindings: failed: --cuda-library cannot be opened: ",
		"**core: failed: --cuda-library cannot be opened: ",
		"**whole: not started: the time is over**"} {
		if !strings.Contains(string(report), want) {
			t.Errorf("the report lacks %q: %s", want, report)
		}
	}
}
