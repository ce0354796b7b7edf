package regular_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lockstep/protocol/regular"
)

func TestRead(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	for name, content := range map[string]string{"small": "secret", "large": strings.Repeat("x", 101),
		"pointer": "version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n"} {
		if err := os.WriteFile(path(name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sparse, err := os.Create(path("sparse"))
	if err != nil {
		t.Fatal(err)
	}
	if err := sparse.Truncate(1 << 40); err != nil { // is refused without being read
		t.Fatal(err)
	}
	sparse.Close()
	for link, target := range map[string]string{"link": "small", "link to link": "link", "endless": "/dev/zero", "dangling": "nowhere",
		"circle":           "circle",
		"link to dangling": "dangling", "events": "/proc/kmsg", "secrets": "/proc/self/environ",
		"setting": "/sys/devices/system/cpu/online"} {
		if err := os.Symlink(target, path(link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"small": "", "link": "", "link to link": "", "large": "101 bytes or more; at most 100",
		"sparse":  "at most 100",
		"endless": "device, pipe or socket", "pipe": "device, pipe or socket", ".": "this is a directory",
		"dangling": "link to a file that is not there", "link to dangling": "link to a file that is not there",
		"circle": "too many levels",
		"events": "the kernel's own (proc)", "secrets": "the kernel's own (proc)", "setting": "the kernel's own (sysfs)",
		"pointer": "git lfs pull"} {
		data, err := regular.Read(path(name), 100)
		if want == "" && (err != nil || string(data) != "secret") {
			t.Errorf("%s: got %q, %v", name, data, err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), path(name)+": ") ||
			strings.Count(err.Error(), dir) > 1) {
			t.Errorf("%s: got %v, want its path once and %q", name, err, want)
		}
	}
	if _, err := regular.Read(path("nowhere"), 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := regular.Check("/proc/self/comm"); err == nil || !strings.Contains(err.Error(), "the kernel's own (proc)") {
		t.Errorf("got %v", err)
	}
	for _, name := range []string{"dangling", "link to dangling"} {
		if _, err := regular.ReadFS(os.DirFS(dir), name, 100); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %v, want an error that nobody takes for an absent file", name, err)
		}
	}
	for _, name := range []string{"secrets", "setting"} {
		if _, err := regular.ReadFS(os.DirFS(dir), name, 1<<20); err == nil || !strings.Contains(err.Error(), "the kernel's own") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	inDescriptor, err := os.Open(path("small")) // a link in /proc to a file elsewhere is that file
	if err != nil {
		t.Fatal(err)
	}
	defer inDescriptor.Close()
	if data, err := regular.Read(fmt.Sprintf("/proc/self/fd/%d", inDescriptor.Fd()), 100); err != nil || string(data) != "secret" {
		t.Errorf("got %q, %v", data, err)
	}
}
