package backendtest

import (
	"math"
	"testing"

	"lockstep/shard/model"
)

// LongPrompts are two prompts of a model's cases, of 60 and 61 tokens.
func LongPrompts(t testing.TB, cases []Golden) (prompts [][]int32) {
	t.Helper()
	for _, c := range cases {
		if len(c.Prompt) > 60 && len(prompts) < 2 {
			prompts = append(prompts, c.Prompt[:60+len(prompts)])
		}
	}
	if len(prompts) != 2 {
		t.Fatalf("got %d long prompts, want 2", len(prompts))
	}
	return prompts
}

// Pieces computes two prompts whole and alone, and then both together in pieces of 7 tokens, once wanting all logits and once
// those of some rows: the logits must have the same bits. It returns those of the first.
func Pieces(t *testing.T, g *Group, prompts [][]int32) [][]float32 {
	t.Helper()
	var want [2][][]float32
	for i, prompt := range prompts {
		want[i] = g.Sequence(len(prompt)).Compute(prompt, model.LogitsAll)
	}
	for turn, logits := range [][]model.Logits{{model.LogitsAll}, {model.LogitsNone, model.LogitsLast, model.LogitsAll, model.LogitsNone}} {
		pieces := [2]*Sequence{g.Sequence(len(prompts[0])), g.Sequence(len(prompts[1]))}
		for at := 0; at < len(prompts[1]); at += 7 {
			var chunks []model.Chunk
			for i, prompt := range prompts {
				if part := prompt[min(at, len(prompt)):min(at+7, len(prompt))]; len(part) > 0 {
					chunks = append(chunks, pieces[i].Chunk(part, logits[(at/7+i)%len(logits)]))
				}
			}
			rows := g.Step(chunks)
			for i := range chunks {
				for j := range chunks[i].Tokens {
					if !chunks[i].Wants(j) {
						continue
					}
					if FirstDifference(rows[:1], want[i][at+j:][:1]) >= 0 {
						t.Errorf("turn %d: prompt %d: other logits behind token %d", turn, i, at+j)
					}
					rows = rows[1:]
				}
			}
		}
		pieces[0].Release()
		pieces[1].Release()
	}
	return want[0]
}

// FirstDifference returns the first row that differs in any bit, -1 if none does.
func FirstDifference(got, want [][]float32) int {
	if len(got) != len(want) {
		return min(len(got), len(want))
	}
	for row := range want {
		for i, v := range want[row] {
			if math.Float32bits(got[row][i]) != math.Float32bits(v) {
				return row
			}
		}
	}
	return -1
}

// Distance is the largest difference of logits, in standard deviations of the row.
func Distance(got, want [][]float32) (worst float64) {
	for row := range want {
		mean, variance := 0.0, 0.0
		for _, v := range want[row] {
			mean += float64(v) / float64(len(want[row]))
		}
		for _, v := range want[row] {
			variance += (float64(v) - mean) * (float64(v) - mean) / float64(len(want[row]))
		}
		for i, v := range want[row] {
			worst = max(worst, math.Abs(float64(got[row][i]-v))/math.Sqrt(variance))
		}
	}
	return worst
}
