package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// info asks a server about itself.
func (s *server) info() (all map[string]any) {
	s.t.Helper()
	response, err := http.Get(s.url + "/info")
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err == nil {
		err = json.Unmarshal(data, &all)
	}
	if err != nil {
		s.t.Fatalf("%v: %s", err, data)
	}
	return all
}

// status runs the command of this name on a server and returns what it prints.
func (s *server) status(arguments ...string) string {
	s.t.Helper()
	output, err := exec.Command(s.command.Path, append([]string{"status", "--url", s.url}, arguments...)...).CombinedOutput()
	if err != nil {
		s.t.Errorf("status: %v: %s", err, output)
	}
	return string(output)
}

// A server tells the limits and defaults that it has, and what computes; it does not start with limits that model or cache cannot
// keep.
func TestLimitsAreTold(t *testing.T) {
	t.Parallel()
	s := serveDemo(t)
	info := s.info()
	defaults, _ := json.Marshal(info["default_sampling_params"])
	if string(defaults) != `{"max_tokens":512,"temperature":0.8,"top_p":0.95}` || info["max_total_tokens"] != 2048.0 ||
		info["max_input_length"] != 2047.0 || info["max_batch_total_tokens"] != 8192.0 || info["sliding_window"] != nil ||
		info["max_batch_total_tokens_reason"] != "as configured" {
		t.Errorf("got %v", info)
	}
	got := s.status("--json")
	for _, want := range []string{`"numerics": "bf16.1",`, `"shards": 2,`, ` kernels",`, `"free_bytes": `, `"capacity_tokens": 8192,`} {
		if !strings.Contains(got, want) || !json.Valid([]byte(got)) {
			t.Errorf("got %s, want %s in it", got, want)
		}
	}
	response, err := http.Get(s.url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if models, err := io.ReadAll(response.Body); err != nil || !strings.Contains(string(models), `"numerics":"bf16.1"`) {
		t.Errorf("models: got %s, %v", models, err)
	}
	if got := s.status(); strings.Count(got, " 0 / 8192 ") != 1 || !strings.HasSuffix(got, "  ready\n") ||
		!strings.HasPrefix(got, "model   lockstep/demo\nrouter  "+s.url+", version dev\n") {
		t.Errorf("got %s", got)
	}
	if !strings.Contains(s.logged(), `recommended={"max_tokens":512,"temperature":0.8,`) {
		t.Errorf("the log does not tell the model's defaults:\n%s", s.logged())
	}
	s = serveDemo(t, "--generation-config", "none", "--max-total-tokens", "100", "--max-input-length", "50")
	info = s.info()
	if _, there := info["default_sampling_params"]; there || info["max_total_tokens"] != 100.0 || info["max_input_length"] != 50.0 {
		t.Errorf("got %v", info)
	}
	fails(t, 1, "--max-total-tokens 4096: the model has 2048 positions: give 2048 or less", "--max-total-tokens", "4096")
	fails(t, 1, "--max-input-length 100: the KV cache has room for 96 tokens (as configured)", "--max-input-length", "100",
		"--max-batch-total-tokens", "90")
}

// The positions that a rotation's scaling adds are served and told, as is a window, and the cache that nobody has sized is.
func TestLimitsOfScaledPositions(t *testing.T) {
	t.Parallel()
	dir := demoDirectory(t, map[string]func([]byte) []byte{
		"config.json":            with(t, `"max_position_embeddings"`, `"rope_scaling":{"rope_type":"dynamic","factor":2.0},"max_position_embeddings"`),
		"generation_config.json": with(t, `"temperature": 0.8`, `"temperature": -0.8`)})
	s := serve(t, "serve", "--hostname", "127.0.0.1", "--port", strconv.Itoa(freePort(t)), "--model-id", dir, "--num-shard", "1",
		"--max-batch-size", "3")
	info := s.info()
	if info["max_total_tokens"] != 4096.0 || info["max_input_length"] != 4095.0 || info["max_batch_total_tokens"] != 2*4096.0 ||
		info["max_batch_total_tokens_reason"] != "2 of the longest sequences" {
		t.Errorf("got %v", info)
	}
	if defaults, _ := json.Marshal(info["default_sampling_params"]); string(defaults) != `{"max_tokens":512,"top_p":0.95}` ||
		!strings.Contains(s.logged(), "generation_config.json: temperature is -0.8, and a number that is not negative is wanted") {
		t.Errorf("got the defaults %s and the log\n%s", defaults, s.logged())
	}
	if text := s.mustGenerate("Once upon a time", 2100); text == "" {
		t.Error("nothing was generated")
	}
	response, err := http.Get(s.url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if models, _ := io.ReadAll(response.Body); !strings.Contains(string(models), `"max_model_len":4096,`) {
		t.Errorf("got %s", models)
	}
	fails(t, 1, "--max-total-tokens 5000: the model has 4096 positions, those that its rope scaling (dynamic, factor 2) adds among them",
		"serve", "--hostname", "127.0.0.1", "--port", "0", "--model-id", dir, "--num-shard", "1", "--max-total-tokens", "5000")
}
