// Package serving runs servers as children and asks them what their clients and operators ask. It is for programs that measure.
package serving

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	// killDelay is how long a server may take to end when it is asked to.
	killDelay = 15 * time.Second
	// pollInterval is that of asking a server whether it is ready.
	pollInterval = 100 * time.Millisecond
	// logBytes are kept of the end of what a server writes.
	logBytes = 1 << 16
)

// Server is a running server. Stop ends it.
type Server struct {
	Command *exec.Cmd
	URL     string
	Log     *Log
	Client  *http.Client
	ended   chan struct{} // closed when the process has been waited for
	failure error         // how it ended, once ended is closed
}

// Log is the end of what a server has written.
type Log struct {
	mu   sync.Mutex
	text []byte
}

func (l *Log) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, text...)
	if over := len(l.text) - logBytes; over > logBytes {
		l.text = bytes.Clone(l.text[over:])
	}
	return len(text), nil
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

func newServer(command *exec.Cmd) *Server {
	s := &Server{Command: command, Log: &Log{}, ended: make(chan struct{}),
		Client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4096}}}
	command.Stderr, command.WaitDelay = s.Log, killDelay
	return s
}

func (s *Server) wait() {
	s.failure = s.Command.Wait()
	close(s.ended)
}

// Launch runs a command of lockstep and waits until it says where it serves, or that it is ready.
func Launch(binary string, arguments ...string) (*Server, error) {
	s := newServer(exec.Command(binary, arguments...))
	read, write := io.Pipe()
	s.Command.Stdout = write
	if err := s.Command.Start(); err != nil {
		return nil, fmt.Errorf("%w (make build makes bin/lockstep)", err)
	}
	go func() {
		s.wait()
		write.Close()
	}()
	lines := bufio.NewScanner(read)
	for lines.Scan() {
		at := strings.Index(lines.Text(), "http://")
		if at >= 0 {
			s.URL = strings.TrimRight(strings.Fields(lines.Text()[at:])[0], "/")
		}
		if at >= 0 || strings.HasSuffix(lines.Text(), "is ready") {
			go io.Copy(io.Discard, read)
			return s, nil
		}
	}
	return nil, fmt.Errorf("the server ended before it was ready:\n%s", s.Log)
}

// Start runs any server, in a process group of its own that Stop kills whole, and waits until it answers GET /health at its address
// with 200.
func Start(ctx context.Context, command *exec.Cmd, address string) (*Server, error) {
	s := newServer(command)
	s.URL = "http://" + address
	command.Stdout = s.Log
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := command.Start(); err != nil {
		return nil, err
	}
	go s.wait()
	for {
		if s.healthy(ctx) {
			return s, nil
		}
		select {
		case <-time.After(pollInterval):
		case <-s.ended:
			s.Stop() // what it may have left
			return nil, fmt.Errorf("the server ended before it was ready: %w\n%s", s.failure, s.Log)
		case <-ctx.Done():
			s.Stop()
			return nil, fmt.Errorf("the server was not ready: %w\n%s", context.Cause(ctx), s.Log)
		}
	}
}

func (s *Server) healthy(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, s.URL+"/health", nil)
	if err != nil {
		return false
	}
	response, err := s.Client.Do(request)
	if err != nil {
		return false
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

// Ended is closed when the server's process has ended.
func (s *Server) Ended() <-chan struct{} { return s.ended }

// Stop asks the server to end, and kills it, if it has a process group of its own with all that it has started, when it takes too
// long.
func (s *Server) Stop() error {
	s.Command.Process.Signal(syscall.SIGTERM)
	killed := false
	select {
	case <-s.ended:
	case <-time.After(killDelay):
		killed = true
		s.Command.Process.Kill()
	}
	if s.Command.SysProcAttr != nil && s.Command.SysProcAttr.Setpgid {
		syscall.Kill(-s.Command.Process.Pid, syscall.SIGKILL)
	}
	<-s.ended
	if killed {
		return errors.Join(fmt.Errorf("it did not end within %v", killDelay), s.failure)
	}
	return s.failure
}

// FreeAddress is an address of this machine that nobody listens at.
func FreeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer listener.Close()
	return listener.Addr().String(), nil
}

// Metric sums the samples of a metric.
func (s *Server) Metric(name string) (float64, error) {
	sums, err := s.Metrics()
	if err != nil {
		return 0, err
	}
	sum, found := sums[name]
	if !found {
		return 0, fmt.Errorf("no metric %s", name)
	}
	return sum, nil
}

// Metrics sums the samples of each metric.
func (s *Server) Metrics() (map[string]float64, error) {
	response, err := s.Client.Get(s.URL + "/metrics")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	sums := map[string]float64{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		line := lines.Text()
		end := strings.IndexAny(line, " {")
		if end < 1 || line[0] == '#' {
			continue
		}
		value, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metric %q: %w", line, err)
		}
		sums[line[:end]] += value
	}
	return sums, lines.Err()
}

// Get reads a JSON answer into value.
func (s *Server) Get(path string, value any) error {
	response, err := s.Client.Get(s.URL + path)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	return json.NewDecoder(response.Body).Decode(value)
}

// Percentile sorts the values and returns one of them; 0 of none.
func Percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(p/100*float64(len(values))), len(values)-1)]
}
