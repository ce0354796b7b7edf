package weights_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"lockstep/shard/weights"
	"lockstep/shard/weights/weightstest"
)

// modelFiles are all files of a directory that are read.
var modelFiles = map[string]string{
	"config.json": weightstest.Config, "tokenizer.json": "{}", "tokenizer_config.json": "{}", "generation_config.json": "{}",
	"special_tokens_map.json": "{}", "quantize_config.json": `{"quant_method":"mxfp4"}`,
	"chat_template.json": "{}", "chat_template.jinja": "{{ x }}",
	"model.safetensors.index.json": `{"weight_map":{"a":"one.safetensors"}}`,
	"one.safetensors":              string(weightstest.OneTensor("a")),
}

// hub writes the files as a hub's cache has them, as links, and returns the directory.
func hub(t *testing.T) string {
	t.Helper()
	blobs, dir := t.TempDir(), t.TempDir()
	for name, content := range modelFiles {
		if err := os.WriteFile(filepath.Join(blobs, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(filepath.Join(blobs, name), filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Whichever file of a model is none, the error says which and what it is instead, and nothing waits or is read without end.
func TestFilesThatAreNone(t *testing.T) {
	if m, err := weights.Open(hub(t)); err != nil {
		t.Fatal(err)
	} else {
		m.Close()
	}
	dangling := hub(t) // a name that another one would stand in for
	if err := os.Symlink("../blobs/gone", filepath.Join(dangling, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := weights.Open(dangling); err == nil || !strings.Contains(err.Error(), "model.safetensors: this is a link") {
		t.Errorf("got error %v", err)
	}
	for kind, c := range map[string]struct {
		put  func(path string) error
		want string
	}{
		"git lfs pointer": {func(path string) error {
			return os.WriteFile(path, []byte("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"), 0o600)
		}, "Git LFS pointer"},
		"endless device":  {func(path string) error { return os.Symlink("/dev/zero", path) }, "only regular files"},
		"link to nothing": {func(path string) error { return os.Symlink("../blobs/gone", path) }, "link to a file that is not there"},
		"endless events":  {func(path string) error { return os.Symlink("/proc/kmsg", path) }, "the kernel's own"},
		"environment":     {func(path string) error { return os.Symlink("/proc/self/environ", path) }, "the kernel's own"},
		"pipe":            {func(path string) error { return syscall.Mkfifo(path, 0o600) }, "only regular files"},
		"directory":       {func(path string) error { return os.Mkdir(path, 0o700) }, "a directory"},
		"huge": {func(path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		}, "at most"},
		"nothing": {func(path string) error { return os.WriteFile(path, nil, 0o600) }, ""},
	} {
		for name := range modelFiles {
			dir := hub(t)
			path := filepath.Join(dir, name)
			os.Remove(path)
			if err := c.put(path); err != nil {
				t.Fatal(err)
			}
			want := c.want
			if name == "one.safetensors" && kind == "huge" {
				want = "anew" // weights are mapped, however large
			}
			m, err := weights.Open(dir)
			if err == nil && name == "chat_template.jinja" && kind == "nothing" {
				m.Close()
				continue // an empty template is none
			}
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) ||
				!strings.Contains(err.Error(), dir) {
				t.Errorf("%s as %s: got error %v, want one with %q", name, kind, err, want)
			}
		}
		path := filepath.Join(t.TempDir(), "m.gguf")
		if err := c.put(path); err != nil {
			t.Fatal(err)
		}
		if _, err := weights.Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("m.gguf as %s: got %v", kind, err)
		}
	}
}
