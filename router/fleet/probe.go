package fleet

import (
	"context"
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

// probe is a request of one token, or for a score, that goes to a group past the queue, to see whether its ranks compute. A group has one
// at most; all who ask meanwhile share it. Neither queue nor ledger nor metrics of requests know of probes: they hold
// one block for one step.
type probe struct {
	wire     uint64
	deadline time.Time
	votes    []*vote
}

// vote gathers what several groups answer. The owner writes it until it closes done.
type vote struct {
	missing int
	err     error
	done    chan struct{}
}

func (v *vote) cast(err error) {
	v.missing--
	if err != nil && v.err == nil {
		v.err = err
	}
	if v.missing == 0 {
		close(v.done)
	}
}

// Healthy returns nil if all ready groups of a model card compute: each has sent tokens within freshTime or answers a
// probe now. It takes no longer than about probeTimeout.
func (f *Fleet) Healthy(ctx context.Context, digest string) error {
	v := &vote{missing: 1, done: make(chan struct{})}
	select {
	case f.commands <- func() { f.examine(v, digest) }:
	case <-f.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-v.done:
		return v.err
	case <-f.done:
		return ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// examine lets all groups of a card vote. The caller's vote has one missing, which examine itself casts.
func (f *Fleet) examine(v *vote, digest string) {
	now, ready := time.Now(), 0
	for _, g := range f.groups {
		if !g.known || g.Announcement.CardDigest != digest || !g.ready() {
			continue
		}
		ready++
		if now.Sub(g.yielded) <= freshTime {
			continue
		}
		if g.probe == nil {
			f.startProbe(g, now)
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

func (f *Fleet) startProbe(g *group, now time.Time) {
	f.lastWire++
	g.probe = &probe{wire: f.lastWire, deadline: now.Add(probeTimeout)}
	if len(g.running) == 0 {
		g.lastFrame = now
	}
	f.deliver(g, []protocol.Request{{ID: g.probe.wire, Prompt: []int32{0}, MaxNewTokens: 1, NoPrefixCache: true,
		Score: f.rewards[g.Announcement.CardDigest]}})
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
func (f *Fleet) watchProbe(g *group, now time.Time) {
	if g.probe == nil || now.Before(g.probe.deadline) {
		return
	}
	f.log.Warn().Stringer("group", g.Announcement.GroupRef).Dur("after", probeTimeout).Msg("group does not answer a probe")
	f.sendCancel(g, []uint64{g.probe.wire})
	g.endProbe(fmt.Errorf("group %s does not answer", g.Announcement.GroupRef))
}
