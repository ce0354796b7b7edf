package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/router/admission"
	"lockstep/router/fleet"
	"lockstep/router/fleet/core"
	"lockstep/router/fleettest"
	"lockstep/router/request"
)

var (
	limits = protocol.Limits{MaxSequenceTokens: 512, CapacityTokens: 4096, BlockTokens: 16, MaxRequests: 256}
	words  = []int32{10, 11, 12, 13, 14, 15, 16, 17, 18, 19}
)

// bench is a fleet over a broker of its own, and the card of its groups.
type bench struct {
	t       *testing.T
	url     string
	fleet   *fleet.Fleet
	mu      sync.Mutex // guards all below
	digest  string
	cards   int   // how many were taken or refused
	refusal error // of cards
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

func newBench(t *testing.T, config fleet.Config) *bench {
	t.Helper()
	broker, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: -1, MaxPayload: protocol.MaxPayloadBytes, NoSigs: true,
		NoLog: true})
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
	config.Router = protocol.RouterName("router", "1")
	if config.ResumeTimeout == 0 {
		config.ResumeTimeout = 10 * time.Second
	}
	if config.Admission.QueueLimit == 0 {
		config.Admission.QueueLimit = 1000
	}
	config.OnCard = func(digest string, _ *protocol.ModelCard) error {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.digest = digest
		b.cards++
		return b.refusal
	}
	b.fleet, err = fleet.New(connect(t, b.url), config, zerolog.Nop())
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

// group starts a group and waits until the fleet knows it.
func (b *bench) group(options fleettest.Options) *fleettest.Group {
	b.t.Helper()
	if options.Name == "" {
		options.Name = "a"
	}
	if options.Limits == (protocol.Limits{}) {
		options.Limits = limits
	}
	options.Card.ModelID, options.Card.VocabularySize, options.Tokens = "m", 100, words
	g, err := fleettest.Start(connect(b.t, b.url), options)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { g.Kill(false) })
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

func (b *bench) submit(r request.Request) (uint64, *request.Events) {
	b.t.Helper()
	r.CardDigest = b.card()
	id, events, err := b.fleet.Submit(&r)
	if err != nil {
		b.t.Fatal(err)
	}
	return id, events
}

func (b *bench) events(r request.Request) *request.Events {
	b.t.Helper()
	_, events := b.submit(r)
	return events
}

// all reads events to their end.
func (b *bench) all(events *request.Events) ([]request.Token, *request.Refusal) {
	b.t.Helper()
	timer := time.After(20 * time.Second)
	var tokens []request.Token
	for {
		var err *request.Refusal
		var outcome request.Outcome
		before := len(tokens)
		more, err, outcome := events.Take(nil, timer, nil)
		tokens = append(tokens, more...)
		if err != nil || len(tokens) > before && tokens[len(tokens)-1].Finish != protocol.FinishNone {
			return tokens, err
		}
		if outcome == request.Idle {
			b.t.Fatal("the events do not end")
		}
	}
}

func TestAlternativesStopIDsAndCachedPrompts(t *testing.T) {
	b := newBench(t, fleet.Config{})
	b.group(fleettest.Options{})
	prompt := ids(5, 40)
	third, _ := fleettest.Token(words, prompt, 0, 2)
	_, events := b.submit(request.Request{Request: protocol.Request{Prompt: prompt, MaxNewTokens: 9, TopLogprobs: 2,
		StopTokens: [][]int32{{99}, {third}}}})
	tokens, err := b.all(events)
	last := tokens[len(tokens)-1]
	if err != nil || last.Finish != protocol.FinishStop || last.ID != third || len(tokens) > 3 {
		t.Fatalf("got %v, %v", tokens, err)
	}
	for _, token := range tokens {
		want := []request.Alternative{{ID: token.ID, Logprob: token.Logprob}, {ID: token.ID + 1, Logprob: token.Logprob - 1}}
		if fmt.Sprint(token.Top) != fmt.Sprint(want) {
			t.Errorf("got %v, want %v", token.Top, want)
		}
	}
	for _, test := range []struct {
		request request.Request
		cached  int
	}{
		{request.Request{Request: protocol.Request{Prompt: prompt, MaxNewTokens: 2}}, 32},
		{request.Request{Request: protocol.Request{Prompt: prompt, MaxNewTokens: 2, CacheSalt: "mine"}}, 0},
		{request.Request{Request: protocol.Request{Prompt: prompt, MaxNewTokens: 2, NoPrefixCache: true}}, 0},
		{request.Request{Request: protocol.Request{Prompt: prompt, MaxNewTokens: 2, PromptLogprobs: true}}, 0},
	} {
		_, events := b.submit(test.request)
		tokens, err := b.all(events)
		if got := events.Cached(); err != nil || got != test.cached || tokens[0].Top != nil {
			t.Errorf("%+v: got %d cached, %v, %v", test.request, got, tokens, err)
		}
	}
	b.eventually("the totals show", func() bool {
		got, want := b.fleet.Snapshot().Load.Totals, request.Totals{PromptTokens: 200, CachedTokens: 32}
		return got == want
	})
}

