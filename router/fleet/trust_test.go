package fleet_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"lockstep/protocol"
	"lockstep/router/fleet"
	"lockstep/router/fleet/core"
	"lockstep/router/fleettest"
	"lockstep/router/request"
)

// What is said of a group on another's subject, or of an incarnation that was never announced, changes nothing: neither a
// stream that runs, nor what becomes of the group afterwards.
func TestForgeriesChangeNothing(t *testing.T) {
	b := newBench(t, fleet.Config{})
	g := b.group(fleettest.Options{Name: "a", Incarnation: 7})
	_, events := b.submit(request.Request{Request: protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 400}})
	if _, err, outcome := events.Take(nil, nil, nil); err != nil || outcome != request.Got {
		t.Fatal(err, outcome)
	}
	forger := connect(t, b.url)
	send := func(subject string, message any) {
		data, err := json.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		forger.Publish(subject, data)
	}
	a := protocol.Announcement{Version: protocol.Version, ModelID: "m", State: protocol.StateReady, CardDigest: b.card(), CardBytes: 1,
		Limits: limits}
	for _, incarnation := range []uint64{0, 6, 8, math.MaxUint64} {
		ref := protocol.GroupRef{Group: "a", Incarnation: incarnation}
		send(protocol.DownSubject("a"), protocol.Down{GroupRef: ref, Reason: "forged"})
		send(protocol.DownSubject("b"), protocol.Down{GroupRef: ref, Reason: "forged"})
		a.GroupRef = ref
		send(protocol.AnnounceSubject("b"), a)
	}
	send(protocol.DownSubject("b"), protocol.Down{GroupRef: g.Ref(), Reason: "forged"})
	send(protocol.DownSubject("nobody"), protocol.Down{GroupRef: protocol.GroupRef{Group: "nobody", Incarnation: 1}})
	frame := protocol.Frame{Group: g.Ref(), Number: 1 << 40, Step: 1 << 40}
	for wire := range uint64(8) {
		frame.Add(wire, 1, words[0], 0, protocol.FinishError)
	}
	forger.Publish(protocol.FrameSubject("router.1", "b"), frame.AppendTo(nil))
	frame.Group.Incarnation++
	forger.Publish(protocol.FrameSubject("router.1", "a"), frame.AppendTo(nil))
	forger.Flush()

	tokens, err := b.all(events)
	if err != nil || len(tokens) == 0 || tokens[len(tokens)-1].Finish != protocol.FinishLength {
		t.Errorf("the stream ended with %v behind %d tokens", err, len(tokens))
	}
	if snapshot := b.fleet.Snapshot(); len(snapshot.Groups) != 1 || snapshot.Groups[0].Ref != g.Ref() ||
		snapshot.Load.Totals.GroupsLost != 0 {
		t.Errorf("the fleet is %+v", snapshot)
	}
	g.Kill(true)
	again := b.group(fleettest.Options{Name: "a", Incarnation: 8})
	if _, err := b.all(b.events(request.Request{Request: protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 5}})); err != nil ||
		again.Accepted() != 1 {
		t.Errorf("the next incarnation: %v, %d requests", err, again.Accepted())
	}
	if got := b.fleet.Snapshot().Load.Totals.GroupsLost; got != 1 {
		t.Errorf("%d groups lost, want 1", got)
	}
}

