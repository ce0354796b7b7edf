package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"lockstep/shard/gpu/driver"
)

// step is a part of the check: of this program, or another program, or the reason why there is none.
type step struct {
	name    string
	limit   time.Duration
	run     func(c *check, r *report) error
	command func(c *check) (args []string, none error)
	settles string
	aside   bool // only where it is asked for: other steps do
}

// steps in their order: what all else rests on comes first.
var steps = []step{
	{name: "bindings", limit: 25 * time.Second, run: (*check).bindings, settles: "the driver's functions, the card, code, launches"},
	{name: "core", limit: 45 * time.Second, run: (*check).core, settles: "the tensor core's sums against package ptx's model"},
	{name: "vectors", limit: 90 * time.Second, run: (*check).vectors, settles: "every launch against the emulation, bit for bit"},
	{name: "goldens", limit: 90 * time.Second, run: (*check).goldens, settles: "reference cases, rows among others, two ranks"},
	{name: "memcheck", limit: 40 * time.Second, command: sanitizer("memcheck"), settles: "accesses outside memory"},
	{name: "racecheck", limit: 40 * time.Second, command: sanitizer("racecheck"), settles: "races in shared memory"},
	{name: "roofs", limit: 20 * time.Second, run: (*check).roofs, settles: "the read rate"},
	{name: "products", limit: 75 * time.Second, run: (*check).products, settles: "products by shape, rows and format"},
	{name: "attention", limit: 40 * time.Second, run: (*check).attention, settles: "attention of decode steps"},
	{name: "prefill", limit: 30 * time.Second, run: (*check).prefill, settles: "products and attention of many rows"},
	{name: "whole", limit: 120 * time.Second, run: (*check).whole, settles: "tokens a second of whole models"},
	{name: "baseline", limit: 110 * time.Second, command: baseline, settles: "PyTorch on the same card"},
	{name: "profile", limit: 45 * time.Second, command: profile, settles: "why the slowest kernels are not faster"},
	{name: "once", limit: 30 * time.Second, run: (*check).once, settles: "a step of each kind", aside: true},
}

// run runs all steps, or those named, and writes what becomes of each.
func (c *check) run(names []string) error {
	if err := os.MkdirAll(c.out, 0o755); err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(steps, func(s step) bool { return s.name == name }) {
			return fmt.Errorf("no step %s", name)
		}
	}
	r, err := openReport(c.out, "run")
	if err != nil {
		return err
	}
	findTools()
	began := time.Now()
	r.line("# Check of a card\n\n- %s: `%s`\n- %s", began.UTC().Format(time.RFC3339), strings.Join(os.Args, " "), c.about())
	failed := 0
	for _, s := range steps {
		if len(names) > 0 && !slices.Contains(names, s.name) || len(names) == 0 && s.aside {
			continue
		}
		r.line("\n## %s: %s", s.name, s.settles)
		result := c.runStep(r, s, min(s.limit, c.limit-time.Since(began)))
		r.line("\n**%s: %s**", s.name, result)
		r.record(map[string]any{"of": s.name, "result": result})
		if strings.HasPrefix(result, "failed") {
			failed++
		}
	}
	r.line("\nAll ended after %.0f s.", time.Since(began).Seconds())
	if failed > 0 {
		return fmt.Errorf("%d steps have failed", failed)
	}
	return nil
}

