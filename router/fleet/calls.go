package fleet

import (
	"time"

	"lockstep/protocol"
	"lockstep/router/admission"
	"lockstep/router/request"
)

// call is a request between Submit and its end.
type call struct {
	id        uint64
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

// overloaded is the error of a request for which there is no room.
func overloaded() *request.Refusal {
	return &request.Refusal{Class: request.Overloaded, Message: "Model is overloaded"}
}

// Submit queues a request and returns its id and events. The error is an ErrClosed or a *request.Refusal.
func (f *Fleet) Submit(r *request.Request) (uint64, *request.Events, error) {
	promptLogprobs := 0
	if r.PromptLogprobs {
		promptLogprobs = len(r.Prompt) - 1
	}
	c := &call{request: r, events: request.NewEvents(promptLogprobs), keys: f.keys(r)}
	answer := make(chan error, 1)
	submit := func() { answer <- f.submit(c) }
	select {
	case f.commands <- submit:
	case <-f.done:
		return 0, nil, ErrClosed
	}
	select {
	case err := <-answer:
		return c.id, c.events, err
	case <-f.done:
		return 0, nil, ErrClosed
	}
}

// keys names the blocks of a prompt, for the guess of where they are cached. It hashes the prompt, so it runs on the
// caller's goroutine and not on the owner's. Nil when nothing of the prompt is read from a cache: prompts whose
// log-probabilities are wanted are computed whole.
func (f *Fleet) keys(r *request.Request) []protocol.BlockKey {
	if r.NoPrefixCache || r.PromptLogprobs {
		return nil
	}
	for _, g := range f.Snapshot().Groups {
		if block := g.Limits.BlockTokens; g.CardDigest == r.CardDigest && block > 0 {
			chain := protocol.NewKeyChain(r.CacheSalt)
			return chain.Keys(make([]protocol.BlockKey, 0, len(r.Prompt)/block), r.Prompt, block)
		}
	}
	return nil
}

func (f *Fleet) submit(c *call) error {
	f.lastID++
	c.id = f.lastID
	item := admission.Item{
		ID: c.id, Kind: c.request.CardDigest, PromptTokens: len(c.request.Prompt), MaxNewTokens: c.request.MaxNewTokens,
		IgnoreEOS: c.request.Sampling.IgnoreEOS, Keys: c.keys,
	}
	if f.config.QueueTimeout > 0 {
		item.Deadline = time.Now().Add(f.config.QueueTimeout).UnixNano()
	}
	if err := f.core.Push(item); err != nil {
		return overloaded()
	}
	f.calls[c.id] = c
	return nil
}

// Cancel ends a request that nobody waits for any more. Ids that have ended are ignored.
func (f *Fleet) Cancel(id uint64) { f.command(func() { f.stop(id, false) }) }

// Done ends a request whose output is complete though its group would go on, as after a stop string: what it has
// produced is a length to learn from, which that of a cancelled one is not. Ids that have ended are ignored.
func (f *Fleet) Done(id uint64) { f.command(func() { f.stop(id, true) }) }

func (f *Fleet) command(command func()) {
	select {
	case f.commands <- command:
	case <-f.done:
	}
}

func (f *Fleet) stop(id uint64, complete bool) {
	c := f.calls[id]
	if c == nil {
		return
	}
	if c.group != nil {
		f.sendCancel(c.group, []uint64{c.wire})
	}
	if complete {
		f.core.Finish(c.id)
	}
	f.end(c)
}

// end forgets a call and gives its room back.
func (f *Fleet) end(c *call) {
	f.detach(c)
	f.core.Remove(c.id)
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
func (f *Fleet) expire(now time.Time) {
	for _, id := range f.core.Expire(now.UnixNano()) {
		f.totals.Expired++
		f.fail(f.calls[id], overloaded())
	}
}

// watchOrphans fails the waiting calls that no living group could take for too long.
func (f *Fleet) watchOrphans(now time.Time) {
	if f.core.Queued() == 0 {
		return
	}
	for _, c := range f.calls {
		switch {
		case c.group != nil || f.servable(c):
			c.orphan = time.Time{}
		case c.orphan.IsZero():
			c.orphan = now
		case now.Sub(c.orphan) >= f.config.ResumeTimeout && now.After(f.awaited[c.request.CardDigest]):
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
		if g.known && g.Announcement.CardDigest == c.request.CardDigest && admission.Fits(tokens, g.Announcement.Limits) {
			return true
		}
	}
	return false
}
