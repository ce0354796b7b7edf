package collective_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"lockstep/shard/collective"
)

// Ranks are goroutines here; that they may be processes is tested end to end. Each maps the memory for itself.
func runRanks(t *testing.T, ranks int, body func(g *collective.Group) error) []error {
	t.Helper()
	memory, err := collective.NewMemory("test")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	errs := make([]error, ranks)
	var all sync.WaitGroup
	for rank := range ranks {
		g, err := collective.Open(memory, rank, collective.Sizes{Ranks: ranks, ReduceFloats: 100, GatherFloats: 64 * ranks, PlanBytes: 64})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer g.Close()
			errs[rank] = body(g)
		})
	}
	all.Wait()
	return errs
}

// What ranks share they all get, also when they share again at once, and between exchanges.
func TestShare(t *testing.T) {
	errs := runRanks(t, 3, func(g *collective.Group) error {
		for round := range 100 {
			mine := bytes.Repeat([]byte{byte(round), byte(g.Rank())}, round)
			all, err := g.Share(mine)
			if err != nil {
				return err
			}
			for rank, told := range all {
				if want := bytes.Repeat([]byte{byte(round), byte(rank)}, round); !bytes.Equal(told, want) {
					return fmt.Errorf("round %d: rank %d told %v, want %v", round, rank, told, want)
				}
			}
			g.Partial()[0] = float32(g.Rank())
			parts, err := g.Exchange()
			if err != nil {
				return err
			}
			if len(parts) != 3 || parts[2][0] != 2 {
				return fmt.Errorf("round %d: exchanged %v", round, parts)
			}
		}
		if _, err := g.Share(make([]byte, 256)); err == nil {
			return errors.New("256 bytes were shared")
		}
		return nil
	})
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
}

func TestExchangeGatherAndPlans(t *testing.T) {
	const rounds = 300
	for _, ranks := range []int{1, 2, 4} {
		errs := runRanks(t, ranks, func(g *collective.Group) error {
			for round := range rounds {
				if g.Rank() == 0 {
					if err := g.Send(fmt.Appendf(nil, "plan %d", round)); err != nil {
						return err
					}
				} else if plan, err := g.Receive(nil); err != nil || string(plan) != fmt.Sprintf("plan %d", round) {
					return fmt.Errorf("round %d: got plan %q, %w", round, plan, err)
				}
				g.Partial()[0] = float32(round*10 + g.Rank())
				parts, err := g.Exchange()
				if err != nil {
					return err
				}
				for rank := range parts {
					if got, want := parts[rank][0], float32(round*10+rank); got != want {
						return fmt.Errorf("round %d, part of rank %d: got %v, want %v", round, rank, got, want)
					}
				}
				if err := g.AwaitRelease(); err != nil {
					return err
				}
				g.GatherArea()[g.Rank()] = float32(round)
				if err := g.Gather(); err != nil {
					return err
				}
				if g.Rank() == 0 {
					for rank := range g.Ranks() {
						if got := g.GatherArea()[rank]; got != float32(round) {
							return fmt.Errorf("round %d: gathered %v from rank %d", round, got, rank)
						}
					}
					g.Release()
				}
			}
			return nil
		})
		for rank, err := range errs {
			if err != nil {
				t.Errorf("%d ranks, rank %d: %v", ranks, rank, err)
			}
		}
	}
}

func TestAbortEndsEveryWait(t *testing.T) {
	memory, err := collective.NewMemory("test")
	if err != nil {
		t.Fatal(err)
	}
	defer memory.Close()
	var all sync.WaitGroup
	for rank := range 3 {
		g, err := collective.Open(memory, rank, collective.Sizes{Ranks: 4, ReduceFloats: 1, GatherFloats: 1, PlanBytes: 1})
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer g.Close()
			var err error
			if rank == 2 { // the others wait in a reduction that rank 3 never joins
				_, err = g.Receive(nil)
			} else {
				_, err = g.Exchange()
			}
			if !errors.Is(err, collective.ErrAborted) {
				t.Errorf("rank %d: got %v, want ErrAborted", rank, err)
			}
		})
	}
	if err := collective.Abort(memory); err != nil {
		t.Fatal(err)
	}
	all.Wait()
}
