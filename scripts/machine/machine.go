// Package machine measures what a machine can do, and what else it does: the limits that speeds are told as shares of, and the time
// of processors that others take. It is for programs that measure.
package machine

import (
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"lockstep/shard/cpu"
)

const (
	// probes of each limit are made; the best is told.
	probes = 3
	// peakInterval is how many rounds of multiplications a probe of the vector unit makes.
	peakInterval = 1 << 22
	// ticksPerSecond are those of /proc, on every machine that Linux runs on.
	ticksPerSecond = 100
)

// Probe measures limits with several threads at once. It keeps what it reads.
type Probe struct {
	kernels *cpu.Kernels
	data    [][]byte
}

// NewProbe returns a probe of so many threads, which read so many bytes together: more than the machine's caches hold.
func NewProbe(kernels *cpu.Kernels, threads, bytes int) *Probe {
	p := &Probe{kernels: kernels, data: make([][]byte, threads)}
	for i := range p.data {
		p.data[i] = make([]byte, bytes/threads)
		for at := 0; at < len(p.data[i]); at += 4096 {
			p.data[i][at] = 1
		}
	}
	return p
}

// Limits measures the read bandwidth and the vector peak (f32 multiply and add) of all threads together.
func (p *Probe) Limits() (bytesPerSecond, flopsPerSecond float64) {
	bytes := 0
	for _, part := range p.data {
		bytes += len(part)
	}
	reading := p.together(func(i int) { p.kernels.ReadStream(p.data[i]) })
	flops := make([]int, len(p.data))
	computing := p.together(func(i int) { flops[i] = p.kernels.PeakFMA(peakInterval) })
	return float64(bytes) / reading.Seconds(), float64(flops[0]*len(flops)) / computing.Seconds()
}

// together returns the shortest time in which all threads have done the work.
func (p *Probe) together(work func(thread int)) (best time.Duration) {
	for range probes {
		var all sync.WaitGroup
		start := time.Now()
		for i := range p.data {
			all.Go(func() {
				runtime.LockOSThread()
				defer runtime.UnlockOSThread()
				work(i)
			})
		}
		all.Wait()
		if took := time.Since(start); best == 0 || took < best {
			best = took
		}
	}
	return best
}

// Processor is the processor's name.
func Processor() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if rest, ok := strings.CutPrefix(line, "model name"); ok {
			return strings.TrimSpace(strings.TrimLeft(rest, "\t: "))
		}
	}
	return runtime.GOARCH
}

// BusySeconds is the time that all processors were not idle since the machine's start, what a hypervisor took from them included.
func BusySeconds() float64 {
	data, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(data), "\n")
	ticks := 0.0
	for i, field := range strings.Fields(line) {
		// cpu user nice system idle iowait irq softirq steal; what follows is a part of user and nice.
		if n, err := strconv.ParseFloat(field, 64); err == nil && i <= 8 && i != 4 && i != 5 {
			ticks += n
		}
	}
	return ticks / ticksPerSecond
}

// TreeSeconds is the time of processors that a process and all that it has started have taken, as far as these live or were waited
// for.
func TreeSeconds(root int) float64 {
	children, ticks := map[int][]int{}, map[int]float64{}
	paths, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // it has ended
		}
		text := string(data)
		fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:]) // from the state, field 3, on
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if len(fields) < 15 {
			continue
		}
		parent, _ := strconv.Atoi(fields[1])
		children[parent] = append(children[parent], pid)
		for _, field := range fields[11:15] { // utime, stime, and those of children that were waited for
			n, _ := strconv.ParseFloat(field, 64)
			ticks[pid] += n
		}
	}
	total, next := 0.0, []int{root}
	for len(next) > 0 {
		total += ticks[next[0]]
		next = append(next[1:], children[next[0]]...)
	}
	return total / ticksPerSecond
}

// ProcessSeconds is the time of processors that this process has taken.
func ProcessSeconds() float64 {
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return float64(usage.Utime.Nano()+usage.Stime.Nano()) / 1e9
}
