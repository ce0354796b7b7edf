package admission_test

import (
	"fmt"
	"testing"

	"lockstep/protocol"
	"lockstep/router/admission"
)

var roomy = protocol.Limits{MaxSequenceTokens: 4096, CapacityTokens: 1 << 20, BlockTokens: 16}

// prompt is an item whose prompt has some blocks of a family in common with others and a tail of its own.
func prompt(id uint64, family string, common, own int) admission.Item {
	var chain protocol.KeyChain
	tokens := make([]int32, 16*(common+own))
	for i := range tokens {
		tokens[i] = int32(len(family)*1000 + int(family[0]))
		if i >= 16*common {
			tokens[i] = int32(1e6 + id)
		}
	}
	return admission.Item{ID: id, Kind: "m", PromptTokens: len(tokens), MaxNewTokens: 10, Keys: chain.Keys(nil, tokens, 16)}
}

// Prompts with a common prefix meet on one group until it is busier than the others by what the prefix saves.
func TestPrefixesMeet(t *testing.T) {
	c := newCore(t, admission.Config{DecodeWeight: 1})
	for _, name := range []string{"a", "b", "c"} {
		c.SetGroup(name, admission.Group{Kind: "m", Limits: roomy})
	}
	push(t, c, prompt(1, "x", 20, 1), prompt(2, "y", 20, 1), prompt(3, "z", 20, 1))
	expect(t, c, "[{1 a} {2 b} {3 c}]")
	for id := uint64(1); id <= 3; id++ {
		c.Begun(id, 0)
		c.Advance(id, 1)
		c.Finish(id)
	}
	push(t, c, prompt(4, "z", 20, 1), prompt(5, "y", 20, 1), prompt(6, "z", 20, 1))
	expect(t, c, "[{4 c} {5 b} {6 a}]") // c: 320 saved, but 16 to prefill and 336 held of 4
	if got, want := fmt.Sprint(c.Load("c").PrefillTokens, c.Load("b").PrefillTokens, c.Load("a").PrefillTokens), "16 16 336"; got != want {
		t.Fatalf("got %v to prefill, want %v", got, want)
	}
}

func TestWithoutKeysLoadDecides(t *testing.T) {
	c := newCore(t, admission.Config{})
	for _, name := range []string{"a", "b"} {
		c.SetGroup(name, admission.Group{Kind: "m", Limits: roomy})
	}
	push(t, c, admission.Item{ID: 1, PromptTokens: 100, MaxNewTokens: 10}, admission.Item{ID: 2, PromptTokens: 30, MaxNewTokens: 10},
		admission.Item{ID: 3, PromptTokens: 30, MaxNewTokens: 10})
	expect(t, c, "[{1 a} {2 b} {3 b}]")
	c.Report("b", protocol.Load{HeldTokens: 1000}) // another router's
	push(t, c, admission.Item{ID: 4, PromptTokens: 30, MaxNewTokens: 10})
	expect(t, c, "[{4 a}]")
}

// What a cancelled prompt has not computed is not expected to be cached; what it found cached is.
func TestUncomputedPrefixesAreForgotten(t *testing.T) {
	for _, yielded := range []bool{false, true} {
		c := newCore(t, admission.Config{})
		c.SetGroup("a", admission.Group{Kind: "m", Limits: roomy})
		push(t, c, prompt(1, "x", 10, 4))
		expect(t, c, "[{1 a}]")
		c.Begun(1, 5*16)
		if yielded {
			c.Advance(1, 1)
		}
		c.Remove(1)
		push(t, c, prompt(2, "x", 10, 2))
		expect(t, c, "[{2 a}]")
		want := 7 * 16
		if yielded {
			want = 2 * 16
		}
		if got := c.Load("a").PrefillTokens; got != want {
			t.Errorf("yielded %v: got %d to prefill, want %d", yielded, got, want)
		}
	}
}

