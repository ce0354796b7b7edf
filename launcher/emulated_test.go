package main_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"

	"lockstep/protocol/outside"
)

// A whole server on an emulated card: a stream whose rank is killed goes on with the tokens that it would have had.
func TestKilledRankOfAnEmulatedCard(t *testing.T) {
	outside.Slow(t)
	s := serve(t, "serve", "--kernels", "ptx", "--num-shard", "2", "--hostname", "127.0.0.1", "--port", strconv.Itoa(freePort(t)))
	if got := s.status(); !strings.Contains(got, " emulated card (PTX)  2       bf16h.1 ") {
		t.Errorf("got %s", got)
	}
	const tokens = 12
	want := s.mustGenerate("Once upon a time", tokens)
	next := s.stream("Once upon a time", tokens)
	got := next()
	syscall.Kill(s.rank(1), syscall.SIGKILL)
	for token := next(); token != ""; token = next() {
		got += token
	}
	if got != want {
		t.Errorf("after the kill the stream went on differently:\ngot  %q\nwant %q", got, want)
	}
	s.command.Process.Signal(syscall.SIGTERM)
	if code := s.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}
