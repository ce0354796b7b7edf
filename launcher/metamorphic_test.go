package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lockstep/protocol/outside"
	"lockstep/shard/cpu"
)

var (
	metamorphicTime = flag.Duration("metamorphic.time", 0, "how long TestMetamorphic runs; 0: a few seconds, or minutes with LOCKSTEP_ALL")
	metamorphicSeed = flag.Uint64("metamorphic.seed", 0, "the first seed of TestMetamorphic; 0: by the clock")
)

const (
	// metamorphicTotalTokens is --max-total-tokens of every server: the longest prompt and output of a workload fit it, and
	// it is the least that a cache may have.
	metamorphicTotalTokens = 320
	// variationTimeout is when a variation that has not ended counts as hanging; generous: plain Go has taken 73 s, beside
	// other work it takes longer.
	variationTimeout = 10 * time.Minute
	// historyRequests outweigh what admission assumes for want of a history.
	historyRequests = 64
)

// variation is one way of serving a workload. None of it may show in an answer.
type variation struct {
	kernels                  string
	shards, threads          int
	prefillTokens, batchSize int
	cacheTokens              int
	admission                string
	shortHistory             bool // requests of one token come first, which lets admission expect that of all
	prefixCache              bool
	clients                  int // that ask at once
	leavers                  int // clients beside them that come and go
	kills                    int // kill -9 in mid-run
	wholeGroup               bool
}

// alone is the variation that says what is right: nothing is shared, cut or cached.
var alone = variation{shards: 1, threads: 1, prefillTokens: 512, batchSize: 128, cacheTokens: 8192, admission: "conservative", clients: 1}

// randomVariation draws a variation. Of any three that follow each other one kills and one has a cache that is too small
// for what its admission lets in, so that requests are parked.
func randomVariation(random *rand.Rand, round int, slow bool) variation {
	v := variation{
		shards: 1 << random.IntN(3), threads: 1 + random.IntN(2), prefillTokens: []int{16, 64, 512}[random.IntN(3)],
		batchSize: []int{1 + random.IntN(8), 128}[random.IntN(2)], cacheTokens: 8192,
		admission:   []string{"conservative", "peak", "past-future"}[random.IntN(3)],
		prefixCache: random.IntN(3) > 0, clients: 1 + random.IntN(40), leavers: random.IntN(5), wholeGroup: random.IntN(3) == 0,
	}
	if kernels := cpu.Available(); slow || kernels[0].Name() != "go" {
		v.kernels = kernels[random.IntN(len(kernels))].Name()
		if v.kernels == "go" && (!slow || random.IntN(8) > 0) {
			v.kernels = kernels[0].Name() // plain Go is slow: more rarely
		}
	}
	if !slow {
		v.leavers = min(v.leavers, v.batchSize-1) // else they have most of the time
	}
	switch round % 3 {
	case 1:
		v.kills = 1 + random.IntN(2)
	case 2:
		v.cacheTokens = metamorphicTotalTokens + 16*random.IntN(4)
		v.admission, v.shortHistory = []string{"past-future", "peak"}[round/3%2], true
		v.batchSize, v.clients = 128, 30+random.IntN(11)
	}
	return v
}

func (v variation) serve(t *testing.T) *server {
	t.Helper()
	arguments := []string{"serve", "--hostname", "127.0.0.1", "--port", strconv.Itoa(freePort(t)),
		"--max-total-tokens", strconv.Itoa(metamorphicTotalTokens), "--num-shard", strconv.Itoa(v.shards), "--threads",
		strconv.Itoa(v.threads),
		"--max-batch-prefill-tokens", strconv.Itoa(v.prefillTokens), "--max-batch-size", strconv.Itoa(v.batchSize),
		"--max-batch-total-tokens", strconv.Itoa(v.cacheTokens), "--admission", v.admission}
	if v.kernels != "" {
		arguments = append(arguments, "--kernels", v.kernels)
	}
	if !v.prefixCache {
		arguments = append(arguments, "--disable-prefix-cache")
	}
	return serve(t, arguments...)
}

// tally counts what a run of the test has seen.
type tally struct {
	workloads, variations, requests, streams, replays, tokens, kills, left, parked int
	finishes                                                                       map[string]int
}

// reference answers one request at a time.
type reference struct{ *server }

