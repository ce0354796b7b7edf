package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// aiperfTest has AIPerf drive a server over OpenAI's chats, and then sends the very same bodies itself.
type aiperfTest struct {
	model, tokenizer                          string
	clients, requests, prompt, tokens, rounds int
}

// measured is what one of the two saw; times in milliseconds.
type measured struct {
	firstMean, firstP50, betweenMean, betweenP50, latencyMean, latencyP50 float64
	requestsPerSecond                                                     float64
}

func (p *aiperfTest) run() error {
	// AIPerf keeps a core busy for its timing. Threads that meet many times in a step must not share it, or what is measured is
	// how long the kernel lets it run: the server gets as many threads as there are other cores.
	arguments := []string{"--log-level", "warn", "--disable-prefix-cache", "--max-concurrent-requests", strconv.Itoa(2 * p.clients),
		"--num-shard", "1", "--threads", strconv.Itoa(max(1, runtime.NumCPU()-1))}
	if p.model != "" {
		arguments = append(arguments, "--model-id", p.model)
	}
	s, err := start(arguments...)
	if err != nil {
		return err
	}
	defer s.Stop()
	folder, err := os.MkdirTemp("", "lockstep-aiperf-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	var theirs, ours []measured
	for round := range p.rounds {
		at := filepath.Join(folder, strconv.Itoa(round))
		peer, bodies, err := p.aiperf(s, at, round == 0)
		if err != nil {
			return err
		}
		own, err := p.replay(s, bodies)
		if err != nil {
			return err
		}
		theirs, ours = append(theirs, peer), append(ours, own)
	}
	fmt.Printf("%d requests, %d at once, prompts of %d tokens, %d tokens each; medians of %d rounds\n", p.requests, p.clients, p.prompt,
		p.tokens, p.rounds)
	fmt.Println("| | AIPerf | own client | ratio |\n|---|---:|---:|---:|")
	for _, row := range []struct {
		name  string
		value func(measured) float64
	}{
		{"time to first token, mean, ms", func(m measured) float64 { return m.firstMean }},
		{"time to first token, p50, ms", func(m measured) float64 { return m.firstP50 }},
		{"time between tokens, mean, ms", func(m measured) float64 { return m.betweenMean }},
		{"time between tokens, p50, ms", func(m measured) float64 { return m.betweenP50 }},
		{"request latency, mean, ms", func(m measured) float64 { return m.latencyMean }},
		{"request latency, p50, ms", func(m measured) float64 { return m.latencyP50 }},
		{"requests/s", func(m measured) float64 { return m.requestsPerSecond }},
	} {
		a, b := medianOf(theirs, row.value), medianOf(ours, row.value)
		fmt.Printf("| %s | %.2f | %.2f | %.2f |\n", row.name, a, b, b/a)
	}
	return nil
}

func medianOf(list []measured, value func(measured) float64) float64 {
	var values []float64
	for _, m := range list {
		values = append(values, value(m))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// aiperf runs AIPerf, which scripts/get-clients brings, and returns what it measured and the bodies that it sent.
func (p *aiperfTest) aiperf(s *server, folder string, show bool) (m measured, bodies []json.RawMessage, err error) {
	cache := os.Getenv("LOCKSTEP_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return m, nil, err
		}
		cache = filepath.Join(home, ".cache/lockstep")
	}
	command := exec.Command(filepath.Join(cache, "clients/aiperf/bin/aiperf"), "profile", "--model", "any", "--url", s.URL,
		"--endpoint-type", "chat", "--streaming",
		"--concurrency", strconv.Itoa(p.clients), "--request-count", strconv.Itoa(p.requests), "--tokenizer", p.tokenizer,
		"--synthetic-input-tokens-mean", strconv.Itoa(p.prompt), "--synthetic-input-tokens-stddev", "0", "--output-tokens-mean",
		strconv.Itoa(p.tokens),
		"--extra-inputs", "ignore_eos:true", "--use-server-token-count", "--random-seed", "1", "--ui", "none", "--artifact-dir", folder)
	if output, err := command.CombinedOutput(); err != nil {
		return m, nil, fmt.Errorf("aiperf: %w\n%s", err, output)
	}
	if show {
		table, err := os.ReadFile(filepath.Join(folder, "profile_export_console.txt"))
		if err != nil {
			return m, nil, err
		}
		os.Stdout.Write(table)
	}
	type statistic struct{ Avg, P50 float64 }
	var exported struct {
		First    statistic `json:"time_to_first_token"`
		Between  statistic `json:"inter_token_latency"`
		Latency  statistic `json:"request_latency"`
		Requests statistic `json:"request_throughput"`
	}
	var inputs struct {
		Data []struct{ Payloads []json.RawMessage }
	}
	for name, into := range map[string]any{"profile_export_aiperf.json": &exported, "inputs.json": &inputs} {
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err == nil {
			err = json.Unmarshal(data, into)
		}
		if err != nil {
			return m, nil, err
		}
	}
	for _, session := range inputs.Data {
		bodies = append(bodies, session.Payloads...)
	}
	if len(bodies) == 0 {
		return m, nil, errors.New("aiperf tells of no bodies")
	}
	return measured{exported.First.Avg, exported.First.P50, exported.Between.Avg, exported.Between.P50, exported.Latency.Avg,
		exported.Latency.P50,
		exported.Requests.Avg}, bodies, nil
}

// replay sends bodies, as many at once as there are clients.
func (p *aiperfTest) replay(s *server, bodies []json.RawMessage) (measured, error) {
	var mu sync.Mutex
	var group sync.WaitGroup
	var first, between, latency []float64
	var failure error
	var next atomic.Int64
	begin := time.Now()
	for range p.clients {
		group.Go(func() {
			for {
				number := int(next.Add(1)) - 1
				if number >= p.requests {
					return
				}
				toFirst, whole, err := s.chat(bodies[number%len(bodies)])
				mu.Lock()
				if err != nil {
					failure = err
				}
				first, latency = append(first, toFirst), append(latency, whole)
				between = append(between, (whole-toFirst)/float64(p.tokens-1))
				mu.Unlock()
			}
		})
	}
	group.Wait()
	seconds := time.Since(begin).Seconds()
	mean := func(values []float64) (sum float64) {
		for _, v := range values {
			sum += v
		}
		return sum / float64(len(values))
	}
	p50 := func(values []float64) float64 {
		slices.Sort(values)
		return values[len(values)/2]
	}
	return measured{mean(first), p50(first), mean(between), p50(between), mean(latency), p50(latency), float64(p.requests) / seconds},
		failure
}

// chat streams one chat and returns how long its first text and its end took, in milliseconds.
func (s *server) chat(body json.RawMessage) (first, whole float64, err error) {
	begin := time.Now()
	since := func() float64 { return float64(time.Since(begin)) / float64(time.Millisecond) }
	response, err := s.Client.Post(s.URL+"/v1/chat/completions", "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, 0, fmt.Errorf("status %s", response.Status)
	}
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			return first, whole, nil
		}
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			return 0, 0, fmt.Errorf("chunk %q: %w", data, err)
		}
		if first == 0 && len(chunk.Choices) > 0 && chunk.Choices[0].Delta.Content != "" {
			first = since()
		}
		whole = since()
	}
	return 0, 0, errors.New("the stream has no end")
}
