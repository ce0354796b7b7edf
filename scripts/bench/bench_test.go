package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/scripts/serving"
)

// stub answers as the servers do: an event for each token, then the usage, then the end. It remembers what it was asked.
type stub struct {
	mu      sync.Mutex
	prompts map[string]int
	lost    int // tokens that it does not generate
}

func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Prompt    []int32 `json:"prompt"`
		MaxTokens int     `json:"max_tokens"`
		Stream    bool    `json:"stream"`
		IgnoreEOS bool    `json:"ignore_eos"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || !body.Stream || !body.IgnoreEOS || r.URL.Path != "/v1/completions" {
		http.Error(w, "not what was expected", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.prompts[fmt.Sprint(body.Prompt)]++
	s.mu.Unlock()
	for range body.MaxTokens {
		fmt.Fprint(w, "data: {\"choices\":[{\"text\":\"\"}],\"usage\":null}\n\n: a comment\n\n")
	}
	fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"completion_tokens\":%d}}\n\ndata: [DONE]\n\n", body.MaxTokens-s.lost)
}

// contestantOf is a server that is answered by a handler of this process.
func contestantOf(t *testing.T, name string, handler http.Handler) *contestant {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return &contestant{name: name, program: strings.Fields(name)[0], server: &serving.Server{URL: server.URL, Client: server.Client(),
		Command: &exec.Cmd{Process: &os.Process{Pid: os.Getpid()}}}}
}

func TestMeasured(t *testing.T) {
	loads, err := parseWorkloads("4,prefix,prefill")
	if err != nil {
		t.Fatal(err)
	}
	one, two := &stub{prompts: map[string]int{}}, &stub{prompts: map[string]int{}}
	b := &bench{rounds: 2, loads: loads, prompts: prompts{text: make([]int32, 1000)},
		contestants: []*contestant{contestantOf(t, "lockstep bf16", one), contestantOf(t, "vllm bf16", two)}}
	for i := range b.prompts.text {
		b.prompts.text[i] = int32(i)
	}
	if err := b.measure(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(one.prompts) != 2*(4+16+1+3) { // each round has its own, and no client that of another
		t.Errorf("%d prompts", len(one.prompts))
	}
	for prompt, times := range one.prompts {
		if times != 1 || two.prompts[prompt] != 1 {
			t.Errorf("a prompt came %d and %d times", times, two.prompts[prompt])
		}
	}
	var out strings.Builder
	b.report(&out)
	for _, part := range []string{"| 4 clients | tokens/s | lockstep bf16 | ",
		"| workload | figure | lockstep bf16 | vllm bf16 |\n|---|---|---:|---:|\n",
		"| prefix of 400, 16 clients | ms a token | ", "| prefill of 512 | TTFT p50, ms | "} {
		if !strings.Contains(out.String(), part) {
			t.Errorf("%q is missing in\n%s", part, out.String())
		}
	}
}

func TestFailures(t *testing.T) {
	b := &bench{rounds: 1, loads: []workload{{name: "one", clients: 1, requests: 1, prompt: 20, tokens: 5}},
		prompts: prompts{text: make([]int32, 100)}, contestants: []*contestant{
			contestantOf(t, "lockstep bf16", &stub{prompts: map[string]int{}, lost: 1}),
			contestantOf(t, "vllm bf16", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				fmt.Fprint(w, "data: {\"error\":{\"message\":\"out of memory\"}}\n\n")
			})),
			contestantOf(t, "llama.cpp bf16", http.NotFoundHandler()),
		}}
	for i, want := range []string{"4 tokens were generated, and 5 asked for", "out of memory", "status 404"} {
		if _, err := b.load(context.Background(), b.contestants[i], b.loads[0], 0); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestSummarised(t *testing.T) {
	var s sample
	s.summarise([]answer{{first: 10 * time.Millisecond, whole: 30 * time.Millisecond, tokens: 5},
		{first: 20 * time.Millisecond, whole: 100 * time.Millisecond, tokens: 5}}, 2, 1)
	if s.tokensPerSecond != 5 || s.first != 20*time.Millisecond || s.perToken != 20*time.Millisecond ||
		s.cpuPerToken != 100*time.Millisecond {
		t.Errorf("%+v", s)
	}
}

// The least time is that of the products of prompts, and of steps that of products or of memory; what a server takes is compared with it.
func TestLimits(t *testing.T) {
	n := work{body: 100, head: 50, attention: 8.7, cached: 2}
	for _, c := range []struct {
		w        workload
		encoding string
		want     float64
	}{
		{workload{clients: 1, prompt: 10, tokens: 1}, "bf16", 1},               // 2000 operations
		{workload{clients: 1, prompt: 10, shared: 5, tokens: 1}, "q8_0", 0.25}, // half of them, and twice as fast
		{workload{clients: 1, prompt: 10, tokens: 3}, "bf16", 1 + 2*3},         // 300 bytes
		{workload{clients: 100, prompt: 10, tokens: 3}, "bf16", 100 + 2*15},    // 30,000 operations
	} {
		if got := n.seconds(c.w, c.encoding, 100, 1000); got != c.want {
			t.Errorf("%+v, %s: got %v s, want %v", c.w, c.encoding, got, c.want)
		}
	}
	for _, c := range []struct {
		w    workload
		want float64
	}{
		{workload{clients: 1, prompt: 10, tokens: 1}, 1/0.9 + 0.5},                            // 50 pairs of 8.7 operations
		{workload{clients: 1, prompt: 10, shared: 5, tokens: 1}, 0.5/0.9 + 0.375},             // half the rows, 37.5 pairs
		{workload{clients: 1, prompt: 10, tokens: 3}, 1/0.9 + 0.5 + 2*3 + 2*11.5*0.02},        // 2 bytes take longer than 8.7 operations
		{workload{clients: 2, prompt: 10, tokens: 3}, 2/0.9 + 2*0.5 + 2*3 + 2*2*11.5*2.0/100}, // of each client
	} {
		if got := n.secondsByKernels(c.w, "bf16", 100, 1000); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%+v by kernels: got %v s, want %v", c.w, got, c.want)
		}
	}
	w := workload{name: "w", clients: 4, prompt: 10, tokens: 2}
	server := &contestant{name: "server", weights: "bf16"}
	server.add("w", 0, &sample{tokensPerSecond: 0.8, bandwidth: 100, peak: 1000}) // 10 s; the least are 4 + 3
	var out strings.Builder
	(&bench{rounds: 1, loads: []workload{w}, contestants: []*contestant{server}, counts: n}).reportLimits(&out)
	if !strings.Contains(out.String(), "| w | 70 %, 103 % |") {
		t.Error(out.String())
	}
}

// Ratios are those of samples of the same round, and of times the inverse.
func TestRatios(t *testing.T) {
	w := workload{name: "w", tokens: 2}
	own, peer := &contestant{name: "own"}, &contestant{name: "peer"}
	for round, rates := range [][2]float64{{10, 5}, {30, 10}, {8, 8}} {
		for i, c := range []*contestant{own, peer} {
			c.add("w", round, &sample{tokensPerSecond: rates[i], first: time.Duration(float64(time.Second) / rates[i]),
				foreign: float64(round) / 10})
		}
	}
	b := &bench{rounds: 4} // of which the last has no samples
	for _, f := range figures[:2] {
		if got := b.ratio(w, f, own, peer); got != "2.00 (1.00..3.00)" {
			t.Errorf("%s: %s", f.name, got)
		}
	}
	if got := b.median(w, figures[0], own); got != "10" {
		t.Errorf("the median is %s", got)
	}
	own.samples[key{"w", 1}].foreign = 0.5
	if got := b.median(w, figures[0], own); got != "10*" {
		t.Errorf("the median of disturbed samples is %s", got)
	}
}

func TestParsed(t *testing.T) {
	all, err := parseServers(" lockstep bf16; /old/lockstep q8_0 --threads 1 ;vllm bf16;")
	if err != nil || len(all) != 3 || all[1].name != "/old/lockstep q8_0 --threads 1" || len(all[1].flags) != 2 || all[1].isPeer() ||
		!all[2].isPeer() {
		t.Errorf("%v, %v", all, err)
	}
	for _, text := range []string{"lockstep", "lockstep f16", "vllm q8_0", "llama bf16"} {
		if _, err := parseServers(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
	for _, text := range []string{"", "0", "65", "one"} {
		if _, err := parseWorkloads(text); err == nil {
			t.Errorf("workload %q was taken", text)
		}
	}
}

// Nobody waits for the answers to other requests than the first that fails.
func TestCrowd(t *testing.T) {
	failure := errors.New("it failed")
	_, err := crowd(context.Background(), workload{clients: 3, requests: 2}, func(ctx context.Context, number int) (answer, error) {
		if number == 2 {
			return answer{}, failure
		}
		<-ctx.Done()
		return answer{}, ctx.Err()
	})
	if !errors.Is(err, failure) {
		t.Errorf("%v", err)
	}
}
