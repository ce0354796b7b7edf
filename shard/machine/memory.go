package machine

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

// FreeMemory is the memory of this machine that can still be taken, in bytes, and what bounds it.
func FreeMemory() (free int64, bound string, err error) { return freeMemory(os.DirFS("/")) }

// freeMemory is the memory that can still be taken, in bytes, and what bounds it: what the kernel calls available, or
// what the control groups of this process and all those above them leave, whichever is least. root is the machine's root
// directory. See man 7 cgroups and man 5 proc; of version 1 and 2 both may be there.
func freeMemory(root fs.FS) (free int64, bound string, err error) {
	if free, err = availableMemory(root); err != nil {
		return 0, "", err
	}
	bound = "the machine"
	for _, g := range groups(root, "memory") {
		if left, ok := g.left(root); ok && left < free {
			free, bound = left, "control group /"+g.folder
		}
	}
	return free, bound, nil
}

func availableMemory(root fs.FS) (int64, error) {
	data, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0, err
	}
	for lines := bufio.NewScanner(bytes.NewReader(data)); lines.Scan(); {
		if rest, ok := strings.CutPrefix(lines.Text(), "MemAvailable:"); ok {
			if fields := strings.Fields(rest); len(fields) > 0 {
				if kilobytes, err := strconv.ParseInt(fields[0], 10, 64); err == nil {
					return kilobytes << 10, nil
				}
			}
		}
	}
	return 0, fmt.Errorf("/proc/meminfo does not say what memory is available")
}

// left is what the group's limit leaves, and whether it has one. Pages of files that were not used lately count as used,
// but the kernel gives them back. Above memory.high nobody is killed, but everything is held up, so it is a limit too.
func (g group) left(root fs.FS) (int64, bool) {
	limits, usage, reclaimable := []string{"memory.max", "memory.high"}, "memory.current", "inactive_file"
	if g.version == 1 {
		limits, usage, reclaimable = []string{"memory.limit_in_bytes"}, "memory.usage_in_bytes", "total_inactive_file"
	}
	number := func(name string) (int64, bool) {
		data, err := fs.ReadFile(root, path.Join(g.folder, name))
		if err != nil {
			return 0, false
		}
		value, err := strconv.ParseInt(strings.TrimSpace(string(data)), 10, 64) // "max" is none
		return value, err == nil
	}
	limit := int64(-1)
	for _, name := range limits {
		if value, ok := number(name); ok && (limit < 0 || value < limit) {
			limit = value
		}
	}
	used, ok := number(usage)
	if limit < 0 || !ok {
		return 0, false
	}
	statistics, _ := fs.ReadFile(root, path.Join(g.folder, "memory.stat"))
	for lines := bufio.NewScanner(bytes.NewReader(statistics)); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) == 2 && fields[0] == reclaimable {
			if value, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				used -= min(value, used)
			}
		}
	}
	return max(0, limit-used), true
}
