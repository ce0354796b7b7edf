package admission_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lockstep/protocol"
	"lockstep/router/admission"
)

var limits = protocol.Limits{MaxSequenceTokens: 256, CapacityTokens: 512, BlockTokens: 16, MaxRequests: 5}

func TestOrderAndRoom(t *testing.T) {
	c := admission.New(10)
	c.SetGroup("a", admission.Group{Kind: "m", Limits: limits})
	for id := range uint64(4) {
		if err := c.Push(admission.Item{ID: id, Kind: "m", Tokens: 200}); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(c.Admit()); got != "[{0 a} {1 a}]" { // 208 each
		t.Fatalf("got %v", got)
	}
	if got := fmt.Sprint(c.Admit()); got != "[]" {
		t.Fatalf("got %v", got)
	}
	if got := c.RemoveGroup("a"); fmt.Sprint(got) != "[0 1]" {
		t.Fatalf("got %v", got)
	}
	c.SetGroup("b", admission.Group{Kind: "m", Limits: limits})
	if got := fmt.Sprint(c.Admit()); got != "[{0 b} {1 b}]" {
		t.Fatalf("after a death: got %v", got)
	}
	c.Remove(0)
	if got := fmt.Sprint(c.Admit()); got != "[{2 b}]" {
		t.Fatalf("after an end: got %v", got)
	}
}

func TestQueueBoundAndKinds(t *testing.T) {
	c := admission.New(2)
	c.SetGroup("a", admission.Group{Kind: "m", Limits: limits})
	for id, kind := range []string{"other", "m"} {
		if err := c.Push(admission.Item{ID: uint64(id), Kind: kind, Tokens: 10}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Push(admission.Item{ID: 9, Kind: "m", Tokens: 10}); err != admission.ErrQueueFull {
		t.Fatalf("got %v", err)
	}
	if got := fmt.Sprint(c.Admit()); got != "[{1 a}]" {
		t.Fatalf("a kind without a group holds up another: got %v", got)
	}
}

// Random events; after each: no group holds more than its limits, every item is in exactly one place, the order of
// dispatch within a kind follows arrival.
func TestLedgerProperties(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	for range 200 {
		c := admission.New(50)
		live := map[uint64]int{} // id to tokens
		groups := map[string]bool{}
		next := uint64(0)
		for range 300 {
			switch random.IntN(8) {
			case 0:
				name := fmt.Sprint("g", random.IntN(3))
				c.SetGroup(name, admission.Group{Kind: "m", Limits: limits})
				groups[name] = true
			case 1:
				name := fmt.Sprint("g", random.IntN(3))
				c.RemoveGroup(name)
				delete(groups, name)
			case 2:
				for id := range live {
					c.Remove(id)
					delete(live, id)
					break
				}
			case 3:
				for id := range live {
					c.Requeue([]uint64{id})
					break
				}
			case 4:
				c.Admit()
			default:
				tokens := 1 + random.IntN(256)
				if c.Push(admission.Item{ID: next, Kind: "m", Tokens: tokens}) == nil {
					live[next] = tokens
				}
				next++
			}
			check(t, c, live, groups)
		}
	}
}

func check(t *testing.T, c *admission.Core, live map[uint64]int, groups map[string]bool) {
	t.Helper()
	waiting := c.Waiting("m")
	for i := 1; i < len(waiting); i++ {
		if waiting[i-1] >= waiting[i] {
			t.Fatalf("the queue is out of order: %v", waiting)
		}
	}
	inGroups := map[string]int{}
	count := 0
	for id, tokens := range live {
		if name := c.GroupOf(id); name != "" {
			inGroups[name] += admission.Need(tokens, limits)
			count++
		}
	}
	if count+len(waiting) != len(live) {
		t.Fatalf("%d in groups and %d waiting, %d live", count, len(waiting), len(live))
	}
	for name := range groups {
		tokens, items := c.Reserved(name)
		if tokens != inGroups[name] || tokens > limits.CapacityTokens || items > limits.MaxRequests {
			t.Fatalf("group %s: reserved %d, items hold %d, %d items", name, tokens, inGroups[name], items)
		}
	}
}
