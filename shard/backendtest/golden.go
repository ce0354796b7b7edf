package backendtest

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// Golden is a reference case; the fields are those of the data's own README.
type Golden struct {
	ID             string     `json:"id"`
	Prompt         []int32    `json:"prompt_ids"`
	TopIDs         []int      `json:"top_ids"`
	TopLogits      []float64  `json:"top_logits"`
	LogitStd       float64    `json:"logit_std"`
	PromptLogprobs []*float64 `json:"prompt_logprobs"`
	Greedy         []int32    `json:"greedy_ids"`
	GreedyAlt      []int32    `json:"greedy_ids_full_recompute"`
	Margins        []float64  `json:"greedy_margins"`
}

// LogSumExp is the logarithm of the sum of the exponentials.
func LogSumExp(logits []float32) float64 {
	largest := math.Inf(-1)
	for _, v := range logits {
		largest = max(largest, float64(v))
	}
	sum := 0.0
	for _, v := range logits {
		sum += math.Exp(float64(v) - largest)
	}
	return largest + math.Log(sum)
}

// Argmax is the first of the largest.
func Argmax(logits []float32) int32 {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	return int32(best)
}

// Tolerance is how far from the reference an arithmetic may be: logits and log-probabilities, in standard deviations of their row, and
// the margin below which a greedy token may be another.
type Tolerance struct {
	Logit, Logprob, Margin float64
	// Outliers is the share of log-probabilities that may be any: a row whose experts are nearly a tie may have others.
	Outliers float64
}

// Exact is the tolerance that the data's README has for float32.
var Exact = Tolerance{Logit: 0.002, Logprob: 0.004, Margin: 0.02}

// Check runs one case: the prompt whole with all its logits, then greedy steps. It returns the largest error of a logit in
// standard deviations.
func Check(t testing.TB, g *Group, c Golden, allowed Tolerance) float64 {
	t.Helper()
	s := g.Sequence(len(c.Prompt))
	rows := s.Compute(c.Prompt, model.LogitsAll)
	last := rows[len(rows)-1]
	worst := 0.0
	for i, id := range c.TopIDs {
		worst = max(worst, math.Abs(float64(last[id])-c.TopLogits[i])/c.LogitStd)
	}
	if !(worst <= allowed.Logit) {
		t.Errorf("%s: a logit is off by %.5f standard deviations", c.ID, worst)
	}
	outliers := 0
	for i, want := range c.PromptLogprobs {
		if want == nil {
			continue
		}
		got := float64(rows[i-1][c.Prompt[i]]) - LogSumExp(rows[i-1])
		if !(math.Abs(got-*want) <= allowed.Logprob*c.LogitStd+1e-4) {
			if outliers++; float64(outliers) > allowed.Outliers*float64(len(c.Prompt)) {
				t.Errorf("%s: log-probability of prompt token %d is %v, want %v", c.ID, i, got, *want)
			}
		}
	}
	for step, want := range c.Greedy {
		token := Argmax(last)
		if token != want && (step >= len(c.GreedyAlt) || token != c.GreedyAlt[step]) {
			if c.Margins[step] >= allowed.Margin {
				t.Errorf("%s: greedy token %d is %d, want %d", c.ID, step, token, want)
			}
			break
		}
		if len(s.Tokens) >= g.MaxTokens {
			break
		}
		last = s.Compute([]int32{token}, model.LogitsLast)[0]
	}
	s.Release()
	return worst
}

// Quantised are the quantised checkpoints and whole GGUF models among the references, by their paths, with their cases.
func Quantised(t testing.TB) map[string]func(t testing.TB) []Golden {
	t.Helper()
	quantised := outside.Shared(t, "golden", "quant")
	entries, err := os.ReadDir(quantised)
	if err != nil {
		t.Fatal(err)
	}
	paths := map[string]func(t testing.TB) []Golden{}
	add := func(path, cases string) {
		paths[path] = func(t testing.TB) []Golden {
			data, err := os.ReadFile(cases)
			if err != nil {
				t.Fatal(err)
			}
			return modeltest.Cases[Golden](t, data)
		}
	}
	for _, entry := range entries {
		if entry.IsDir() {
			add(filepath.Join(quantised, entry.Name()), filepath.Join(quantised, entry.Name(), "golden.jsonl"))
		}
	}
	for _, name := range []string{"tiny_llama_q8_q4", "tiny_qwen2_kquants"} {
		path := outside.Shared(t, "golden", "gguf", name+".gguf")
		add(path, filepath.Join(filepath.Dir(path), name+".golden.jsonl"))
	}
	if len(paths) < 22 {
		t.Errorf("got %d models", len(paths))
	}
	return paths
}
