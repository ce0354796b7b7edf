package core

import (
	"slices"
	"time"

	"lockstep/protocol"
	"lockstep/router/request"
)

// envelopeBytes bounds what a dispatch takes beside its requests, in JSON and in the headers of its message.
const envelopeBytes = 2048

// admit dispatches what admission lets go.
func (f *Fleet) admit() {
	if f.admission.Queued() == 0 {
		return
	}
	var groups []*group // in the order in which they get something
	batches := map[*group][]*call{}
	for _, assignment := range f.admission.Admit(f.now.UnixNano()) {
		g := f.groups[assignment.Group]
		if batches[g] == nil {
			groups = append(groups, g)
		}
		batches[g] = append(batches[g], f.calls[assignment.ID])
	}
	for _, g := range groups {
		f.dispatch(g, batches[g])
	}
}

// dispatch sends calls to a group in as few messages as the limits allow.
func (f *Fleet) dispatch(g *group, calls []*call) {
	limit := protocol.MaxPayloadBytes
	if f.link.PayloadBytes > 0 {
		limit = min(f.link.PayloadBytes, limit)
	}
	var batch []protocol.Request
	bytes := envelopeBytes
	for _, c := range calls {
		r := c.attempt()
		size := r.JSONBytes()
		if envelopeBytes+size > limit {
			f.fail(c, &request.Refusal{Class: request.Generation, Message: "Server error: the prompt is too long for one message"})
			continue
		}
		if len(batch) == protocol.MaxDispatchRequests || bytes+size > limit {
			f.deliver(&Delivery{group: g, Requests: batch})
			batch, bytes = nil, envelopeBytes
		}
		r.ID = f.begin(g, c)
		batch, bytes = append(batch, r), bytes+size
	}
	if len(batch) > 0 {
		f.deliver(&Delivery{group: g, Requests: batch})
	}
}

// attempt is what a group is asked for the call now, but for its id.
func (c *call) attempt() protocol.Request {
	r := c.request.Request
	r.Generated = slices.Clone(c.generated)
	r.PromptLogprobsKnown = len(c.events.Prompt())
	return r
}

// begin opens an attempt of a call at a group and returns its wire id.
func (f *Fleet) begin(g *group, c *call) uint64 {
	f.lastWire++
	c.wire, c.group = f.lastWire, g
	c.orphan = time.Time{}
	c.moved = f.now
	if len(g.running) == 0 {
		g.lastFrame = f.now
	}
	g.running[c.wire] = c
	f.wires[c.wire] = c
	c.events.MarkDispatched(f.now)
	if len(c.generated) > 0 {
		f.totals.Resumed++
	}
	return c.wire
}

// Delivery is one message with requests to a group.
type Delivery struct {
	Requests []protocol.Request
	// Probe says that it holds a probe, which is nobody's request.
	Probe bool
	group *group
}

// Group is where it goes.
func (d *Delivery) Group() protocol.GroupRef { return d.group.Announcement.GroupRef }

func (f *Fleet) deliver(d *Delivery) {
	for i := range d.Requests {
		d.group.unanswered[d.Requests[i].ID] = true
	}
	f.actions.Dispatch(d)
}

// Answered takes in the answer to a dispatch, or the error that there was none.
func (f *Fleet) Answered(now time.Time, d *Delivery, reply protocol.DispatchReply, err error) {
	f.now = now
	f.answered(d, reply, err)
	f.admit()
}

func (f *Fleet) answered(d *Delivery, reply protocol.DispatchReply, err error) {
	g, wires := d.group, make([]uint64, len(d.Requests))
	for i := range d.Requests {
		wires[i] = d.Requests[i].ID
	}
	f.cancelLate(g, wires)
	refused := reply.Refused
	if reply.Error != nil {
		refused = refused[:0]
		for _, wire := range wires {
			refused = append(refused, protocol.Refusal{ID: wire, Error: *reply.Error})
		}
	}
	var back []uint64
	if err != nil {
		f.actions.Complain(g.Announcement.Group, "dispatch not acknowledged", err)
		for _, wire := range wires {
			if c := f.wires[wire]; c != nil && c.group == g && !c.started {
				back = append(back, wire)
			}
		}
	}
	for _, refusal := range refused {
		c := f.wires[refusal.ID]
		switch {
		case g.probe != nil && g.probe.wire == refusal.ID:
			g.probeRefused(&refusal.Error)
		case c == nil || c.group != g:
		case refusal.Error.Retryable():
			back = append(back, refusal.ID)
		case refusal.Error.Code == protocol.CodeTooLong:
			f.fail(c, &request.Refusal{Class: request.Validation, Message: Said(refusal.Error.Message)})
		default:
			f.fail(c, &request.Refusal{Class: request.Generation, Message: "Server error: " + Said(refusal.Error.Message)})
		}
	}
	if len(back) > 0 && f.groups[g.Announcement.Group] == g {
		f.avoid(g)
		f.takeBack(g, back)
	}
}

// avoid gives a group nothing new until its next announcement.
func (f *Fleet) avoid(g *group) {
	g.refused = true
	f.admission.SetOpen(g.Announcement.Group, false)
}

// cancelLate cancels what was to be cancelled before the answer to its dispatch came.
func (f *Fleet) cancelLate(g *group, wires []uint64) {
	var now []uint64
	for _, wire := range wires {
		delete(g.unanswered, wire)
		if i := slices.Index(g.late, wire); i >= 0 {
			g.late = slices.Delete(g.late, i, i+1)
			now = append(now, wire)
		}
	}
	f.cancelNow(g, now)
}

// sendCancel tells a group to drop requests. Those of a dispatch that it has not answered wait for that: a cancel that
// overtook its request would be forgotten, and the request computed for nobody.
func (f *Fleet) sendCancel(g *group, wires []uint64) {
	var now []uint64
	for _, wire := range wires {
		if g.unanswered[wire] {
			g.late = append(g.late, wire)
		} else {
			now = append(now, wire)
		}
	}
	f.cancelNow(g, now)
}

// cancelNow cancels. Cancels are numbered, so that audit knows which of them a frame lies behind.
func (f *Fleet) cancelNow(g *group, wires []uint64) {
	if len(wires) > 0 {
		g.cancels++
		f.actions.Cancel(g.Announcement.GroupRef, g.cancels, wires)
	}
}
