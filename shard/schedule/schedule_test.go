package schedule_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"lockstep/protocol"
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

// keysOf makes keys from letters, one a block: equal beginnings are equal prefixes.
func keysOf(letters string) []protocol.BlockKey {
	var chain protocol.KeyChain
	var keys []protocol.BlockKey
	for _, letter := range letters {
		keys = append(keys, chain.Next([]int32{letter}))
	}
	return keys
}

// Each line of a script is an event, or "step" with the plan that must follow: id:start+count, "!" where the next token is
// due; or "blocks" with held/cached/free. "add ID KNOWN LETTERS" gives each full block a content by a letter, "alone"
// behind it forbids to use what others computed. Blocks have 4 tokens, there are 5 of them, a step takes 8 prompt tokens.
var scripts = map[string]string{
	"prefill in chunks beside decodes": `
			add 1 4
			step 1:0+4!
			append 1
			add 2 11
			step 1:4+1! 2:0+8
			append 1
			step 1:5+1! 2:8+3!
			append 1
			append 2
			step 1:6+1! 2:11+1!`,
	"cancel frees blocks at once": `
			add 1 8
			add 2 8
			step 1:0+8!
			remove 1
			blocks 0/0/5
			step 2:0+8!
			remove 2
			step`,
	"the newest is parked when blocks run out, and computed again once the others have room to grow": `
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
			step 1:11+1!
			append 1
			step 1:12+1!
			remove 1
			step 2:0+8
			step 2:8+1!`,
	"a parked sequence leaves the others a block to grow into": `
			add 1 8
			step 1:0+8!
			add 2 3
			add 3 8
			step 2:0+3! 3:0+5
			step 3:5+3!
			append 1
			step 1:8+1!
			blocks 4/0/1
			remove 2
			blocks 3/0/2
			step
			remove 1
			step 3:0+8!`,
	"a long prompt does not begin on blocks that another prompt still needs": `
			add 1 16
			add 2 8
			step 1:0+8
			step 1:8+8!
			remove 1
			step 2:0+8!`,
	"a second prompt begins behind the blocks that the first one left, but computes its last token": `
			add 1 8 ab
			step 1:0+8!
			remove 1
			blocks 0/2/3
			add 2 8 ab
			step 2:4+4!
			remove 2
			add 3 9 ab
			step 3:8+1!
			blocks 3/0/2`,
	"blocks are shared while both run, and of the second's own copies none is kept": `
			add 1 9 ab
			step 1:0+8
			add 2 9 ab
			step 1:8+1! 2:8+1!
			blocks 4/0/1
			remove 1
			blocks 3/0/2
			remove 2
			blocks 0/2/3`,
	"who shall not use what others computed still leaves it for them": `
			add 1 8 ab
			step 1:0+8!
			remove 1
			add 2 9 ab alone
			step 2:0+8
			step 2:8+1!
			remove 2
			add 3 9 ab
			step 3:8+1!`,
	"without keys nothing is cached": `
			add 1 8
			step 1:0+8!
			remove 1
			blocks 0/0/5`,
	"the longest unused goes first, the end of a prompt before its beginning": `
			add 1 8 ab
			step 1:0+8!
			remove 1
			add 2 8 cd
			step 2:0+8!
			remove 2
			blocks 0/4/1
			add 3 8 ef
			step 3:0+8!
			remove 3
			blocks 0/5/0
			add 4 5 a
			step 4:4+1!
			remove 4
			add 5 9 cd
			step 5:4+5!`,
	"a parked sequence finds its own blocks again": `
			add 1 7 x
			step 1:0+7!
			append 1
			key 1 y
			add 2 8 ab
			step 1:7+1! 2:0+8!
			append 1
			append 2
			step 1:8+1!
			blocks 3/2/0
			remove 1
			step 2:8+1!`,
	"generated blocks serve the next turn of a conversation": `
			add 1 3 -
			step 1:0+3!
			append 1
			step 1:3+1!
			append 1
			remove 1
			add 2 6 -
			step 2:4+2!`,
}

func TestScripts(t *testing.T) {
	for name, script := range scripts {
		t.Run(name, func(t *testing.T) { play(t, script) })
	}
}

func play(t *testing.T, script string) {
	s := schedule.New(schedule.Limits{BlockTokens: 4, Blocks: 5, PrefillTokens: 8, MaxSequences: 4})
	for number, line := range strings.Split(strings.TrimSpace(script), "\n") {
		line = strings.TrimSpace(line)
		verb, rest, _ := strings.Cut(line, " ")
		var id schedule.ID
		var count int
		var letters, how string
		switch verb {
		case "add":
			fmt.Sscan(rest, &id, &count, &letters, &how)
			s.Add(id, count, keysOf(letters), how != "alone")
		case "append":
			fmt.Sscan(rest, &id)
			s.Append(id)
		case "key":
			fmt.Sscan(rest, &id, &letters)
			s.AppendKey(id, keysOf("x" + letters)[1])
		case "remove":
			fmt.Sscan(rest, &id)
			s.Remove(id)
		case "step":
			if got := tell(s.Next()); got != rest {
				t.Fatalf("line %d: got step %q, want %q", number+1, got, rest)
			}
		case "blocks":
			c := s.Counts()
			if got := fmt.Sprintf("%d/%d/%d", c.HeldBlocks, c.CachedBlocks, c.FreeBlocks); got != rest {
				t.Fatalf("line %d: got %s blocks held, cached and free, want %s", number+1, got, rest)
			}
		default:
			t.Fatalf("line %d: %q", number+1, line)
		}
		if err := s.Check(); err != nil {
			t.Fatalf("line %d: %v", number+1, err)
		}
	}
}

