package main_test

import (
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lockstep/protocol/outside"
)

// stallPatience is how long a stream may pause in these tests, on machines that do much else. What a pause is on a quiet
// one, they log.
const stallPatience = 20 * time.Second

// longest reads a stream to its end and returns its text and the longest pause in it.
func longest(next func() string) (text string, pause time.Duration) {
	for last := time.Now(); ; last = time.Now() {
		token := next()
		pause = max(pause, time.Since(last))
		if token == "" {
			return text, pause
		}
		text += token
	}
}

// A rank that does not move any more, whichever it is: the group is started again and the stream goes on as if nothing
// had happened, long before anybody's patience ends.
func TestStalledRankUnderAStream(t *testing.T) {
	s := serveDemo(t)
	want, _ := longest(s.stream("Once upon a time", 1000))
	for rank := range 2 {
		next := s.stream("Once upon a time", 1000)
		got := next()
		victim := s.rank(rank)
		syscall.Kill(victim, syscall.SIGSTOP)
		text, pause := longest(next)
		if got+text != want {
			t.Errorf("rank %d stood still: got %q, want %q", rank, got+text, want)
		}
		if pause > stallPatience {
			t.Errorf("rank %d stood still: the stream paused for %v", rank, pause)
		}
		t.Logf("rank %d stood still: longest pause %v", rank, pause)
		if s.rank(rank) == victim {
			t.Errorf("rank %d is still the process that was stopped", rank)
		}
	}
}

// A rank that stands still while nothing is asked of it is found before the next request needs it.
func TestStalledRankAtRest(t *testing.T) {
	s := serveDemo(t)
	want := s.mustGenerate("Once upon a time", 20)
	for rank := range 2 {
		victim := s.rank(rank)
		syscall.Kill(victim, syscall.SIGSTOP)
		eventually(t, fmt.Sprintf("rank %d is another process", rank), func() bool {
			for arguments, pid := range s.children() {
				if strings.HasSuffix(arguments, fmt.Sprintf("--rank %d", rank)) {
					return pid != victim
				}
			}
			return false
		})
		if got := s.mustGenerate("Once upon a time", 20); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// One of two nodes stands still, all of it or one of its ranks: streams go on at the other, and no new request waits for it.
func TestStalledNode(t *testing.T) {
	outside.Slow(t)
	for _, what := range []string{"node", "rank"} {
		t.Run(what, func(t *testing.T) {
			c := newCluster(t)
			ill := c.startNode(t, "127.0.0.2")
			c.startNode(t, "127.0.0.3")
			router := c.startRouter(t, "127.0.0.5")
			router.knows("node-2", 1)
			router.knows("node-3", 1)
			want, _ := longest(router.stream("Once upon a time", 1000))
			var streams sync.WaitGroup
			for range 8 {
				next := router.stream("Once upon a time", 1000)
				first := next()
				streams.Go(func() {
					text, pause := longest(next)
					if first+text != want || pause > stallPatience {
						t.Errorf("longest pause %v; got %q, want %q", pause, first+text, want)
					}
					t.Logf("longest pause %v", pause)
				})
			}
			if what == "node" {
				for _, pid := range ill.children() {
					syscall.Kill(pid, syscall.SIGSTOP)
				}
				syscall.Kill(ill.command.Process.Pid, syscall.SIGSTOP)
			} else {
				syscall.Kill(ill.rank(0), syscall.SIGSTOP)
			}
			for range 10 {
				began := time.Now()
				if got, _ := longest(router.stream("Once upon a time", 1000)); got != want {
					t.Errorf("a new request: got %q, want %q", got, want)
				}
				t.Logf("a new request took %v", time.Since(began))
			}
			streams.Wait()
		})
	}
}

// A rank that stands still while the node drains: the group is started again, the stream ends whole, and all is well.
func TestStallWhileDraining(t *testing.T) {
	s := serveDemo(t, "--graceful-termination-timeout", "60")
	want, _ := longest(s.stream("Once upon a time", 1000))
	next := s.stream("Once upon a time", 1000)
	got := next()
	syscall.Kill(s.rank(0), syscall.SIGSTOP)
	s.command.Process.Signal(syscall.SIGTERM)
	text, pause := longest(next)
	if got+text != want || pause > stallPatience {
		t.Errorf("longest pause %v; got %q, want %q", pause, got+text, want)
	}
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// A rank that hangs while its group is started again is not waited for without end, and a stream is still there when the
// group comes up at last.
func TestHungRestart(t *testing.T) {
	outside.Slow(t)
	s := serveDemo(t)
	want, _ := longest(s.stream("Once upon a time", 1000))
	next := s.stream("Once upon a time", 1000)
	got := next()
	first := s.rank(1)
	syscall.Kill(first, syscall.SIGKILL)
	var second int
	eventually(t, "rank 1 is started again", func() bool {
		for arguments, pid := range s.children() {
			if strings.HasSuffix(arguments, "--rank 1") && pid != first {
				second = pid
				return true
			}
		}
		return false
	})
	syscall.Kill(second, syscall.SIGSTOP)
	text, pause := longest(next)
	if got+text != want {
		t.Errorf("got %q, want %q", got+text, want)
	}
	t.Logf("longest pause %v", pause)
	if s.rank(1) == second {
		t.Error("the rank that hung is still there")
	}
}

// A router that stands still is started again; its clients lose their connections, as when it dies.
func TestStalledRouter(t *testing.T) {
	outside.Slow(t)
	s := serveDemo(t)
	victim := s.children()["lockstep router"]
	syscall.Kill(victim, syscall.SIGSTOP)
	eventually(t, "another router answers", func() bool {
		pid := s.children()["lockstep router"]
		if pid == 0 || pid == victim {
			return false
		}
		_, err := s.generate("Once upon a time", 3)
		return err == nil
	})
}
