package admission_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"lockstep/protocol"
	"lockstep/router/admission"
)

var limits = protocol.Limits{MaxSequenceTokens: 256, CapacityTokens: 512, BlockTokens: 16, MaxRequests: 5}

func newCore(t testing.TB, config admission.Config) *admission.Core {
	t.Helper()
	if config.QueueLimit == 0 {
		config.QueueLimit = 100
	}
	c, err := admission.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func push(t testing.TB, c *admission.Core, items ...admission.Item) {
	t.Helper()
	for _, item := range items {
		if item.Kind == "" {
			item.Kind = "m"
		}
		if err := c.Push(item); err != nil {
			t.Fatal(err)
		}
	}
}

// expect compares what a core lets go with "id group" pairs.
func expect(t testing.TB, c *admission.Core, want string) {
	t.Helper()
	if got := fmt.Sprint(c.Admit(0)); got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

func TestOrderAndRoom(t *testing.T) {
	c := newCore(t, admission.Config{})
	c.SetGroup("a", admission.Group{Kind: "m", Limits: limits})
	for id := range uint64(4) {
		push(t, c, admission.Item{ID: id, PromptTokens: 100, MaxNewTokens: 100}) // 208 each
	}
	expect(t, c, "[{0 a} {1 a}]")
	expect(t, c, "[]")
	if got, want := fmt.Sprint(c.RemoveGroup("a")), "[0 1]"; got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	c.SetGroup("b", admission.Group{Kind: "m", Limits: limits})
	expect(t, c, "[{0 b} {1 b}]")
	if got, want := c.Remove(0), "b"; got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	expect(t, c, "[{2 b}]")
	c.Requeue([]uint64{2, 1, 77})
	if got, want := fmt.Sprint(c.Waiting("m"), c.Waiting("none"), c.Queued()), "[1 2 3] [] 3"; got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	c.SetOpen("b", false)
	expect(t, c, "[]")
	c.SetOpen("b", true)
	expect(t, c, "[{1 b} {2 b}]")
	if got, want := fmt.Sprint(c.RemoveGroup("gone"))+c.Remove(99), "[]"; got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestQueueBoundKindsAndOrder(t *testing.T) {
	c := newCore(t, admission.Config{QueueLimit: 2})
	c.SetGroup("a", admission.Group{Kind: "m", Limits: limits})
	push(t, c, admission.Item{ID: 0, Kind: "other", PromptTokens: 5, MaxNewTokens: 5},
		admission.Item{ID: 4, PromptTokens: 5, MaxNewTokens: 5})
	if got, want := c.Push(admission.Item{ID: 9, Kind: "m", PromptTokens: 5, MaxNewTokens: 5}), admission.ErrQueueFull; got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	expect(t, c, "[{4 a}]") // a kind without a group holds up no other
	for _, id := range []uint64{3, 4} {
		if got, want := c.Push(admission.Item{ID: id}), admission.ErrOrder; got != want {
			t.Fatalf("id %d: got %v, want %v", id, got, want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, config := range []admission.Config{
		{}, {QueueLimit: 1, Policy: "magic"}, {QueueLimit: 1, Samples: 6}, {QueueLimit: 1, ReservePercent: 100},
		{QueueLimit: 1, DecodeWeight: -1}, {QueueLimit: 1, History: -1},
	} {
		if _, err := admission.New(config); err == nil {
			t.Errorf("%+v: got no error", config)
		}
	}
}

func TestExpiry(t *testing.T) {
	c := newCore(t, admission.Config{})
	push(t, c,
		admission.Item{ID: 1, PromptTokens: 5, MaxNewTokens: 5, Deadline: 10},
		admission.Item{ID: 2, PromptTokens: 5, MaxNewTokens: 5},
		admission.Item{ID: 3, PromptTokens: 5, MaxNewTokens: 5, Deadline: 20},
		admission.Item{ID: 4, PromptTokens: 5, MaxNewTokens: 5, Deadline: 10, Produced: 1})
	if got := c.Expire(10); got != nil {
		t.Fatalf("got %v, want none at the deadline itself", got)
	}
	c.SetGroup("a", admission.Group{Kind: "m", Limits: limits})
	if got, want := fmt.Sprint(c.Admit(11)), "[{2 a} {3 a} {4 a}]"; got != want { // the overdue one is passed over, and 4 has output
		t.Fatalf("got %v, want %v", got, want)
	}
	if got, want := fmt.Sprint(c.Expire(11), c.Expire(100), c.Queued()), "[1] [] 0"; got != want { // 3 waits no more
		t.Fatalf("got %v, want %v", got, want)
	}
}

// The number of requests at a group is bounded by what it runs at once, so that the choice of group stays late.
func TestSequencesBound(t *testing.T) {
	few := limits
	few.MaxSequences = 2
	c := newCore(t, admission.Config{Policy: admission.Peak})
	c.SetGroup("a", admission.Group{Kind: "m", Limits: few})
	for id := range uint64(4) {
		push(t, c, admission.Item{ID: id, PromptTokens: 1, MaxNewTokens: 1})
	}
	expect(t, c, "[{0 a} {1 a}]")
	few.MaxSequences = 3
	c.SetGroup("a", admission.Group{Kind: "m", Limits: few})
	expect(t, c, "[{2 a}]")
}

// What other routers hold lessens the room, but a group without a request of ours takes one whatever it holds.
func TestForeignTokens(t *testing.T) {
	c := newCore(t, admission.Config{})
	c.SetGroup("a", admission.Group{Kind: "m", Limits: limits})
	c.Report("a", protocol.Load{HeldTokens: 480, Running: 3})
	c.Report("unknown", protocol.Load{HeldTokens: 480, Running: 3})
	push(t, c, admission.Item{ID: 1, PromptTokens: 16, MaxNewTokens: 48}, admission.Item{ID: 2, PromptTokens: 16, MaxNewTokens: 48})
	expect(t, c, "[{1 a}]")
	c.Report("a", protocol.Load{HeldTokens: 400, Running: 3}) // 384 of others, 64 and 64 of ours: full to the last token
	expect(t, c, "[{2 a}]")
	if got, want := c.Load("a").HeldTokens, 400; got != want {
		t.Fatalf("got %d, want %d", got, want)
	}
}

// Each policy lets in as many requests of prompt 64 and at most 960 as it believes to fit, when outputs have 64 tokens.
func TestPolicies(t *testing.T) {
	big := protocol.Limits{MaxSequenceTokens: 1024, CapacityTokens: 4096, BlockTokens: 16}
	admitted := map[admission.Policy]int{}
	for _, policy := range []admission.Policy{admission.Conservative, admission.Peak, admission.PastFuture, admission.Aggressive} {
		c := newCore(t, admission.Config{QueueLimit: 10000, Policy: policy, Seed: 1})
		c.SetGroup("a", admission.Group{Kind: "m", Limits: big})
		next := uint64(0)
		for range 60 { // learn
			next++
			push(t, c, admission.Item{ID: next, PromptTokens: 64, MaxNewTokens: 960})
			expect(t, c, fmt.Sprintf("[{%d a}]", next))
			c.Advance(next, 64)
			c.Finish(next)
		}
		for range 100 {
			next++
			push(t, c, admission.Item{ID: next, PromptTokens: 64, MaxNewTokens: 960})
		}
		admitted[policy] = len(c.Admit(0))
	}
	// Of 4096: 1024 each; 128 each and 1 % free; 80 for the new one, 64 each for the others and 5 % free; and 176 each,
	// since the average still remembers its start and every request has slack.
	if got, want := fmt.Sprint(admitted), "map[aggressive:60 conservative:4 past-future:31 peak:23]"; got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}

// Without ended requests, outputs are assumed to be as long as they may be.
func TestPriorIsCareful(t *testing.T) {
	for _, policy := range []admission.Policy{admission.Peak, admission.PastFuture} {
		c := newCore(t, admission.Config{Policy: policy})
		c.SetGroup("a", admission.Group{Kind: "m", Limits: protocol.Limits{MaxSequenceTokens: 1024, CapacityTokens: 4096, BlockTokens: 16}})
		for id := range uint64(10) {
			push(t, c, admission.Item{ID: id, PromptTokens: 64, MaxNewTokens: 960})
		}
		if got, want := len(c.Admit(0)), 4; got != want {
			t.Errorf("%s: got %d, want %d", policy, got, want)
		}
	}
}

// While decoding requests share cached blocks, their credit lets more in; it is not given while some wait at the group.
func TestSharedBlocksAreCredited(t *testing.T) {
	for _, waiting := range []int{0, 1} {
		c := newCore(t, admission.Config{Policy: admission.PastFuture, ReservePercent: -1, Prior: -1})
		c.SetGroup("a", admission.Group{Kind: "m", Limits: protocol.Limits{MaxSequenceTokens: 512, CapacityTokens: 1200, BlockTokens: 16}})
		push(t, c, admission.Item{ID: 1, PromptTokens: 400, MaxNewTokens: 100}, admission.Item{ID: 2, PromptTokens: 400, MaxNewTokens: 100},
			admission.Item{ID: 3, PromptTokens: 400, MaxNewTokens: 100})
		expect(t, c, "[{1 a} {2 a}]")
		c.Advance(1, 1)
		c.Advance(2, 1)
		c.Report("a", protocol.Load{HeldTokens: 432, Running: 2, Waiting: waiting}) // 400 computed each, 368 of them only once
		if got, want := len(c.Admit(0)), 1-waiting; got != want {
			t.Errorf("%d waiting: got %d admitted, want %d", waiting, got, want)
		}
	}
}

func TestAccountAndLoads(t *testing.T) {
	c := newCore(t, admission.Config{})
	c.SetGroup("b", admission.Group{Kind: "m", Limits: limits})
	c.SetGroup("a", admission.Group{Kind: "none", Limits: limits})
	push(t, c, admission.Item{ID: 1, PromptTokens: 20, MaxNewTokens: 30},
		admission.Item{ID: 2, PromptTokens: 20, MaxNewTokens: 30, Produced: 7})
	expect(t, c, "[{1 b} {2 b}]")
	c.Advance(1, 1)
	if got, want := fmt.Sprint(c.Account("b"), c.Resuming("b"), c.Account("x"), c.Resuming("x")), "{1 21 0} 1 {0 0 0} 0"; got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	c.Begun(2, 16)
	c.Begun(1, 16)  // computes already: a parked one that begins again
	c.Begun(99, 16) // unknown
	want := "[{a 512 0 0 0 0 0 0} {b 512 0 64 128 144 11 2}]"
	if got := fmt.Sprint(c.Loads()); got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	c.Advance(2, 8)
	c.Advance(2, 9)
	c.Advance(50, 1)
	if got, want := fmt.Sprint(c.Account("b"), c.Resuming("b"), c.Load("x")), "{2 50 0} 0 {x 0 0 0 0 0 0 0}"; got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	c.RemoveGroup("b")
	c.Advance(1, 2) // a late token
	c.SetGroup("c", admission.Group{Kind: "m", Limits: limits})
	expect(t, c, "[{1 c} {2 c}]")
	if got, want := c.Resuming("c"), 2; got != want {
		t.Fatalf("got %d, want %d", got, want)
	}
}

// The number of kinds that are remembered is bounded; those in use stay.
func TestKindsAreBounded(t *testing.T) {
	c := newCore(t, admission.Config{QueueLimit: 5})
	push(t, c, admission.Item{ID: 1, PromptTokens: 5, MaxNewTokens: 5})
	for id := uint64(2); id < 1000; id++ {
		push(t, c, admission.Item{ID: id, Kind: fmt.Sprint(id), PromptTokens: 5, MaxNewTokens: 5})
		c.Remove(id)
	}
	c.SetGroup("a", admission.Group{Kind: "m", Limits: limits})
	expect(t, c, "[{1 a}]")
}

func TestAdvanceAllocatesNothing(t *testing.T) {
	c := newCore(t, admission.Config{})
	c.SetGroup("a", admission.Group{Kind: "m", Limits: limits})
	push(t, c, admission.Item{ID: 1, PromptTokens: 5, MaxNewTokens: 200})
	expect(t, c, "[{1 a}]")
	produced := 0
	if got := testing.AllocsPerRun(100, func() { produced++; c.Advance(1, produced) }); got != 0 {
		t.Fatalf("got %v allocations, want none", got)
	}
}

// A head that has found no room costs nothing more until there may be some.
func TestWaitingHeadAllocatesNothing(t *testing.T) {
	for _, policy := range []admission.Policy{admission.Peak, admission.PastFuture} {
		c := newCore(t, admission.Config{Policy: policy})
		c.SetGroup("a", admission.Group{Kind: "m", Limits: limits})
		for id := range uint64(5) {
			push(t, c, admission.Item{ID: id, PromptTokens: 100, MaxNewTokens: 100})
		}
		expect(t, c, "[{0 a} {1 a}]")
		if got := testing.AllocsPerRun(100, func() { c.Admit(0) }); got != 0 {
			t.Errorf("%s: got %v allocations, want none", policy, got)
		}
	}
}

func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// A group's own prompt budget decides how long a prompt keeps what came before it alive; 0 stands for the default.
func TestPeakKnowsTheStepsBudget(t *testing.T) {
	peaks := map[int]int{}
	for _, budget := range []int{0, 16, protocol.DefaultPrefillTokens, 2048} {
		c := newCore(t, admission.Config{})
		c.SetGroup("a", admission.Group{Kind: "m", Limits: protocol.Limits{MaxSequenceTokens: 4096, CapacityTokens: 8192, BlockTokens: 1,
			PrefillTokens: budget}})
		push(t, c, admission.Item{ID: 1, PromptTokens: 2048, MaxNewTokens: 100, IgnoreEOS: true})
		expect(t, c, "[{1 a}]")
		peaks[budget] = c.Load("a").PeakTokens
	}
	// The prompt and the new tokens, 16 of slack, and one for each chunk.
	if got, want := fmt.Sprint(peaks), "map[0:2168 16:2292 512:2168 2048:2165]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A group with adapters takes items of several kinds, and an old one that waits for its room is not overtaken by a younger one of
// another kind, but elsewhere.
func TestKindsShareAGroup(t *testing.T) {
	c := newCore(t, admission.Config{Policy: admission.Conservative})
	limits := protocol.Limits{MaxSequenceTokens: 512, CapacityTokens: 512, BlockTokens: 16}
	c.SetGroup("a", admission.Group{Kind: "m", Adapters: []string{"m+x", "m+y"}, Limits: limits})
	push(t, c, admission.Item{ID: 1, Kind: "m+x", PromptTokens: 100, MaxNewTokens: 100}, admission.Item{ID: 2, PromptTokens: 200,
		MaxNewTokens: 200}, admission.Item{ID: 3, Kind: "m+y", PromptTokens: 10, MaxNewTokens: 10}, admission.Item{ID: 4, Kind: "m+z",
		PromptTokens: 10, MaxNewTokens: 10})
	expect(t, c, "[{1 a}]")
	c.SetGroup("b", admission.Group{Kind: "m", Adapters: []string{"m+z"}, Limits: protocol.Limits{MaxSequenceTokens: 64,
		CapacityTokens: 64, BlockTokens: 16}})
	expect(t, c, "[{4 b}]") // where 2 would never fit, it keeps nobody waiting
	c.Remove(1)
	expect(t, c, "[{2 a} {3 a}]")
	c.SetGroup("a", admission.Group{Kind: "m", Adapters: []string{"m+x"}, Limits: limits})
	push(t, c, admission.Item{ID: 5, Kind: "m+y", PromptTokens: 10, MaxNewTokens: 10}, admission.Item{ID: 6, Kind: "m+x",
		PromptTokens: 10, MaxNewTokens: 10})
	expect(t, c, "[{6 a}]") // the group has lost the adapter that 5 waits for
}