// A prompt under way moves over what another one with the same beginning has computed meanwhile.
func TestPromptUnderWayLooksUp(t *testing.T) {
	s := schedule.New(schedule.Limits{BlockTokens: 4, Blocks: 20, PrefillTokens: 12, MaxSequences: 4})
	s.Add(1, 8, keysOf("ab"), true)
	s.Add(2, 13, keysOf("abc"), true)
	for step, want := range []string{"1:0+8! 2:0+4", "2:8+5!"} {
		if got := tell(s.Next()); got != want {
			t.Errorf("step %d: got %q, want %q", step, got, want)
		}
	}
	if err := s.Check(); err != nil {
		t.Error(err)
	}
}

// world plays a group that computes what a scheduler says, and knows what each block really holds.
type world struct {
	t       *testing.T
	random  *rand.Rand
	limits  schedule.Limits
	s       *schedule.Scheduler
	live    map[schedule.ID]*told
	content map[int32][]written // of each block, as computed
	next    schedule.ID
	hits    int
	right   int // guesses
}

// told is a sequence and what followers of the plans know of it.
type told struct {
	tokens []int32
	end    int
	cached bool // its blocks have keys
	lookup bool
	blocks []int32
	// guessed are the tokens of this step behind the known ones; reached is how far it was computed, wrong guesses too.
	guessed []int32
	reached int
	// adapter is what the sequence is computed with.
	adapter string
}

// written is what a position of a block was computed from.
type written struct {
	adapter string
	token   int32
}

func (w *world) add() {
	id := w.next
	w.next++
	// A few first tokens make many prefixes equal.
	known := 1 + w.random.IntN(40)
	q := &told{cached: w.random.IntN(5) > 0, lookup: w.random.IntN(5) > 0, adapter: []string{"", "", "a", "b"}[w.random.IntN(4)]}
	for i := range known {
		q.tokens = append(q.tokens, int32(i*(1+w.random.IntN(20)/19)))
	}
	if q.end = known + 1 + w.random.IntN(24); !w.s.Fits(q.end) {
		return
	}
	var keys []protocol.BlockKey
	if q.cached {
		chain := protocol.NewKeyChain(q.adapter, "")
		keys = chain.Keys(nil, q.tokens, w.limits.BlockTokens)
	}
	w.s.Add(id, known, keys, q.lookup)
	w.live[id] = q
}

// compute follows one piece of work and checks it.
func (w *world) compute(work schedule.Work) {
	q, size := w.live[work.ID], w.limits.BlockTokens
	if work.Begins {
		q.blocks, q.reached = q.blocks[:0], 0
		if work.Start != work.Cached {
			w.t.Fatalf("begins at %d with %d cached tokens", work.Start, work.Cached)
		}
	}
	q.blocks = append(q.blocks, work.Blocks[len(work.Blocks)-work.Added:]...)
	if !slices.Equal(q.blocks, work.Blocks) {
		w.t.Fatalf("a follower has blocks %v, want %v", q.blocks, work.Blocks)
	}
	for _, block := range work.Blocks[len(work.Blocks)-work.Fresh:] {
		w.content[block] = w.content[block][:0]
	}
	tokens := slices.Concat(q.tokens, q.guessed)
	q.reached = max(q.reached, work.Start+work.Count)
	if work.Count < 1 || work.Start+work.Count > len(tokens) || len(work.Blocks) != (q.reached+size-1)/size ||
		work.Cached > 0 && !q.lookup {
		w.t.Fatalf("work %+v of %d tokens", work, len(tokens))
	}
	for position := range work.Start + work.Count {
		block := work.Blocks[position/size]
		if position >= work.Start {
			// What a wrong guess left is overwritten, and nothing behind it was computed.
			w.content[block] = append(w.content[block][:position%size:position%size], written{q.adapter, tokens[position]})
		}
		if got, want := w.content[block][position%size], (written{q.adapter, tokens[position]}); got != want {
			w.t.Fatalf("%d: position %d finds %v, want %v", work.ID, position, got, want)
		}
	}
	w.hits += work.Cached
}

// guess adds guesses, at times wrong, to the work of a sequence.
func (w *world) guess(work *schedule.Work) {
	q, asked := w.live[work.ID], 1+w.random.IntN(9)
	for i := range w.s.Draft(work, asked) {
		q.guessed = append(q.guessed, int32(len(q.tokens)+i))
		if w.random.IntN(5) == 0 {
			q.guessed[i] = -1
		}
	}
	if len(q.guessed) > asked {
		w.t.Fatalf("%d guesses of %d", len(q.guessed), asked)
	}
}

