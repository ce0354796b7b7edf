package machine

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
)

func TestQuotaOfControlGroups(t *testing.T) {
	const v2, v1 = "sys/fs/cgroup/", "sys/fs/cgroup/cpu/"
	for name, c := range map[string]struct {
		root fstest.MapFS
		want int
	}{
		"no control groups":         {tree(), 0},
		"version 2, no limit":       {tree(mountV2, "proc/self/cgroup=0::/a", v2+"a/cpu.max=max 100000"), 0},
		"version 2, in a container": {tree(mountV2, "proc/self/cgroup=0::/", v2+"cpu.max=350000 100000"), 3},
		"less than a core":          {tree(mountV2, "proc/self/cgroup=0::/", v2+"cpu.max=20000 100000"), 1},
		"the parent has less": {tree(mountV2, "proc/self/cgroup=0::/a/b",
			v2+"a/b/cpu.max=800000 100000",
			v2+"a/cpu.max=40000 20000"), 2},
		"version 1": {tree(mountV1, "proc/self/cgroup=4:memory:/m\n5:cpu,cpuacct:/x",
			v1+"x/cpu.cfs_quota_us=250000",
			v1+"x/cpu.cfs_period_us=100000"), 2},
		"version 1, no limit": {tree(mountV1, "proc/self/cgroup=5:cpu,cpuacct:/",
			v1+"cpu.cfs_quota_us=-1", v1+"cpu.cfs_period_us=100000"), 0},
		"damaged": {tree(mountV2, "proc/self/cgroup=0::/", v2+"cpu.max=x"), 0},
	} {
		if got := quota(c.root); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

func TestCores(t *testing.T) {
	var files []string
	for cpu, siblings := range strings.Fields("0,4 1,5 2,6 3,7 0,4 1,5 2,6 3,7") {
		at := fmt.Sprintf("sys/devices/system/cpu/cpu%d/topology/", cpu)
		files = append(files, at+"thread_siblings_list="+siblings, at+fmt.Sprintf("physical_package_id=%d", cpu%4/2))
	}
	want := []Core{{[]int{0, 4}, "0"}, {[]int{1, 5}, "0"}, {[]int{3}, "1"}, {[]int{6}, "1"}}
	if got := cores(tree(files...), []int{0, 1, 3, 4, 5, 6}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := cores(tree(), []int{2, 3}); !reflect.DeepEqual(got, []Core{{[]int{2}, ""}, {[]int{3}, ""}}) {
		t.Errorf("a kernel that does not tell: got %v", got)
	}
	if got := Cores(); len(got) == 0 || len(got[0].CPUs) == 0 {
		t.Errorf("this machine: got %v", got)
	}
}
