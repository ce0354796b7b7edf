package outbox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/protocol"
	"lockstep/shard/outbox"
)

// script drives an outbox in virtual time and writes down what it sends.
type script struct {
	t   *testing.T
	o   *outbox.Outbox
	now time.Time
	log []string
}

func newScript(t *testing.T) *script {
	return &script{t: t, o: outbox.New(protocol.GroupRef{Group: "g", Incarnation: 1}), now: time.Unix(1000, 0)}
}

func (s *script) dispatch(name string) {
	if dropped := s.o.Dispatched(name, s.now); dropped != "" {
		s.log = append(s.log, "drop "+dropped)
	}
}

// step gives each router named a token, and sends the frames.
func (s *script) step(number uint64, names ...string) {
	for _, name := range names {
		if f := s.o.Frame(name); f != nil {
			f.Add(1, int(number), int32(number), 0, protocol.FinishNone)
		}
	}
	s.o.Flush(number, protocol.Load{}, func(string) protocol.Account { return protocol.Account{Requests: 1} },
		func(name string, data []byte) {
			s.note(name, data)
		})
}

func (s *script) note(name string, data []byte) {
	s.t.Helper()
	var f protocol.Frame
	if err := protocol.DecodeFrame(&f, data); err != nil {
		s.t.Fatal(err)
	}
	s.log = append(s.log, fmt.Sprintf("%s #%d step %d cancels %d", name, f.Number, f.Step, f.Account.Cancels))
}

func (s *script) replay(name string, from uint64) {
	s.o.Replay(&protocol.Replay{Router: name, From: from}, s.now, func(data []byte) { s.note(name, data) })
}

func (s *script) expect(want ...string) {
	s.t.Helper()
	if !slices.Equal(s.log, want) {
		s.t.Errorf("got\n  %s\nwant\n  %s", strings.Join(s.log, "\n  "), strings.Join(want, "\n  "))
	}
	s.log = nil
}

func TestFramesAreNumberedAndReplayed(t *testing.T) {
	s := newScript(t)
	s.step(1, "a.1") // nobody is known yet
	s.expect()
	s.dispatch("a.1")
	s.step(2)        // nothing to say
	s.step(3, "a.1") // numbers count what is said
	s.o.Cancelled("a.1", 7)
	s.o.Cancelled("a.1", 6) // an older one that came late
	s.step(4, "a.1")
	s.expect("a.1 #0 step 3 cancels 0", "a.1 #1 step 4 cancels 7")
	s.replay("a.1", 1)
	s.replay("a.1", 0) // too soon
	s.replay("b.1", 0) // not known
	s.expect("a.1 #1 step 4 cancels 7")
	s.now = s.now.Add(time.Second)
	s.replay("a.1", 0)
	s.replay("a.1", 0)
	s.expect("a.1 #0 step 3 cancels 0", "a.1 #1 step 4 cancels 7")
}

// What is older than protocol.ReplayFrames is gone; the router notices and dispatches anew.
func TestReplayHasAnEnd(t *testing.T) {
	s := newScript(t)
	s.dispatch("a.1")
	for step := range uint64(protocol.ReplayFrames + 3) {
		s.step(step, "a.1")
	}
	s.log = nil
	s.replay("a.1", 0)
	if first, last := s.log[0], s.log[len(s.log)-1]; len(s.log) != protocol.ReplayFrames || !strings.HasPrefix(first, "a.1 #3 step 3 ") ||
		!strings.HasPrefix(last, fmt.Sprintf("a.1 #%d ", protocol.ReplayFrames+2)) {
		t.Errorf("got %d frames, from %q to %q", len(s.log), first, last)
	}
}

func TestSilentRoutersExpire(t *testing.T) {
	s := newScript(t)
	s.dispatch("a.1")
	s.dispatch("b.1")
	s.now = s.now.Add(protocol.RouterLease - time.Millisecond)
	if got := s.o.Expire(s.now); got != nil {
		t.Errorf("got %v within the lease", got)
	}
	s.o.Alive("b.1", s.now)
	s.o.Alive("c.1", s.now) // never heard of: stays unknown
	s.now = s.now.Add(time.Millisecond)
	if got := s.o.Expire(s.now); !slices.Equal(got, []string{"a.1"}) {
		t.Errorf("got %v, want a.1", got)
	}
	s.step(1, "a.1", "b.1", "c.1")
	s.expect("b.1 #0 step 1 cancels 0")
}

// Sessions of one router make room for each other, the one heard longest ago first, and never for another router's.
func TestSessionsMakeRoom(t *testing.T) {
	s := newScript(t)
	s.dispatch("quiet.0")
	for i := range 3 * outbox.MaxSessions {
		s.now = s.now.Add(time.Second)
		s.dispatch(fmt.Sprintf("busy.%d", i))
	}
	var want []string
	for i := range 2 * outbox.MaxSessions {
		want = append(want, fmt.Sprintf("drop busy.%d", i))
	}
	s.expect(want...)
	if s.o.Frame("quiet.0") == nil {
		t.Error("another router's session went")
	}
}
