package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"lockstep/shard/backendtest"
	"lockstep/shard/gpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
	"lockstep/shard/workers"
)

// trial is what package backendtest takes for a test: it keeps what fails, and ends with what it has opened.
type trial struct {
	testing.TB
	failures []string
	cleanups []func()
}

func (t *trial) Helper()                           {}
func (t *trial) Cleanup(f func())                  { t.cleanups = append(t.cleanups, f) }
func (t *trial) Error(values ...any)               { t.failures = append(t.failures, fmt.Sprint(values...)) }
func (t *trial) Errorf(format string, args ...any) { t.Error(fmt.Sprintf(format, args...)) }
func (t *trial) Fatal(values ...any)               { t.Error(values...); runtime.Goexit() }
func (t *trial) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }

// try runs what would be a test.
func try(run func(t *trial)) error {
	t := &trial{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			for i := len(t.cleanups) - 1; i >= 0; i-- {
				t.cleanups[i]()
			}
		}()
		run(t)
	}()
	<-done
	if len(t.failures) == 0 {
		return nil
	}
	text := t.failures[0]
	if more := len(t.failures) - 1; more > 0 {
		text += fmt.Sprintf("; and %d more", more)
	}
	return errors.New(text)
}

// group starts the ranks of a model, all on the card.
func (c *check) group(t *trial, source *model.Model, ranks int, numerics string) *backendtest.Group {
	return backendtest.New(t, source, ranks, func(part *model.Part) (backendtest.Backend, error) {
		device, err := c.open()
		if err != nil {
			return nil, err
		}
		return backendtest.WithTeam(2, func(team *workers.Team) (backendtest.Backend, error) {
			return gpu.Load(part, device, team, gpu.Options{Numerics: numerics, Graphs: gpu.DefaultGraphs})
		})
	})
}

// goldens holds what the card computes to the reference cases, and rows to themselves alone.
func (c *check) goldens(r *report) error {
	folders, err := filepath.Glob(filepath.Join(c.dir, "models", "*"))
	if err != nil {
		return err
	}
	allowed := map[string]backendtest.Tolerance{"bf16": {Logit: 0.1, Logprob: 0.1, Margin: 0.2, Outliers: 0.2},
		"two-term": backendtest.Exact}
	r.table("model", "numerics", "ranks on the card", "largest error of a logit, deviations", "result", "s")
	failed := 0
	for i, folder := range folders {
		data, err := os.ReadFile(filepath.Join(folder, "golden.jsonl"))
		if err != nil || c.quick && filepath.Base(folder) != "llama_tied_1kv_f32" {
			continue
		}
		for numerics, tolerance := range allowed {
			ranks := 1 + i%2
			if c.quick && numerics == "bf16" {
				continue
			}
			worst, began := 0.0, time.Now()
			err := try(func(t *trial) {
				source, err := model.Open(folder)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(source.Close)
				g := c.group(t, source, ranks, numerics)
				cases := modeltest.Cases[backendtest.Golden](t, data)
				if c.quick {
					cases = cases[:1]
				}
				for _, golden := range cases {
					worst = max(worst, backendtest.Check(t, g, golden, tolerance))
				}
			})
			if err != nil {
				failed++
			}
			r.row(filepath.Base(folder), numerics, ranks, worst, outcome(err), time.Since(began).Seconds())
			r.record(map[string]any{"model": filepath.Base(folder), "numerics": numerics, "ranks": ranks, "worst": worst,
				"result": outcome(err)})
		}
	}
	if err := c.invariance(r); err != nil {
		r.line("\nfailed: %v", err)
		failed++
	}
	if failed > 0 {
		return fmt.Errorf("%d of the checks above have failed", failed)
	}
	return nil
}

func outcome(err error) string {
	if err == nil {
		return "holds"
	}
	return "failed: " + strings.ReplaceAll(err.Error(), "\n", " ")
}

// invariance computes a step's rows alone and among 1 to 128 others, and twenty tokens on one rank and on two.
func (c *check) invariance(r *report) error {
	most, names := 128, []string{"demo", "llama_gqa_9q3kv", "mixtral"}
	if c.quick {
		most, names = 10, []string{"llama_gqa_9q3kv"}
	}
	r.table("model", "what", "result")
	failed := 0
	note := func(name, what string, err error) {
		r.row(name, what, outcome(err))
		r.record(map[string]any{"model": name, "invariance": what, "result": outcome(err)})
		if err != nil {
			failed++
		}
	}
	for _, name := range names {
		source, err := model.Open(filepath.Join(c.dir, "models", name))
		if err != nil {
			return err
		}
		defer source.Close()
		note(name, fmt.Sprintf("rows alone and among up to %d", most), try(func(t *trial) {
			rowsAmongOthers(t, c.group(t, source, 1, "bf16"),
				source.Config.Vocabulary, most)
		}))
		note(name, "20 tokens on one rank, and on two on one card", try(func(t *trial) {
			part, err := source.Part(0, 2)
			if err != nil {
				t.Fatal(err)
			}
			one, two := twenty(c.group(t, source, 1, "bf16")), twenty(c.group(t, source, 2, "bf16"))
			if row := backendtest.FirstDifference(two, one); row >= 0 && !part.Uneven {
				t.Errorf("token %d: other logits", row)
			}
		}))
	}
	if failed > 0 {
		return fmt.Errorf("%d of %d", failed, 2*len(names))
	}
	return nil
}

// rowsAmongOthers computes the next token of many short sequences, each alone and all together in steps of several sizes.
func rowsAmongOthers(t *trial, g *backendtest.Group, vocabulary, most int) {
	var next []model.Chunk
	var want [][]float32
	for i := range most {
		tokens := make([]int32, 1+i%13)
		for j := range tokens {
			tokens[j] = int32((i*31 + j*7 + 3) % vocabulary)
		}
		s := g.Sequence(len(tokens))
		s.Compute(tokens, model.LogitsNone)
		chunk := s.Chunk([]int32{int32((i*17 + 11) % vocabulary)}, model.LogitsLast)
		next = append(next, chunk)
		want = append(want, g.Step([]model.Chunk{chunk})[0])
		next[i].Fresh = 0
	}
	for _, rows := range []int{1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128} {
		for first := 0; first+rows <= most && first < most; first += max(rows, most/2) {
			got := g.Step(next[first : first+rows])
			if row := backendtest.FirstDifference(got, want[first:first+rows]); row >= 0 {
				t.Errorf("row %d of %d has other logits than alone", row, rows)
			}
		}
	}
}

// twenty are the logits behind each of twenty greedy tokens.
func twenty(g *backendtest.Group) (logits [][]float32) {
	s := g.Sequence(4)
	row := s.Compute([]int32{3, 1, 4, 1}, model.LogitsLast)[0]
	for range 20 {
		row = s.Compute([]int32{backendtest.Argmax(row)}, model.LogitsLast)[0]
		logits = append(logits, row)
	}
	return logits
}
