// Package kernels holds the CUDA C of the cards' kernels, and what NVRTC makes of it: cubins for the cards that there are, and PTX
// for others and for package ptx. Nothing is compiled where models are served. common.cuh says how data lie.
//
// make kernels compiles them; a test holds sources and results together.
package kernels

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
)

// Compiler is the version of NVRTC that the kernels are compiled by: PTX of a later one is refused by drivers of its time.
const Compiler = "12.9"

// ManifestName is what the compiling command writes beside its results.
const ManifestName = "manifest.json"

//go:embed *.cu *.cuh
var sources embed.FS

//go:embed built
var built embed.FS

// Manifest says what the results were made from.
type Manifest struct {
	Compiler string            `json:"compiler"`
	Targets  []string          `json:"targets"`
	Sources  map[string]string `json:"sources"` // hashes
}

// Hash is the hash of a source as Manifest has it.
func Hash(source []byte) string {
	sum := sha256.Sum256(source)
	return hex.EncodeToString(sum[:])
}

// ReadManifest reads the embedded one.
func ReadManifest() (m Manifest, err error) {
	data, err := built.ReadFile("built/" + ManifestName)
	if err != nil {
		return m, err
	}
	return m, json.Unmarshal(data, &m)
}

// Names are the modules, each from the source of its name.
var Names = []string{"adapters", "attention", "check", "exchange", "experts", "gemm", "linear", "ring", "rows", "wgmma"}

// The targets whose code is PTX: the least that the kernels need, and, for package ptx, what cards of compute capability 9.0 run.
const (
	PTX80 = "compute_80"
	PTX90 = "compute_90a"
)

// Module returns the code of a module for a target. Those of ring.cu are empty below compute capability 9.0, and wgmma.cu's for all others.
func Module(name, target string) ([]byte, error) {
	data, err := built.ReadFile("built/" + name + "." + target + ".gz")
	if err != nil {
		return nil, fmt.Errorf("no kernels for %s: %w", target, err)
	}
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}
