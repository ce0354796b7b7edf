package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// complete asks OpenAI's way for a model's greedy answer, and returns its text and the model's name in it.
func (s *server) complete(model, prompt string, tokens int) (text, name string, err error) {
	body := fmt.Sprintf(`{"model":%q,"prompt":%q,"max_tokens":%d,"temperature":0}`, model, prompt, tokens)
	client := http.Client{Timeout: 60 * time.Second}
	response, err := client.Post(s.url+"/v1/completions", "application/json", strings.NewReader(body))
	if err != nil {
		return "", "", err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return "", "", fmt.Errorf("%s: %s %w", response.Status, data, err)
	}
	var answer struct {
		Model   string
		Choices []struct{ Text string }
	}
	if err = json.Unmarshal(data, &answer); err == nil && len(answer.Choices) != 1 {
		err = fmt.Errorf("%d choices", len(answer.Choices))
	}
	if err != nil {
		return "", "", err
	}
	return answer.Choices[0].Text, answer.Model, nil
}

// A server with adapters, from its flags to its answers: each model of the list has answers of its own, always the same, in one
// prefix cache with the others and through the death of a rank.
func TestServeAdapters(t *testing.T) {
	s := serveDemo(t, "--backend", "sim", "--step-model", "4ms", "--lora-adapters", "one=/x,org/two")
	response, err := http.Get(s.url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var list struct {
		Data []struct{ ID, Parent string }
	}
	if err := json.NewDecoder(response.Body).Decode(&list); err != nil || len(list.Data) != 3 || list.Data[1].ID != "one" ||
		list.Data[2].ID != "org/two" || list.Data[2].Parent != list.Data[0].ID {
		t.Fatalf("got models %+v, %v", list, err)
	}
	prompt := strings.Repeat("Once upon a time, ", 20)
	var texts []string
	for round := range 2 {
		for i, model := range list.Data {
			text, name, err := s.complete(model.ID, prompt, 120)
			if err != nil || name != model.ID {
				t.Fatalf("%s: got an answer of %q, %v", model.ID, name, err)
			}
			if round == 0 {
				if slices.Contains(texts, text) {
					t.Errorf("%s answers as another", model.ID)
				}
				texts = append(texts, text)
			} else if text != texts[i] {
				t.Errorf("%s: got %q, and before %q", model.ID, text, texts[i])
			}
		}
	}
	var waits sync.WaitGroup
	for i, model := range list.Data {
		waits.Go(func() {
			if text, _, err := s.complete(model.ID, prompt, 120); err != nil || text != texts[i] {
				t.Errorf("%s while a rank dies: got %q, %v, want %q", model.ID, text, err, texts[i])
			}
		})
	}
	metric := func(name string) (value float64) {
		response, err := http.Get(s.url + "/metrics")
		if err != nil {
			return 0
		}
		defer response.Body.Close()
		for scanner := bufio.NewScanner(response.Body); scanner.Scan(); {
			if strings.HasPrefix(scanner.Text(), name) {
				fmt.Sscan(scanner.Text()[strings.LastIndex(scanner.Text(), " "):], &value)
			}
		}
		return value
	}
	eventually(t, "all three run", func() bool { return metric("lockstep_ledger_requests{") == 3 })
	if err := syscall.Kill(s.rank(1), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waits.Wait()
	if got := metric("lockstep_requests_resumed_total"); got == 0 {
		t.Error("no request was resumed: the rank died too early or too late")
	}
	if _, _, err := s.complete("three", prompt, 5); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("got %v for an adapter that is not there", err)
	}
}
