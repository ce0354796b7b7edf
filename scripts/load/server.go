package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lockstep/scripts/serving"
)

// server is a running bin/lockstep.
type server struct{ *serving.Server }

// binary is the build that is measured.
var binary = "bin/lockstep"

// start runs `lockstep serve` and waits until it says where it serves.
func start(arguments ...string) (*server, error) {
	return launch(append([]string{"serve", "--hostname", "127.0.0.1", "--port", "0"}, arguments...)...)
}

// launch runs a command of lockstep and waits until it is ready.
func launch(arguments ...string) (*server, error) {
	s, err := serving.Launch(binary, arguments...)
	if err != nil {
		return nil, err
	}
	return &server{s}, nil
}

// parameters of a generation, in TGI's words and ours.
type parameters struct {
	MaxNewTokens int      `json:"max_new_tokens"`
	MinNewTokens int      `json:"min_new_tokens,omitempty"`
	DoSample     bool     `json:"do_sample,omitempty"`
	Temperature  float64  `json:"temperature,omitempty"`
	TopP         float64  `json:"top_p,omitempty"`
	Seed         *uint64  `json:"seed,omitempty"`
	IgnoreEOS    bool     `json:"ignore_eos,omitempty"`
	Grammar      *grammar `json:"grammar,omitempty"`
}

// grammar is a guide in TGI's words.
type grammar struct {
	Type  string `json:"type"`
	Value string `json:"value"`
}

// answer is what a client of /generate_stream saw.
type answer struct {
	status  int
	body    string        // of a refusal
	refusal time.Duration // until it was there
	first   time.Duration // until the first token
	gaps    []time.Duration
	ids     []int
	text    string
}

var errLeft = errors.New("the client left")

// generate streams one generation. leaveAfter, when not 0, is when the client goes away.
func (s *server) generate(prompt string, p parameters, leaveAfter time.Duration) (*answer, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if leaveAfter > 0 {
		timer := time.AfterFunc(leaveAfter, cancel)
		defer timer.Stop()
	}
	body, err := json.Marshal(map[string]any{"inputs": prompt, "parameters": p})
	if err != nil {
		return nil, err
	}
	begin := time.Now()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/tgi/generate_stream", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := s.Client.Do(request)
	if err != nil {
		if ctx.Err() != nil {
			return nil, errLeft
		}
		return nil, err
	}
	defer response.Body.Close()
	a := &answer{status: response.StatusCode}
	last := begin
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data:")
		if !ok {
			continue
		}
		var event struct {
			Token *struct {
				ID int `json:"id"`
			} `json:"token"`
			Text  *string `json:"generated_text"`
			Error string  `json:"error"`
		}
		if err := json.Unmarshal([]byte(data), &event); err != nil {
			return nil, fmt.Errorf("event %q: %w", data, err)
		}
		now := time.Now()
		switch {
		case event.Token == nil:
			a.body, a.refusal = data, now.Sub(begin)
			continue
		case len(a.ids) == 0:
			a.first = now.Sub(begin)
		default:
			a.gaps = append(a.gaps, now.Sub(last))
		}
		last = now
		a.ids = append(a.ids, event.Token.ID)
		if event.Text != nil {
			a.text = *event.Text
		}
	}
	if ctx.Err() != nil {
		return nil, errLeft
	}
	return a, lines.Err()
}

// drainTimeout bounds the wait until no group holds anything.
const drainTimeout = 10 * time.Second

// drained waits until requests hold nothing, and says how long that took.
func (s *server) drained() (time.Duration, error) {
	begin := time.Now()
	for {
		load, err := s.currentLoad()
		if err != nil || load == 0 {
			return time.Since(begin), err
		}
		if time.Since(begin) > drainTimeout {
			return 0, fmt.Errorf("%v after the last request the load is %v", drainTimeout, load)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// currentLoad is LightLLM's current_load: the share of the KV caches that requests hold.
func (s *server) currentLoad() (float64, error) {
	var load struct {
		Current float64 `json:"current_load"`
	}
	err := s.Get("/token_load", &load)
	return load.Current, err
}

// residentBytes is the memory of the server's processes, by their role.
func (s *server) residentBytes() map[string]int64 {
	sizes := map[string]int64{}
	paths, _ := filepath.Glob("/proc/[0-9]*/status")
	for _, path := range paths {
		status, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		field := func(name string) string {
			for _, line := range strings.Split(string(status), "\n") {
				if rest, ok := strings.CutPrefix(line, name+":"); ok {
					return strings.TrimSuffix(strings.TrimSpace(rest), " kB")
				}
			}
			return ""
		}
		if field("PPid") != strconv.Itoa(s.Command.Process.Pid) && field("Pid") != strconv.Itoa(s.Command.Process.Pid) {
			continue
		}
		command, _ := os.ReadFile(filepath.Join(filepath.Dir(path), "cmdline"))
		role := "launcher"
		if words := strings.Split(string(command), "\x00"); len(words) > 1 && field("PPid") == strconv.Itoa(s.Command.Process.Pid) {
			role = words[1]
		}
		kilobytes, _ := strconv.ParseInt(field("VmRSS"), 10, 64)
		sizes[role] += kilobytes << 10
	}
	return sizes
}
