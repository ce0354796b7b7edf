package main

import (
	"fmt"
	"strings"
	"time"

	"lockstep/shard/collective"
)

const (
	// tellInterval is how often routers are told that a group which they wait for still loads.
	tellInterval = 5 * time.Second
	// minHang is how long a group that is started again must show no progress at the least to be given up, and hangFactor how
	// many times as long as its last start took.
	minHang    = 30 * time.Second
	hangFactor = 5
	// warnInterval lies between two warnings that the first start takes long.
	warnInterval = time.Minute
)

// look finds processes that stand still, and groups that do not come up.
func (l *launcher) look() {
	now := time.Now()
	for _, u := range l.units() {
		if u.memory == nil {
			continue
		}
		if u == l.shards || !l.stopping { // a router that drains has a deadline, and its clients nowhere to go
			l.lookForStall(u, now)
		}
		if u == l.shards {
			l.lookForHang(u, now)
		}
	}
}

func (l *launcher) lookForStall(u *unit, now time.Time) {
	for rank := range u.beats {
		beat, err := collective.ReadBeat(u.memory, rank)
		if err != nil {
			l.log.Error().Err(err).Str("unit", u.name).Msg("it cannot be watched any more")
			return
		}
		u.beats[rank] = beat
	}
	if rank, still, found := u.pulse.Look(now, u.beats); found {
		l.apply(u, u.Stalled(fmt.Sprintf("%s has stood still for %v", u.nameOf(rank), still.Round(100*time.Millisecond))))
	}
}

// lookForHang gives a group up that does not come up again, and tells of one that starts for long.
func (l *launcher) lookForHang(u *unit, now time.Time) {
	quiet := now.Sub(u.moved)
	switch {
	case u.ComesUpAgain() && quiet > max(minHang, hangFactor*u.loadTime):
		l.apply(u, u.Hung(now, fmt.Sprintf("%s shows no progress since %v", u.late(), quiet.Round(time.Second))))
	case u.ComesUpAgain() && now.Sub(u.told) > tellInterval:
		l.tellLoss(u)
	case u.Starts() && quiet > warnInterval*time.Duration(u.warned+1):
		u.warned++
		l.log.Warn().Dur("no_progress_for_ms", quiet).Msgf("%s is not ready yet", u.late())
	}
}

// late names the processes of a unit that are not ready.
func (u *unit) late() string {
	var names []string
	for _, rank := range u.Late() {
		names = append(names, u.nameOf(rank))
	}
	return strings.Join(names, ", ")
}
