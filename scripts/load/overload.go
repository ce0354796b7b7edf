package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"lockstep/scripts/serving"
)

// overloadTest is more clients than a server takes.
type overloadTest struct{ connections, leavers int }

const (
	allowed = 128
	// crowds is how often the crowd comes: memory must not grow with it.
	crowds = 3
	// knocks is how many requests come one after another while all places are taken.
	knocks = 300
)

func (o *overloadTest) run() error {
	s, err := start("--num-shard", "2", "--max-concurrent-requests", fmt.Sprint(allowed), "--log-level", "error")
	if err != nil {
		return err
	}
	defer s.Stop()
	for range crowds {
		if err := o.crowd(s); err != nil {
			return err
		}
	}
	if err := o.knock(s); err != nil {
		return err
	}
	return o.leave(s)
}

func (o *overloadTest) request(i int) (string, parameters) {
	seed := uint64(i)
	return fmt.Sprintf("Once upon a time number %d", i%allowed), parameters{MaxNewTokens: 48, DoSample: true, Seed: &seed, IgnoreEOS: true}
}

// crowd opens all connections at once.
func (o *overloadTest) crowd(s *server) error {
	before := s.residentBytes()
	answers := make([]*answer, o.connections)
	failures := make([]error, o.connections)
	gate := make(chan struct{})
	var group sync.WaitGroup
	for i := range o.connections {
		group.Go(func() {
			prompt, p := o.request(i)
			<-gate
			answers[i], failures[i] = s.generate(prompt, p, 0)
		})
	}
	close(gate)
	group.Wait()
	if err := errors.Join(failures...); err != nil {
		return err
	}
	after := s.residentBytes()
	refused, taken, bodies := []time.Duration{}, []int{}, map[string]int{}
	for i, a := range answers {
		if len(a.ids) == 0 {
			refused = append(refused, a.refusal)
			bodies[a.body]++
		} else {
			taken = append(taken, i)
		}
	}
	fmt.Printf("%d connections at once, %d allowed: %d answered, %d refused after %v (median), %v (p99), %v (max)\n", o.connections,
		allowed, len(taken), len(refused),
		serving.Percentile(refused, 50).Round(time.Microsecond), serving.Percentile(refused, 99).Round(time.Microsecond),
		serving.Percentile(refused, 100).Round(time.Microsecond))
	for body, count := range bodies {
		fmt.Printf("%d times: %s\n", count, body)
	}
	harmed := 0
	for _, i := range taken {
		prompt, p := o.request(i)
		alone, err := s.generate(prompt, p, 0)
		if err != nil {
			return err
		}
		if !slices.Equal(alone.ids, answers[i].ids) {
			harmed++
		}
	}
	fmt.Printf("of those answered, %d got other tokens than alone\n", harmed)
	for role, bytes := range after {
		fmt.Printf("memory of the %s: %d MiB before, %d MiB after\n", role, before[role]>>20, bytes>>20)
	}
	if harmed > 0 {
		return errors.New("requests were harmed")
	}
	return nil
}

// knock takes all places with long generations, and comes again and again for one more.
func (o *overloadTest) knock(s *server) error {
	var group sync.WaitGroup
	begun := make(chan struct{}, allowed)
	done := make(chan struct{})
	for i := range allowed {
		group.Go(func() {
			prompt, p := o.request(i)
			p.MaxNewTokens = 400
			for {
				begun <- struct{}{}
				if _, err := s.generate(prompt, p, 0); err != nil {
					return
				}
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	for range allowed {
		<-begun
	}
	go func() {
		for range begun {
		}
	}()
	var refused []time.Duration
	taken := 0
	for i := range knocks {
		prompt, p := o.request(i)
		a, err := s.generate(prompt, p, 0)
		if err != nil {
			return err
		}
		if len(a.ids) > 0 {
			taken++
			continue
		}
		refused = append(refused, a.refusal)
	}
	close(done)
	group.Wait()
	close(begun)
	fmt.Printf("while %d run, of %d more one after another %d are refused after %v (median), %v (p99)\n", allowed, knocks, len(refused),
		serving.Percentile(refused, 50).Round(time.Microsecond), serving.Percentile(refused, 99).Round(time.Microsecond))
	return nil
}

// leave lets clients go away at random moments, and waits until nothing is held.
func (o *overloadTest) leave(s *server) error {
	var group sync.WaitGroup
	left := make([]bool, o.leavers)
	limit := make(chan struct{}, allowed-8)
	for i := range o.leavers {
		limit <- struct{}{}
		group.Go(func() {
			defer func() { <-limit }()
			prompt, p := o.request(i)
			p.MaxNewTokens = 400
			_, err := s.generate(prompt, p, time.Millisecond+time.Duration(rand.Int64N(int64(300*time.Millisecond))))
			left[i] = errors.Is(err, errLeft)
		})
	}
	group.Wait()
	gone := 0
	for _, l := range left {
		if l {
			gone++
		}
	}
	drained, err := s.drained()
	if err != nil {
		return err
	}
	mismatches, err := s.Metric("lockstep_ledger_mismatches_total")
	if err != nil {
		return err
	}
	fmt.Printf("%d of %d clients left at random moments; the load is 0 again %v later; %.0f ledger mismatches\n", gone, o.leavers,
		drained.Round(time.Millisecond), mismatches)
	return nil
}
