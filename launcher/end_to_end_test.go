package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lockstep/protocol/outside"
)

// The tests in this file run the real program: build, start, ask over HTTP, break, stop.

const (
	startTimeout = 60 * time.Second // generous: the machine may be busy
	stopTimeout  = 30 * time.Second
)

// tags that the program is built with.
var tags = ""

var binary = sync.OnceValues(func() (string, error) {
	directory, err := os.MkdirTemp("", "lockstep-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(directory, "lockstep")
	// The go command keeps results of tests for as long as what they look at is the same: so they look at what is built.
	filepath.WalkDir("..", func(path string, _ fs.DirEntry, _ error) error {
		if strings.HasSuffix(path, ".go") || strings.HasSuffix(path, ".s") {
			os.Stat(path)
		}
		return nil
	})
	build := exec.Command("go", "build", "-tags", tags, "-o", path, "lockstep/launcher")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, output)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// server is a running launcher.
type server struct {
	t       testing.TB
	command *exec.Cmd
	url     string
	done    chan error
	mutex   sync.Mutex
	log     bytes.Buffer
}

func (s *server) Write(data []byte) (int, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.log.Write(data)
}

func (s *server) logged() string {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.log.String()
}

func freePort(t testing.TB) int {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// launch starts the program without waiting for anything.
func launch(t testing.TB, arguments ...string) (*server, io.Reader) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, command: exec.Command(path, arguments...), done: make(chan error, 1)}
	s.command.Env = append(os.Environ(), "LOG_LEVEL=debug", "HOSTNAME=")
	s.command.Stderr = s
	output, err := s.command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.command.Process.Kill()
		if t.Failed() {
			t.Logf("log of %s:\n%s", strings.Join(arguments, " "), s.logged())
		}
	})
	return s, output
}

// serve starts the program and waits until it says that it is ready.
func serve(t testing.TB, arguments ...string) *server {
	t.Helper()
	s, output := launch(t, arguments...)
	lines := make(chan string, 16)
	go func() {
		for scanner := bufio.NewScanner(output); scanner.Scan(); {
			lines <- scanner.Text()
		}
		s.done <- s.command.Wait()
		close(lines)
	}()
	select {
	case line, ok := <-lines:
		if !ok {
			t.Fatalf("ended before it was ready:\n%s", s.logged())
		}
		if at := strings.LastIndex(line, "http://"); at >= 0 {
			s.url = line[at:]
		}
	case <-time.After(startTimeout):
		t.Fatalf("not ready within %v:\n%s", startTimeout, s.logged())
	}
	return s
}

func serveDemo(t testing.TB, more ...string) *server {
	t.Helper()
	return serve(t, append([]string{"serve", "--num-shard", "2", "--hostname", "127.0.0.1", "--port", strconv.Itoa(freePort(t)),
		"--max-batch-total-tokens", "8192"}, more...)...)
}

// exit waits for the end and returns the exit code.
func (s *server) exit() int {
	s.t.Helper()
	select {
	case <-s.done:
		return s.command.ProcessState.ExitCode()
	case <-time.After(stopTimeout):
		s.t.Fatalf("did not end within %v", stopTimeout)
		return -1
	}
}

// children are the process ids of the launcher's children, by their arguments.
func (s *server) children() map[string]int {
	return childrenOf(s.command.Process.Pid)
}

func childrenOf(parent int) map[string]int {
	found := map[string]int{}
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	for _, task := range tasks {
		data, _ := os.ReadFile(task)
		for _, field := range strings.Fields(string(data)) {
			pid, _ := strconv.Atoi(field)
			arguments, _ := os.ReadFile("/proc/" + field + "/cmdline")
			found[strings.TrimSpace(strings.ReplaceAll(string(arguments), "\x00", " "))] = pid
		}
	}
	return found
}

// rank finds the process of a rank, or fails.
func (s *server) rank(rank int) int {
	s.t.Helper()
	for arguments, pid := range s.children() {
		if strings.HasPrefix(arguments, "lockstep shard") && strings.HasSuffix(arguments, fmt.Sprintf("--rank %d", rank)) {
			return pid
		}
	}
	s.t.Fatalf("no process of rank %d among %v", rank, s.children())
	return 0
}

// assertGone waits until these processes are no more.
func assertGone(t testing.TB, processes map[string]int) {
	t.Helper()
	for arguments, pid := range processes {
		eventually(t, fmt.Sprintf("%s (%d) is gone", arguments, pid), func() bool {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			return err != nil || strings.Contains(string(status), ") Z ") // a zombie waits for the machine's init
		})
	}
}

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if holds() {
			return
		}
	}
	t.Fatalf("not within 30 s: %s", what)
}

