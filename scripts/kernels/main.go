// Command kernels compiles shard/gpu/kernels through NVRTC, which it opens at run time: neither cgo, a toolkit nor a card is needed.
//
//	go run ./scripts/kernels -nvrtc DIRECTORY/libnvrtc.so.12
//
// The library is that of the Python wheel nvidia-cuda-nvrtc-cu12 of the version in package kernels' Manifest (make kernels fetches
// it); libnvrtc-builtins must lie beside it. What it writes is the same byte for byte from run to run.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lockstep/shard/gpu/kernels"
)

// targets are what each source is compiled for: cubins of the cards that there are, PTX from which a driver makes code for others, and
// both for package ptx to run.
var targets = []string{kernels.PTX80, kernels.PTX90, "sm_80", "sm_86", "sm_89", "sm_90a", "sm_100a", "sm_120a"}

func main() {
	library := flag.String("nvrtc", "libnvrtc.so.12", "path of the NVRTC library")
	dir := flag.String("dir", "shard/gpu/kernels", "folder of the kernels")
	flag.Parse()
	if err := run(*library, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "kernels:", err)
		os.Exit(1)
	}
}

func run(library, dir string) error {
	compiler, err := open(library)
	if err != nil {
		return err
	}
	version := compiler.versionText()
	if version != kernels.Compiler {
		return fmt.Errorf("%s is NVRTC %s, and the kernels are compiled by %s: another writes PTX that older drivers refuse", library,
			version, kernels.Compiler)
	}
	manifest := kernels.Manifest{Compiler: version, Sources: map[string]string{}, Targets: targets}
	headers, err := read(filepath.Join(dir, "*.cuh"), manifest.Sources)
	if err != nil {
		return err
	}
	built := filepath.Join(dir, "built")
	if err := os.RemoveAll(built); err != nil {
		return err
	}
	if err := os.MkdirAll(built, 0o755); err != nil {
		return err
	}
	sources, err := read(filepath.Join(dir, "*.cu"), manifest.Sources)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(sources)) {
		for _, target := range targets {
			code, err := compiler.compile(name, sources[name], headers, target)
			if err != nil {
				return fmt.Errorf("%s for %s: %w", name, target, err)
			}
			to := filepath.Join(built, strings.TrimSuffix(name, ".cu")+"."+target+".gz")
			if err := os.WriteFile(to, compressed(code), 0o644); err != nil {
				return err
			}
			fmt.Printf("%s, %s: %d bytes\n", name, target, len(code))
		}
	}
	text, err := json.MarshalIndent(manifest, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(built, kernels.ManifestName), append(text, '\n'), 0o644)
}

// read reads files by their names, and notes their hashes.
func read(pattern string, hashes map[string]string) (map[string]string, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	texts := map[string]string{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		texts[filepath.Base(path)], hashes[filepath.Base(path)] = string(text), kernels.Hash(text)
	}
	return texts, nil
}

func compressed(data []byte) []byte {
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err == nil {
		_, err = w.Write(data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		panic(err) // of a buffer
	}
	return b.Bytes()
}
