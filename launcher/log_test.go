package main_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"lockstep/protocol/outside"
)

// pipe returns a pipe that is full after one page.
func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	if _, err := unix.FcntlInt(write.Fd(), unix.F_SETPIPE_SZ, 4096); err != nil {
		t.Fatal(err)
	}
	return read, write
}

// stoppedTerminal returns a terminal whose output was stopped, as by ctrl-S.
func stoppedTerminal(t *testing.T) *os.File {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		outside.Missing(t, "a terminal", err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		outside.Missing(t, "a terminal", err)
	}
	t.Cleanup(func() { slave.Close() })
	if err := unix.IoctlSetInt(int(slave.Fd()), unix.TCXONC, unix.TCOOFF); err != nil {
		t.Fatal(err)
	}
	return slave
}

// Whatever becomes of its log, the server serves, and stops when it is told to.
func TestServesWhateverBecomesOfTheLog(t *testing.T) {
	outside.Slow(t)
	for name, prepare := range map[string]func(t *testing.T, command *exec.Cmd){
		"nobody reads": func(t *testing.T, command *exec.Cmd) {
			_, command.Stderr = pipe(t)
		},
		"nobody reads what comes without waiting": func(t *testing.T, command *exec.Cmd) {
			_, write := pipe(t)
			syscall.SetNonblock(int(write.Fd()), true)
			command.Stderr = write
		},
		"both outputs are read no more": func(t *testing.T, command *exec.Cmd) {
			read, write := pipe(t)
			read.Close()
			command.Stdout, command.Stderr = write, write
		},
		"nobody reads the announcement": func(t *testing.T, command *exec.Cmd) {
			_, write := pipe(t)
			write.Write(make([]byte, 4096))
			command.Stdout = write
		},
		"closed": func(t *testing.T, command *exec.Cmd) {
			path := command.Path
			command.Path = "/bin/sh"
			command.Args = append([]string{"sh", "-c", `exec "$0" "$@" 2>&- >&-`, path}, command.Args[1:]...)
		},
		"full disk": func(t *testing.T, command *exec.Cmd) {
			full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
			if err != nil {
				outside.Missing(t, "/dev/full", err)
			}
			t.Cleanup(func() { full.Close() })
			command.Stderr, command.Stdout = full, full
		},
		"stopped terminal": func(t *testing.T, command *exec.Cmd) {
			command.Stderr = stoppedTerminal(t)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, func(command *exec.Cmd) { prepare(t, command) })
			for range 100 { // at debug level, many times what a pipe of one page holds
				s.mustGenerate("Once", 1)
			}
			s.command.Process.Signal(syscall.SIGTERM)
			if code := s.exit(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
		})
	}
}

// start runs the demo model with outputs and environment as prepare leaves them, and waits until it answers.
func start(t *testing.T, prepare func(command *exec.Cmd)) *server {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(freePort(t))
	s := &server{t: t, url: "http://127.0.0.1:" + port, done: make(chan error, 1)}
	s.command = exec.Command(path, "serve", "--num-shard", "2", "--hostname", "127.0.0.1", "--port", port, "--max-batch-total-tokens",
		"8192")
	s.command.Env = append(os.Environ(), "LOG_LEVEL=debug", "HOSTNAME=")
	prepare(s.command)
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.command.Process.Kill() })
	go func() { s.done <- s.command.Wait() }()
	eventually(t, "it answers", func() bool {
		_, err := s.generate("Once", 1)
		return err == nil
	})
	return s
}

// A signal that was ignored when the program began stays ignored: nohup's, and ctrl-C for what a script runs behind it.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	s := start(t, func(command *exec.Cmd) {
		path := command.Path
		command.Path = "/bin/sh"
		command.Args = append([]string{"sh", "-c", `trap "" HUP INT; exec "$0" "$@"`, path}, command.Args[1:]...)
	})
	for _, signal := range []os.Signal{syscall.SIGHUP, os.Interrupt} {
		s.command.Process.Signal(signal)
		for _, pid := range s.children() {
			process, _ := os.FindProcess(pid)
			process.Signal(signal)
		}
	}
	for range 20 {
		s.mustGenerate("Once", 1)
	}
	s.command.Process.Signal(syscall.SIGTERM)
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// Secrets of the environment show neither in the log, though it lists the environment, nor in the children's.
func TestSecretsShowNowhere(t *testing.T) {
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s := start(t, func(command *exec.Cmd) {
		command.Args = append(command.Args, "--env")
		command.Env = append(command.Env, "LOCKSTEP_CLUSTER_KEY=hush-hush-hush-hush", "BROKER=amqp://me:hush-hush@host/", "LC_ALL=C")
		command.Stderr = log
	})
	children := s.children()
	if len(children) != 3 {
		t.Fatalf("got children %v", children)
	}
	for arguments, pid := range children {
		environment, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
		if err != nil || !bytes.Contains(environment, []byte("LC_ALL=C")) || bytes.Contains(environment, []byte("hush-hush")) ||
			strings.Contains(arguments, "hush-hush") {
			t.Errorf("%s has the environment %q, %v", arguments, environment, err)
		}
	}
	s.command.Process.Signal(syscall.SIGTERM)
	s.exit()
	text, err := os.ReadFile(log.Name())
	if err != nil || !bytes.Contains(text, []byte("LC_ALL=C")) || !bytes.Contains(text, []byte("LOCKSTEP_CLUSTER_KEY=***")) ||
		bytes.Contains(text, []byte("hush-hush")) {
		t.Errorf("%v in the log:\n%s", err, text)
	}
}