// runStep runs a step as a process, and says in words what became of it.
func (c *check) runStep(r *report, s step, limit time.Duration) string {
	if limit < 5*time.Second {
		return "not started: the time is over"
	}
	args := []string{os.Args[0], "-dir", c.dir, "-out", c.out, "-library", c.library, fmt.Sprintf("-emulated=%v", c.emulated),
		fmt.Sprintf("-quick=%v", c.quick), "step", s.name}
	if s.command != nil {
		var none error
		if args, none = s.command(c); none != nil {
			return "not started: " + none.Error()
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	command := exec.CommandContext(ctx, args[0], args[1:]...)
	var output bytes.Buffer
	command.Stdout, command.Stderr, command.WaitDelay = &output, &output, 2*time.Second
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what a tool has started ends with it
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	began := time.Now()
	err := command.Run()
	if log, opened := os.OpenFile(filepath.Join(c.out, "log.txt"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644); opened == nil {
		fmt.Fprintf(log, "=== %v\n%s\n", args, output.Bytes())
		log.Close()
	}
	if s.command != nil && s.name != "baseline" { // which writes to the report itself
		r.line("\n```\n%s\n```", extract(output.String()))
	}
	took := time.Since(began).Seconds()
	switch {
	case ctx.Err() != nil:
		return fmt.Sprintf("failed: stopped after its %.0f s; what is above was finished", took)
	case err != nil:
		return fmt.Sprintf("failed: %s (%v, after %.0f s)", last(output.String()), err, took)
	}
	return fmt.Sprintf("done in %.0f s", took)
}

// last is this program's last word, or the last line.
func last(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	for _, line := range slices.Backward(lines) {
		if strings.HasPrefix(line, "check: ") {
			return strings.TrimPrefix(line, "check: ")
		}
	}
	return lines[len(lines)-1]
}

// told are what lines of tools are worth telling by.
var told = regexp.MustCompile(`=====|check: |Context 1|Duration|Throughput|Registers Per|Achieved Occ|Theoretical Occ|No kernels`)

// extract is the end of what a tool has printed, as far as it counts; log.txt has all.
func extract(output string) string {
	lines := strings.Split(strings.TrimSpace(output), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return !told.MatchString(line) })
	return strings.Join(lines[max(0, len(lines)-200):], "\n")
}

// findTools adds places to the search path in which the vendor's tools and library lie without being in it.
func findTools() {
	for _, pattern := range []string{"/usr/local/cuda*/bin", "/usr/local/cuda*/compute-sanitizer", "/opt/nvidia/nsight-compute/*"} {
		found, _ := filepath.Glob(pattern)
		os.Setenv("PATH", strings.Join(append([]string{os.Getenv("PATH")}, found...), ":"))
	}
	for _, folder := range []string{"/usr/local/nvidia/lib64", "/usr/local/nvidia/lib", "/usr/lib64-nvidia", "/usr/lib/wsl/lib"} {
		if _, err := os.Stat(filepath.Join(folder, "libcuda.so.1")); err == nil {
			os.Setenv("LD_LIBRARY_PATH", strings.TrimPrefix(os.Getenv("LD_LIBRARY_PATH")+":"+folder, ":"))
		}
	}
}

// about says which card and driver are here.
func (c *check) about() string {
	if c.emulated {
		return "no card: all is computed by the emulation"
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	query := "name,uuid,driver_version,memory.total,clocks.sm,clocks.max.sm,clocks.max.mem,power.limit,mig.mode.current"
	output, err := exec.CommandContext(ctx, "nvidia-smi", "--query-gpu="+query, "--format=csv,noheader").CombinedOutput()
	if err != nil {
		cards, failed := driver.Cards(c.library)
		output = fmt.Appendf(nil, "cards: %v (%v); version of the driver unknown: nvidia-smi: %v %s", cards, failed, err,
			bytes.TrimSpace(output))
	}
	if version, err := os.ReadFile("/proc/driver/nvidia/version"); err == nil {
		first, _, _ := strings.Cut(string(version), "\n")
		output = fmt.Appendf(bytes.TrimSpace(output), "\n- %s", first)
	}
	return strings.TrimSpace(string(output))
}

// self is this program with its step.
func (c *check) self(step string) []string {
	return []string{os.Args[0], "-dir", c.dir, "-out", filepath.Join(c.out, "tools"), "-library", c.library, "-quick", "step", step}
}

// sanitizer runs the vectors of a model under a tool of compute-sanitizer.
func sanitizer(tool string) func(c *check) ([]string, error) {
	return func(c *check) ([]string, error) {
		path, err := exec.LookPath("compute-sanitizer")
		if err != nil {
			return nil, errors.New("compute-sanitizer is not here")
		}
		if err := os.MkdirAll(filepath.Join(c.out, "tools"), 0o755); err != nil {
			return nil, err
		}
		return append([]string{path, "--tool", tool, "--error-exitcode", "9"}, c.self("vectors")...), nil
	}
}

// baseline runs what PyTorch does with the same shapes.
func baseline(c *check) ([]string, error) {
	python, err := exec.LookPath("python3")
	if err != nil {
		return nil, errors.New("python3 is not here")
	}
	if err := exec.Command(python, "-c", "import torch").Run(); err != nil {
		return nil, errors.New("PyTorch is not here")
	}
	return []string{python, filepath.Join(c.dir, "baseline.py"), "--out", c.out}, nil
}

// profile looks at the three kernels that took the longest in steps that were timed.
func profile(c *check) ([]string, error) {
	path, err := exec.LookPath("ncu")
	if err != nil {
		return nil, errors.New("ncu is not here")
	}
	took := map[string]float64{}
	var names []string
	for _, values := range records(c.out) {
		kernel, named := values["kernel"].(string)
		if us, timed := values["usOfStep"].(float64); named && timed {
			if took[kernel] == 0 {
				names = append(names, kernel)
			}
			took[kernel] = max(took[kernel], us)
		}
	}
	if len(names) == 0 {
		return nil, errors.New("no kernel was timed")
	}
	slices.SortFunc(names, func(a, b string) int { return int(took[b] - took[a]) })
	if err := os.MkdirAll(filepath.Join(c.out, "tools"), 0o755); err != nil {
		return nil, err
	}
	slowest := "regex:^(" + strings.Join(names[:min(3, len(names))], "|") + ")$"
	return []string{path, "--clock-control", "none", "--set", "basic", "-k", slowest, "-c", "40", os.Args[0], "-dir", c.dir,
		"-out", filepath.Join(c.out, "tools"), "-library", c.library, "step", "once"}, nil
}
