package main

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/workers"
)

// measureLoading loads one rank's part of a model and prints how long that took, and the process's memory: what was packed, and
// how much there was at once at the most.
func measureLoading(name string, ranks int, kernels *cpu.Kernels) error {
	source, err := openModel(name)
	if err != nil {
		return err
	}
	defer source.cleanup()
	defer source.Close()
	part, err := source.Part(0, ranks)
	if err != nil {
		return err
	}
	team := workers.New(threads, nil)
	defer team.Close()
	before, err := residentBytes("RssAnon")
	if err != nil {
		return err
	}
	began := time.Now()
	backend, err := host.Load(part, team, options(kernels))
	if err != nil {
		return err
	}
	defer backend.Close()
	took := time.Since(began)
	after, err := residentBytes("RssAnon")
	if err != nil {
		return err
	}
	peak, err := residentBytes("VmHWM")
	if err != nil {
		return err
	}
	packed := after - before
	fmt.Printf("%s, rank 0 of %d: %.0f MB of files, %.0f MB packed in %.1f s, at most %.0f MB at once: %.2f times what was packed\n", name,
		ranks, float64(source.Files.WeightBytes)/1e6, packed/1e6, took.Seconds(), peak/1e6, peak/packed)
	return nil
}

// residentBytes is a line of /proc/self/status.
func residentBytes(line string) (float64, error) {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for text := range strings.Lines(string(data)) {
		if fields := strings.Fields(text); len(fields) == 3 && fields[0] == line+":" {
			kilobytes, err := strconv.ParseFloat(fields[1], 64)
			return kilobytes * 1024, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no line %s", line)
}
