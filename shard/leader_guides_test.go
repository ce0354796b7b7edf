package shard

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"lockstep/protocol"
	"lockstep/protocol/guide"
	"lockstep/shard/masks"
	"lockstep/shard/outbox"
)

const guidedRouter = "here.s1"

// guidedLeader is a leader without NATS, whose frames are read from its outbox. Guides are compiled once compile is closed, or have
// sent the error that stands in their way.
type guidedLeader struct {
	*leader
	t       *testing.T
	compile chan error
	asked   time.Duration // how far its clock is before: an outbox gives no replays in a row
}

func newGuidedLeader(t *testing.T) *guidedLeader {
	g := startGroup(t, Config{Backend: "sim", Shards: 2, Limits: Limits{MaxRequests: 8}}, os.DirFS("../launcher/demo/model"), 50)
	l := &guidedLeader{t: t, compile: make(chan error, 1)}
	store := masks.NewStore(func() (*masks.Vocabulary, error) {
		if err := <-l.compile; err != nil {
			return nil, err
		}
		return g.leader.vocabulary()
	})
	l.leader = &leader{config: g.leader.config, engine: g.engine, log: zerolog.Nop(), events: make(chan event, eventQueue),
		outbox: outbox.New(g.leader.config.Group), guides: store, compiling: map[origin]protocol.Request{},
		stop: make(chan struct{}), refused: make(chan error, 1)}
	t.Cleanup(func() {
		close(l.stop)
		close(l.compile)
		store.Close()
	})
	return l
}

// dispatch hands the leader requests as NATS does.
func (l *guidedLeader) dispatch(requests ...protocol.Request) {
	l.held.Add(int64(len(requests)))
	l.handle(event{dispatch: &protocol.Dispatch{Version: protocol.Version, Router: guidedRouter, Requests: requests}})
}

// finishes are how the router's requests have ended, by id, and their tokens.
func (l *guidedLeader) finishes() (ends map[uint64]protocol.Finish, tokens map[uint64][]int32) {
	ends, tokens = map[uint64]protocol.Finish{}, map[uint64][]int32{}
	l.asked += time.Second
	l.outbox.Replay(&protocol.Replay{Router: guidedRouter}, time.Now().Add(l.asked), func(data []byte) {
		var frame protocol.Frame
		if err := protocol.DecodeFrame(&frame, data); err != nil {
			l.t.Fatal(err)
		}
		for i, id := range frame.Request {
			tokens[id] = append(tokens[id], frame.Token[i])
			if frame.Finish[i] != protocol.FinishNone {
				ends[id] = frame.Finish[i]
			}
		}
	})
	return ends, tokens
}

// finish computes until nothing is left.
func (l *guidedLeader) finish() {
	for len(l.engine.sequences) > 0 {
		if err := l.step(); err != nil {
			l.t.Fatal(err)
		}
	}
	if held := l.held.Load(); held != 0 {
		l.t.Errorf("idle, but %d requests are held", held)
	}
}

func guidedRequest(id uint64) protocol.Request {
	return protocol.Request{ID: id, Prompt: []int32{1, 2}, MaxNewTokens: 20,
		Guide: &guide.Source{Kind: guide.Choice, Text: `["yes","no"]`}}
}

