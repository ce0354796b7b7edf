package core

import (
	"errors"
	"fmt"
	"time"

	"lockstep/protocol"
)

const (
	// freshTime is how long a frame with tokens proves that all ranks of its group compute.
	freshTime = time.Second
	// probeTimeout is how long a group may take to answer a probe; then it counts as ill.
	probeTimeout = 5 * time.Second
)

// ErrNoGroup says that there is no group to ask.
var ErrNoGroup = errors.New("fleet: no group is ready")

// probe is a request of one token, or for a score, that goes to a group past the queue, to see whether its ranks compute. A
// group has one at most; all who ask meanwhile share it. Neither queue nor ledger nor metrics of requests know of probes: they
// hold one block for one step.
type probe struct {
	wire     uint64
	deadline time.Time
	votes    []*vote
}

// vote gathers what several groups answer.
type vote struct {
	missing int
	err     error
	answer  func(error)
}

func (v *vote) cast(err error) {
	v.missing--
	if err != nil && v.err == nil {
		v.err = err
	}
	if v.missing == 0 {
		v.answer(v.err)
	}
}

// Examine answers with nil if all ready groups of a model card compute: each has sent tokens within freshTime or answers a
// probe now. The answer comes once, at once or within probeTimeout and a tick; a Stop is none.
func (f *Fleet) Examine(now time.Time, digest string, answer func(error)) {
	f.now = now
	v, ready := &vote{missing: 1, answer: answer}, 0
	for _, g := range f.ordered() {
		if !g.known || g.Announcement.CardDigest != digest || !g.ready() {
			continue
		}
		ready++
		if f.now.Sub(g.yielded) <= freshTime {
			continue
		}
		if g.probe == nil {
			f.startProbe(g)
		}
		v.missing++
		g.probe.votes = append(g.probe.votes, v)
	}
	if ready == 0 {
		v.cast(ErrNoGroup)
		return
	}
	v.cast(nil)
}

func (f *Fleet) startProbe(g *group) {
	f.lastWire++
	g.probe = &probe{wire: f.lastWire, deadline: f.now.Add(probeTimeout)}
	if len(g.running) == 0 {
		g.lastFrame = f.now
	}
	f.deliver(&Delivery{group: g, Probe: true, Requests: []protocol.Request{{ID: g.probe.wire, Prompt: []int32{0}, MaxNewTokens: 1,
		NoPrefixCache: true, Score: f.cards[g.Announcement.CardDigest].Reward}}})
}

// endProbe tells all who wait for the group's probe.
func (g *group) endProbe(err error) {
	p := g.probe
	if p == nil {
		return
	}
	g.probe = nil
	for _, v := range p.votes {
		v.cast(err)
	}
}

// probeYielded takes in the row that answers the probe.
func (g *group) probeYielded(finish protocol.Finish) {
	if finish == protocol.FinishError {
		g.endProbe(fmt.Errorf("group %s cannot compute", g.Announcement.GroupRef))
		return
	}
	g.endProbe(nil)
}

// probeRefused takes in that a group has not taken its probe.
func (g *group) probeRefused(err *protocol.Error) {
	if err.Code == protocol.CodeFull {
		g.endProbe(nil) // it is busy; that its step hangs, it would find out itself
		return
	}
	g.endProbe(fmt.Errorf("group %s refuses: %w", g.Announcement.GroupRef, err))
}

// watchProbe gives up a probe that takes too long.
func (f *Fleet) watchProbe(g *group) {
	if g.probe == nil || f.now.Before(g.probe.deadline) {
		return
	}
	f.actions.Log(Warn, "group does not answer a probe", "group", g.Announcement.GroupRef.String(), "after", probeTimeout)
	f.sendCancel(g, []uint64{g.probe.wire})
	g.endProbe(fmt.Errorf("group %s does not answer", g.Announcement.GroupRef))
}
