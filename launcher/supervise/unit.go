// Package supervise decides what a launcher does with a unit of processes that live and die together: the ranks of a
// shard group, or the one process of a router. It is a core without I/O: events and the time go in, actions come out,
// and whoever owns a Unit carries them out in order. A Unit is not safe for concurrent use.
//
// The life of a unit:
//
//	idle -> loading -> serving -> breaking -> pausing -> loading ...
//	                                 |-> ended (five deaths in a minute, or the first start failed)
//	any  -> draining -> ended
//
// One process that exits, for whatever reason, breaks the whole unit: the others are told to give up, killed, and the
// unit is started again as a new incarnation once all of them are gone.
package supervise

import (
	"fmt"
	"time"
)

// Kind says what to do.
type Kind string

const (
	// Spawn starts all processes of the unit as a new incarnation.
	Spawn Kind = "spawn"
	// Abort tells the processes that wait for each other to give up, and the world that this incarnation is dead.
	Abort Kind = "abort"
	// Kill ends every process that is still there with SIGKILL.
	Kill Kind = "kill"
	// Terminate asks the unit to finish what runs (SIGTERM).
	Terminate Kind = "terminate"
	// Serving says that all processes have become ready.
	Serving Kind = "serving"
	// Failed says that the unit is given up; all its processes are gone.
	Failed Kind = "failed"
	// Ended says that a drained unit is gone.
	Ended Kind = "ended"
)

// Action is one thing to do. Reason is for people, set for Abort and Failed.
type Action struct {
	Kind   Kind
	Reason string
}

type state int

const (
	idle state = iota
	loading
	serving
	breaking // some process is gone, the others are being killed
	pausing  // all are gone, the next start waits for its time
	draining
	ended
)

// Unit is the state of one unit.
type Unit struct {
	size     int
	state    state
	served   bool // has been ready once
	alive    []bool
	ready    []bool
	restarts restarts
	deadline time.Time // of pausing and draining; zero when there is none
	verdict  string    // why to give up once all are gone
	pause    time.Duration
}

// NewUnit makes a unit of size processes, ranks 0 to size-1.
func NewUnit(size int) *Unit {
	return &Unit{size: size, alive: make([]bool, size), ready: make([]bool, size)}
}

// Deadline is when Tick must be called at the latest; ok is false when nothing waits for time.
func (u *Unit) Deadline() (at time.Time, ok bool) { return u.deadline, !u.deadline.IsZero() }

// Start begins the first incarnation.
func (u *Unit) Start() []Action { return u.spawn() }

// HasServed reports whether all processes have been ready at once at any time.
func (u *Unit) HasServed() bool { return u.served }

// Gone reports whether the unit has ended for good.
func (u *Unit) Gone() bool { return u.state == ended }

// SpawnFailed says that the last Spawn started only the first count processes.
func (u *Unit) SpawnFailed(now time.Time, count int, reason string) []Action {
	for rank := count; rank < u.size; rank++ {
		u.alive[rank] = false
	}
	return u.broken(now, reason)
}

// Ready says that a rank of the present incarnation is ready.
func (u *Unit) Ready(rank int) []Action {
	u.ready[rank] = true
	if u.state != loading {
		return nil
	}
	for _, ready := range u.ready {
		if !ready {
			return nil
		}
	}
	u.state, u.served = serving, true
	return []Action{{Kind: Serving}}
}

// Exited says that a rank of the present incarnation is gone. clean is an exit with code 0.
func (u *Unit) Exited(now time.Time, rank int, clean bool, reason string) []Action {
	u.alive[rank] = false
	switch u.state {
	case loading, serving:
		return u.broken(now, reason)
	case breaking:
		return u.settle(now)
	case draining:
		if u.anyAlive() {
			if clean {
				return nil
			}
			return []Action{{Kind: Abort, Reason: reason}, {Kind: Kill}}
		}
		u.end()
		return []Action{{Kind: Ended}}
	}
	return nil
}

