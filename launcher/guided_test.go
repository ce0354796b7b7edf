package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"lockstep/protocol/guide/cases"
	"lockstep/protocol/outside"
)

// retryInterval lies between two tries of a client whose router is not there.
const retryInterval = 20 * time.Millisecond

// guidedAnswer is what a generation has that does not differ from one time to the next.
type guidedAnswer struct {
	Choices []struct {
		Text     string
		Finish   string `json:"finish_reason"`
		Logprobs json.RawMessage
	}
	Usage struct {
		Completion int `json:"completion_tokens"`
	}
}

// schemaCases are up to so many schemas, spread over the reference data, or a few of our own.
func schemaCases(t *testing.T, most int) (chosen []cases.Case) {
	t.Helper()
	path := outside.Reference(t, "testdata/schemas.jsonl", "golden", "guided", "schema_cases.jsonl")
	var all []cases.Case
	for _, c := range outside.Lines[cases.Case](t, path) {
		if c.Refuse == "" {
			all = append(all, c)
		}
	}
	most = min(most, len(all))
	for i := range most {
		chosen = append(chosen, all[i*len(all)/most])
	}
	return chosen
}

// guidedRun generates a text for each of some schemas several times, with seeds of their own.
type guidedRun struct {
	*server
	cases        []cases.Case
	times        int
	tokens       int
	insist       bool // requests that break off are made again: the router is killed
	done, broken atomic.Int64
	kill         func(done int64)
}

// run returns the answers as they came, by case and time.
func (r *guidedRun) run(ctx context.Context) []guidedAnswer {
	answers, next := make([]guidedAnswer, len(r.cases)*r.times), make(chan int, len(r.cases)*r.times)
	for i := range answers {
		next <- i
	}
	close(next)
	var clients sync.WaitGroup
	for range 32 {
		clients.Go(func() {
			for i := range next {
				var err error
				for answers[i], err = r.ask(ctx, i); err != nil && r.insist && ctx.Err() == nil; answers[i], err = r.ask(ctx, i) {
					r.broken.Add(1)
					time.Sleep(retryInterval)
				}
				if err != nil {
					r.t.Errorf("%s: %v", r.cases[i/r.times].ID, err)
				}
				if done := r.done.Add(1); r.kill != nil {
					r.kill(done)
				}
			}
		})
	}
	clients.Wait()
	return answers
}

func (r *guidedRun) ask(ctx context.Context, i int) (answer guidedAnswer, err error) {
	c := &r.cases[i/r.times]
	response, err := r.post(ctx, "/v1/completions", map[string]any{"prompt": "Once upon a time", "max_tokens": r.tokens, "temperature": 1.5,
		"seed": i, "logprobs": 0, "structured_outputs": map[string]any{"json": c.Schema, "whitespace_pattern": c.WhiteSpace}})
	if err != nil {
		return answer, err
	}
	if err := readAnswer(response, &answer); err != nil || len(answer.Choices) != 1 {
		return answer, fmt.Errorf("got %+v, %w", answer, err)
	}
	return answer, nil
}

// validate has Python's jsonschema judge all texts that have ended by themselves, and returns how many did.
func (r *guidedRun) validate(answers []guidedAnswer) (ended int) {
	r.t.Helper()
	var lines bytes.Buffer
	for i, answer := range answers {
		if len(answer.Choices) == 1 && answer.Choices[0].Finish == "stop" {
			ended++
			line, err := json.Marshal(map[string]any{"name": r.cases[i/r.times].ID, "schema": r.cases[i/r.times].Schema,
				"text": answer.Choices[0].Text})
			if err != nil {
				r.t.Fatal(err)
			}
			lines.Write(append(line, '\n'))
		}
	}
	command := exec.Command(broughtClients(r.t.(*testing.T), "jsonschema/bin/python"), "../scripts/clients/validate.py")
	command.Stdin = &lines
	output, err := command.CombinedOutput()
	if err != nil {
		r.t.Errorf("%v:\n%s", err, output)
	}
	r.t.Logf("%d answers: %s", len(answers), output)
	return ended
}

