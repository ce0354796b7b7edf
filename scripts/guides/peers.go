package main

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

//go:embed peers.py
var peersScript string

// measurePeer has a peer measured by its Python package.
func (c *comparison) measurePeer(ctx context.Context, name string) (answers, error) {
	python, err := c.python(ctx)
	if err != nil {
		return answers{}, err
	}
	input, err := json.Marshal(&c.work)
	if err != nil {
		return answers{}, err
	}
	command := exec.CommandContext(ctx, python, "-c", peersScript, name)
	command.Env = append(os.Environ(), "OMP_NUM_THREADS=1")
	command.Stdin = bytes.NewReader(input)
	var complaints bytes.Buffer
	command.Stderr = &complaints
	output, err := command.Output()
	if err != nil {
		text := complaints.Bytes()
		return answers{}, fmt.Errorf("%w\n%s", err, text[max(0, len(text)-2000):])
	}
	var result struct {
		Version string   `json:"version"`
		Schemas []answer `json:"schemas"`
	}
	if err := json.Unmarshal(output, &result); err != nil {
		return answers{}, err
	}
	if len(result.Schemas) != len(c.work.Schemas) {
		return answers{}, fmt.Errorf("%d answers for %d schemas", len(result.Schemas), len(c.work.Schemas))
	}
	return answers{name + " " + result.Version, result.Schemas}, nil
}

// python is that of the peers' virtual environment, which is made if it is not there.
func (c *comparison) python(ctx context.Context) (string, error) {
	python, whole := filepath.Join(c.folder, "peers", "bin", "python"), filepath.Join(c.folder, "peers", "installed")
	if _, err := os.Stat(whole); err == nil {
		return python, nil
	}
	fmt.Printf("llguidance and xgrammar come to %s (some gigabytes)\n", c.folder)
	if err := os.MkdirAll(c.folder, 0o755); err != nil {
		return "", err
	}
	for _, argv := range [][]string{
		{"python3", "-m", "venv", "peers"},
		{python, "-m", "pip", "install", "--quiet", "llguidance==1.9.1", "xgrammar==0.2.8"},
		{"touch", whole},
	} {
		command := exec.CommandContext(ctx, argv[0], argv[1:]...)
		command.Dir = c.folder
		if output, err := command.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%v: %w\n%s", argv, err, output[max(0, len(output)-2000):])
		}
	}
	return python, nil
}
