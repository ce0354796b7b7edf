package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"

	"lockstep/protocol/text"
	"lockstep/shard/cpu"
	"lockstep/shard/host"
	"lockstep/shard/model"
)

// accuracyTokens is how much of a text is computed.
const accuracyTokens = 1024

// measureAccuracy compares the arithmetics of a model with the exact one, on the first tokens of a text.
func measureAccuracy(name string, kernels *cpu.Kernels, file string) error {
	source, err := openModel(name)
	if err != nil {
		return err
	}
	defer source.cleanup()
	defer source.Close()
	ids, err := tokensOf(source, file)
	if err != nil {
		return err
	}
	exact, err := newGroup(source, 1, threads, host.Options{Kernels: kernels, Numerics: "f32", Progress: func(float64) {}})
	if err != nil {
		return err
	}
	defer exact.close()
	fmt.Printf("\n%s, %d tokens of %s\n  %-20s %10s %20s %10s %8s\n", name, len(ids), filepath.Base(file), "", "perplexity", "change", "KL",
		"top 1")
	for _, by := range []host.Options{{Numerics: "f32"}, {Numerics: "f32", Cache: "f16"}, {Numerics: "bf16"}, {Numerics: "q8"},
		{Numerics: "q8", Cache: "f32"}} {
		by.Kernels, by.Progress = kernels, func(float64) {}
		other, err := newGroup(source, 1, threads, by)
		if err != nil {
			return err
		}
		d := compare(exact, other, ids)
		other.close()
		fmt.Printf("  %-20s %10.3f %+9.3f%% +- %.3f%% %10.6f %7.2f%%\n", by.Numerics+" "+by.Cache, d.perplexity(), 100*d.mean(d.change),
			100*d.deviation(d.change)/math.Sqrt(float64(len(d.change))), d.mean(d.kl), 100*d.mean(d.same))
	}
	return nil
}

// tokensOf are the first ones of a text.
func tokensOf(source *opened, file string) ([]int32, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	tokenizer, err := text.New(source.Files.Tokenizer)
	if err != nil {
		return nil, err
	}
	ids, err := tokenizer.Encode(string(content), true)
	if err != nil {
		return nil, err
	}
	return ids[:min(len(ids), accuracyTokens)], nil
}

// distance is how far one arithmetic is from another, by token.
type distance struct {
	loss   []float64 // negative log-likelihood
	change []float64 // of that
	kl     []float64 // Kullback-Leibler divergence from the exact distribution
	same   []float64 // 1 where the likeliest token is the same
}

func (d *distance) mean(values []float64) (mean float64) {
	for _, v := range values {
		mean += v / float64(len(values))
	}
	return mean
}

func (d *distance) deviation(values []float64) float64 {
	mean, squares := d.mean(values), 0.0
	for _, v := range values {
		squares += (v - mean) * (v - mean)
	}
	return math.Sqrt(squares / float64(max(len(values)-1, 1)))
}

func (d *distance) perplexity() float64 { return math.Exp(d.mean(d.loss)) }

// compare computes a text by both, one chunk after another.
func compare(exact, other *group, ids []int32) (d distance) {
	for from := 0; from < len(ids); from += prefill {
		want, got := exact.logProbabilities(ids, from), other.logProbabilities(ids, from)
		for i := range want {
			next := from + i + 1
			if next == len(ids) {
				break
			}
			kl := 0.0
			for id, v := range want[i] {
				kl += math.Exp(v) * (v - got[i][id])
			}
			same := 0.0
			if argmax(want[i]) == argmax(got[i]) {
				same = 1
			}
			d.loss = append(d.loss, -got[i][ids[next]])
			d.change = append(d.change, want[i][ids[next]]-got[i][ids[next]])
			d.kl, d.same = append(d.kl, kl), append(d.same, same)
		}
	}
	return d
}

func argmax(values []float64) (best int) {
	for i, v := range values {
		if v > values[best] {
			best = i
		}
	}
	return best
}

// logProbabilities are those behind each token of the chunk that begins at a token of a text.
func (g *group) logProbabilities(ids []int32, from int) (rows [][]float64) {
	g.consume = func(scores model.Scores) {
		for i := range scores.Rows() {
			logits := scores.Row(i)
			largest, total := float64(slices.Max(logits)), 0.0
			row := make([]float64, len(logits))
			for id, v := range logits {
				row[id] = float64(v) - largest
				total += math.Exp(row[id])
			}
			for id := range row {
				row[id] -= math.Log(total)
			}
			rows = append(rows, row)
		}
	}
	defer func() { g.consume = func(model.Scores) {} }()
	to := min(from+prefill, len(ids))
	g.step([]model.Chunk{{Start: from, PromptTokens: len(ids), Tokens: ids[from:to],
		Blocks: blocks(0, len(ids))[:(to+blockTokens-1)/blockTokens], Logits: model.LogitsAll}})
	return rows
}
