package main_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/router/secure"
)

// required skips, or fails where the environment variable says that what is missing must be there.
func required(t *testing.T, variable, what string, err error) {
	t.Helper()
	if os.Getenv(variable) == "1" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s is not here: %v", what, err)
}

// client runs scripts/clients/clients.py with the clients that scripts/get-clients brings.
func client(t *testing.T, arguments ...string) {
	t.Helper()
	cache := os.Getenv("LOCKSTEP_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(home, ".cache/lockstep")
	}
	python := filepath.Join(cache, "clients/bin/python")
	if _, err := os.Stat(python); err != nil {
		required(t, "LOCKSTEP_REQUIRE_CLIENTS", "the Python clients (scripts/get-clients)", err)
	}
	output, err := exec.Command(python, append([]string{"../scripts/clients/clients.py"}, arguments...)...).CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, output)
	}
}

// The replaced servers' own clients, unchanged: they stream, read details, hit errors and leave.
func TestRealClients(t *testing.T) {
	requireAll(t)
	s := serve(t, "--num-shard", "2")
	client(t, "tgi", s.url)
}

// The script of LightLLM's manual asks reward models for scores.
func TestRealClientOfScores(t *testing.T) {
	requireAll(t)
	shared := os.Getenv("LOCKSTEP_SHARED")
	if shared == "" {
		shared = "../../shared"
	}
	for _, name := range []string{"qwen2_reward", "internlm2_reward"} {
		t.Run(name, func(t *testing.T) { askForScores(t, filepath.Join(shared, "golden/models", name)) })
	}
}

func askForScores(t *testing.T, model string) {
	file, err := os.Open(filepath.Join(model, "golden_reward.jsonl"))
	if err != nil {
		required(t, "LOCKSTEP_REQUIRE_SHARED", "the reference data", err)
	}
	defer file.Close()
	s := serve(t, "--num-shard", "2", "--model-id", model)
	asked := 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		var c struct {
			Chat  string
			Score float64
		}
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if c.Chat != "" {
			client(t, "score", s.url, c.Chat, fmt.Sprint(c.Score))
			asked++
		}
	}
	if asked == 0 {
		t.Error("the reference data has no chats")
	}
}

// The lines of MindIE's manual, over mutual TLS, with certificates of lockstep certs.
func TestCurlOverMutualTLS(t *testing.T) {
	requireAll(t)
	curl, err := exec.LookPath("curl")
	if err != nil {
		required(t, "LOCKSTEP_REQUIRE_CLIENTS", "curl", err)
	}
	folder := filepath.Join(t.TempDir(), "certs")
	if err := secure.Make(folder, []string{"127.0.0.1"}, time.Hour, "a password"); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	serve(t, "--listen", fmt.Sprintf("mindie=127.0.0.1:%d,tls=%s", port, folder))
	body := `{"inputs": "My name is Olivier and I", "parameters": {"decoder_input_details": %t, "details": true, "do_sample": true,
"max_new_tokens": 20, "repetition_penalty": 1.03, "return_full_text": false, "seed": null, "temperature": 0.5, "top_k": 10,
"top_p": 0.95, "truncate": null, "typical_p": 0.5, "watermark": false, "stop": null, "adapter_id": "None"}}`
	ask := func(route string, details bool, certificate ...string) (string, error) {
		arguments := append([]string{"--silent", "--show-error", "--fail-with-body", "-H", "Accept: application/json", "-H", "Content-type: application/json",
			"--cacert", filepath.Join(folder, "ca.pem")}, certificate...)
		arguments = append(arguments, "-X", "POST", "-d", fmt.Sprintf(body, details), fmt.Sprintf("https://127.0.0.1:%d%s", port, route))
		var out bytes.Buffer
		command := exec.Command(curl, arguments...)
		command.Stdout, command.Stderr = &out, &out
		err := command.Run()
		return out.String(), err
	}
	mine := []string{"--cert", filepath.Join(folder, "client.pem"), "--key", filepath.Join(folder, "client.key.pem")}
	whole, err := ask("/generate", true, mine...)
	var answer struct {
		Details struct {
			GeneratedTokens int `json:"generated_tokens"`
			PromptTokens    int `json:"prompt_tokens"`
			Prefill         []struct{ ID int }
		}
		Text *string `json:"generated_text"`
	}
	if err != nil || json.Unmarshal([]byte(whole), &answer) != nil || answer.Text == nil || answer.Details.PromptTokens != 6 || len(answer.Details.Prefill) != 6 {
		t.Errorf("got %s, %v", whole, err)
	}
	stream, err := ask("/generate_stream", false, mine...)
	if events := strings.Split(strings.TrimSpace(stream), "\n\n"); err != nil || len(events) < 2 || !strings.HasPrefix(events[0], `data: {"token":{"id":`) {
		t.Errorf("got %s, %v", stream, err)
	}
	if out, err := ask("/generate_stream", true, mine...); err == nil || !strings.Contains(out, "Input Validation Error") {
		t.Errorf("prefill on a stream: got %s, %v", out, err)
	}
	if out, err := ask("/generate", true); err == nil {
		t.Errorf("without a certificate: got %s", out)
	}
}
