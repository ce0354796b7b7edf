package core

import (
	"time"

	"lockstep/protocol"
	"lockstep/router/admission"
	"lockstep/router/request"
)

// call is a request between Submit and its end.
type call struct {
	id        uint64
	kind      string // of the groups that may serve it
	request   *request.Request
	events    *request.Events
	keys      []protocol.BlockKey
	generated []int32
	begun     bool // a group has begun it
	cached    int  // most tokens of the prompt that a group's cache had

	// Of the running attempt; wire is 0 while the call waits.
	wire    uint64
	group   *group
	started bool      // a frame has named the attempt
	moved   time.Time // when the attempt began or a frame last named it

	interrupted bool      // it has been dispatched before
	orphan      time.Time // since when no living group can take it, or zero
}

// Submit queues a request, whose answer goes to events, and returns its id, which grows with each. keys name the blocks of
// its prompt, for the guess of where they are cached; nil: nothing of it is read from a cache. Its card has been loaded, or no
// group will take it. A refusal is all that is left of a request that finds the queue full.
func (f *Fleet) Submit(now time.Time, r *request.Request, keys []protocol.BlockKey, events *request.Events) (uint64, *request.Refusal) {
	f.now = now
	c := &call{kind: f.kindOfRequest(r), request: r, events: events, keys: keys}
	f.lastID++
	c.id = f.lastID
	item := admission.Item{
		ID: c.id, Kind: c.kind, PromptTokens: len(c.request.Prompt), MaxNewTokens: c.request.MaxNewTokens,
		IgnoreEOS: c.request.Sampling.IgnoreEOS, Keys: c.keys,
	}
	if f.config.QueueTimeout > 0 {
		item.Deadline = now.Add(f.config.QueueTimeout).UnixNano()
	}
	if err := f.admission.Push(item); err != nil {
		return 0, request.NoRoom
	}
	f.calls[c.id] = c
	f.admit()
	return c.id, nil
}

// Cancel ends a request that nobody waits for any more. With complete its output is whole though its group would go on, as
// after a stop string: what it has produced is a length to learn from, which that of others is not. Ids that have ended are
// ignored.
func (f *Fleet) Cancel(now time.Time, id uint64, complete bool) {
	f.now = now
	if c := f.calls[id]; c != nil {
		if c.group != nil {
			f.sendCancel(c.group, []uint64{c.wire})
		}
		if complete {
			f.admission.Finish(c.id)
		}
		f.end(c)
	}
	f.admit()
}

// end forgets a call and gives its room back.
func (f *Fleet) end(c *call) {
	f.detach(c)
	f.admission.Remove(c.id)
	delete(f.calls, c.id)
}

// detach parts a call from its attempt; admission is not told.
func (f *Fleet) detach(c *call) {
	if c.group != nil {
		delete(c.group.running, c.wire)
		delete(f.wires, c.wire)
	}
	c.group, c.wire, c.started = nil, 0, false
}

func (f *Fleet) fail(c *call, err *request.Refusal) {
	c.events.Fail(err)
	f.end(c)
}

// expire fails the calls that have waited for as long as they may.
func (f *Fleet) expire() {
	for _, id := range f.admission.Expire(f.now.UnixNano()) {
		f.totals.Expired++
		f.fail(f.calls[id], request.NoRoom)
	}
}

// watchOrphans fails the waiting calls that no living group could take for too long.
func (f *Fleet) watchOrphans() {
	if f.admission.Queued() == 0 {
		return
	}
	for _, c := range f.calls {
		switch {
		case c.group != nil || f.servable(c):
			c.orphan = time.Time{}
		case c.orphan.IsZero():
			c.orphan = f.now
		case f.now.Sub(c.orphan) >= f.config.ResumeTimeout && f.now.After(f.awaited[c.kind]):
			class := request.Unavailable
			if c.interrupted {
				class = request.Generation
			}
			f.fail(c, &request.Refusal{Class: class, Message: "Server error: no shard group is available"})
		}
	}
}

// servable reports whether a living group could take the call, now or later.
func (f *Fleet) servable(c *call) bool {
	tokens := len(c.request.Prompt) + c.request.MaxNewTokens
	for _, g := range f.groups {
		if g.takes[c.kind] && admission.Fits(tokens, g.Announcement.Limits) {
			return true
		}
	}
	return false
}