// A group that does nothing for a while, as when its processes are stopped, and then goes on: the same tokens, nothing
// kept for nobody, and no number says ever after that something is wrong.
func TestPausedGroup(t *testing.T) {
	b := newBench(t, fleet.Config{})
	g := b.group(fleettest.Options{Name: "a", Incarnation: 1})
	prompts, answers := 24, make([]*request.Events, 0, 24)
	for i := range prompts {
		if i == prompts/2 {
			g.Pause() // what is sent from here on is not answered
		}
		answers = append(answers, b.events(request.Request{Request: protocol.Request{Prompt: ids(int32(i), 5+i), MaxNewTokens: 300}}))
	}
	left, _ := b.submit(request.Request{Request: protocol.Request{Prompt: ids(90, 10), MaxNewTokens: 300}})
	b.fleet.Cancel(left) // while nothing answers
	b.eventually("the group is given up", func() bool { return len(b.fleet.Snapshot().Groups) == 0 })
	g.Continue()
	for i, events := range answers {
		tokens, err := b.all(events)
		if err != nil || len(tokens) != 300 {
			t.Fatalf("request %d: %d tokens, %v", i, len(tokens), err)
		}
		for position, token := range tokens {
			if want, _ := fleettest.Token(words, ids(int32(i), 5+i), 0, position); token.ID != want {
				t.Fatalf("request %d, token %d: got %d, want %d", i, position, token.ID, want)
			}
		}
	}
	b.eventually("nothing is left", func() bool { return g.Running() == 0 })
	for i := range 40 { // frames that the audit compares
		if _, err := b.all(b.events(request.Request{Request: protocol.Request{Prompt: ids(int32(i), 9), MaxNewTokens: 3}})); err != nil {
			t.Fatal(err)
		}
	}
	load := b.fleet.Snapshot().Load
	if got, want := fmt.Sprint(load.Totals.LedgerMismatches, load.Groups[0].ErrorTokens), "0 0"; got != want {
		t.Errorf("mismatches and error tokens are %s, want %s", got, want)
	}
}

// A group that says that it is stalled, or that falls silent, gets nothing new; once it moves again, it does.
func TestStalledGroupIsAvoided(t *testing.T) {
	b := newBench(t, fleet.Config{})
	ill, well := b.group(fleettest.Options{Name: "a"}), b.group(fleettest.Options{Name: "b"})
	both := func() { // requests until each group has had one
		before := []int{ill.Accepted(), well.Accepted()}
		b.eventually("both groups are used", func() bool {
			for i := range 8 {
				b.submit(request.Request{Request: protocol.Request{Prompt: ids(int32(i), 100), MaxNewTokens: 20}})
			}
			return ill.Accepted() > before[0] && well.Accepted() > before[1]
		})
		b.eventually("all is done", func() bool { return ill.Running()+well.Running() == 0 })
	}
	both()
	for name, disturb := range map[string]struct{ begin, end func() }{
		"stalled": {func() { ill.Say(protocol.StateStalled) }, func() { ill.Say(protocol.StateReady) }},
		"silent":  {ill.Pause, ill.Continue},
	} {
		disturb.begin()
		b.eventually(name+": the group is closed", func() bool {
			return slices.ContainsFunc(b.fleet.Snapshot().Groups, func(g core.Group) bool { return g.Ref == ill.Ref() && !g.Ready })
		})
		before := ill.Accepted()
		for i := range 16 {
			if _, err := b.all(b.events(request.Request{Request: protocol.Request{Prompt: ids(int32(i), 100),
				MaxNewTokens: 3}})); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if got := ill.Accepted(); got != before {
			t.Errorf("%s: %d requests went to the group", name, got-before)
		}
		disturb.end()
		both()
	}
}

// A model that takes longer to load than requests wait without a group is waited for, if it says so: its restart is no
// absence.
func TestSlowRestartIsWaitedFor(t *testing.T) {
	for _, back := range []time.Duration{0, 5 * time.Second} {
		b := newBench(t, fleet.Config{Config: core.Config{ResumeTimeout: 100 * time.Millisecond}})
		g := b.group(fleettest.Options{Name: "a", Incarnation: 1, Back: back})
		_, events := b.submit(request.Request{Request: protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 400}})
		first, err, outcome := events.Take(nil, nil, nil)
		if err != nil || outcome != request.Got {
			t.Fatal(err, outcome)
		}
		g.Kill(true)
		if back == 0 {
			if _, err := b.all(events); err == nil || err.Class != request.Generation {
				t.Errorf("a request whose group is gone for good: got %v", err)
			}
			continue
		}
		b.eventually("others have been given up by then", func() bool {
			_, other, _ := b.fleet.Submit(&request.Request{CardDigest: "of no group",
				Request: protocol.Request{Prompt: ids(1, 3), MaxNewTokens: 1}})
			_, err := b.all(other)
			return err != nil && err.Class == request.Unavailable
		})
		b.group(fleettest.Options{Name: "a", Incarnation: 2})
		tokens, err := b.all(events)
		if err != nil || len(first)+len(tokens) != 400 {
			t.Errorf("got %d tokens, %v", len(first)+len(tokens), err)
		}
	}
}