// Under cancels, ends, refusals, lost frames and a death, ledger and accounts stay equal; and a group that counts wrongly is found out.
func TestLedgerEqualsAccounts(t *testing.T) {
	for _, wrong := range []bool{false, true} {
		t.Run(fmt.Sprintf("wrong=%v", wrong), func(t *testing.T) {
			b := newBench(t, fleet.Config{})
			refused := 0
			options := fleettest.Options{Name: "a", Incarnation: 1, LoseFrame: func(number uint64) bool { return number%17 == 5 },
				Refuse: func(protocol.Request) *protocol.Error {
					if refused++; refused%9 == 4 {
						return &protocol.Error{Code: protocol.CodeFull}
					}
					return nil
				}}
			if wrong {
				options.Miscount = func(account protocol.Account) protocol.Account {
					account.Tokens += account.Requests
					return account
				}
			}
			first := b.group(options)
			options.Name, options.Miscount, options.Refuse, options.LoseFrame = "b", nil, nil, nil
			options.Limits = limits
			options.Limits.MaxSequences = 3
			b.group(options)
			var waiting sync.WaitGroup
			for i := range 60 {
				id, events := b.submit(request.Request{Request: protocol.Request{Prompt: ids(int32(i), 1+i), MaxNewTokens: 20 + i}})
				waiting.Go(func() {
					if i%3 == 0 {
						events.Take(nil, nil, nil)
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
				if i == 40 && !wrong {
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
			mismatches := b.fleet.Snapshot().Load.Totals.LedgerMismatches
			if got := mismatches > 0; got != wrong {
				t.Errorf("got %d mismatches", mismatches)
			}
		})
	}
}

// A prompt follows its prefix to the group that has it.
func TestPrefixesMeet(t *testing.T) {
	b := newBench(t, fleet.Config{})
	groups := []*fleettest.Group{b.group(fleettest.Options{Name: "a"}), b.group(fleettest.Options{Name: "b"})}
	for family := range int32(2) {
		b.submit(request.Request{Request: protocol.Request{Prompt: ids(family, 320), MaxNewTokens: 190}})
	}
	for i := range 6 {
		_, events := b.submit(request.Request{Request: protocol.Request{Prompt: ids(int32(i%2), 330), MaxNewTokens: 1}})
		b.all(events)
		if got, want := events.Cached(), 320; got != want {
			t.Errorf("request %d: got %d cached, want %d", i, got, want)
		}
	}
	if groups[0].Accepted() == 0 || groups[1].Accepted() == 0 {
		t.Errorf("got %d and %d requests", groups[0].Accepted(), groups[1].Accepted())
	}
}

func TestQueueTimeout(t *testing.T) {
	b := newBench(t, fleet.Config{Config: core.Config{Admission: admission.Config{QueueLimit: 2}, QueueTimeout: 100 * time.Millisecond}})
	busy := limits
	busy.MaxSequences = 1
	b.group(fleettest.Options{Limits: busy, StepInterval: 5 * time.Millisecond})
	running, events := b.submit(request.Request{Request: protocol.Request{Prompt: ids(1, 10), MaxNewTokens: 500}})
	if _, err, outcome := events.Take(nil, time.After(20*time.Second), nil); err != nil || outcome != request.Got {
		t.Fatal(err, outcome)
	}
	left, _ := b.submit(request.Request{Request: protocol.Request{Prompt: ids(1, 10), MaxNewTokens: 5}})
	b.fleet.Cancel(left) // leaves the queue at once: else the third were refused
	_, second := b.submit(request.Request{Request: protocol.Request{Prompt: ids(1, 10), MaxNewTokens: 5}})
	_, third := b.submit(request.Request{Request: protocol.Request{Prompt: ids(1, 10), MaxNewTokens: 5}})
	_, _, err := b.fleet.Submit(&request.Request{Request: protocol.Request{Prompt: ids(1, 10), MaxNewTokens: 5}})
	var refusal *request.Refusal
	if !errors.As(err, &refusal) || refusal.Class != request.Overloaded {
		t.Errorf("with a full queue: got %v", err)
	}
	for _, waiting := range []*request.Events{second, third} {
		if tokens, err := b.all(waiting); err == nil || err.Class != request.Overloaded || len(tokens) > 0 {
			t.Errorf("got %v, %v", tokens, err)
		}
	}
	b.eventually("both are counted", func() bool {
		load := b.fleet.Snapshot().Load
		return load.Totals.Expired == 2 && load.Queued == 0
	})
	b.fleet.Cancel(running)
}

// A group that only scores is asked for a score.
func TestHealthOfRewardModel(t *testing.T) {
	b := newBench(t, fleet.Config{})
	g := b.group(fleettest.Options{Card: protocol.ModelCard{Reward: true}, Refuse: func(r protocol.Request) *protocol.Error {
		if !r.Score {
			return &protocol.Error{Code: protocol.CodeInvalid, Message: "no text"}
		}
		return nil
	}})
	if err := b.fleet.Healthy(t.Context(), b.card()); err != nil || g.Accepted() != 1 {
		t.Errorf("got %v, %d probes", err, g.Accepted())
	}
}

// One probe answers all who ask; a group that hangs is found, and the probe is taken back.
func TestHealth(t *testing.T) {
	b := newBench(t, fleet.Config{})
	if got, want := b.fleet.Healthy(t.Context(), "none"), core.ErrNoGroup; got != want {
		t.Errorf("got %v, want %v", got, want)
	}
	a := b.group(fleettest.Options{Name: "a"})
	other := b.group(fleettest.Options{Name: "b"})
	ask := func() []error {
		answers := make([]error, 20)
		var waiting sync.WaitGroup
		for i := range answers {
			waiting.Go(func() { answers[i] = b.fleet.Healthy(t.Context(), b.card()) })
		}
		waiting.Wait()
		return answers
	}
	for _, err := range ask() {
		if err != nil {
			t.Errorf("got %v", err)
		}
	}
	if got, want := fmt.Sprint(a.Accepted(), other.Accepted()), "1 1"; got != want {
		t.Errorf("got %s probes, want %s", got, want)
	}
	other.Stall(true)
	b.eventually("the last tokens are old", func() bool { return b.fleet.Healthy(t.Context(), b.card()) != nil })
	b.eventually("the probe is taken back", func() bool { return other.Running() == 0 && other.Cancelled() > 0 })
	other.Stall(false)
	if err := b.fleet.Healthy(t.Context(), b.card()); err != nil {
		t.Errorf("once it goes on: got %v", err)
	}
	other.Stall(true)
	b.eventually("a death ends the probe", func() bool {
		answer := make(chan error, 1)
		before := other.Running()
		go func() { answer <- b.fleet.Healthy(t.Context(), b.card()) }()
		b.eventually("it is asked, or it need not be", func() bool { return other.Running() > before || len(answer) > 0 })
		if other.Running() == before {
			<-answer
			return false
		}
		other.Kill(true)
		return <-answer != nil
	})
	if got := b.fleet.Snapshot().Load.Totals; got != (request.Totals{GroupsLost: 1}) {
		t.Errorf("the totals are %+v, want the one group that died and nothing of the probes", got)
	}
}

// A request that is cancelled before the group has answered its dispatch is cancelled once it has: a cancel that came
// first would be forgotten.
func TestCancelWaitsForTheAnswer(t *testing.T) {
	b := newBench(t, fleet.Config{})
	g := b.group(fleettest.Options{})
	came, answer := make(chan struct{}), make(chan struct{})
	g.Kill(false) // what it announced stays known for a while; from here on the test answers in its place
	conn := connect(t, b.url)
	if _, err := conn.Subscribe(g.Ref().Dispatch(protocol.AnyRouter), func(msg *nats.Msg) {
		close(came)
		<-answer
		msg.Respond([]byte("{}"))
	}); err != nil {
		t.Fatal(err)
	}
	cancels, err := conn.SubscribeSync(g.Ref().Cancel(protocol.AnyRouter))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	id, _ := b.submit(request.Request{Request: protocol.Request{Prompt: []int32{1, 2, 3}, MaxNewTokens: 50}})
	<-came
	b.fleet.Cancel(id)
	// The owner takes one after the other: once it has queued this one, it has seen the cancel.
	if _, _, err := b.fleet.Submit(&request.Request{CardDigest: "another",
		Request: protocol.Request{Prompt: []int32{1}, MaxNewTokens: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Flush(); err != nil {
		t.Fatal(err)
	}
	if messages, _, _ := cancels.Pending(); messages > 0 {
		t.Error("the cancel came before the answer")
	}
	close(answer)
	if _, err := cancels.NextMsg(10 * time.Second); err != nil {
		t.Errorf("no cancel came behind the answer: %v", err)
	}
}
