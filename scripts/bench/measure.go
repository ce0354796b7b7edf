package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lockstep/scripts/machine"
	"lockstep/scripts/serving"
)

const (
	// probeBytes are read by a probe of the bandwidth.
	probeBytes = 256 << 20
	// sampleLimit is how long one sample may take; who takes longer takes part no more.
	sampleLimit = 5 * time.Minute
	// disturbed is the share of all processors that others may have in a sample that counts as clean.
	disturbed = 0.12
	// quietMoment is how long others must be quiet before a sample.
	quietMoment = time.Second
	// prefixClients share a prefix of prefixTokens.
	prefixClients = 16
	prefixTokens  = 400
)

// workload is what clients do at once: each makes requests one after another.
type workload struct {
	name              string
	clients, requests int
	shared            int // tokens at the begin of all prompts
	prompt, tokens    int
	task              string // what is asked, in place of a prompt of so many tokens
}

// parseWorkloads reads numbers of clients, prefill, prefix and tasks, with commas between them.
func parseWorkloads(text string) (all []workload, err error) {
	for name := range strings.SplitSeq(text, ",") {
		switch {
		case tasks[name] != "":
			all = append(all, workload{name: name, clients: 1, requests: 2, tokens: 200, task: name})
		case name == "prefill":
			all = append(all, workload{name: "prefill of 512", clients: 1, requests: 3, prompt: 512, tokens: 1})
		case name == "prefix":
			all = append(all, workload{name: fmt.Sprintf("prefix of %d, %d clients", prefixTokens, prefixClients), clients: prefixClients,
				requests: 1, shared: prefixTokens, prompt: prefixTokens + 32, tokens: 16})
		default:
			clients, err := strconv.Atoi(name)
			if err != nil || clients < 1 || clients > sequences {
				return nil, fmt.Errorf("workload %q: want a number of clients up to %d, prefill, prefix, %s", name, sequences,
					strings.Join(slices.Sorted(maps.Keys(tasks)), ", "))
			}
			// Few clients are done soon: they do it again.
			w := workload{name: name + " clients", clients: clients, requests: max(1, 4/clients), prompt: 200, tokens: 64}
			if clients == 1 {
				w.name = "1 client"
			}
			all = append(all, w)
		}
	}
	return all, nil
}

// sample is what one server did under one workload in one round.
type sample struct {
	tokensPerSecond float64
	first           time.Duration // median time to the first token
	perToken        time.Duration // median time between tokens; 0: there was one token only
	cpuPerToken     time.Duration // of the server's processes
	foreign         float64       // share of all processors that others had
	bandwidth, peak float64       // of the machine just before, in bytes and operations a second
}

func (s *sample) mark() string {
	if s.foreign > disturbed {
		return "*"
	}
	return ""
}

func (s *sample) String() string {
	return fmt.Sprintf("%8.1f tokens/s, TTFT %6.0f ms, %6.2f ms a token, %6.2f CPU ms a token, others %2.0f %%%s (%.0f GB/s, %.0f GFLOP/s)",
		s.tokensPerSecond, milliseconds(s.first), milliseconds(s.perToken), milliseconds(s.cpuPerToken), 100*s.foreign, s.mark(),
		s.bandwidth/1e9, s.peak/1e9)
}

