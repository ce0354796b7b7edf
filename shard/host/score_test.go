package host_test

import (
	"fmt"
	"math"
	"testing"

	"lockstep/protocol/outside"
	"lockstep/shard/backendtest"
	"lockstep/shard/cpu"
	"lockstep/shard/model"
	"lockstep/shard/model/modeltest"
)

// rewardCase is a reference score; scores may differ by 0.002 (1 + |score|), as the data's README says.
type rewardCase struct {
	ID     string  `json:"id"`
	Prompt []int32 `json:"prompt_ids"`
	Score  float64 `json:"score"`
}

// All reward cases on every kernel path and, with the best one, on one to four shards: each prompt alone and whole, then all
// in one batch in pieces of 21 tokens. Both must give the same bits.
func TestGoldenScores(t *testing.T) {
	for _, name := range []string{"internlm2_reward", "qwen2_reward"} {
		source, files := modeltest.Open(t, name)
		all := modeltest.Cases[rewardCase](t, files["golden_reward.jsonl"].Data)
		if len(all) < 14 {
			t.Fatalf("%s: got %d cases", name, len(all))
		}
		for _, kernels := range cpu.Available() {
			for ranks := 1; ranks <= 4; ranks++ {
				if kernels != cpu.Best() && ranks > 1 && !outside.All() {
					continue // slow; their bits are compared in shard/cpu
				}
				t.Run(fmt.Sprintf("%s/%s/%d", name, kernels.Name(), ranks), func(t *testing.T) {
					g := newGroup(t, source, ranks, 1, kernels)
					worst, alone := 0.0, map[string]float32{}
					for _, c := range all {
						s := g.Sequence(len(c.Prompt))
						rows := s.Compute(c.Prompt, model.LogitsLast)
						s.Release()
						if len(rows) != 1 || len(rows[0]) != 1 {
							t.Fatalf("%s: got %d rows, want one of one score", c.ID, len(rows))
						}
						alone[c.ID] = rows[0][0]
						wrong := math.Abs(float64(alone[c.ID])-c.Score) / (1 + math.Abs(c.Score))
						if worst = max(worst, wrong); !(wrong <= 0.002) {
							t.Errorf("%s: got %v, want %v", c.ID, alone[c.ID], c.Score)
						}
					}
					t.Logf("largest error of a score: %.1e (1 + |score|)", worst)
					for id, got := range scoreTogether(g, all) {
						if want := alone[id]; math.Float32bits(got) != math.Float32bits(want) {
							t.Errorf("%s in pieces and in company: got %v, want %v", id, got, want)
						}
					}
				})
			}
		}
	}
}

// scoreTogether computes 21 tokens of each case in each step until all have their scores.
func scoreTogether(g *backendtest.Group, all []rewardCase) map[string]float32 {
	sequences, scores := make([]*backendtest.Sequence, len(all)), map[string]float32{}
	for i, c := range all {
		sequences[i] = g.Sequence(len(c.Prompt))
	}
	for len(scores) < len(all) {
		var chunks []model.Chunk
		var ends []string
		for i, c := range all {
			rest := c.Prompt[len(sequences[i].Tokens):]
			if len(rest) == 0 {
				continue
			}
			logits := model.LogitsNone
			if len(rest) <= 21 {
				logits = model.LogitsLast
				ends = append(ends, c.ID)
			}
			chunks = append(chunks, sequences[i].Chunk(rest[:min(21, len(rest))], logits))
		}
		for i, row := range g.Step(chunks) {
			scores[ends[i]] = row[0]
		}
	}
	for _, s := range sequences {
		s.Release()
	}
	return scores
}