// sequence is what a request with its seed gets there.
func (r reference) sequence(t *testing.T, inputs string, parameters parameters) sequence {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), variationTimeout)
	defer cancel()
	got, err := r.ask(ctx, inputs, parameters, false, nil)
	if err != nil || len(got) != 1 {
		t.Fatalf("%v: got %d sequences, %v, want one", parameters, len(got), err)
	}
	return got[0]
}

// killer kills shards of a server when its clients have received certain numbers of tokens. The client that receives the
// token kills before it reads on, so that a kill meets a run in full swing.
type killer struct {
	*server
	mutex      sync.Mutex
	random     *rand.Rand
	at         []int // tokens, ascending
	wholeGroup bool
	tokens     int
	kills      int
}

func (k *killer) token(context.Context) error {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.tokens++
	if len(k.at) == 0 || k.tokens < k.at[0] {
		return nil
	}
	k.at = k.at[1:]
	ranks := k.ranks()
	for deadline := time.Now().Add(startTimeout); len(ranks) == 0; ranks = k.ranks() { // between two incarnations
		if time.Now().After(deadline) {
			return fmt.Errorf("no shard to kill within %v", startTimeout)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if !k.wholeGroup {
		ranks = ranks[k.random.IntN(len(ranks)):][:1]
	}
	for _, pid := range ranks {
		syscall.Kill(pid, syscall.SIGKILL)
	}
	k.kills++
	return nil
}

// ranks are the processes of all shards that live.
func (s *server) ranks() (pids []int) {
	for arguments, pid := range s.children() {
		if strings.HasPrefix(arguments, "lockstep shard") {
			pids = append(pids, pid)
		}
	}
	slices.Sort(pids)
	return pids
}

// leaver asks for streams and leaves each behind a random number of events, until ctx ends. It returns how often it left.
func (s *server) leaver(ctx context.Context, random *rand.Rand) (left int, err error) {
	for ctx.Err() == nil {
		stay, cancel := context.WithCancel(ctx)
		events := random.IntN(12)
		p := parameters{"max_new_tokens": 60, "ignore_eos": true, "details": true, "do_sample": random.IntN(2) == 0}
		_, err := s.ask(stay, randomText(random, 1+random.IntN(40)), p, true, func(context.Context) error {
			if events--; events < 0 {
				cancel()
			}
			return nil
		})
		gone := stay.Err() != nil
		cancel()
		switch {
		case !gone && err != nil:
			return left, fmt.Errorf("of a client that had not left yet: %w", err)
		case !gone:
			return left, errors.New("a stream of 60 tokens ended within a few")
		case ctx.Err() == nil:
			left++
		}
	}
	return left, nil
}

// run serves a workload in one way, in random order, and returns the answers by job.
func (v variation) run(t *testing.T, s *server, jobs []job, random *rand.Rand, total *tally) [][]sequence {
	ctx, cancel := context.WithTimeout(t.Context(), variationTimeout)
	defer cancel()
	order, streamed, expected := random.Perm(len(jobs)), make([]bool, len(jobs)), 0
	for i := range jobs {
		if streamed[i] = jobs[i].streamable() && random.IntN(3) > 0; streamed[i] {
			expected += len(jobs[i].want.tokens) // of what draws its seed nothing is known
			total.streams++
		}
	}
	k := &killer{server: s, random: rand.New(rand.NewPCG(random.Uint64(), 1)), wholeGroup: v.wholeGroup}
	for i := range v.kills {
		k.at = append(k.at, 1+expected*i/4+random.IntN(expected/4))
	}
	noise, leave := context.WithCancel(ctx)
	defer leave()
	var clients, leavers sync.WaitGroup
	var mutex sync.Mutex
	for range v.leavers {
		random := rand.New(rand.NewPCG(random.Uint64(), 2))
		leavers.Go(func() {
			left, err := s.leaver(noise, random)
			if err != nil {
				t.Error(err)
			}
			mutex.Lock()
			defer mutex.Unlock()
			total.left += left
		})
	}
	if v.shortHistory {
		for range historyRequests {
			if _, err := s.ask(ctx, "Once", parameters{"max_new_tokens": 1, "details": true}, false, nil); err != nil {
				t.Error(err)
			}
		}
	}
	answers, next := make([][]sequence, len(jobs)), make(chan int, len(jobs))
	for _, i := range order {
		next <- i
	}
	close(next)
	for range v.clients {
		clients.Go(func() {
			for i := range next {
				var err error
				if answers[i], err = s.ask(ctx, jobs[i].inputs, jobs[i].parameters, streamed[i], k.token); err != nil {
					t.Errorf("%v, streamed %v: %v", jobs[i].parameters, streamed[i], err)
				}
			}
		})
	}
	clients.Wait()
	leave()
	leavers.Wait()
	if k.kills != v.kills {
		t.Errorf("got %d kills, want %d", k.kills, v.kills)
	}
	total.kills += k.kills
	return answers
}

// check compares answers with the reference's, and counts.
func check(t *testing.T, jobs []job, answers [][]sequence, r reference, total *tally) {
	t.Helper()
	for i := range jobs {
		j, got := &jobs[i], answers[i]
		if len(got) != j.sequences() {
			t.Errorf("%v: got %d sequences, want %d", j.parameters, len(got), j.sequences())
			continue
		}
		for n, s := range got {
			want := j.want
			if j.draws() {
				// The answer tells the seed that was drawn: as a request of its own it gives the same.
				want = r.sequence(t, j.inputs, j.parameters.seeded(s.seed))
				total.replays++
			}
			if difference := s.difference(want); difference != "" {
				body, _ := json.Marshal(j.parameters)
				t.Errorf("sequence %d of %q %s: %s", n, j.inputs, body, difference)
			}
			if s.mean() > got[0].mean() {
				t.Errorf("%v: sequence %d has a better mean log-probability than the first, which should be the best", j.parameters, n)
			}
			total.tokens += len(s.tokens)
			total.finishes[s.finish]++
		}
		total.requests++
	}
}

// Metamorphic: one workload is served, over HTTP, in many random ways: with other kernels, shards, budgets, policies and
// cache sizes, the prefix cache on and off, in any order and company, as streams and in one piece, beside clients that
// leave, parked, and with kill -9 in the middle. Every request must get the same bytes each time: tokens, log-probabilities,
// text and finish reason.
//
//	go test ./launcher -run TestMetamorphic -timeout 0 -metamorphic.time 2h
func TestMetamorphic(t *testing.T) {
	seed, end, most := *metamorphicSeed, time.Now().Add(3*time.Second), 3
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	slow := *metamorphicTime > 0 || outside.All()
	switch {
	case *metamorphicTime > 0:
		end, most = time.Now().Add(*metamorphicTime), 9
	case slow:
		end, most = time.Now().Add(2*time.Minute), 9
	}
	t.Logf("first seed %d", seed)
	total := tally{finishes: map[string]int{}}
	// On a busy machine the time may be over before all has happened that must.
	for ; !t.Failed() && (total.workloads == 0 || time.Now().Before(end) || total.workloads < 6 && !total.all()); seed++ {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { metamorphicRound(t, seed, most, slow, end, &total) })
	}
	t.Logf("%+v", total)
	if !t.Failed() && !total.all() {
		t.Error("something never happened that the test is about")
	}
}

// all reports whether everything has happened that the test is about.
func (t *tally) all() bool {
	return t.kills > 0 && t.streams > 0 && t.replays > 0 && t.parked > 0 && t.finishes["stop_sequence"] > 0
}

// metamorphicRound makes one workload, has it answered by the reference, and then in several ways: in at least three,
// and in no more than most.
func metamorphicRound(t *testing.T, seed uint64, most int, slow bool, end time.Time, total *tally) {
	random := rand.New(rand.NewPCG(seed, 9))
	r := reference{alone.serve(t)}
	jobs := metamorphicWorkload(t, 20+random.IntN(12), random, r)
	for round := 0; round < most && (round < 3 || time.Now().Before(end)); round++ {
		v := randomVariation(random, round, slow)
		t.Run(fmt.Sprintf("%+v", v), func(t *testing.T) {
			s := v.serve(t)
			answers := v.run(t, s, jobs, random, total)
			children := s.children()
			parked := s.parked(t)
			s.command.Process.Signal(syscall.SIGTERM)
			if code := s.exit(); code != 0 {
				t.Errorf("exit code %d, want 0", code)
			}
			assertGone(t, children)
			check(t, jobs, answers, r, total)
			total.variations++
			total.parked += parked
		})
	}
	total.workloads++
}
