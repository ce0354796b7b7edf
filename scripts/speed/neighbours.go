package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"time"

	"lockstep/shard/cpu"
	"lockstep/shard/model"
)

// neighbourTime is how long one figure beside neighbours is taken at least: some hundred turns of the kernel's scheduler.
const neighbourTime = 300 * time.Millisecond

// crowds are the groups that are measured beside neighbours, as shards and threads of each.
var crowds = []struct{ shards, threads int }{{1, 1}, {1, 2}, {2, 1}, {4, 1}}

// computed are what is measured: sequences that decode, or 0 for the prefill of a prompt.
var computed = []int{1, batch, 0}

// measureNeighbours measures groups alone and beside so many busy processes, in turns.
func measureNeighbours(name string, kernels *cpu.Kernels, rounds, neighbours int) error {
	source, err := openModel(name)
	if err != nil {
		return err
	}
	defer source.cleanup()
	defer source.Close()
	var groups []*group
	for _, c := range crowds {
		g, err := newGroup(source, c.shards, c.threads, options(kernels))
		if err != nil {
			return err
		}
		defer g.close()
		groups = append(groups, g)
	}
	figures := make([][2][][]float64, len(crowds)) // [crowd][beside neighbours][what][round]
	for range rounds {
		for busy := range 2 {
			quiet, err := startNeighbours(busy * neighbours)
			if err != nil {
				return err
			}
			for i, g := range groups {
				of := &figures[i][busy]
				*of = append(*of, nil)
				for _, sequences := range computed {
					last := len(*of) - 1
					(*of)[last] = append((*of)[last], g.steadily(sequences))
				}
			}
			quiet()
		}
	}
	fmt.Printf("\n%s, tokens/s of a group beside %d busy processes: median and most of %d rounds\n", name, neighbours, rounds)
	fmt.Printf("  %-30s  %-18s decode, batch %-4d prefill of %d\n", "", "decode, batch 1", batch, prefill)
	for i, c := range crowds {
		for busy, of := range figures[i] {
			fmt.Printf("  %d shards of %d threads, %d busy ", c.shards, c.threads, busy*neighbours)
			for what := range computed {
				var values []float64
				for _, round := range of {
					values = append(values, round[what])
				}
				slices.Sort(values)
				fmt.Printf("  %7.1f (%7.1f)", values[len(values)/2], values[len(values)-1])
			}
			fmt.Println()
		}
	}
	return nil
}

// startNeighbours starts busy processes; quiet ends them.
func startNeighbours(count int) (quiet func(), err error) {
	var all []*exec.Cmd
	quiet = func() {
		for _, c := range all {
			c.Process.Kill()
			c.Wait()
		}
	}
	for range count {
		c := exec.Command(os.Args[0], "-spin")
		if err := c.Start(); err != nil {
			quiet()
			return nil, err
		}
		all = append(all, c)
	}
	return quiet, nil
}

// spinForEver is the neighbour: it keeps a core busy.
func spinForEver() {
	for i := 0; ; i++ {
		_ = i
	}
}

// steadily returns the mean tokens per second of the decode of so many sequences, or of the prefill of a prompt if there are
// none. What the cache holds does not matter to time.
func (g *group) steadily(sequences int) float64 {
	prompt := model.Chunk{PromptTokens: prefill, Tokens: g.tokens(prefill, 1), Blocks: blocks(0, prefill), Logits: model.LogitsLast}
	tokens, start := 0, time.Now()
	for step := 0; time.Since(start) < neighbourTime; step++ {
		if sequences == 0 {
			g.step([]model.Chunk{prompt})
			tokens += prefill
			continue
		}
		var chunks []model.Chunk
		for i := range sequences {
			chunks = append(chunks, model.Chunk{PromptTokens: context, Start: context + step%decodeSteps, Tokens: g.tokens(1, step+i),
				Blocks: blocks(i, context+decodeSteps), Logits: model.LogitsLast})
		}
		g.step(chunks)
		tokens += sequences
	}
	return float64(tokens) / time.Since(start).Seconds()
}
