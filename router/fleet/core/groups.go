package core

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	"lockstep/protocol"
	"lockstep/router/admission"
)

// group is a living incarnation.
type group struct {
	Announcement protocol.Announcement
	known        bool            // its card is known and good: admission has it
	kinds        []string        // of its card, once it is known: that of requests without an adapter, then those of its adapters
	takes        map[string]bool // the same: requests of these it computes
	refused      bool            // it refused or did not answer; closed until its next announcement
	quiet        bool            // it has missed announcements; closed until the next
	seen         time.Time
	running      map[uint64]*call // by wire id
	probe        *probe           // nil: none is under way
	yielded      time.Time        // when the last frame with tokens came
	wrong        bool             // the ledger differs from the group's account
	errorTokens  int              // by so many

	*talk
	lastFrame time.Time
	asked     time.Time // when a Replay was last asked for
	replays   int       // Replays asked for since the last good frame
}

// talk is what this router and an incarnation have said to each other. It outlives the group's loss: an incarnation that
// was only silent goes on counting where it was, and answers what it was asked before.
type talk struct {
	next uint64 // number of the frame that comes next
	step uint64 // of the last frame
	// cancels is the number of the last Cancel that was sent.
	cancels    uint64
	unanswered map[uint64]bool // wire ids of dispatches that the group has not answered yet
	late       []uint64        // those among them that are to be cancelled once it has
}

// ready reports whether the group computes, as far as it is heard.
func (g *group) ready() bool { return g.Announcement.State == protocol.StateReady && !g.quiet }

func (g *group) wires() []uint64 {
	wires := make([]uint64, 0, len(g.running))
	for wire := range g.running {
		wires = append(wires, wire)
	}
	slices.Sort(wires)
	return wires
}

// Announced takes in a heartbeat that came from a group.
func (f *Fleet) Announced(now time.Time, name string, a protocol.Announcement) {
	f.now = now
	f.announced(name, a)
	f.admit()
}

func (f *Fleet) announced(name string, a protocol.Announcement) {
	if err := a.Validate(); err != nil || a.Group != name {
		f.actions.Complain(name, "announcement refused", err)
		return
	}
	if f.config.ModelID != "" && a.ModelID != f.config.ModelID {
		return
	}
	if _, dead := f.downed[a.GroupRef]; dead {
		return
	}
	g := f.groups[a.Group]
	if g != nil && a.Incarnation < g.Announcement.Incarnation {
		return
	}
	if g != nil && a.Incarnation == g.Announcement.Incarnation && a.CardDigest != g.Announcement.CardDigest {
		f.actions.Complain(name, "announcement refused", errors.New("an incarnation has one card, and this is another"))
		return
	}
	if g != nil && a.Incarnation > g.Announcement.Incarnation {
		f.remove(g, "a newer incarnation has come", true)
		g = nil
	}
	if g == nil {
		if len(f.groups) >= maxGroups {
			return
		}
		g = &group{running: map[uint64]*call{}, talk: f.talks[a.GroupRef]}
		if g.talk == nil {
			g.talk = &talk{unanswered: map[uint64]bool{}}
		}
		f.groups[a.Group] = g
		f.actions.Log(Info, "group found", "group", a.GroupRef.String(), "model", a.ModelID, "shards", a.Shards)
	}
	g.Announcement, g.seen, g.refused, g.quiet = a, f.now, false, false
	if known := f.cards[a.CardDigest]; known.good && f.knows(a.CardDigest) {
		f.include(g)
	} else if f.mayFetch(g, known) { // else at its next announcement
		f.fetchCard(g)
	}
}

// include tells admission about a group whose card is good.
func (f *Fleet) include(g *group) {
	name := g.Announcement.Group
	if g.known = true; g.kinds == nil { // an incarnation has one card
		g.kinds, g.takes = f.kindsOf(g.Announcement.CardDigest), map[string]bool{}
		for _, kind := range g.kinds {
			g.takes[kind] = true
		}
	}
	f.admission.SetGroup(name, admission.Group{Kind: g.kinds[0], Adapters: g.kinds[1:], Limits: g.Announcement.Limits})
	f.admission.SetOpen(name, g.ready() && !g.refused)
	f.admission.Report(name, g.Announcement.Load)
	f.show()
}

// death is when an incarnation was last said to have died, and what it served.
type death struct {
	since      time.Time
	cardDigest string
}

// Down takes in the news of a death that came from a group's launcher. It changes something only when it speaks of the
// incarnation that is known: what was never announced cannot end, and an incarnation that is still to come cannot be dead.
// While the next one loads, the news come again, and requests wait on.
func (f *Fleet) Down(now time.Time, name string, d protocol.Down) {
	f.now = now
	f.down(name, d)
	f.admit()
}