// yield gives a sequence its next token, and more as long as guesses are right, or ends it.
func (w *world) yield(id schedule.ID) {
	q := w.live[id]
	guessed := q.guessed
	q.guessed = nil
	for _, token := range append(guessed, -1) {
		right := token == int32(len(q.tokens))
		if !w.grow(id, q, right) || !right {
			return
		}
		w.right++
	}
}

// grow gives a sequence a token, and reports whether it goes on.
func (w *world) grow(id schedule.ID, q *told, guessed bool) bool {
	if len(q.tokens)+1 == q.end {
		w.s.Remove(id)
		delete(w.live, id)
		return false
	}
	q.tokens = append(q.tokens, int32(len(q.tokens)))
	if guessed {
		w.s.AppendDrafted(id)
	} else {
		w.s.Append(id)
	}
	if q.cached && len(q.tokens)%w.limits.BlockTokens == 0 {
		chain := protocol.NewKeyChain(q.adapter, "")
		keys := chain.Keys(nil, q.tokens, w.limits.BlockTokens)
		w.s.AppendKey(id, keys[len(keys)-1])
	}
	return true
}

// Random workloads with equal prefixes, cancels and few blocks: budgets hold, everyone finds exactly its own tokens in
// its blocks, computed with its own adapter, whoever decodes gets a token in every step, blocks are free, held or cached, and all ends.
func TestProperties(t *testing.T) {
	parked, hits, right := 0, 0, 0
	for seed := range uint64(400) {
		random := rand.New(rand.NewPCG(seed, 1))
		w := &world{t: t, random: random, live: map[schedule.ID]*told{}, content: map[int32][]written{}, next: 1,
			limits: schedule.Limits{BlockTokens: 4, Blocks: 16 + random.IntN(30), PrefillTokens: 1 + random.IntN(20),
				MaxSequences: 1 + random.IntN(6)}}
		w.s = schedule.New(w.limits)
		for step := 0; w.next <= 25 || len(w.live) > 0; step++ {
			if step > 5000 {
				t.Fatalf("seed %d: %d sequences never end: %+v", seed, len(w.live), w.s.Counts())
			}
			if w.next <= 25 && random.IntN(3) == 0 {
				w.add()
			}
			next := w.s.Next()
			prefill := 0
			for i := range next {
				if work := &next[i]; work.Count > 1 {
					prefill += work.Count
				} else if work.Reaches && random.IntN(2) == 0 {
					parked := w.s.Counts().Parked
					if w.guess(work); w.s.Counts().Parked != parked {
						t.Fatalf("seed %d step %d: a guess parked somebody", seed, step)
					}
				}
			}
			plan := slices.Clone(next)
			for _, work := range plan {
				w.compute(work)
			}
			if prefill > w.limits.PrefillTokens || len(plan) > w.limits.MaxSequences {
				t.Fatalf("seed %d step %d: %d prompt tokens of %d sequences", seed, step, prefill, len(plan))
			}
			if err := w.s.Check(); err != nil {
				t.Fatalf("seed %d step %d: %v", seed, step, err)
			}
			for _, work := range plan {
				if random.IntN(200) == 0 {
					w.s.Remove(work.ID)
					delete(w.live, work.ID)
				} else if work.Reaches {
					w.yield(work.ID)
				}
				if random.IntN(200) == 0 { // before what it got is computed
					w.s.Remove(work.ID)
					delete(w.live, work.ID)
				}
			}
		}
		c := w.s.Counts()
		if c.Running+c.Waiting+c.HeldBlocks != 0 || c.CachedBlocks+c.FreeBlocks != w.limits.Blocks {
			t.Fatalf("seed %d: all ended, but %+v", seed, c)
		}
		parked, hits, right = parked+c.Parked, hits+w.hits, right+w.right
	}
	if parked < 100 || hits < 1000 || right < 1000 {
		t.Errorf("only %d times parked, %d tokens found and %d guesses right: the test proves little", parked, hits, right)
	}
}

// A decode never waits, however many prompts come.
func TestDecodesGoOnBesidePrompts(t *testing.T) {
	s := schedule.New(schedule.Limits{BlockTokens: 16, Blocks: 1000, PrefillTokens: 32, MaxSequences: 64})
	s.Add(1, 1, nil, true)
	s.Next()
	s.Append(1)
	for id := range schedule.ID(40) {
		s.Add(2+id, 100, nil, true)
	}
	for step := range 40 * 100 / 32 {
		plan := s.Next()
		prompts := 0
		for _, work := range plan {
			if work.Count > 1 || work.Start < 100 && work.ID > 1 {
				prompts += work.Count
			}
			if work.Reaches {
				s.Append(work.ID)
			}
		}
		if plan[0].ID != 1 || !plan[0].Reaches || prompts < 32 {
			t.Fatalf("step %d: %s", step, tell(plan))
		}
	}
}