// The last known token is always computed, so a prompt that is cached as a whole has one token to prefill.
func TestOneTokenIsAlwaysComputed(t *testing.T) {
	c := newCore(t, admission.Config{})
	c.SetGroup("a", admission.Group{Kind: "m", Limits: roomy})
	push(t, c, prompt(1, "x", 3, 0))
	expect(t, c, "[{1 a}]")
	c.Advance(1, 1)
	push(t, c, prompt(2, "x", 3, 0))
	expect(t, c, "[{2 a}]")
	if got, want := c.Load("a").PrefillTokens, 1; got != want {
		t.Fatalf("got %d, want %d", got, want)
	}
}

// A group's index holds no more blocks than its cache: the least recently used prompts go, tails first.
func TestIndexIsBounded(t *testing.T) {
	small := roomy
	small.CapacityTokens, small.MaxSequenceTokens = 16*10, 16*10
	c := newCore(t, admission.Config{})
	c.SetGroup("a", admission.Group{Kind: "m", Limits: small})
	next := uint64(0)
	prefill := func(family string) int {
		next++
		push(t, c, prompt(next, family, 4, 0))
		expect(t, c, fmt.Sprintf("[{%d a}]", next))
		tokens := c.Load("a").PrefillTokens
		c.Advance(next, 1)
		c.Finish(next)
		return tokens
	}
	prefill("x")
	prefill("y")
	prefill("z") // 12 blocks: the last two of x have gone
	if got, want := prefill("z"), 1; got != want {
		t.Errorf("z: got %d, want %d", got, want)
	}
	if got, want := prefill("x"), 2*16; got != want {
		t.Errorf("x: got %d, want %d", got, want)
	}
}

// Where the cache never holds what the index promises, the index loses its say; where it does again, it regains it.
func TestTrust(t *testing.T) {
	c := newCore(t, admission.Config{})
	c.SetGroup("a", admission.Group{Kind: "m", Limits: roomy})
	next := uint64(0)
	prefill := func(cached int) int {
		next++
		push(t, c, prompt(next, "x", 10, 1))
		expect(t, c, fmt.Sprintf("[{%d a}]", next))
		tokens := c.Load("a").PrefillTokens
		c.Begun(next, cached)
		c.Begun(next, cached) // parked in its prefill: counts once
		c.Advance(next, 1)
		c.Finish(next)
		return tokens
	}
	if got, want := fmt.Sprint(prefill(0), prefill(160), prefill(0), prefill(160)), "176 16 16 32"; got != want {
		t.Fatalf("got %s, want %s", got, want)
	}
	for range 50 {
		prefill(0)
	}
	if got, want := prefill(0), 176; got != want {
		t.Fatalf("with the cache off: got %d, want %d", got, want)
	}
	for range 50 {
		prefill(160)
	}
	if got, want := prefill(160), 17; got != want {
		t.Fatalf("with the cache on: got %d, want %d", got, want)
	}
}

// A prefix that is still being computed draws others, but promises nothing yet.
func TestPrefixesOnTheirWayPromiseNothing(t *testing.T) {
	c := newCore(t, admission.Config{})
	c.SetGroup("a", admission.Group{Kind: "m", Limits: roomy})
	push(t, c, prompt(1, "x", 10, 1), prompt(2, "x", 10, 1), prompt(3, "x", 10, 1))
	expect(t, c, "[{1 a} {2 a} {3 a}]")
	for id := uint64(1); id <= 3; id++ {
		c.Begun(id, 0)
	}
	if got, want := c.Load("a").PrefillTokens, 3*176; got != want {
		t.Fatalf("got %d, want %d", got, want)
	}
	push(t, c, prompt(4, "x", 10, 1))
	expect(t, c, "[{4 a}]")
	if got, want := c.Load("a").PrefillTokens, 3*176+16; got != want {
		t.Fatalf("got %d, want %d", got, want)
	}
}
