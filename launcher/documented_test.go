package main_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lockstep/protocol/outside"
)

// blocks are the commands of a document's code blocks, with continued lines joined and comments cut.
func blocks(t *testing.T, path string) (commands []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for i, part := range strings.Split(string(text), "```") {
		if i%2 == 0 {
			continue
		}
		for line := range strings.Lines(strings.ReplaceAll(part, "\\\n", " ")) {
			line, _, _ = strings.Cut(line, " #")
			if line = strings.TrimSpace(line); line != "" {
				commands = append(commands, line)
			}
		}
	}
	return commands
}

// shell runs a command as a reader of the documents would, in the tree's root.
func shell(t *testing.T, command string) string {
	t.Helper()
	c := exec.Command("/bin/sh", "-ec", command)
	c.Dir = ".."
	var out, problems bytes.Buffer
	c.Stdout, c.Stderr = &out, &problems
	if err := c.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", command, err, out.String(), problems.String())
	}
	return out.String()
}

// background starts a command as shell does, waits for what it says of its URL, and returns how to stop it.
func background(t *testing.T, command, port string) (stop func()) {
	t.Helper()
	s := &server{t: t, url: "http://127.0.0.1:" + port, command: exec.Command("/bin/sh", "-ec", "exec "+command), done: make(chan error, 1)}
	s.command.Dir, s.command.Stderr = "..", s
	s.command.Env = append(os.Environ(), "HOSTNAME=127.0.0.1")
	s.command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func(signal syscall.Signal) { syscall.Kill(-s.command.Process.Pid, signal) }
	t.Cleanup(func() { kill(syscall.SIGKILL) })
	go func() { s.done <- s.command.Wait() }()
	eventually(t, command+" answers", func() bool {
		_, err := s.generate("Once", 1)
		return err == nil
	})
	return func() {
		kill(syscall.SIGTERM)
		s.exit()
	}
}

// What README.md tells a newcomer to type works, word by word but for the port.
func TestReadmeCommandsRun(t *testing.T) {
	outside.Slow(t)
	outside.Tool(t, "curl")
	port := strconv.Itoa(freePort(t))
	var stop func()
	ran := 0
	for _, command := range blocks(t, "../README.md") {
		switch name, _, _ := strings.Cut(command, " "); name {
		case "make":
			stop = background(t, command+" PORT="+port, port)
		case "curl":
			answer := shell(t, strings.NewReplacer(":3000", ":"+port, "curl ", "curl -fsS ").Replace(command))
			if strings.Count(answer, "data:") < 20 {
				t.Errorf("%s: got %s", command, answer)
			}
		case "scripts/get-model", "bin/lockstep":
			home, err := os.UserHomeDir()
			if err != nil {
				t.Fatal(err)
			}
			if models, _ := filepath.Glob(filepath.Join(home, ".cache/lockstep/*.gguf")); len(models) == 0 {
				t.Logf("%s: not run, there is no network for it", command)
				continue
			}
			if name == "scripts/get-model" {
				shell(t, command)
				break
			}
			stop()
			own := strconv.Itoa(freePort(t))
			stop = background(t, strings.Replace(command, "8080", own, 1), own)
		default:
			t.Errorf("this test does not know how to run %q", command)
		}
		ran++
	}
	stop()
	if ran < 3 {
		t.Errorf("ran only %d commands", ran)
	}
}

// The simulator's commands work one after the other: record, fit, simulate.
func TestSimulatorCommandsRun(t *testing.T) {
	outside.Slow(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir, port := t.TempDir(), strconv.Itoa(freePort(t))
	local := strings.NewReplacer("lockstep ", path+" ", "MODEL", demoDirectory(t, nil), "steps.jsonl", dir+"/steps.jsonl", "machine.json",
		dir+"/machine.json",
		"azure_conv_2023.csv", "uniform:10-50:5-20 --requests 100") // the trace is not in the tree
	ran := 0
	for _, command := range blocks(t, "../docs/simulator.md") {
		command := local.Replace(command)
		if strings.Contains(command, " serve ") {
			stop := background(t, command+" --max-batch-total-tokens 8192 --port "+port, port)
			for i := range 30 {
				client := &server{t: t, url: "http://127.0.0.1:" + port}
				client.mustGenerate(strings.Repeat("Once upon a time ", 1+i), 1+i)
			}
			stop()
		} else if answer := shell(t, command); strings.Contains(command, "--trace") && !strings.Contains(answer, "100") {
			t.Errorf("%s: got %s", command, answer)
		}
		ran++
	}
	if ran != 3 {
		t.Errorf("ran %d commands", ran)
	}
}