// measure lets every server do every workload in every round.
func (b *bench) measure(ctx context.Context) error {
	for round := range b.rounds {
		for at, w := range b.loads {
			for i := range b.contestants {
				c := b.contestants[(i+round+at)%len(b.contestants)]
				if c.failure != nil {
					continue
				}
				s, err := b.cleanest(ctx, c, w, round)
				if ctx.Err() != nil {
					return ctx.Err()
				}
				if err != nil {
					c.failure = fmt.Errorf("round %d, %s: %w", round+1, w.name, err)
					fmt.Printf("%s takes part no more: %v\n", c.name, c.failure)
					c.server.Stop()
					continue
				}
				c.add(w.name, round, s)
				fmt.Printf("round %d, %-25s %-24s %v\n", round+1, w.name, c.name, s)
			}
		}
	}
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// cleanest measures until others disturb little, a bounded number of times, and returns the sample that they disturbed least.
func (b *bench) cleanest(ctx context.Context, c *contestant, w workload, round int) (best *sample, err error) {
	for attempt := range b.retries + 1 {
		b.awaitQuiet(ctx)
		s, err := b.load(ctx, c, w, uint64(round*(b.retries+1)+attempt))
		if err != nil {
			return nil, err
		}
		if best == nil || s.foreign < best.foreign {
			best = s
		}
		if best.foreign <= disturbed {
			break
		}
	}
	return best, nil
}

// awaitQuiet waits, a bounded time, until others leave the processors alone for a moment.
func (b *bench) awaitQuiet(ctx context.Context) {
	for deadline := time.Now().Add(b.patience); time.Now().Before(deadline) && ctx.Err() == nil; {
		busy := machine.BusySeconds()
		select {
		case <-ctx.Done():
		case <-time.After(quietMoment):
		}
		if machine.BusySeconds()-busy <= disturbed*quietMoment.Seconds()*float64(runtime.NumCPU()) {
			return
		}
	}
}

// load has a server do a workload. Prompts depend on the workload and on turn.
func (b *bench) load(ctx context.Context, c *contestant, w workload, turn uint64) (*sample, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, sampleLimit, fmt.Errorf("it took more than %v", sampleLimit))
	defer cancel()
	hash := fnv.New64a()
	fmt.Fprint(hash, w.name, turn)
	numbers := hash.Sum64()
	shared := b.prompts.prompt(numbers, w.shared)
	if w.shared > 0 {
		if _, err := complete(ctx, c.server, shared, 1); err != nil {
			return nil, err
		}
	}
	s := &sample{}
	if b.probe != nil {
		s.bandwidth, s.peak = b.probe.Limits()
	}
	busy, own, self := machine.BusySeconds(), machine.TreeSeconds(c.server.Command.Process.Pid), machine.ProcessSeconds()
	begin := time.Now()
	answers, err := crowd(ctx, w, func(ctx context.Context, client int) (answer, error) {
		if w.task != "" {
			return complete(ctx, c.server, b.prompts.tasks[w.task], w.tokens)
		}
		number := numbers + 1 + uint64(client)
		prompt := append(shared[:len(shared):len(shared)], b.prompts.prompt(number, w.prompt-w.shared)...)
		return complete(ctx, c.server, prompt, w.tokens)
	})
	if err != nil {
		return nil, err
	}
	took := time.Since(begin).Seconds()
	own = machine.TreeSeconds(c.server.Command.Process.Pid) - own
	others := machine.BusySeconds() - busy - own - (machine.ProcessSeconds() - self)
	s.foreign = max(0, others/took/float64(runtime.NumCPU()))
	s.summarise(answers, took, own)
	return s, nil
}

// summarise sets what the answers tell, which took so many seconds of time and of processors.
func (s *sample) summarise(answers []answer, took, processors float64) {
	var firsts, gaps []time.Duration
	tokens := 0
	for _, a := range answers {
		tokens += a.tokens
		firsts = append(firsts, a.first)
		if a.tokens > 1 {
			gaps = append(gaps, (a.whole-a.first)/time.Duration(a.tokens-1))
		}
	}
	s.tokensPerSecond = float64(tokens) / took
	s.first, s.perToken = serving.Percentile(firsts, 50), serving.Percentile(gaps, 50)
	s.cpuPerToken = time.Duration(processors / float64(tokens) * float64(time.Second))
}

// crowd runs a workload's clients, each of whose requests has a number of its own, and returns the first error, if any.
func crowd(ctx context.Context, w workload, request func(ctx context.Context, number int) (answer, error)) ([]answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	answers := make([]answer, w.clients*w.requests)
	var all sync.WaitGroup
	for client := range w.clients {
		all.Go(func() {
			for i := range w.requests {
				number := client*w.requests + i
				a, err := request(ctx, number)
				if err != nil {
					cancel(err)
					return
				}
				answers[number] = a
			}
		})
	}
	all.Wait()
	return answers, context.Cause(ctx)
}
