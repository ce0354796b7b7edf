package host_test

import (
	"fmt"
	"math"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// golden is a reference case; the fields and tolerances are those of the data's own README: logits within 0.002 of the
// row's standard deviation, log-probabilities within 0.004 of it, greedy ids equal unless the margin is below 0.02.
type golden struct {
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

func logSumExp(logits []float32) float64 {
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

func argmax(logits []float32) int32 {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	return int32(best)
}

// check runs one case: the prompt whole with all its logits, then greedy steps. It returns the largest error of a logit in
// standard deviations.
func check(t *testing.T, g *group, c golden) float64 {
	t.Helper()
	s := g.sequence(len(c.Prompt))
	rows := s.compute(c.Prompt, model.LogitsAll)
	last := rows[len(rows)-1]
	worst := 0.0
	for i, id := range c.TopIDs {
		worst = max(worst, math.Abs(float64(last[id])-c.TopLogits[i])/c.LogitStd)
	}
	if !(worst <= 0.002) {
		t.Errorf("%s: a logit is off by %.5f standard deviations", c.ID, worst)
	}
	for i, want := range c.PromptLogprobs {
		if want == nil {
			continue
		}
		got := float64(rows[i-1][c.Prompt[i]]) - logSumExp(rows[i-1])
		if !(math.Abs(got-*want) <= 0.004*c.LogitStd+1e-4) {
			t.Errorf("%s: log-probability of prompt token %d is %v, want %v", c.ID, i, got, *want)
		}
	}
	for step, want := range c.Greedy {
		token := argmax(last)
		if token != want && (step >= len(c.GreedyAlt) || token != c.GreedyAlt[step]) {
			if c.Margins[step] >= 0.02 {
				t.Errorf("%s: greedy token %d is %d, want %d", c.ID, step, token, want)
			}
			break
		}
		if len(s.tokens) >= g.maxTokens {
			break
		}
		last = s.compute([]int32{token}, model.LogitsLast)[0]
	}
	s.release()
	return worst
}

// Every reference case of a model that writes, on every kernel path that this CPU has and, with the best one, on one to four shards.
func TestGoldenModels(t *testing.T) {
	models := 0
	for _, name := range modeltest.Names(t) {
		source, files := modeltest.Open(t, name)
		if files["golden.jsonl"] == nil {
			continue
		}
		models++
		all := modeltest.Cases[golden](t, files["golden.jsonl"].Data)
		for _, kernels := range cpu.Available() {
			for ranks := 1; ranks <= 4; ranks++ {
				slow := kernels != cpu.Best() && ranks > 1 || ranks > 2 || kernels.Name() == "go" && models%4 > 0
				if slow && !outside.All() {
					continue // the kernels' bits are compared in shard/cpu
				}
				t.Run(fmt.Sprintf("%s/%s/%d", name, kernels.Name(), ranks), func(t *testing.T) {
					g := newGroup(t, source, ranks, 1, kernels)
					worst := 0.0
					for _, c := range all {
						worst = max(worst, check(t, g, c))
					}
					t.Logf("largest error of a logit: %.1e standard deviations", worst)
				})
			}
		}
	}
	if models < 21 {
		t.Errorf("got %d models with cases", models)
	}
}
