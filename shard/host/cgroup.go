package host

import (
	"bufio"
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
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
	for _, g := range memoryGroups(root) {
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

// memoryGroup is a control group that may bound the memory.
type memoryGroup struct {
	folder  string // below the machine's root directory
	version int
}

// memoryGroups are those of this process and of their ancestors, as far as this process sees them. In a container the
// mount may show a part of the tree only, and paths may count from that part or from the machine's whole tree.
func memoryGroups(root fs.FS) (groups []memoryGroup) {
	mounts, err := fs.ReadFile(root, "proc/self/mountinfo")
	if err != nil {
		return nil
	}
	own, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return nil
	}
	for lines := bufio.NewScanner(bytes.NewReader(mounts)); lines.Scan(); {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		place, kind := strings.Fields(before), strings.Fields(after)
		if !ok || len(place) < 5 || len(kind) < 3 {
			continue
		}
		version := 0
		switch {
		case kind[0] == "cgroup2":
			version = 2
		case kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), "memory"):
			version = 1
		default:
			continue
		}
		ownPath, ok := groupPath(own, version)
		if !ok {
			continue
		}
		top := strings.TrimPrefix(path.Clean(unescaped(place[4])), "/")
		for folder := path.Join(top, below(ownPath, unescaped(place[3]))); ; folder = path.Dir(folder) {
			groups = append(groups, memoryGroup{folder, version})
			if folder == top || len(folder) < len(top) {
				break
			}
		}
	}
	return groups
}

// groupPath finds this process's path in the tree of a version, in /proc/self/cgroup.
func groupPath(own []byte, version int) (string, bool) {
	for lines := bufio.NewScanner(bytes.NewReader(own)); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		if version == 2 && fields[0] == "0" && fields[1] == "" || version == 1 && slices.Contains(strings.Split(fields[1], ","), "memory") {
			return fields[2], true
		}
	}
	return "", false
}

// below is where a path of the tree lies in a mount that shows the tree from root on: at its top when it does not show
// that path, or path counts from there already.
func below(groupPath, root string) string {
	rest, ok := strings.CutPrefix(groupPath, strings.TrimSuffix(root, "/"))
	if !ok || rest != "" && rest[0] != '/' || slices.Contains(strings.Split(rest, "/"), "..") {
		return ""
	}
	return rest
}

// unescaped reads a path of mountinfo, where a space is \040.
func unescaped(text string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(text)
}

// left is what the group's limit leaves, and whether it has one. Pages of files that were not used lately count as used,
// but the kernel gives them back. Above memory.high nobody is killed, but everything is held up, so it is a limit too.
func (g memoryGroup) left(root fs.FS) (int64, bool) {
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
