package machine

import (
	"os"
	"strings"
	"testing"
	"testing/fstest"
)

const gibibyte = 1 << 30

// tree is a machine with 64 GiB available and the files given, FILE=CONTENT.
func tree(files ...string) fstest.MapFS {
	root := fstest.MapFS{"proc/meminfo": {Data: []byte("MemTotal: 99999999 kB\nMemAvailable:   67108864 kB\n")}}
	for _, file := range files {
		name, content, _ := strings.Cut(file, "=")
		root[name] = &fstest.MapFile{Data: []byte(content + "\n")}
	}
	return root
}

const (
	mountV2 = "proc/self/mountinfo=30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate"
	mountV1 = "proc/self/mountinfo=31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - " +
		"cgroup cgroup rw,memory\n36 31 0:33 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu,cpuacct"
)

func TestFreeMemoryOfControlGroups(t *testing.T) {
	const v2, v1 = "sys/fs/cgroup/", "sys/fs/cgroup/memory/"
	for name, c := range map[string]struct {
		root      fstest.MapFS
		want      int64 // GiB
		wantBound string
	}{
		"no control groups": {tree(), 64, "the machine"},
		"version 2, in a container": {tree(mountV2, "proc/self/cgroup=0::/", v2+"memory.max=8589934592", v2+"memory.current=2147483648",
			v2+"memory.high=max"),
			6, "control group /sys/fs/cgroup"},
		"version 2, page cache": {tree(mountV2, "proc/self/cgroup=0::/", v2+"memory.max=8589934592", v2+"memory.current=8589934592",
			v2+"memory.stat=anon 1\ninactive_file 5368709120\nactive_file 9"),
			5, "control group /sys/fs/cgroup"},
		"version 2, below": {tree(mountV2, "proc/self/cgroup=0::/system.slice/lockstep.service",
			v2+"system.slice/lockstep.service/memory.max=4294967296", v2+"system.slice/lockstep.service/memory.current=1073741824",
			v2+"system.slice/memory.max=max", v2+"system.slice/memory.current=5"), 3,
			"control group /sys/fs/cgroup/system.slice/lockstep.service"},
		"version 2, the parent has less": {tree(mountV2, "proc/self/cgroup=0::/a/b/c", v2+"a/b/c/memory.max=max",
			v2+"a/b/c/memory.current=1", v2+"a/b/memory.max=4294967296", v2+"a/b/memory.current=1073741824",
			v2+"a/memory.max=8589934592", v2+"a/memory.current=7516192768"), 1, "control group /sys/fs/cgroup/a"},
		"version 2, high": {tree(mountV2, "proc/self/cgroup=0::/", v2+"memory.max=8589934592", v2+"memory.high=4294967296",
			v2+"memory.current=2147483648"), 2, "control group /sys/fs/cgroup"},
		"version 2, above the limit": {tree(mountV2, "proc/self/cgroup=0::/", v2+"memory.max=1073741824",
			v2+"memory.current=2147483648"), 0, "control group /sys/fs/cgroup"},
		"version 2, more cache than use": {tree(mountV2, "proc/self/cgroup=0::/", v2+"memory.max=1073741824", v2+"memory.current=1024",
			v2+"memory.stat=inactive_file 4096"), 1, "control group /sys/fs/cgroup"},
		"version 1": {tree(mountV1, "proc/self/cgroup=5:cpu,cpuacct:/x\n4:memory:/a/b\n0::/", v1+"a/b/memory.limit_in_bytes=4294967296",
			v1+"a/b/memory.usage_in_bytes=3221225472",
			v1+"a/b/memory.stat=inactive_file 7\ntotal_inactive_file 1073741824", v1+"memory.limit_in_bytes=9223372036854771712",
			v1+"memory.usage_in_bytes=1"), 2, "control group /sys/fs/cgroup/memory/a/b"},
		"version 1, the parent has less": {tree(mountV1, "proc/self/cgroup=4:memory:/a/b",
			v1+"a/b/memory.limit_in_bytes=9223372036854771712", v1+"a/b/memory.usage_in_bytes=3221225472",
			v1+"a/memory.limit_in_bytes=2147483648", v1+"a/memory.usage_in_bytes=1073741824"), 1, "control group /sys/fs/cgroup/memory/a"},
		"version 1, in a container": {tree(strings.Replace(mountV1, "0:32 / ", "0:32 /docker/abc ", 1),
			"proc/self/cgroup=4:memory:/docker/abc", v1+"memory.limit_in_bytes=4294967296", v1+"memory.usage_in_bytes=1073741824"),
			3, "control group /sys/fs/cgroup/memory"},
		"version 1, below a container": {tree(strings.Replace(mountV1, "0:32 / ", "0:32 /docker/abc ", 1),
			"proc/self/cgroup=4:memory:/docker/abc/job", v1+"job/memory.limit_in_bytes=4294967296",
			v1+"job/memory.usage_in_bytes=1073741824"),
			3, "control group /sys/fs/cgroup/memory/job"},
		"the mount shows another part": {tree(strings.Replace(mountV2, "0:26 / ", "0:26 /docker/ab ", 1), "proc/self/cgroup=0::/docker/abc",
			v2+"memory.max=4294967296", v2+"memory.current=1073741824"),
			3, "control group /sys/fs/cgroup"},
		"a path outside of the namespace": {tree(mountV2, "proc/self/cgroup=0::/../other", v2+"memory.max=4294967296",
			v2+"memory.current=1073741824"), 3, "control group /sys/fs/cgroup"},
		"a mount elsewhere": {tree(`proc/self/mountinfo=30 23 0:26 / /run/control\040groups rw - cgroup2 none rw`, "proc/self/cgroup=0::/",
			"run/control groups/memory.max=4294967296", "run/control groups/memory.current=1073741824"),
			3, "control group /run/control groups"},
		"both, version 1 bounds": {tree(mountV1+"\n42 31 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
			"proc/self/cgroup=4:memory:/a\n0::/a", v1+"a/memory.limit_in_bytes=4294967296", v1+"a/memory.usage_in_bytes=1073741824"),
			3, "control group /sys/fs/cgroup/memory/a"},
		"damaged": {tree("proc/self/mountinfo=x\n - \n1 2 3 4 5 - cgroup2 x", "proc/self/cgroup=nonsense\n::"), 64, "the machine"},
	} {
		free, bound, err := freeMemory(c.root)
		if err != nil || (free+gibibyte/2)/gibibyte != c.want || bound != c.wantBound {
			t.Errorf("%s: got %.2f GiB of %s, %v; want %d of %s", name, float64(free)/gibibyte, bound, err, c.want, c.wantBound)
		}
	}
	if _, _, err := freeMemory(fstest.MapFS{"proc/meminfo": {Data: []byte("MemAvailable:\n")}}); err == nil {
		t.Error("no error without what is available")
	}
	if free, bound, err := freeMemory(os.DirFS("/")); err != nil || free <= 0 {
		t.Errorf("this machine: %d bytes of %s, %v", free, bound, err)
	} else {
		t.Logf("this machine: %d MiB of %s", free>>20, bound)
	}
}
