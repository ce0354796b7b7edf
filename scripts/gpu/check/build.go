package main

import (
	"compress/gzip"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

//go:embed baseline.py
var baselineProgram []byte

const runProgram = `#!/bin/sh
# All steps of the check, or those named. Results: $OUT, or out beside this. LIMIT is for all together, 11m where it is unset.
cd "$(dirname "$0")" || exit 1
chmod +x check
exec ./check -limit "${LIMIT:-11m}" run "$@"
`

// mostBytes is what can be carried.
const mostBytes = 60 << 20

// build makes the folder to carry, from the root of the tree.
func build(dir string, further []string) error {
	if _, err := os.Stat("shard/model/testdata"); err != nil {
		return errors.New("build is for the root of the tree, which has shard/model/testdata")
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	command := exec.Command("go", "build", "-tags", "cuda", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "check"),
		"./scripts/gpu/check")
	command.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64")
	if output, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w: %s", err, output)
	}
	for name, data := range map[string][]byte{"run.sh": []byte(runProgram), "baseline.py": baselineProgram} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o755); err != nil {
			return err
		}
	}
	if err := bring(dir, further); err != nil {
		return err
	}
	size := int64(0)
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil {
			size += info.Size()
		}
		return err
	})
	if err == nil && size > mostBytes {
		err = fmt.Errorf("%s has %d MiB, more than the %d that can be carried: name fewer models", dir, size>>20, mostBytes>>20)
	}
	fmt.Printf("%s: %.1f MiB\n", dir, float64(size)/(1<<20))
	return err
}

// bring copies models and adapters, unpacked.
func bring(dir string, further []string) error {
	models, err := filepath.Glob("shard/model/testdata/*")
	if err != nil {
		return err
	}
	for _, from := range append(models, further...) {
		if strings.HasSuffix(from, ".gguf") { // of which there are no reference cases here
			data, err := os.ReadFile(from)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, "models", filepath.Base(from)), data, 0o644)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := unpack(from, filepath.Join(dir, "models", filepath.Base(from))); err != nil {
			return err
		}
	}
	if err := unpack("launcher/demo/model", filepath.Join(dir, "models", "demo")); err != nil {
		return err
	}
	adapters, err := filepath.Glob("shard/host/testdata/lora/*_*_*/*") // not those of experts, which are not computed on cards
	if err != nil {
		return err
	}
	for _, from := range adapters {
		to := filepath.Join(dir, "adapters", filepath.Base(filepath.Dir(from)), filepath.Base(from))
		if err := unpack(from, to); err != nil {
			return err
		}
	}
	return nil
}

// unpack copies the files of a folder, packed ones unpacked, and sees to it that there is a tokenizer.json.
func unpack(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(to, "tokenizer.json"), []byte("{}"), 0o644); err != nil {
		return err
	}
	files, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, file := range files {
		if file.IsDir() {
			continue
		}
		data, err := read(filepath.Join(from, file.Name()))
		if err == nil {
			err = os.WriteFile(filepath.Join(to, strings.TrimSuffix(file.Name(), ".gz")), data, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func read(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if !strings.HasSuffix(path, ".gz") {
		return io.ReadAll(file)
	}
	reader, err := gzip.NewReader(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return io.ReadAll(reader)
}

// dry runs what can be run without a card, on the emulation, as processes as on the card.
func (c *check) dry() error {
	dir, err := os.MkdirTemp("", "check")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := bring(dir, nil); err != nil {
		return err
	}
	c.dir, c.emulated, c.quick = dir, true, true
	began := time.Now()
	err = c.run([]string{"bindings", "core", "vectors", "goldens", "roofs", "products", "attention", "prefill", "whole"})
	fmt.Printf("%s has the report; %.0f s\n", filepath.Join(c.out, "report.md"), time.Since(began).Seconds())
	return err
}