// While a guide is compiled others go on; a request that comes twice runs once, also if the first has begun meanwhile.
func TestGuideCompilesBesideSteps(t *testing.T) {
	l := newGuidedLeader(t)
	l.dispatch(guidedRequest(1), freeRequest(2, 5))
	if len(l.engine.sequences) != 1 || len(l.compiling) != 1 {
		t.Fatalf("%d run, %d wait for guides, want one and one", len(l.engine.sequences), len(l.compiling))
	}
	for len(l.engine.sequences) > 0 {
		if err := l.step(); err != nil {
			t.Fatal(err)
		}
	}
	if ends, _ := l.finishes(); ends[2] != protocol.FinishLength {
		t.Errorf("request 2 has ended with %d", ends[2])
	}
	l.dispatch(guidedRequest(1))
	l.compile <- nil
	l.handle(<-l.events)
	l.dispatch(guidedRequest(1)) // now it runs
	if len(l.engine.sequences) != 1 || len(l.compiling) != 0 || l.held.Load() != 1 {
		t.Errorf("%d run, %d wait for guides, %d are held", len(l.engine.sequences), len(l.compiling), l.held.Load())
	}
	l.finish()
	ends, tokens := l.finishes()
	if ends[1] != protocol.FinishEOS || len(tokens[1]) < 2 {
		t.Errorf("request 1 got %v and ended with %d", tokens[1], ends[1])
	}
	l.dispatch(guidedRequest(3)) // its guide is known
	if len(l.engine.sequences) != 1 {
		t.Error("a guide that is known is waited for")
	}
	l.finish()
	if _, again := l.finishes(); !slices.Equal(again[3], tokens[1]) {
		t.Errorf("got %v, want %v", again[3], tokens[1])
	}
}

// A request that is cancelled while its guide is compiled, or whose router is given up, is forgotten.
func TestGuideCompilesForNobody(t *testing.T) {
	for name, leave := range map[string]func(l *guidedLeader){
		"cancel": func(l *guidedLeader) {
			l.handle(event{cancel: &protocol.Cancel{Router: guidedRouter, Number: 1, IDs: []uint64{1}}})
		},
		"silence": func(l *guidedLeader) { l.drop(guidedRouter) },
	} {
		l := newGuidedLeader(t)
		l.dispatch(guidedRequest(1))
		leave(l)
		if held := l.held.Load(); held != 0 || len(l.compiling) != 0 {
			t.Errorf("%s: %d are held, %d wait", name, held, len(l.compiling))
		}
		l.compile <- nil
		l.handle(<-l.events)
		if len(l.engine.sequences) != 0 {
			t.Errorf("%s: it runs nevertheless", name)
		}
	}
}

// A guide that cannot be compiled here ends its request, and no other.
func TestGuideCannotBeCompiled(t *testing.T) {
	l := newGuidedLeader(t)
	l.dispatch(guidedRequest(1))
	l.compile <- errors.New("the tokenizer is broken")
	l.handle(<-l.events)
	ill := guidedRequest(2)
	ill.Guide = &guide.Source{Kind: guide.Regex, Text: `(`}
	ill.Generated = []int32{7, 8}
	l.dispatch(ill)
	l.handle(<-l.events)
	ends, tokens := l.finishes()
	for id := uint64(1); id <= 2; id++ {
		if ends[id] != protocol.FinishGuide || !slices.Equal(tokens[id], []int32{-1}) {
			t.Errorf("request %d got %v and ended with %d", id, tokens[id], ends[id])
		}
	}
	l.compile <- nil
	l.dispatch(guidedRequest(3))
	l.handle(<-l.events)
	l.finish()
	if ends, _ := l.finishes(); ends[3] != protocol.FinishEOS {
		t.Errorf("request 3 ended with %d", ends[3])
	}
}

// A group at rest wakes when a guide is there, and one that drains waits for it.
func TestGuideWakesAndDrains(t *testing.T) {
	l := newGuidedLeader(t)
	ctx, drain := context.WithCancel(context.Background())
	defer drain()
	l.dispatch(guidedRequest(1))
	served := make(chan error, 1)
	go func() { served <- l.serve(ctx) }()
	drain()
	for !l.draining.Load() {
		select {
		case err := <-served:
			t.Fatalf("it has ended while a guide is compiled: %v", err)
		default:
		}
	}
	l.compile <- nil
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	if ends, _ := l.finishes(); ends[1] != protocol.FinishEOS || l.held.Load() != 0 {
		t.Errorf("the request ended with %d, %d are held", ends[1], l.held.Load())
	}
}