// generate asks for tokens and returns the text, greedy.
func (s *server) generate(prompt string, tokens int) (string, error) {
	body := fmt.Sprintf(`{"inputs":%q,"parameters":{"max_new_tokens":%d}}`, prompt, tokens)
	client := http.Client{Timeout: 60 * time.Second}
	response, err := client.Post(s.url+"/generate", "application/json", strings.NewReader(body))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s %w", response.Status, data, err)
	}
	var answer struct {
		Text string `json:"generated_text"`
	}
	err = json.Unmarshal(data, &answer)
	return answer.Text, err
}

func (s *server) mustGenerate(prompt string, tokens int) string {
	s.t.Helper()
	text, err := s.generate(prompt, tokens)
	if err != nil || text == "" {
		s.t.Fatalf("got %q, %v", text, err)
	}
	return text
}

// stream asks for tokens one by one; each call of next returns one token's text, "" at the end.
func (s *server) stream(prompt string, tokens int) (next func() string) {
	s.t.Helper()
	body := fmt.Sprintf(`{"inputs":%q,"parameters":{"max_new_tokens":%d}}`, prompt, tokens)
	response, err := http.Post(s.url+"/generate_stream", "application/json", strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { response.Body.Close() })
	scanner := bufio.NewScanner(response.Body)
	return func() string {
		for scanner.Scan() {
			data, ok := strings.CutPrefix(scanner.Text(), "data:")
			if !ok {
				continue
			}
			var event struct {
				Token struct{ Text string }
				Error string
			}
			if err := json.Unmarshal([]byte(data), &event); err != nil || event.Error != "" {
				s.t.Fatalf("the stream broke: %s", data)
			}
			return event.Token.Text
		}
		return ""
	}
}

func TestServeAndDrain(t *testing.T) {
	s := serveDemo(t)
	if text := s.mustGenerate("Once upon a time", 20); !strings.HasPrefix(text, ", there was") {
		t.Errorf("got %q", text)
	}
	children := s.children()
	if len(children) != 3 {
		t.Errorf("got children %v, want two shards and a router", children)
	}
	next := s.stream("Once upon a time", 60)
	next()
	s.command.Process.Signal(syscall.SIGTERM)
	tokens := 1
	for next() != "" {
		tokens++
	}
	if tokens < 2 {
		t.Error("the stream in flight was cut off by SIGTERM")
	}
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	assertGone(t, children)
}

func TestKilledLauncherLeavesNothing(t *testing.T) {
	s := serveDemo(t)
	children := s.children()
	s.command.Process.Kill()
	s.exit()
	assertGone(t, children)
}

func TestKilledRankUnderAStream(t *testing.T) {
	s := serve(t, "serve", "--num-shard", "2", "--hostname", "127.0.0.1", "--port", strconv.Itoa(freePort(t)))
	want := s.mustGenerate("Once upon a time", 200)
	before := s.children()
	next := s.stream("Once upon a time", 200)
	got := next()
	victim := s.rank(1)
	killed := time.Now()
	syscall.Kill(victim, syscall.SIGKILL)
	for token := next(); token != ""; token = next() {
		got += token
	}
	t.Logf("stream complete %v after the kill", time.Since(killed))
	if got != want {
		t.Errorf("after the kill the stream went on differently:\ngot  %q\nwant %q", got, want)
	}
	s.mustGenerate("Once upon a time", 5)
	if !strings.Contains(s.logged(), "as before the restart") {
		t.Error("the restarted group does not take the KV cache that it had")
	}
	if got := strings.Count(s.logged(), "using the weights that were packed before the restart"); got != 2 {
		t.Errorf("%d of 2 restarted ranks use the weights that are packed", got)
	}
	after := s.children()
	if before["lockstep router"] != after["lockstep router"] {
		t.Error("the router was touched")
	}
	if s.rank(1) == victim || len(after) != 3 {
		t.Errorf("children before %v, after %v", before, after)
	}
	s.command.Process.Signal(syscall.SIGTERM)
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	assertGone(t, before)
	assertGone(t, after)
}

func TestKilledRouterIsRestartedAlone(t *testing.T) {
	s := serveDemo(t)
	before := s.children()
	syscall.Kill(before["lockstep router"], syscall.SIGKILL)
	eventually(t, "the new router answers", func() bool {
		text, err := s.generate("Once upon a time", 3)
		return err == nil && text != ""
	})
	after := s.children()
	for arguments, pid := range before {
		if same := after[arguments] == pid; same == (arguments == "lockstep router") {
			t.Errorf("%s: before %d, after %d", arguments, pid, after[arguments])
		}
	}
}

