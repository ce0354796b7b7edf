package shard

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/shard/model"
)

func TestCheckAdapters(t *testing.T) {
	named := func(names ...string) (adapters []Adapter) {
		for _, name := range names {
			adapters = append(adapters, Adapter{Name: name})
		}
		return adapters
	}
	for _, c := range []struct {
		backend  string
		adapters []Adapter
		want     string // empty: taken
	}{
		{"sim", named("a", "b"), ""}, {"cpu", nil, ""}, {"cpu", named("a"), ""},
		{"sim", named("a", "a"), "two adapters are called"}, {"sim", named(""), "cannot be called"},
	} {
		err := CheckAdapters(c.adapters, c.backend)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %v: got %v, want %q", c.backend, c.adapters, err, c.want)
		}
	}
}

// An adapter's digest follows from its files' content alone; a backend without weights needs none.
func TestDescribeAdapters(t *testing.T) {
	write := func(config, weights string) string {
		folder := t.TempDir()
		for name, content := range map[string]string{"adapter_config.json": config, "adapter_model.safetensors": weights,
			"README.md": "x"} {
			if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return folder
	}
	describe := func(name, path string) string {
		t.Helper()
		got, err := describeAdapters(Config{Backend: "cpu", Adapters: []Adapter{{Name: name, Path: path}}})
		if err != nil || len(got) != 1 || got[0].Name != name || len(got[0].Digest) != 64 {
			t.Fatalf("got %v, %v", got, err)
		}
		return got[0].Digest
	}
	first := describe("a", write("{}", "abc"))
	if describe("b", write("{}", "abc")) != first {
		t.Error("equal files have different digests")
	}
	if describe("a", write("{} ", "abc")) == first || describe("a", write("{}", "abd")) == first ||
		describe("a", write("{}a", "bc")) == first {
		t.Error("other files have the same digest")
	}
	folder := write("{}", "abc")
	if err := os.Remove(filepath.Join(folder, "adapter_model.safetensors")); err != nil {
		t.Fatal(err)
	}
	if _, err := describeAdapters(Config{Backend: "cpu", Adapters: []Adapter{{Name: "mine", Path: folder}}}); err == nil ||
		!strings.Contains(err.Error(), "adapter mine") || !strings.Contains(err.Error(), "adapter_model.safetensors") {
		t.Errorf("got %v, want the missing file's name", err)
	}
	simulated, err := describeAdapters(Config{Backend: "sim", Adapters: []Adapter{{"a", "/nowhere"}, {"b", "/nowhere"}}})
	if err != nil || simulated[0].Digest == simulated[1].Digest {
		t.Errorf("got %v, %v", simulated, err)
	}
}

// A group refuses requests with an adapter that it does not have, and says so.
func TestRefusesUnknownAdapter(t *testing.T) {
	shape := model.Config{Vocabulary: 10}
	l := &leader{engine: &engine{adapters: map[string]int{"mine": 1}}, shape: shape, log: zerolog.Nop(),
		base: protocol.Announcement{Limits: protocol.Limits{MaxSequenceTokens: 100}}}
	for adapter, want := range map[string]protocol.Code{"": "", "mine": "", "other": protocol.CodeAdapter, "\n": protocol.CodeInvalid} {
		err := l.refusal(&protocol.Request{Prompt: []int32{1}, MaxNewTokens: 1, Adapter: adapter})
		switch {
		case want == "" && err != nil, want != "" && (err == nil || err.Code != want):
			t.Errorf("%q: got %v, want %q", adapter, err, want)
		case err != nil && err.Retryable():
			t.Errorf("%q: the refusal may be tried again", adapter)
		}
	}
}

// The plan tells followers of the adapters.
func TestPlanTellsAdapters(t *testing.T) {
	var sent, got stepPlan
	for slot, adapter := range []int{0, 2, 1} {
		sent.add(model.Chunk{PromptTokens: 3, Adapter: adapter, Tokens: []int32{5, 6}, Blocks: []int32{int32(slot)}, Fresh: 1},
			slotUse{slot: slot, begins: true, added: 1})
	}
	plan := sent.appendTo(nil)
	if limit := planBytes(Config{Limits: Limits{MaxSequenceTokens: 16, MaxSequences: 3, PrefillTokens: 3}}, 16); len(plan) > limit {
		t.Errorf("a plan of %d bytes, at most %d are reckoned with", len(plan), limit)
	}
	if err := make(tables, 3).decode(plan, &got); err != nil {
		t.Fatal(err)
	}
	for i := range sent.chunks {
		if got.chunks[i].Adapter != sent.chunks[i].Adapter || got.chunks[i].PromptTokens != 3 || got.chunks[i].Fresh != 1 {
			t.Errorf("chunk %d: got %+v, want %+v", i, got.chunks[i], sent.chunks[i])
		}
	}
}

// Adapters and the base answer the same prompt each in a way of its own, beside each other and out of one prefix cache, and
// whatever the order in which a group has them.
func TestAdaptersAnswerApart(t *testing.T) {
	demo := os.DirFS("../launcher/demo/model")
	answers := func(adapters ...Adapter) map[string]string {
		g := startGroup(t, Config{Backend: "sim", Shards: 1, Adapters: adapters}, demo, 100)
		var requests []protocol.Request
		for round := range 2 { // the second out of the cache
			for _, adapter := range []string{"", "one", "two"} {
				requests = append(requests, protocol.Request{ID: uint64(len(requests)), Prompt: make([]int32, 40), MaxNewTokens: 20 + round,
					Adapter: adapter, Sampling: protocol.Sampling{IgnoreEOS: true}})
			}
		}
		got := g.run(t, requests, 2, nil, nil)
		if g.cachedTokens < 3*32 {
			t.Errorf("only %d tokens came from the prefix cache", g.cachedTokens)
		}
		texts := map[string]string{}
		for _, r := range requests {
			text := fmt.Sprint(got[r.ID].tokens[:20])
			if before, ok := texts[r.Adapter]; ok && before != text {
				t.Errorf("adapter %q answers %s, and then %s", r.Adapter, before, text)
			}
			texts[r.Adapter] = text
		}
		return texts
	}
	first, second := answers(Adapter{Name: "one"}, Adapter{Name: "two"}), answers(Adapter{Name: "two"}, Adapter{Name: "one"})
	if first[""] == first["one"] || first["one"] == first["two"] || first[""] == first["two"] {
		t.Errorf("adapters do not change answers: %v", first)
	}
	for adapter, want := range first {
		if second[adapter] != want {
			t.Errorf("%q: got %s in another order, want %s", adapter, second[adapter], want)
		}
	}
}