// What is generated under a schema is valid by it whenever it ends by itself, however unlikely its tokens are; and the same bytes come
// where a rank dies meanwhile, and to a client that asks again where the router does.
func TestGuidedGenerations(t *testing.T) {
	outside.Slow(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	quiet := &guidedRun{server: serveDemo(t), cases: schemaCases(t, 100), times: 10, tokens: 200}
	want := quiet.run(ctx)
	if ended := quiet.validate(want); ended < len(want)/2 {
		t.Errorf("only %d of %d texts have ended by themselves", ended, len(want))
	}
	disturbed := &guidedRun{server: serveDemo(t), cases: quiet.cases, times: quiet.times, tokens: quiet.tokens, insist: true}
	kills := int64(len(want)) / 5
	disturbed.kill = func(done int64) {
		switch done {
		case kills, 3 * kills:
			syscall.Kill(disturbed.rank(int(done/kills/2)), syscall.SIGKILL)
		case 2 * kills:
			for arguments, pid := range disturbed.children() {
				if strings.HasPrefix(arguments, "lockstep router") {
					syscall.Kill(pid, syscall.SIGKILL)
				}
			}
		}
	}
	got := disturbed.run(ctx)
	for i := range want {
		if a, b := fmt.Sprint(got[i]), fmt.Sprint(want[i]); a != b {
			t.Errorf("%s: got %s, want %s", quiet.cases[i/quiet.times].ID, a, b)
		}
	}
	t.Logf("%d requests were made again", disturbed.broken.Load())
	if disturbed.broken.Load() == 0 {
		t.Error("the router's death broke no request off")
	}
}

// A real model likewise, of a vocabulary of real size.
func TestGuidedGenerationsOfRealModel(t *testing.T) {
	outside.Slow(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	model := outside.Cached(t, "get-model", "SmolLM2-135M-Instruct.Q4_1.gguf")
	r := &guidedRun{server: serveDemo(t, "--model-id", model), cases: schemaCases(t, 50), times: 3, tokens: 120}
	answers := r.run(ctx)
	if ended := r.validate(answers); ended < len(answers)/4 {
		t.Errorf("only %d of %d texts have ended by themselves", ended, len(answers))
	}
}

// Schemas, regular expressions and grammars that were made to hurt are refused or served, and a stream beside them has its tokens.
func TestHostileGuides(t *testing.T) {
	outside.Slow(t)
	s := serveDemo(t)
	want, _ := longest(s.stream("Once upon a time", 300))
	var hostile sync.WaitGroup
	for _, c := range outside.Lines[cases.Case](t, outside.Shared(t, "golden", "guided", "hostile_cases.jsonl")) {
		guide := map[string]any{"json": c.Schema}
		switch source := c.Source(); {
		case c.SchemaText != nil:
			guide["json"] = source.Text
		case c.Schema == nil:
			guide = map[string]any{string(source.Kind): source.Text}
		}
		body := map[string]any{"prompt": "Say", "max_tokens": 60, "temperature": 1.5, "seed": 1, "structured_outputs": guide}
		for range 2 {
			hostile.Go(func() {
				response, err := s.post(t.Context(), "/v1/completions", body)
				if err != nil {
					t.Errorf("%s: %v", c.ID, err)
					return
				}
				defer response.Body.Close()
				answer, _ := io.ReadAll(response.Body)
				if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusBadRequest {
					t.Errorf("%s: %s %s", c.ID, response.Status, answer)
				}
			})
		}
	}
	got, pause := longest(s.stream("Once upon a time", 300))
	hostile.Wait()
	if got != want {
		t.Errorf("beside them: got %q, want %q", got, want)
	}
	t.Logf("longest pause %v", pause)
}
