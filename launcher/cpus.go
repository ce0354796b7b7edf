package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// allowedCPUs are the CPUs that this process may run on, in ascending order.
func allowedCPUs() []int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return nil
	}
	var cpus []int
	for cpu := range 1024 {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// sockets counts the CPU packages that this process may run on, at least 1.
func sockets() int {
	packages := map[string]bool{}
	for _, cpu := range allowedCPUs() {
		id, err := os.ReadFile(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/physical_package_id", cpu))
		if err == nil {
			packages[strings.TrimSpace(string(id))] = true
		}
	}
	return max(1, len(packages))
}

// shareOut gives each rank its threads and, when there is a core for every thread of all ranks, the CPUs to pin them to.
// threads 0 shares out what the process may use (a container's quota counts). pins is nil when nothing is pinned.
func shareOut(cpus []int, quota, ranks, threads int) (perRank int, pins [][]int) {
	usable := max(1, min(len(cpus), quota))
	if threads == 0 {
		threads = max(1, usable/ranks)
	}
	if threads*ranks > usable || usable < len(cpus) {
		return threads, nil
	}
	for rank := range ranks {
		pins = append(pins, cpus[rank*threads:(rank+1)*threads])
	}
	return threads, pins
}

// quota is the number of CPUs that the process may keep busy, as Go's runtime finds it in cgroups.
func quota() int { return runtime.GOMAXPROCS(0) }
