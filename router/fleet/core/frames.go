package core

import (
	"errors"
	"fmt"
	"time"

	"lockstep/protocol"
	"lockstep/router/request"
)

// Frame takes in a frame that came from a group, and keeps nothing of it. Frames are used in the order of their numbers only:
// a later one is dropped, since the Replay that its gap brings holds it again.
func (f *Fleet) Frame(now time.Time, group string, frame *protocol.Frame) {
	f.now = now
	f.receive(group, frame)
	f.admit()
}

func (f *Fleet) receive(group string, frame *protocol.Frame) {
	if err := frame.Load.Validate(); err != nil {
		f.actions.Complain(group, "frame refused", err)
		return
	}
	g := f.groups[group]
	if g == nil || frame.Group.Group != group || g.Announcement.Incarnation != frame.Group.Incarnation {
		return
	}
	now := f.now
	g.seen = now
	if frame.Number < g.next {
		if frame.Step <= g.step {
			return // sent again
		}
		// A later step under a lower number: the group had given this router up and counts anew.
		f.actions.Complain(group, "group counts its frames anew", nil)
		g.next = 0
		if frame.Number > 0 {
			f.askReplay(g)
			return
		}
	}
	if frame.Number > g.next {
		if g.replays < maxReplays {
			if now.Sub(g.asked) >= replayInterval {
				f.askReplay(g)
			}
			return
		}
		f.actions.Complain(group, "frames lost for good; dispatching again", fmt.Errorf("numbers %d to %d", g.next, frame.Number))
		f.takeBack(g, g.wires())
	}
	interval := now.Sub(g.lastFrame)
	g.next, g.step, g.lastFrame, g.replays = frame.Number+1, frame.Step, now, 0
	g.Announcement.Load = frame.Load
	if len(frame.Request) > 0 {
		g.yielded = now
	}
	f.applyBegun(g, frame)
	f.apply(g, frame, interval)
	f.admission.Report(frame.Group.Group, frame.Load)
	f.audit(g, frame.Account)
}

// applyBegun takes in what the group's cache had of the requests that it has begun. A group tells again when it finds more
// of a prompt while it computes it. What it tells of a request that has output is not of a prompt.
func (f *Fleet) applyBegun(g *group, frame *protocol.Frame) {
	for _, begun := range frame.Begun {
		c := f.wires[begun.Request]
		if c == nil || c.group != g {
			continue
		}
		c.started, c.moved = true, g.lastFrame
		f.admission.Begun(c.id, min(int(begun.Cached), len(c.request.Prompt)+len(c.generated)))
		if len(c.generated) > 0 {
			continue
		}
		prompt := len(c.request.Prompt) // which bounds what a group can say of it
		if !c.begun {
			c.begun = true
			f.totals.PromptTokens += uint64(min(int(begun.Tokens), prompt))
		}
		if more := min(int(begun.Cached), prompt) - c.cached; more > 0 {
			c.cached += more
			f.totals.CachedTokens += uint64(more)
			c.events.PutCached(c.cached)
		}
	}
}

// apply gives the frame's rows to their calls.
func (f *Fleet) apply(g *group, frame *protocol.Frame, interval time.Duration) {
	for i := range frame.Prompt {
		part := &frame.Prompt[i]
		if c := f.wires[part.Request]; c != nil && c.group == g {
			c.started, c.moved = true, g.lastFrame
			c.events.PutPrompt(int(part.Start), promptLogprobs(part))
		}
	}
	prefill, decode := false, false
	var lost []uint64
	alternative := 0
	for i, wire := range frame.Request {
		first := alternative
		alternative += int(frame.Alternatives[i])
		if g.probe != nil && g.probe.wire == wire {
			g.probeYielded(frame.Finish[i])
			continue
		}
		c := f.wires[wire]
		if c == nil || c.group != g {
			continue
		}
		c.started, c.interrupted, c.moved = true, true, g.lastFrame
		position := int(frame.Position[i])
		prefill, decode = prefill || position == 0, decode || position > 0
		switch {
		case frame.Finish[i] == protocol.FinishError:
			f.fail(c, &request.Refusal{Class: request.Generation, Message: "Server error: the shard group gave the request up"})
		case frame.Finish[i] == protocol.FinishGuide:
			f.fail(c, &request.Refusal{Class: request.Generation, Message: "Server error: the text could not go on as its guide wants it"})
		case position < len(c.generated): // known before the resume
		case position > len(c.generated), position >= c.request.MaxNewTokens:
			lost = append(lost, wire)
		default:
			c.generated = append(c.generated, frame.Token[i])
			c.events.PutToken(request.Token{
				ID: frame.Token[i], Logprob: frame.Logprob[i], Finish: frame.Finish[i],
				Top: alternatives(frame.TopToken[first:alternative], frame.TopLogprob[first:alternative]),
			})
			f.admission.Advance(c.id, len(c.generated))
			if frame.Finish[i] != protocol.FinishNone {
				f.admission.Finish(c.id)
				f.end(c)
			}
		}
	}
	if len(lost) > 0 {
		f.actions.Complain(g.Announcement.Group, "rows refused", errors.New("of tokens that cannot be the next of their request"))
		f.avoid(g)
		f.takeBack(g, lost)
	}
	if prefill {
		f.actions.Stepped(true, interval)
	}
	if decode {
		f.actions.Stepped(false, interval)
	}
}

// alternatives copies those of one token; nil when there are none.
func alternatives(tokens []int32, logprobs []float32) []request.Alternative {
	if len(tokens) == 0 {
		return nil
	}
	top := make([]request.Alternative, len(tokens))
	for i := range tokens {
		top[i] = request.Alternative{ID: tokens[i], Logprob: logprobs[i]}
	}
	return top
}

// promptLogprobs copies those of a part.
func promptLogprobs(part *protocol.PromptPart) []request.PromptLogprob {
	list, from := make([]request.PromptLogprob, len(part.Logprob)), 0
	for i, logprob := range part.Logprob {
		list[i].Logprob = logprob
		if part.Alternatives != nil {
			to := from + int(part.Alternatives[i])
			list[i].Top = alternatives(part.TopToken[from:to], part.TopLogprob[from:to])
			from = to
		}
	}
	return list
}

// askReplay asks a group to send again what is missing.
func (f *Fleet) askReplay(g *group) {
	g.asked = f.now
	g.replays++
	f.actions.Replay(g.Announcement.GroupRef, g.next)
}