func TestFiveDeathsEndIt(t *testing.T) {
	s := serveDemo(t)
	children := s.children()
	for range 5 {
		for arguments, pid := range s.children() {
			children[arguments+strconv.Itoa(pid)] = pid
		}
		victim := s.rank(0)
		syscall.Kill(victim, syscall.SIGKILL)
		eventually(t, "rank 0 is another process, or the launcher gave up", func() bool {
			for arguments, pid := range s.children() {
				if strings.HasSuffix(arguments, "--rank 0") && pid != victim {
					return true
				}
			}
			return strings.Contains(s.logged(), "5 deaths within 1m0s")
		})
	}
	if code := s.exit(); code != 1 || !strings.Contains(s.logged(), "5 deaths within 1m0s") {
		t.Errorf("exit code %d", code)
	}
	assertGone(t, children)
}

func TestSecondSignalStopsAtOnce(t *testing.T) {
	s := serveDemo(t)
	children := s.children()
	next := s.stream("Once upon a time", 1500)
	next()
	syscall.Kill(children["lockstep router"], syscall.SIGSTOP) // else the stream might end before the second signal
	s.command.Process.Signal(os.Interrupt)
	eventually(t, "it drains", func() bool { return strings.Contains(s.logged(), "draining; a second signal") })
	// Signals that follow at once are taken for the same one; a person's second comes later.
	eventually(t, "a second signal is heard", func() bool {
		s.command.Process.Signal(os.Interrupt)
		return strings.Contains(s.logged(), "stopping at once")
	})
	if code := s.exit(); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	assertGone(t, children)
}

// fails runs the program to its end and wants an exit code and a message.
func fails(t *testing.T, code int, message string, arguments ...string) {
	t.Helper()
	s, _ := launch(t, arguments...)
	go func() { s.done <- s.command.Wait() }()
	if got := s.exit(); got != code || !strings.Contains(s.logged(), message) {
		t.Errorf("%v: exit code %d, want %d and %q in:\n%s", arguments, got, code, message, s.logged())
	}
}

func TestExitCodes(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	taken := strconv.Itoa(listener.Addr().(*net.TCPAddr).Port)
	fails(t, 1, "is in use", "serve", "--hostname", "127.0.0.1", "--port", taken)
	fails(t, 1, "address already in use", "serve", "--hostname", "127.0.0.1", "--port", "0", "--nats-port", taken)
	fails(t, 2, "unknown flag --nope", "serve", "--nope")
	fails(t, 2, "cannot be honoured", "serve", "--revision", "main")
	fails(t, 1, `not in the format \"awq\"`, "serve", "--hostname", "127.0.0.1", "--port", "0", "--quantize", "awq")

	broken := t.TempDir() // a child's own error ends the start
	os.WriteFile(filepath.Join(broken, "config.json"), []byte(`{"model_type":"telepathy","architectures":["TelepathyForCausalLM"]}`), 0o600)
	fails(t, 1, "shard ", "serve", "--hostname", "127.0.0.1", "--port", "0", "--num-shard", "2", "--model-id", broken)
}

// 100 rounds of start, random kill, stop: every round must answer a request after the kill, end well and leave nothing.
func TestRoundsOfRandomKills(t *testing.T) {
	outside.Slow(t)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := range 100 {
		s := serveDemo(t)
		all := map[string]int{}
		remember := func() {
			for arguments, pid := range s.children() {
				all[arguments+" "+strconv.Itoa(pid)] = pid
			}
		}
		remember()
		victims := []string{"--rank 0", "--rank 1", "router", "launcher"}
		victim := victims[random.IntN(len(victims))]
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
		if victim == "launcher" {
			s.command.Process.Kill()
			s.exit()
			assertGone(t, all)
			continue
		}
		for arguments, pid := range s.children() {
			if strings.HasSuffix(arguments, victim) {
				syscall.Kill(pid, syscall.SIGKILL)
			}
		}
		eventually(t, fmt.Sprintf("round %d: it answers after the death of %s", round, victim), func() bool {
			_, err := s.generate("Once upon a time", 2)
			return err == nil
		})
		remember()
		s.command.Process.Signal(syscall.SIGTERM)
		if code := s.exit(); code != 0 {
			t.Fatalf("round %d, victim %s: exit code %d", round, victim, code)
		}
		assertGone(t, all)
	}
}

// A service manager signals all processes of a server at once, and some programs signal twice: it drains all the same.
func TestSignalsToAllProcesses(t *testing.T) {
	s := serveDemo(t)
	want := s.mustGenerate("Once upon a time", 150)
	next := s.stream("Once upon a time", 150)
	got := next()
	for _, pid := range s.children() {
		syscall.Kill(pid, syscall.SIGTERM)
	}
	for range 2 {
		s.command.Process.Signal(syscall.SIGTERM)
	}
	for token := next(); token != ""; token = next() {
		got += token
	}
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if code := s.exit(); code != 0 || strings.Contains(s.logged(), " ERR ") {
		t.Errorf("exit code %d, want 0 and no error", code)
	}
}
