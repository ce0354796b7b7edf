package admission_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"lockstep/protocol"
	"lockstep/router/admission"
)

// world drives a core with random events and keeps its own plain account of what should be so.
type world struct {
	t       *testing.T
	core    *admission.Core
	random  *rand.Rand
	policy  admission.Policy
	live    map[uint64]*admission.Item
	yielded map[uint64]bool // at the group where it is
	groups  map[string]bool
	next    uint64
	log     []string
}

func (w *world) any() *admission.Item {
	ids := make([]uint64, 0, len(w.live))
	for id := range w.live {
		ids = append(ids, id)
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return w.live[ids[w.random.IntN(len(ids))]]
}

func (w *world) back(ids []uint64) {
	for _, id := range ids {
		delete(w.yielded, id)
	}
}

func (w *world) event() {
	name := fmt.Sprint("g", w.random.IntN(3))
	kind := w.random.IntN(20)
	item := w.any()
	w.log = append(w.log, fmt.Sprint(kind, name, w.core.Queued()))
	switch {
	case kind == 0:
		w.core.SetGroup(name, admission.Group{Kind: "m", Limits: limits})
		w.groups[name] = true
	case kind == 1:
		w.back(w.core.RemoveGroup(name))
		delete(w.groups, name)
	case kind == 2:
		w.core.SetOpen(name, w.random.IntN(3) > 0)
	case kind == 3:
		w.core.Report(name, protocol.Load{HeldTokens: w.random.IntN(600), Waiting: w.random.IntN(2)})
	case kind == 4 && item != nil:
		w.core.Requeue([]uint64{item.ID})
		w.back([]uint64{item.ID})
	case kind == 5 && item != nil:
		w.core.Remove(item.ID)
		delete(w.live, item.ID)
	case kind == 6 && item != nil:
		w.core.Begun(item.ID, w.random.IntN(300)-10)
	case kind < 14 && item != nil && w.core.GroupOf(item.ID) != "":
		item.Produced++
		w.yielded[item.ID] = true
		w.core.Advance(item.ID, item.Produced)
		if item.Produced == item.MaxNewTokens {
			w.core.Finish(item.ID)
			delete(w.live, item.ID)
		}
	case kind < 17:
		w.admit()
	default:
		w.push()
	}
}

func (w *world) push() {
	w.next++
	item := admission.Item{ID: w.next, Kind: "m", PromptTokens: 1 + w.random.IntN(128), MaxNewTokens: 1 + w.random.IntN(127)}
	for block := range item.PromptTokens / 16 {
		item.Keys = append(item.Keys, protocol.BlockKey{byte(w.next % 3), byte(block)})
	}
	if w.core.Push(item) == nil {
		w.live[item.ID] = &item
	}
}

// admit checks that what goes is what waited longest.
func (w *world) admit() {
	before := w.core.Waiting("m")
	for i, a := range w.core.Admit(0) {
		w.log = append(w.log, fmt.Sprint(a))
		if before[i] != a.ID {
			w.t.Fatalf("%d went, but %d was before it", a.ID, before[i])
		}
		if !w.groups[a.Group] {
			w.t.Fatalf("%d went to %s, which is not there", a.ID, a.Group)
		}
	}
}

func (w *world) check() {
	w.t.Helper()
	if waiting := w.core.Waiting("m"); !slices.IsSorted(waiting) {
		w.t.Fatalf("the queue is out of order: %v", waiting)
	}
	want := map[string]admission.GroupLoad{}
	account := map[string]protocol.Account{}
	placed := 0
	for id, item := range w.live {
		name := w.core.GroupOf(id)
		if name == "" {
			continue
		}
		placed++
		load := want[name]
		load.Requests++
		load.LedgerTokens += admission.Need(item.PromptTokens+item.Produced, limits)
		load.ReservedTokens += admission.Need(item.PromptTokens+item.MaxNewTokens, limits)
		want[name] = load
		if w.yielded[id] {
			a := account[name]
			a.Requests, a.Tokens = a.Requests+1, a.Tokens+item.PromptTokens+item.Produced
			account[name] = a
		}
	}
	if got, want := placed+len(w.core.Waiting("m")), len(w.live); got != want || w.core.Queued() != len(w.core.Waiting("m")) {
		w.t.Fatalf("got %d items in all places, want %d", got, want)
	}
	for name := range w.groups {
		got, want := w.core.Load(name), want[name]
		if got.Requests != want.Requests || got.LedgerTokens != want.LedgerTokens || got.ReservedTokens != want.ReservedTokens {
			w.t.Fatalf("group %s: got %+v, want %+v", name, got, want)
		}
		if got, want := w.core.Account(name), account[name]; got != want {
			w.t.Fatalf("group %s: got the account %+v, want %+v", name, got, want)
		}
		if got.Requests > limits.MaxRequests || w.policy == admission.Conservative && got.ReservedTokens > limits.CapacityTokens {
			w.t.Fatalf("group %s holds more than its limits: %+v", name, got)
		}
		if got.PrefillTokens < 0 {
			w.t.Fatalf("group %s: %d tokens to prefill", name, got.PrefillTokens)
		}
	}
}

// Random events; after each: no group holds more than its limits, every item is in exactly one place, the order of
// dispatch follows arrival, and ledger and account are those of a plain count.
func TestLedgerProperties(t *testing.T) {
	random := seeded(t)
	for _, policy := range []admission.Policy{admission.Conservative, admission.Peak, admission.PastFuture, admission.Aggressive} {
		for range 40 {
			w := &world{t: t, core: newCore(t, admission.Config{QueueLimit: 50, Policy: policy}), random: random, policy: policy,
				live: map[uint64]*admission.Item{}, yielded: map[uint64]bool{}, groups: map[string]bool{}}
			for range 600 {
				w.event()
				w.check()
			}
		}
	}
}

// Equal seeds and events give equal decisions.
func TestDeterminism(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	run := func() []string {
		w := &world{t: t, core: newCore(t, admission.Config{QueueLimit: 50, Policy: admission.PastFuture, Seed: seed}),
			random: rand.New(rand.NewPCG(seed, 2)),
			live:   map[uint64]*admission.Item{}, yielded: map[uint64]bool{}, groups: map[string]bool{}}
		for range 3000 {
			w.event()
		}
		return w.log
	}
	if first, second := run(), run(); !slices.Equal(first, second) {
		t.Fatal("two runs differ")
	}
}

// As long as requests end, all get through, whatever the policy, and however wrong its guesses are.
func TestNobodyStarves(t *testing.T) {
	random := seeded(t)
	for _, policy := range []admission.Policy{admission.Conservative, admission.Peak, admission.PastFuture, admission.Aggressive} {
		c := newCore(t, admission.Config{QueueLimit: 1000, Policy: policy})
		for g := range 2 {
			c.SetGroup(fmt.Sprint("g", g), admission.Group{Kind: "m", Limits: limits})
		}
		left := map[uint64]int{} // produced, of those at groups
		var items []admission.Item
		for id := range uint64(300) {
			items = append(items, admission.Item{ID: id, PromptTokens: 1 + random.IntN(100), MaxNewTokens: 1 + random.IntN(156)})
		}
		push(t, c, items...)
		for step := 0; c.Queued() > 0; step++ {
			if step > 100000 {
				t.Fatalf("%s: %d still wait", policy, c.Queued())
			}
			for _, a := range c.Admit(0) {
				left[a.ID] = 0
			}
			for id := range left {
				left[id]++
				c.Advance(id, left[id])
				if left[id] == items[id].MaxNewTokens || random.IntN(60) == 0 {
					c.Finish(id)
					delete(left, id)
				}
			}
		}
	}
}
