// Package machine says what this process may use of the machine: memory, cores and time of them, within the control groups that it
// is in.
package machine

import (
	"bufio"
	"bytes"
	"io/fs"
	"path"
	"slices"
	"strings"
)

// group is a control group that may bound what this process uses.
type group struct {
	folder  string // below the machine's root directory
	version int
}

// groups are those of this process that a controller ("memory", "cpu") has, and their ancestors, as far as this process sees
// them. In a container the mount may show a part of the tree only, and paths may count from that part or from the machine's whole
// tree.
func groups(root fs.FS, controller string) (all []group) {
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
		case kind[0] == "cgroup" && slices.Contains(strings.Split(kind[2], ","), controller):
			version = 1
		default:
			continue
		}
		ownPath, ok := groupPath(own, version, controller)
		if !ok {
			continue
		}
		top := strings.TrimPrefix(path.Clean(unescaped(place[4])), "/")
		for folder := path.Join(top, below(ownPath, unescaped(place[3]))); ; folder = path.Dir(folder) {
			all = append(all, group{folder, version})
			if folder == top || len(folder) < len(top) {
				break
			}
		}
	}
	return all
}

// groupPath finds this process's path in the tree of a version, in /proc/self/cgroup.
func groupPath(own []byte, version int, controller string) (string, bool) {
	for lines := bufio.NewScanner(bytes.NewReader(own)); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		if len(fields) != 3 {
			continue
		}
		if version == 2 && fields[0] == "0" && fields[1] == "" ||
			version == 1 && slices.Contains(strings.Split(fields[1], ","), controller) {
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
