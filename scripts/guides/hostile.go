package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"

	"lockstep/protocol/guide"
	"lockstep/protocol/guide/cases"
	"lockstep/shard/masks"
	"lockstep/shard/sample"
)

// Walks of a hostile case: each takes so many tokens at most, any that are allowed.
const (
	hostileWalks  = 8
	hostileTokens = 200
)

// printHostile compiles what was made to hurt, walks it at random, and prints what the worst cost.
func (c *comparison) printHostile(shared string) error {
	hostile, err := cases.Read(filepath.Join(shared, "golden", "guided", "hostile_cases.jsonl"))
	if err != nil {
		return err
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	vocabulary := c.vocabulary()
	fmt.Println("| case | compile ms | allocated for it in all, MB | program KB | masks | slowest mask ms | kept MB | |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	for i := range hostile {
		printHostileCase(vocabulary, c.work.Ends, hostile[i].ID, hostile[i].Source())
	}
	return nil
}

func printHostileCase(vocabulary *masks.Vocabulary, ends []int32, id string, source guide.Source) {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := threadTime()
	program, err := guide.Compile(source)
	compile := threadTime() - start
	runtime.ReadMemStats(&after)
	fmt.Printf("| %s | %.1f | %.1f |", id, float64(compile)/1e6, float64(after.TotalAlloc-before.TotalAlloc)/(1<<20))
	if err != nil {
		fmt.Printf(" | | | | refused: %.60s |\n", err)
		return
	}
	g := masks.New(vocabulary, program)
	random := rand.New(rand.NewPCG(1, 2))
	var slowest int64
	found := 0
	outcome := ""
	for range hostileWalks {
		var place masks.Place
		var tokens []int32
		for len(tokens) < hostileTokens {
			start := threadTime()
			mask, err := g.Mask(&place, tokens)
			slowest = max(slowest, threadTime()-start)
			found++
			if err != nil {
				outcome = err.Error()
				if errors.Is(err, masks.ErrLost) {
					outcome = "BUG: " + outcome
				}
				break
			}
			next := anyOf(mask, random)
			if next < 0 || slices.Contains(ends, next) {
				break
			}
			tokens = append(tokens, next)
		}
	}
	fmt.Printf(" %d | %d | %.2f | %.1f | %s |\n", program.Bytes()>>10, found, float64(slowest)/1e6, float64(g.Bytes())/(1<<20), outcome)
}

// anyOf is a token of a mask, any that says something; -1: there is none.
func anyOf(mask *sample.Mask, random *rand.Rand) int32 {
	ids := slices.Clone(mask.IDs)
	for word, bits := range mask.Bits {
		for bit := range int32(64) {
			if bits>>bit&1 != 0 {
				ids = append(ids, int32(word)*64+bit)
			}
		}
	}
	if len(ids) == 0 {
		return -1
	}
	return ids[random.IntN(len(ids))]
}
