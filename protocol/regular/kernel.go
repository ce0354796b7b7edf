package regular

import (
	"errors"
	"syscall"
)

// kernelFileSystems are those whose files the kernel makes up while they are read, by their numbers in linux/magic.h. They
// look like regular files and are none: some wait for events without end, some tell secrets of the process, and reading
// may change something.
var kernelFileSystems = map[int64]string{
	0x9fa0: "proc", 0x62656572: "sysfs", 0x64626720: "debugfs", 0x74726163: "tracefs", 0x73636673: "securityfs", 0x27e0eb: "cgroup",
	0x63677270: "cgroup2", 0xcafe4a11: "bpf", 0xf97cff8c: "selinuxfs", 0x62656570: "configfs", 0x6165676c: "pstore", 0xde5e81e4: "efivarfs",
	0x42494e4d: "binfmt_misc", 0x6e736673: "nsfs",
}

func checkFileSystem(statfs func(*syscall.Statfs_t) error) error {
	var info syscall.Statfs_t
	if err := statfs(&info); err != nil {
		return err
	}
	if name := kernelFileSystems[int64(info.Type)]; name != "" { //nolint:unconvert // an int32 elsewhere
		return errors.New("this is a file of the kernel's own (" + name + "): only regular files are read")
	}
	return nil
}
