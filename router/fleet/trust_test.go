package fleet_test

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"

	"lockstep/protocol"
	"lockstep/router/fleet/core"
	"lockstep/router/fleettest"
	"lockstep/router/request"
)

// What is said of a group on another's subject, or of an incarnation that was never announced, changes nothing: neither a
// stream that runs, nor what becomes of the group afterwards.
func TestForgeriesChangeNothing(t *testing.T) {
	b := newBench(t, core.Config{})
	g := b.group(fleettest.Options{Name: "a", Incarnation: 7})
	_, events := b.submit(protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 400})
	if _, err, outcome := events.Take(nil); err != nil || outcome != request.Got {
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
	a := protocol.Announcement{Version: protocol.Version, ModelID: "demo", State: protocol.StateReady,
		CardDigest: b.card(), CardBytes: 1, Limits: b.fleet.Snapshot().Groups[0].Limits}
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
		frame.Add(wire, 1, 10, 0, protocol.FinishError)
	}
	forger.Publish(protocol.FrameSubject("router.1", "b"), frame.AppendTo(nil))
	frame.Group.Incarnation++
	forger.Publish(protocol.FrameSubject("router.1", "a"), frame.AppendTo(nil))
	forger.Flush()

	tokens, err := b.all(events)
	if err != nil || len(tokens) == 0 || tokens[len(tokens)-1].Finish != protocol.FinishLength {
		t.Errorf("the stream ended with %v behind %d tokens", err, len(tokens))
	}
	if got := b.fleet.Snapshot(); len(got.Groups) != 1 || got.Groups[0].Ref != g.Ref() || got.Load.Totals.GroupsLost != 0 {
		t.Errorf("the fleet is %+v", got)
	}
	g.Kill(true)
	again := b.group(fleettest.Options{Name: "a", Incarnation: 8})
	if _, err := b.all(b.events(protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 5})); err != nil || again.Dispatched() != 1 {
		t.Errorf("the next incarnation: %v, %d requests", err, again.Dispatched())
	}
	if got := b.fleet.Snapshot().Load.Totals.GroupsLost; got != 1 {
		t.Errorf("%d groups lost, want 1", got)
	}
}

// A group whose processes are stopped and then go on: the same tokens, nothing kept for nobody, and no number says ever after
// that something is wrong.
func TestPausedGroup(t *testing.T) {
	b := newBench(t, core.Config{})
	g := b.group(fleettest.Options{Name: "a"})
	run := func(pause bool) []string {
		var answers []*request.Events
		for i := range 24 {
			if pause && i == 12 {
				g.Pause() // what is sent from here on is not answered
			}
			answers = append(answers, b.events(protocol.Request{Prompt: ids(int32(i), 5+i), MaxNewTokens: 300}))
		}
		if pause {
			left, _ := b.submit(protocol.Request{Prompt: ids(90, 10), MaxNewTokens: 300})
			b.fleet.Cancel(left) // while nothing answers
			b.eventually("the group is given up", func() bool { return len(b.fleet.Snapshot().Groups) == 0 })
			g.Continue()
		}
		var texts []string
		for _, events := range answers {
			tokens, err := b.all(events)
			if err != nil || len(tokens) != 300 {
				t.Fatalf("request %d: %d tokens, %v", len(texts), len(tokens), err)
			}
			texts = append(texts, fmt.Sprint(tokens))
		}
		return texts
	}
	calm, disturbed := run(false), run(true)
	for i := range calm {
		if calm[i] != disturbed[i] {
			t.Errorf("request %d: got\n%s\nand when nothing happened\n%s", i, disturbed[i], calm[i])
		}
	}
	b.eventually("nothing is left", func() bool { return g.Holds() == 0 })
	for i := range 40 { // frames that the audit compares
		if _, err := b.all(b.events(protocol.Request{Prompt: ids(int32(i), 9), MaxNewTokens: 3})); err != nil {
			t.Fatal(err)
		}
	}
	load := b.fleet.Snapshot().Load
	if got, want := fmt.Sprint(load.Totals.LedgerMismatches, load.Groups[0].ErrorTokens), "0 0"; got != want {
		t.Errorf("mismatches and error tokens are %s, want %s", got, want)
	}
}

// A group's own words have bounds: what cannot be true of it or of a request changes nothing for others, and cards are
// fetched a few at a time.
func TestGroupsAreBelievedWithinBounds(t *testing.T) {
	b := newBench(t, core.Config{})
	g := b.group(fleettest.Options{Name: "a", Incarnation: 7})
	limits := b.fleet.Snapshot().Groups[0].Limits
	liar := connect(t, b.url)
	announce := func(name string, change func(*protocol.Announcement)) {
		a := protocol.Announcement{Version: protocol.Version, GroupRef: protocol.GroupRef{Group: name, Incarnation: 7}, ModelID: "demo",
			State: protocol.StateReady, CardDigest: b.card(), CardBytes: 100, Shards: 1, Limits: limits}
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
	if _, err := b.all(b.events(protocol.Request{Prompt: ids(3, 20), MaxNewTokens: 50})); err != nil {
		t.Error(err)
	}
	if got := b.fleet.Snapshot(); len(got.Groups) != 1 || got.Groups[0].Ref != g.Ref() || got.Groups[0].CardDigest != b.card() {
		t.Errorf("the fleet is %+v", got)
	}
	if got := asked.Load(); got == 0 || got > 32 {
		t.Errorf("%d cards were asked for at once", got)
	}
}
