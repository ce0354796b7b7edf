package fleet_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/router/fleet"
	"lockstep/router/fleet/core"
	"lockstep/router/fleettest"
	"lockstep/router/request"
)

func TestMain(m *testing.M) {
	fleettest.Main()
	os.Exit(m.Run())
}

// bench is a fleet over a broker of its own, and the card of its groups.
type bench struct {
	t      *testing.T
	url    string
	fleet  *fleet.Fleet
	mu     sync.Mutex // guards all below
	digest string
}

func connect(t *testing.T, url string) *nats.Conn {
	t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	return conn
}

func newBench(t *testing.T, config core.Config) *bench {
	t.Helper()
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, MaxPayload: protocol.MaxPayloadBytes,
		NoSigs: true, NoLog: true})
	if err != nil {
		t.Fatal(err)
	}
	go broker.Start()
	t.Cleanup(func() {
		broker.Shutdown()
		broker.WaitForShutdown()
	})
	if !broker.ReadyForConnections(10 * time.Second) {
		t.Fatal("the broker does not start")
	}
	b := &bench{t: t, url: broker.ClientURL()}
	if config.ResumeTimeout == 0 {
		config.ResumeTimeout = 10 * time.Second
	}
	if config.Admission.QueueLimit == 0 {
		config.Admission.QueueLimit = 1000
	}
	b.fleet, err = fleet.New(connect(t, b.url), fleet.Config{Config: config, Router: protocol.RouterName("router", "1"), OnCard: b.onCard},
		zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.fleet.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return b
}

func (b *bench) onCard(digest string, _ *protocol.ModelCard) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.digest = digest
	return nil
}

// group starts a group and waits until the fleet knows it.
func (b *bench) group(options fleettest.Options) *fleettest.Group {
	b.t.Helper()
	g := fleettest.Start(b.t, b.url, options)
	b.eventually("the group is known", func() bool {
		for _, known := range b.fleet.Snapshot().Groups {
			if known.Ref == g.Ref() {
				return true
			}
		}
		return false
	})
	return g
}

func (b *bench) eventually(what string, condition func() bool) {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		if time.Now().After(deadline) {
			b.t.Fatal("this never became true: " + what)
		}
		<-tick.C
	}
}

// ids are a prompt of so many tokens.
func ids(first int32, count int) []int32 {
	prompt := make([]int32, count)
	for i := range prompt {
		prompt[i] = first
	}
	return prompt
}

// card is the digest of the groups' card.
func (b *bench) card() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.digest
}

func (b *bench) submit(r protocol.Request) (uint64, *request.Events) {
	b.t.Helper()
	id, events, err := b.fleet.Submit(&request.Request{Request: r, CardDigest: b.card()})
	if err != nil {
		b.t.Fatal(err)
	}
	return id, events
}

func (b *bench) events(r protocol.Request) *request.Events {
	b.t.Helper()
	_, events := b.submit(r)
	return events
}

// all reads events to their end.
func (b *bench) all(events *request.Events) ([]request.Token, *request.Refusal) {
	b.t.Helper()
	defer time.AfterFunc(20*time.Second, func() { events.Interrupt(request.Gone) }).Stop()
	var tokens []request.Token
	for {
		var err *request.Refusal
		var outcome request.Outcome
		before := len(tokens)
		more, err, outcome := events.Take(nil)
		tokens = append(tokens, more...)
		if err != nil || len(tokens) > before && tokens[len(tokens)-1].Finish != protocol.FinishNone {
			return tokens, err
		}
		if outcome == request.Gone {
			b.t.Fatal("the events do not end")
		}
	}
}

func TestAlternativesStopIDsAndCachedPrompts(t *testing.T) {
	b := newBench(t, core.Config{})
	b.group(fleettest.Options{Prefill: 128})
	if got := b.fleet.Snapshot().Groups[0].Limits.PrefillTokens; got != 128 {
		t.Errorf("the group says that a step computes %d tokens of prompts, want 128", got)
	}
	prompt := ids(5, 40)
	before, err := b.all(b.events(protocol.Request{Prompt: prompt, MaxNewTokens: 3, NoPrefixCache: true}))
	if err != nil {
		t.Fatal(err)
	}
	third := before[2].ID
	tokens, err := b.all(b.events(protocol.Request{Prompt: prompt, MaxNewTokens: 9, TopLogprobs: 2, StopTokens: [][]int32{{99}, {third}}}))
	last := tokens[len(tokens)-1]
	if err != nil || last.Finish != protocol.FinishStop || last.ID != third || len(tokens) > 3 {
		t.Fatalf("got %v, %v", tokens, err)
	}
	for _, token := range tokens {
		if len(token.Top) != 2 || token.Top[0] != (request.Alternative{ID: token.ID, Logprob: token.Logprob}) ||
			token.Top[1].Logprob > token.Top[0].Logprob {
			t.Errorf("the likeliest of %+v are %v", token, token.Top)
		}
	}
	for _, test := range []struct {
		request protocol.Request
		cached  int
	}{
		{protocol.Request{Prompt: prompt, MaxNewTokens: 2}, 32},
		{protocol.Request{Prompt: prompt, MaxNewTokens: 2, CacheSalt: "mine"}, 0},
		{protocol.Request{Prompt: prompt, MaxNewTokens: 2, NoPrefixCache: true}, 0},
		{protocol.Request{Prompt: prompt, MaxNewTokens: 2, PromptLogprobs: true}, 0},
	} {
		events := b.events(test.request)
		tokens, err := b.all(events)
		if got := events.Cached(); err != nil || got != test.cached || tokens[0].Top != nil {
			t.Errorf("%+v: got %d cached, %v, %v", test.request, got, tokens, err)
		}
	}
	b.eventually("the totals show", func() bool {
		got, want := b.fleet.Snapshot().Load.Totals, request.Totals{PromptTokens: 240, CachedTokens: 32}
		return got == want
	})
}

