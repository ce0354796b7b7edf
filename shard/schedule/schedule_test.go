package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"lockstep/shard/schedule"
)

func tell(plan []schedule.Work) string {
	var out []string
	for _, w := range plan {
		mark := ""
		if w.Reaches {
			mark = "!"
		}
		out = append(out, fmt.Sprintf("%d:%d+%d%s", w.ID, w.Start, w.Count, mark))
	}
	return strings.Join(out, " ")
}

// Each line of a script is an event or "step" with the plan that must follow: id:start+count, "!" where the next token is due.
func TestScripts(t *testing.T) {
	for name, script := range map[string]string{
		"prefill in chunks beside decodes": `
			add 1 4
			step 1:0+4!
			append 1
			add 2 11
			step 1:4+1! 2:0+7
			append 1
			step 1:5+1! 2:7+4!
			append 1
			append 2
			step 1:6+1! 2:11+1!`,
		"cancel frees blocks at once": `
			add 1 8
			add 2 8
			step 1:0+8!
			remove 1
			step 2:0+8!
			remove 2
			step`,
		"the newest is parked when blocks run out, and computed again": `
			add 1 8
			step 1:0+8!
			append 1
			add 2 7
			step 1:8+1! 2:0+7!
			append 1
			append 2
			step 1:9+1! 2:7+1!
			append 1
			append 2
			step 1:10+1!
			append 1
			remove 1
			step 2:0+8
			step 2:8+1!`,
	} {
		t.Run(name, func(t *testing.T) {
			s := schedule.New(schedule.Limits{BlockTokens: 4, Blocks: 5, StepTokens: 8, MaxSequences: 4})
			for number, line := range strings.Split(strings.TrimSpace(script), "\n") {
				line = strings.TrimSpace(line)
				var id schedule.ID
				var count int
				switch verb, rest, _ := strings.Cut(line, " "); verb {
				case "add":
					fmt.Sscan(rest, &id, &count)
					s.Add(id, count)
				case "append":
					fmt.Sscan(rest, &id)
					s.Append(id)
				case "remove":
					fmt.Sscan(rest, &id)
					s.Remove(id)
				case "step":
					if got := tell(s.Next()); got != rest {
						t.Fatalf("line %d: got step %q, want %q", number+1, got, rest)
					}
				}
			}
		})
	}
}

// Random workloads: budgets hold, every sequence is computed in order without gaps, blocks are never shared, all ends.
func TestProperties(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		limits := schedule.Limits{BlockTokens: 4, Blocks: 8 + random.IntN(20), StepTokens: 1 + random.IntN(20), MaxSequences: 1 + random.IntN(6)}
		s := schedule.New(limits)
		type state struct{ known, end, computed int }
		live := map[schedule.ID]*state{}
		next := schedule.ID(1)
		for step := 0; step < 3000; step++ {
			if next <= 20 && random.IntN(3) == 0 {
				known := 1 + random.IntN(20)
				if end := known + 1 + random.IntN(12); s.Fits(end) {
					s.Add(next, known)
					live[next] = &state{known: known, end: end}
				}
				next++
			}
			plan := s.Next()
			budget, owner := 0, map[int32]schedule.ID{}
			for _, w := range plan {
				q := live[w.ID]
				if w.Start == 0 {
					q.computed = 0 // new, or parked since
				}
				budget += w.Count
				if w.Start != q.computed || w.Count < 1 || w.Start+w.Count > q.known || len(w.Blocks)*limits.BlockTokens < w.Start+w.Count {
					t.Fatalf("seed %d step %d: work %+v for %+v", seed, step, w, *q)
				}
				for _, block := range w.Blocks {
					if other, taken := owner[block]; taken {
						t.Fatalf("seed %d step %d: block %d belongs to %d and %d", seed, step, block, other, w.ID)
					}
					owner[block] = w.ID
				}
				q.computed += w.Count
			}
			if budget > limits.StepTokens || len(plan) > limits.MaxSequences {
				t.Fatalf("seed %d step %d: %d tokens of %d sequences", seed, step, budget, len(plan))
			}
			for _, w := range append([]schedule.Work(nil), plan...) {
				q := live[w.ID]
				switch {
				case random.IntN(200) == 0, w.Reaches && q.known+1 == q.end:
					s.Remove(w.ID)
					delete(live, w.ID)
				case w.Reaches:
					s.Append(w.ID)
					q.known++
				}
			}
			if next > 20 && len(live) == 0 {
				break
			}
		}
		if running, waiting, used, _ := s.Counts(); len(live) != 0 || running != 0 || waiting != 0 || used != 0 {
			t.Fatalf("seed %d: %d sequences left, %d running, %d waiting, %d blocks used", seed, len(live), running, waiting, used)
		}
	}
}