// Stalled says that a process of a unit that serves stands still: then all are started again at once. It is no death of the
// kind that ends the supervision: Pulse makes stalls rare by itself. A unit that drains ends
// at once: what it has goes on elsewhere. While the unit loads or breaks it says nothing.
func (u *Unit) Stalled(reason string) []Action {
	switch u.state {
	case serving:
		return u.breakUp(reason, 0)
	case draining:
		return []Action{{Kind: Abort, Reason: reason}, {Kind: Kill}}
	}
	return nil
}

// Hung says that a unit which is started again does not come up: then it is started once more. The first start may take as
// long as it takes.
func (u *Unit) Hung(now time.Time, reason string) []Action {
	if !u.ComesUpAgain() {
		return nil
	}
	return u.broken(now, reason)
}

// Late are the processes of the present incarnation that are not ready.
func (u *Unit) Late() (ranks []int) {
	for rank, ready := range u.ready {
		if !ready {
			ranks = append(ranks, rank)
		}
	}
	return ranks
}

// ComesUpAgain reports whether a unit that has served loads once more.
func (u *Unit) ComesUpAgain() bool { return u.state == loading && u.served }

// Starts reports whether the unit loads for the first time.
func (u *Unit) Starts() bool { return u.state == loading && !u.served }

// ComesBack reports whether the unit will be started again once all its processes are gone.
func (u *Unit) ComesBack() bool { return u.state == breaking && u.verdict == "" }

// Tick says that time has passed.
func (u *Unit) Tick(now time.Time) []Action {
	if u.deadline.IsZero() || now.Before(u.deadline) {
		return nil
	}
	u.deadline = time.Time{}
	switch u.state {
	case pausing:
		return u.spawn()
	case draining:
		return []Action{{Kind: Kill}}
	}
	return nil
}

// Drain ends the unit for good: it may finish what runs until the deadline and is killed then. A unit that does not serve
// has nothing to finish: it is killed at once, as it is when the deadline is not after now. It may be called again with an
// earlier deadline.
func (u *Unit) Drain(now, deadline time.Time) []Action {
	if u.state == ended {
		return nil
	}
	if !u.anyAlive() {
		u.end()
		return []Action{{Kind: Ended}}
	}
	first := u.state != draining
	nothingRuns := u.state == breaking || u.state == loading
	u.state, u.deadline = draining, deadline
	if nothingRuns || !deadline.After(now) {
		u.deadline = time.Time{}
		return []Action{{Kind: Kill}}
	}
	if first {
		return []Action{{Kind: Terminate}}
	}
	return nil
}

func (u *Unit) spawn() []Action {
	u.state, u.deadline = loading, time.Time{}
	for rank := range u.size {
		u.alive[rank], u.ready[rank] = true, false
	}
	return []Action{{Kind: Spawn}}
}

func (u *Unit) broken(now time.Time, reason string) []Action {
	pause, giveUp := u.restarts.died(now)
	switch {
	case !u.served:
		u.verdict = reason
	case giveUp:
		u.verdict = fmt.Sprintf("%d deaths within %v, the last one: %s", MaxDeaths, Window, reason)
	}
	return append(u.breakUp(reason, pause), u.settle(now)...)
}

// breakUp ends what is left of the incarnation.
func (u *Unit) breakUp(reason string, pause time.Duration) []Action {
	u.state, u.pause = breaking, pause
	actions := []Action{{Kind: Abort, Reason: reason}}
	if u.anyAlive() {
		actions = append(actions, Action{Kind: Kill})
	}
	return actions
}

// settle leaves the state breaking once all processes are gone.
func (u *Unit) settle(now time.Time) []Action {
	switch {
	case u.anyAlive():
		return nil
	case u.verdict != "":
		u.end()
		return []Action{{Kind: Failed, Reason: u.verdict}}
	case u.pause == 0:
		return u.spawn()
	}
	u.state, u.deadline = pausing, now.Add(u.pause)
	return nil
}

func (u *Unit) end() { u.state, u.deadline = ended, time.Time{} }

func (u *Unit) anyAlive() bool {
	for _, alive := range u.alive {
		if alive {
			return true
		}
	}
	return false
}