// Under cancels, ends and a death, ledger and accounts stay equal.
func TestLedgerEqualsAccounts(t *testing.T) {
	b := newBench(t, core.Config{})
	first := b.group(fleettest.Options{Name: "a"})
	b.group(fleettest.Options{Name: "b", MaxSequences: 3})
	var waiting sync.WaitGroup
	for i := range 60 {
		id, events := b.submit(protocol.Request{Prompt: ids(int32(i), 1+i), MaxNewTokens: 20 + i})
		waiting.Go(func() {
			if i%3 == 0 {
				events.Take(nil)
				if i%2 == 0 {
					b.fleet.Cancel(id)
				} else {
					b.fleet.Done(id)
				}
				return
			}
			if tokens, err := b.all(events); err != nil || len(tokens) != 20+i {
				t.Errorf("request %d: %d tokens, %v", i, len(tokens), err)
			}
		})
		if i == 40 {
			first.Kill(true)
		}
	}
	waiting.Wait()
	b.eventually("nothing is left", func() bool {
		for _, g := range b.fleet.Snapshot().Load.Groups {
			if g.LedgerTokens != 0 || g.Requests != 0 {
				return false
			}
		}
		return true
	})
	if got := b.fleet.Snapshot().Load.Totals.LedgerMismatches; got != 0 {
		t.Errorf("got %d mismatches", got)
	}
}

// A prompt follows its prefix to the group that has it.
func TestPrefixesMeet(t *testing.T) {
	b := newBench(t, core.Config{})
	groups := []*fleettest.Group{b.group(fleettest.Options{Name: "a"}), b.group(fleettest.Options{Name: "b"})}
	for family := range int32(2) {
		events := b.events(protocol.Request{Prompt: ids(family, 320), MaxNewTokens: 190})
		if _, err, _ := events.Take(nil); err != nil { // with a token its prompt is there
			t.Fatal(err)
		}
	}
	for i := range 6 {
		_, events := b.submit(protocol.Request{Prompt: ids(int32(i%2), 330), MaxNewTokens: 1})
		b.all(events)
		if got, want := events.Cached(), 320; got != want {
			t.Errorf("request %d: got %d cached, want %d", i, got, want)
		}
	}
	if groups[0].Dispatched() == 0 || groups[1].Dispatched() == 0 {
		t.Errorf("got %d and %d requests", groups[0].Dispatched(), groups[1].Dispatched())
	}
}

// One probe answers all who ask.
func TestHealth(t *testing.T) {
	b := newBench(t, core.Config{})
	if got, want := b.fleet.Healthy(t.Context(), "none"), core.ErrNoGroup; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	a := b.group(fleettest.Options{Name: "a"})
	other := b.group(fleettest.Options{Name: "b"})
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Go(func() {
			if err := b.fleet.Healthy(t.Context(), b.card()); err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	waiting.Wait()
	if got, want := fmt.Sprint(a.Dispatched(), other.Dispatched()), "1 1"; got != want {
		t.Errorf("got %s probes, want %s", got, want)
	}
	other.Kill(true)
	a.Pause()
	b.eventually("both are given up", func() bool { return b.fleet.Snapshot().Load.Totals.GroupsLost == 2 })
	if got, want := b.fleet.Healthy(t.Context(), b.card()), core.ErrNoGroup; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	a.Continue()
	b.eventually("it has come back, and is well", func() bool { return b.fleet.Healthy(t.Context(), b.card()) == nil })
	if got := b.fleet.Snapshot().Load.Totals; got != (request.Totals{GroupsLost: 2}) {
		t.Errorf("the totals are %+v, want the two groups that were lost and nothing of the probes", got)
	}
}
