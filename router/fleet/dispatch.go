package fleet

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"lockstep/protocol"
	"lockstep/router/request"
)

const (
	// requestBytes, tokenBytes and biasBytes bound what one request, one token id and one biased id take in a dispatch.
	requestBytes = 2048
	tokenBytes   = 12
	biasBytes    = 48
)

// admit dispatches what admission lets go.
func (f *Fleet) admit() {
	if f.core.Queued() == 0 {
		return
	}
	batches := map[*group][]*call{}
	for _, assignment := range f.core.Admit(time.Now().UnixNano()) {
		g, c := f.groups[assignment.Group], f.calls[assignment.ID]
		batches[g] = append(batches[g], c)
	}
	for g, calls := range batches {
		f.dispatch(g, calls)
	}
}

// dispatch sends calls to a group in as few messages as the limits allow.
func (f *Fleet) dispatch(g *group, calls []*call) {
	limit := min(int(f.conn.MaxPayload()), protocol.MaxPayloadBytes)
	if limit <= 0 {
		limit = protocol.MaxPayloadBytes
	}
	var batch []protocol.Request
	bytes := requestBytes
	for _, c := range calls {
		size := c.dispatchBytes()
		if size+requestBytes > limit {
			f.fail(c, &request.Refusal{Class: request.Generation, Message: "Server error: the prompt is too long for one message"})
			continue
		}
		if len(batch) == protocol.MaxDispatchRequests || bytes+size > limit {
			f.send(g, batch)
			batch, bytes = nil, requestBytes
		}
		batch, bytes = append(batch, f.begin(g, c)), bytes+size
	}
	if len(batch) > 0 {
		f.send(g, batch)
	}
}

// dispatchBytes bounds what the call takes in a dispatch.
func (c *call) dispatchBytes() int {
	s := &c.request.Sampling
	ids := len(c.request.Prompt) + len(c.generated) + len(s.BannedTokenIDs) + len(s.AllowedTokenIDs)
	for _, stop := range c.request.StopTokens {
		ids += len(stop) + 1
	}
	// A byte of the salt may take six in JSON.
	return requestBytes + tokenBytes*ids + biasBytes*len(s.LogitBias) + 6*len(c.request.CacheSalt)
}

// begin opens an attempt of a call at a group and returns its wire form.
func (f *Fleet) begin(g *group, c *call) protocol.Request {
	f.lastWire++
	c.wire, c.group = f.lastWire, g
	c.orphan = time.Time{}
	now := time.Now()
	c.moved = now
	if len(g.running) == 0 {
		g.lastFrame = now
	}
	g.running[c.wire] = c
	f.wires[c.wire] = c
	c.events.MarkDispatched(now)
	if len(c.generated) > 0 {
		f.totals.Resumed++
	}
	return protocol.Request{
		ID: c.wire, Prompt: c.request.Prompt, Generated: append([]int32(nil), c.generated...),
		MaxNewTokens: c.request.MaxNewTokens, Sampling: c.request.Sampling, TopLogprobs: c.request.TopLogprobs,
		StopTokens: c.request.StopTokens, NoPrefixCache: c.request.NoPrefixCache, Score: c.request.Score, CacheSalt: c.request.CacheSalt,
		PromptLogprobs: c.request.PromptLogprobs && len(c.events.Prompt()) < len(c.request.Prompt)-1,
	}
}

func (f *Fleet) send(g *group, batch []protocol.Request) {
	if f.config.OnDispatch != nil {
		f.config.OnDispatch(len(batch))
	}
	f.deliver(g, batch)
}

// deliver publishes one dispatch and hands the answer to the owner.
func (f *Fleet) deliver(g *group, batch []protocol.Request) {
	group, subject := g.Announcement.Group, g.Announcement.Dispatch(f.config.Router)
	wires := make([]uint64, len(batch))
	for i := range batch {
		wires[i] = batch[i].ID
		g.unanswered[wires[i]] = true
	}
	f.workers.Go(func() {
		var reply protocol.DispatchReply
		data, err := json.Marshal(protocol.Dispatch{Version: protocol.Version, Router: f.config.Router, Requests: batch})
		if err == nil {
			ctx, cancel := context.WithTimeout(f.ctx, dispatchTimeout)
			defer cancel()
			var answer []byte
			if answer, err = f.questions.ask(ctx, group, subject, data); err == nil {
				err = json.Unmarshal(answer, &reply)
			}
		}
		f.post(func() { f.answered(g, wires, &reply, err) })
	})
}

// answered takes in the answer to a dispatch.
func (f *Fleet) answered(g *group, wires []uint64, reply *protocol.DispatchReply, err error) {
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
		f.complain(g.Announcement.Group, "dispatch not acknowledged", err)
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
			f.fail(c, &request.Refusal{Class: request.Validation, Message: bounded(refusal.Error.Message)})
		default:
			f.fail(c, &request.Refusal{Class: request.Generation, Message: "Server error: " + bounded(refusal.Error.Message)})
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
	f.core.SetOpen(g.Announcement.Group, false)
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
