package main_test

import (
	"encoding/json"
	"io"
	"net/http"
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

// A server tells the limits and defaults that it has, and does not start with those that model or cache cannot keep.
func TestLimitsAreTold(t *testing.T) {
	t.Parallel()
	s := serveDemo(t)
	info := s.info()
	defaults, _ := json.Marshal(info["default_sampling_params"])
	if string(defaults) != `{"max_tokens":512,"temperature":0.8,"top_p":0.95}` || info["max_total_tokens"] != 2048.0 ||
		info["max_input_length"] != 2047.0 || info["max_batch_total_tokens_reason"] != "as configured" {
		t.Errorf("got %v", info)
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
