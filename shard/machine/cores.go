package machine

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxCPUs is how many CPUs a set of the kernel's that Go knows has room for.
const maxCPUs = 1024

// Core is a core with the CPUs of it that this process may run on, in ascending order: more than one where the core runs
// several threads at once. Socket names its package.
type Core struct {
	CPUs   []int
	Socket string
}

// Cores are those that this process may run on, in the order of their first CPUs, at least one.
func Cores() []Core {
	var set unix.CPUSet
	var cpus []int
	if err := unix.SchedGetaffinity(0, &set); err == nil {
		for cpu := range maxCPUs {
			if set.IsSet(cpu) {
				cpus = append(cpus, cpu)
			}
		}
	}
	if len(cpus) == 0 {
		cpus = []int{0}
	}
	return cores(os.DirFS("/"), cpus)
}

// cores joins CPUs that share a core. One of which the kernel does not tell is a core of its own.
func cores(root fs.FS, cpus []int) (all []Core) {
	at := make(map[string]int)
	for _, cpu := range cpus {
		tell := func(name string) string {
			data, _ := fs.ReadFile(root, fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/%s", cpu, name))
			return strings.TrimSpace(string(data))
		}
		siblings := tell("thread_siblings_list")
		if i, ok := at[siblings]; ok && siblings != "" {
			all[i].CPUs = append(all[i].CPUs, cpu)
			continue
		}
		at[siblings] = len(all)
		all = append(all, Core{[]int{cpu}, tell("physical_package_id")})
	}
	return all
}

// Quota is how many cores' time the control groups of this process and all those above them leave it, rounded down but at least
// 1: threads beyond it are held up until the next period, with all that wait for them. It is 0 where there is no limit.
func Quota() int { return quota(os.DirFS("/")) }

func quota(root fs.FS) (least int) {
	for _, g := range groups(root, "cpu") {
		time, period := g.number(root, "cpu.max", 0), g.number(root, "cpu.max", 1)
		if g.version == 1 {
			time, period = g.number(root, "cpu.cfs_quota_us", 0), g.number(root, "cpu.cfs_period_us", 0)
		}
		if time <= 0 || period <= 0 { // "max" and -1 are no limit
			continue
		}
		if cores := int(max(1, min(time/period, 1<<20))); least == 0 || cores < least {
			least = cores
		}
	}
	return least
}

// number is that at a place of a file's first line, 0 if there is none.
func (g group) number(root fs.FS, name string, place int) int64 {
	data, err := fs.ReadFile(root, path.Join(g.folder, name))
	if fields := strings.Fields(string(data)); err == nil && place < len(fields) {
		value, _ := strconv.ParseInt(fields[place], 10, 64)
		return value
	}
	return 0
}