// A group's own words have bounds: what cannot be true of it or of a request changes nothing for others, and cards are
// fetched a few at a time.
func TestGroupsAreBelievedWithinBounds(t *testing.T) {
	b := newBench(t, fleet.Config{})
	g := b.group(fleettest.Options{Name: "a", Incarnation: 7})
	liar := connect(t, b.url)
	announce := func(name string, change func(*protocol.Announcement)) {
		a := protocol.Announcement{Version: protocol.Version, GroupRef: protocol.GroupRef{Group: name, Incarnation: 7}, ModelID: "m",
			State:      protocol.StateReady,
			CardDigest: b.card(), CardBytes: 100, Shards: 1, Limits: limits}
		change(&a)
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		liar.Publish(protocol.AnnounceSubject(name), data)
	}
	announce("huge", func(a *protocol.Announcement) { a.Limits.BlockTokens = math.MaxInt64 })
	announce("vast", func(a *protocol.Announcement) {
		a.Limits.CapacityTokens, a.Limits.MaxSequenceTokens = math.MaxInt64, math.MaxInt64
	})
	announce("less", func(a *protocol.Announcement) { a.Limits.CapacityTokens = -1 })
	announce("a", func(a *protocol.Announcement) { a.CardDigest = strings.Repeat("f", 64) }) // an incarnation has one card
	var asked atomic.Int32
	if _, err := liar.Subscribe("lockstep.group.*.*.card.>", func(m *nats.Msg) {
		if !strings.HasPrefix(m.Subject, "lockstep.group.a.") {
			asked.Add(1) // and never answers
		}
	}); err != nil {
		t.Fatal(err)
	}
	liar.Flush()
	for i := range 100 {
		announce(fmt.Sprint("silent-", i), func(a *protocol.Announcement) {
			a.CardDigest, a.CardBytes = fmt.Sprintf("%064d", i), protocol.MaxCardBytes
		})
	}
	liar.Flush()
	if _, err := b.all(b.events(request.Request{Request: protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 50}})); err != nil {
		t.Error(err)
	}
	if snapshot := b.fleet.Snapshot(); len(snapshot.Groups) != 1 || snapshot.Groups[0].Ref != g.Ref() ||
		snapshot.Groups[0].CardDigest != b.card() {
		t.Errorf("the fleet is %+v", snapshot)
	}
	if got := asked.Load(); got == 0 || got > 32 {
		t.Errorf("%d cards were asked for at once", got)
	}
}