func (f *Fleet) down(name string, d protocol.Down) {
	g := f.groups[name]
	if d.Group != name {
		return
	}
	known := g != nil && d.GroupRef == g.Announcement.GroupRef
	before, dead := f.downed[d.GroupRef]
	if !known && !dead {
		return
	}
	end := death{since: f.now, cardDigest: before.cardDigest}
	if known {
		end.cardDigest = g.Announcement.CardDigest
	}
	if dead || len(f.downed) < maxGroups {
		f.downed[d.GroupRef] = end
	}
	if back := time.Duration(min(d.BackSeconds, maxBackTime.Seconds()) * float64(time.Second)); back > 0 {
		for _, kind := range f.kindsOf(end.cardDigest) {
			f.awaited[kind] = end.since.Add(2*back + f.config.ResumeTimeout)
		}
	}
	if known {
		f.remove(g, Said(d.Reason), !d.Stopped)
	}
}

// forget drops what is known of deaths, restarts and cards once it is of no use.
func (f *Fleet) forget() {
	maps.DeleteFunc(f.downed, func(_ protocol.GroupRef, d death) bool { return f.now.Sub(d.since) > downedTime })
	maps.DeleteFunc(f.awaited, func(_ string, until time.Time) bool { return f.now.After(until) })
	f.forgetCards()
}

// remove forgets a group; its calls wait again at the front of the queue.
func (f *Fleet) remove(g *group, reason string, lost bool) {
	ref := g.Announcement.GroupRef
	if lost {
		f.totals.GroupsLost++
		f.actions.Log(Warn, "group lost", "group", ref.String(), "reason", reason, "requests", len(g.running))
	} else {
		f.actions.Log(Info, "group has stopped", "group", ref.String(), "requests", len(g.running))
	}
	f.sendCancel(g, g.wires())
	g.endProbe(fmt.Errorf("group %s is gone: %s", ref, reason))
	for _, c := range g.running {
		f.detach(c)
	}
	f.admission.RemoveGroup(ref.Group)
	delete(f.groups, ref.Group)
	if len(f.talks) >= maxGroups {
		clear(f.talks)
	}
	f.talks[ref] = g.talk
	f.show()
}

// watchGroups finds groups that are silent, that owe frames or that have forgotten requests. While the router itself
// was absent, silence says nothing.
func (f *Fleet) watchGroups(absent bool) {
	now := f.now
	for _, g := range f.ordered() {
		if absent {
			g.seen = now
			continue
		}
		silent := now.Sub(g.seen)
		if silent > protocol.GroupTimeout {
			f.remove(g, "it has been silent", true)
			continue
		}
		if silent > avoidTime && g.known {
			g.quiet = true
			f.admission.SetOpen(g.Announcement.Group, false)
		}
		f.watchProbe(g)
		if load := g.Announcement.Load; load.Running+load.Waiting < len(g.running) {
			f.takeBackForgotten(g)
		}
		// The last frames may have been lost, with none behind them that would show the gap.
		if (len(g.running) > 0 || g.probe != nil) && now.Sub(g.lastFrame) >= quietTimeout && now.Sub(g.asked) >= quietTimeout {
			f.askReplay(g)
		}
	}
}

// takeBackForgotten dispatches again what a group holds no more.
func (f *Fleet) takeBackForgotten(g *group) {
	var forgotten []uint64
	for wire, c := range g.running {
		if f.now.Sub(c.moved) > forgottenTimeout {
			forgotten = append(forgotten, wire)
		}
	}
	slices.Sort(forgotten)
	if len(forgotten) > 0 {
		f.actions.Complain(g.Announcement.Group, "group has forgotten requests; dispatching again",
			fmt.Errorf("%d requests", len(forgotten)))
		f.takeBack(g, forgotten)
	}
}

// takeBack ends attempts at a living group and puts their calls at the front of the queue.
func (f *Fleet) takeBack(g *group, wires []uint64) {
	f.sendCancel(g, wires)
	ids := make([]uint64, 0, len(wires))
	for _, wire := range wires {
		if c := g.running[wire]; c != nil {
			ids = append(ids, c.id)
			f.detach(c)
		}
	}
	f.admission.Requeue(ids)
	g.replays = 0
}

// maxSaidBytes bounds what of a group's own words is told.
const maxSaidBytes = 200

// Said is what a group says as far as it is told of.
func Said(text string) string {
	text = strings.ToValidUTF8(text[:min(len(text), maxSaidBytes)], "")
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, text)
}
