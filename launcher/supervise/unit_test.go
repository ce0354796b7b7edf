package supervise_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"lockstep/launcher/supervise"
)

var epoch = time.Unix(1_000_000, 0)

func kinds(actions []supervise.Action) string {
	var names []string
	for _, action := range actions {
		names = append(names, string(action.Kind))
	}
	return strings.Join(names, " ")
}

func expect(t *testing.T, actions []supervise.Action, want string) {
	t.Helper()
	if got := kinds(actions); got != want {
		t.Fatalf("got %q, want %q", got, want)
	}
}

// served returns a unit of two ranks that serves.
func served(t *testing.T) *supervise.Unit {
	t.Helper()
	u := supervise.NewUnit(2)
	expect(t, u.Start(), "spawn")
	expect(t, u.Ready(1), "")
	expect(t, u.Ready(0), "serving")
	return u
}

func TestDeadRankRestartsTheWholeGroup(t *testing.T) {
	u := served(t)
	expect(t, u.Exited(epoch, 1, false, "signal: killed"), "abort kill")
	expect(t, u.Exited(epoch, 0, false, "signal: killed"), "spawn")
	expect(t, u.Ready(0), "")
	expect(t, u.Ready(1), "serving")
}

func TestBackoffDoublesAndFiveDeathsEndIt(t *testing.T) {
	u := served(t)
	now := epoch
	for death, want := range []time.Duration{0, 100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond} {
		expect(t, u.Exited(now, 0, false, "boom"), "abort kill")
		actions := u.Exited(now, 1, false, "killed")
		if want == 0 {
			expect(t, actions, "spawn")
			continue
		}
		expect(t, actions, "")
		at, ok := u.Deadline()
		if !ok || at.Sub(now) != want {
			t.Fatalf("death %d: pause %v, want %v", death+1, at.Sub(now), want)
		}
		expect(t, u.Tick(at.Add(-1)), "")
		expect(t, u.Tick(at), "spawn")
		now = at
	}
	expect(t, u.Exited(now, 0, false, "boom"), "abort kill")
	actions := u.Exited(now, 1, false, "killed")
	expect(t, actions, "failed")
	if want := "5 deaths within 1m0s, the last one: boom"; actions[0].Reason != want {
		t.Errorf("got %q, want %q", actions[0].Reason, want)
	}
	if !u.Gone() {
		t.Error("the unit is not gone")
	}
}

func TestDeathsFarApartGoOnForEver(t *testing.T) {
	u := served(t)
	now := epoch
	for range 100 {
		now = now.Add(supervise.Window + time.Second)
		expect(t, u.Exited(now, 0, false, "boom"), "abort kill")
		expect(t, u.Exited(now, 1, false, "killed"), "spawn")
	}
}

func TestDeathsSomewhatFarApartReachTheLongestPause(t *testing.T) {
	u := served(t)
	now, longest := epoch, time.Duration(0)
	for range 12 {
		now = now.Add(20 * time.Second) // three in a window
		u.Exited(now, 0, false, "boom")
		u.Exited(now, 1, false, "killed")
		if at, ok := u.Deadline(); ok {
			longest = at.Sub(now)
			expect(t, u.Tick(at), "spawn")
		}
	}
	if longest != supervise.MaxBackoff {
		t.Errorf("got %v, want %v", longest, supervise.MaxBackoff)
	}
}

func TestDeathWhileLoadingEndsTheFirstStart(t *testing.T) {
	u := supervise.NewUnit(3)
	expect(t, u.Start(), "spawn")
	expect(t, u.Exited(epoch, 2, false, "no such file"), "abort kill")
	expect(t, u.Exited(epoch, 0, false, "killed"), "")
	actions := u.Exited(epoch, 1, false, "killed")
	expect(t, actions, "failed")
	if actions[0].Reason != "no such file" {
		t.Errorf("got %q, want the first reason", actions[0].Reason)
	}
}

func TestSpawnFailure(t *testing.T) {
	u := supervise.NewUnit(2)
	expect(t, u.Start(), "spawn")
	expect(t, u.SpawnFailed(epoch, 1, "fork"), "abort kill")
	expect(t, u.Exited(epoch, 0, false, "killed"), "failed")
}

func TestDrain(t *testing.T) {
	end := epoch.Add(90 * time.Second)
	u := served(t)
	expect(t, u.Drain(epoch, end), "terminate")
	expect(t, u.Exited(epoch, 0, true, ""), "")
	expect(t, u.Exited(epoch, 1, true, ""), "ended")

	u = served(t)
	expect(t, u.Drain(epoch, end), "terminate")
	expect(t, u.Tick(end), "kill")
	expect(t, u.Exited(end, 0, false, "killed"), "abort kill")
	expect(t, u.Exited(end, 1, false, "killed"), "ended")

	u = served(t)
	expect(t, u.Drain(epoch, end), "terminate")
	expect(t, u.Drain(epoch, epoch), "kill") // the second signal

	u = supervise.NewUnit(1)
	expect(t, u.Drain(epoch, end), "ended") // never started

	u = supervise.NewUnit(1)
	expect(t, u.Start(), "spawn")
	expect(t, u.Drain(epoch, end), "kill") // loading a large model takes minutes
}

func TestDrainWhilePausing(t *testing.T) {
	u := served(t)
	for range 2 {
		u.Exited(epoch, 0, false, "boom")
		u.Exited(epoch, 1, false, "killed")
	}
	expect(t, u.Drain(epoch, epoch.Add(time.Minute)), "ended")
	expect(t, u.Tick(epoch.Add(time.Hour)), "")
}

func ExampleUnit() {
	u := supervise.NewUnit(1)
	fmt.Println(kinds(u.Start()), kinds(u.Ready(0)), kinds(u.Exited(epoch, 0, false, "crash")))
	// Output: spawn serving abort spawn
}

// A unit that hangs while it is started again is started once more; the first start is nobody's to end, and what serves
// does not hang by not loading.
func TestHungRestart(t *testing.T) {
	u := supervise.NewUnit(2)
	expect(t, u.Start(), "spawn")
	expect(t, u.Hung(epoch, "it does not come up"), "")
	expect(t, u.Ready(1), "")
	expect(t, u.Ready(0), "serving")
	expect(t, u.Hung(epoch, "it does not come up"), "")
	expect(t, u.Exited(epoch, 1, false, "killed"), "abort kill")
	if !u.ComesBack() {
		t.Error("a unit that is broken for the first time comes back")
	}
	expect(t, u.Exited(epoch, 0, false, "killed"), "spawn")
	expect(t, u.Hung(epoch.Add(time.Minute), "it does not come up"), "abort kill")
	expect(t, u.Exited(epoch.Add(time.Minute), 0, false, "killed"), "")
	expect(t, u.Exited(epoch.Add(time.Minute), 1, false, "killed"), "")
	at, _ := u.Deadline()
	expect(t, u.Tick(at), "spawn")
	expect(t, u.Drain(at, at.Add(time.Minute)), "kill")
	expect(t, u.Hung(at, "it does not come up"), "")
}