// Rows that cannot be the next of their request are not taken, and numbers of a prompt have the prompt's bounds.
func TestRowsWithinTheirRequest(t *testing.T) {
	b := newBench(t, fleet.Config{})
	g := b.group(fleettest.Options{Name: "a", Incarnation: 7})
	g.Pause() // from here on the test speaks in its place
	conn := connect(t, b.url)
	wires := make(chan protocol.Request, 8)
	if _, err := conn.Subscribe(g.Ref().Dispatch(protocol.AnyRouter), func(m *nats.Msg) {
		var d protocol.Dispatch
		if json.Unmarshal(m.Data, &d) == nil {
			m.Respond([]byte("{}"))
			for _, r := range d.Requests {
				wires <- r
			}
		}
	}); err != nil {
		t.Fatal(err)
	}
	conn.Flush()
	events := b.events(request.Request{Request: protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 3}})
	wire := (<-wires).ID
	frame := protocol.Frame{Group: g.Ref(), Step: 1,
		Begun: []protocol.Begun{{Request: wire, Tokens: math.MaxUint32, Cached: math.MaxUint32}}}
	for position := range 2000 {
		frame.Add(wire, position, words[0], 0, protocol.FinishNone)
	}
	conn.Publish(protocol.FrameSubject("router.1", "a"), frame.AppendTo(nil))
	conn.Flush()
	b.eventually("the tokens are there", func() bool {
		totals := b.fleet.Snapshot().Load.Totals
		return totals.PromptTokens > 0
	})
	if totals := b.fleet.Snapshot().Load.Totals; totals.PromptTokens != 20 || totals.CachedTokens != 20 {
		t.Errorf("totals %+v, want no more than the prompt's 20 tokens", totals)
	}
	tokens, err, _ := events.Take(nil, nil, nil)
	if err != nil || len(tokens) != 3 {
		t.Errorf("%d tokens of 3, %v", len(tokens), err)
	}
	g.Continue()
}

// While the next incarnation loads, its launcher says so again and again, and requests wait on, however long it takes.
func TestNewsOfALoadingGroupExtendThePatience(t *testing.T) {
	b := newBench(t, fleet.Config{Config: core.Config{ResumeTimeout: 100 * time.Millisecond}})
	g := b.group(fleettest.Options{Name: "a", Incarnation: 1, Back: 200 * time.Millisecond})
	_, events := b.submit(request.Request{Request: protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 400}})
	first, err, _ := events.Take(nil, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	g.Kill(true)
	launcher := connect(t, b.url)
	news, _ := json.Marshal(protocol.Down{GroupRef: g.Ref(), BackSeconds: 0.2})
	for range 20 { // as long as four times what was said at first
		if _, err, outcome := events.Take(nil, time.After(100*time.Millisecond), nil); err != nil || outcome != request.Idle {
			t.Fatal(err, outcome)
		}
		launcher.Publish(protocol.DownSubject("a"), news)
	}
	b.group(fleettest.Options{Name: "a", Incarnation: 2})
	tokens, err := b.all(events)
	if err != nil || len(first)+len(tokens) != 400 {
		t.Errorf("got %d tokens, %v", len(first)+len(tokens), err)
	}
}

// A card that the owner of models has forgotten is fetched again when a group with it comes back, and one that he refuses
// is not asked for at every announcement.
func TestCardsAreFetchedAgain(t *testing.T) {
	var forgotten atomic.Bool
	b := newBench(t, fleet.Config{Config: core.Config{Knows: func(string) bool { return !forgotten.Swap(false) }}})
	fetched := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.cards
	}
	g := b.group(fleettest.Options{Name: "a", Incarnation: 1})
	g.Kill(true)
	g = b.group(fleettest.Options{Name: "a", Incarnation: 2})
	if got := fetched(); got != 1 {
		t.Errorf("a card that is known was fetched %d times", got)
	}
	g.Kill(true)
	forgotten.Store(true)
	b.group(fleettest.Options{Name: "a", Incarnation: 3})
	b.eventually("the card is fetched again", func() bool { return fetched() == 2 })
	if _, err := b.all(b.events(request.Request{Request: protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 5}})); err != nil {
		t.Error(err)
	}

	refusing := newBench(t, fleet.Config{})
	refusing.refusal = errors.New("no")
	other, err := fleettest.Start(connect(t, refusing.url),
		fleettest.Options{Name: "a", Card: protocol.ModelCard{ModelID: "m", VocabularySize: 100}, Limits: limits, Tokens: words})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Kill(false)
	refusing.eventually("the card is refused", func() bool {
		refusing.mu.Lock()
		defer refusing.mu.Unlock()
		return refusing.cards == 1
	})
	time.Sleep(4 * protocol.AnnounceInterval)
	refusing.mu.Lock()
	defer refusing.mu.Unlock()
	if refusing.cards != 1 {
		t.Errorf("a refused card was fetched %d times within a second", refusing.cards)
	}
}
