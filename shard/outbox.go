package shard

import (
	"strings"
	"time"

	"lockstep/protocol"
)

const (
	// minReplayInterval lies between two replays to one router, which asks no sooner again; what comes between is ignored.
	minReplayInterval = 100 * time.Millisecond
	// maxSessions bounds the sessions of one router that a group computes for at once: it has one, and for as long as a lease
	// those that ended before it. Of more the one that was heard longest ago goes.
	maxSessions = 4
)

// routerState is what a group keeps of a router that it computes for.
type routerState struct {
	heard   time.Time
	number  uint64 // of the next frame
	cancels uint64 // number of the last cancel
	frame   protocol.Frame
	asked   time.Time                     // of the last replay
	sent    [protocol.ReplayFrames][]byte // encoded frames by number modulo their count
}

// expireRouters drops the requests of routers that went silent. Signs of life that came during a long step count first.
func (l *leader) expireRouters() {
	for range len(l.events) {
		l.handle(<-l.events)
	}
	for name, router := range l.routers {
		if time.Since(router.heard) < protocol.RouterLease {
			continue
		}
		l.log.Info().Str("router", name).Int("requests", l.drop(name)).Msg("a router went silent")
	}
}

// drop forgets a router and returns how many requests of it were here.
func (l *leader) drop(name string) (requests int) {
	for o := range l.engine.byOrigin {
		if o.router == name {
			l.remove(o)
			requests++
		}
	}
	delete(l.routers, name)
	delete(l.engine.accounts, name)
	return requests
}

// makeRoomFor drops the session of a router that was heard longest ago, if it has too many for another.
func (l *leader) makeRoomFor(router string) {
	stable, _, _ := strings.Cut(router, ".")
	sessions, oldest := 0, ""
	for name, state := range l.routers {
		if of, _, _ := strings.Cut(name, "."); of != stable {
			continue
		}
		sessions++
		if oldest == "" || state.heard.Before(l.routers[oldest].heard) {
			oldest = name
		}
	}
	if sessions >= maxSessions {
		l.complain("a router has too many sessions: "+stable, nil)
		l.drop(oldest)
	}
}

// promptPart is what a step found of a prompt's log-probabilities.
func promptPart(out *output) protocol.PromptPart {
	part := protocol.PromptPart{Request: out.sequence.origin.id, Start: uint32(out.start), Logprob: out.prompt}
	if out.sequence.request.TopLogprobs == 0 {
		return part
	}
	for _, top := range out.promptTop {
		part.Alternatives = append(part.Alternatives, uint8(len(top)))
		for _, alternative := range top {
			part.TopToken, part.TopLogprob = append(part.TopToken, alternative.Token), append(part.TopLogprob, alternative.Logprob)
		}
	}
	return part
}

// send puts a step's outputs into one frame for each router.
func (l *leader) send(outputs []output) {
	for i := range outputs {
		out := &outputs[i]
		if out.finish != protocol.FinishNone {
			l.held.Add(-1)
		}
		router := l.routers[out.sequence.router]
		if router == nil {
			continue
		}
		if out.begun {
			router.frame.Begun = append(router.frame.Begun, protocol.Begun{Request: out.sequence.origin.id, Tokens: uint32(out.known), Cached: uint32(out.cached)})
		}
		if len(out.prompt) > 0 {
			router.frame.Prompt = append(router.frame.Prompt, promptPart(out))
		}
		if out.yields {
			position := len(out.sequence.tokens) - len(out.sequence.request.Prompt) - 1
			router.frame.Add(out.sequence.origin.id, position, out.token, out.logprob, out.finish)
			for _, alternative := range out.top {
				router.frame.AddAlternative(alternative.Token, alternative.Logprob)
			}
		}
	}
	for name, router := range l.routers {
		f := &router.frame
		if len(f.Request) == 0 && len(f.Prompt) == 0 && len(f.Begun) == 0 {
			continue
		}
		f.Group, f.Number, f.Step, f.Load = l.config.Group, router.number, l.engine.steps, l.engine.load()
		f.Account = *l.engine.accounts[name]
		f.Account.Cancels = router.cancels
		slot := &router.sent[router.number%protocol.ReplayFrames]
		*slot = f.AppendTo((*slot)[:0])
		router.number++
		f.Reset()
		if err := l.frames.Publish(protocol.FrameSubject(name, l.config.Group.Group), *slot); err != nil {
			l.complain("a frame was not sent", err) // the router notices the gap
		}
	}
}

func (l *leader) replay(request *protocol.Replay) {
	router := l.routers[request.Router]
	if router == nil || time.Since(router.asked) < minReplayInterval {
		return
	}
	router.asked = time.Now()
	oldest := uint64(0)
	if router.number > protocol.ReplayFrames {
		oldest = router.number - protocol.ReplayFrames
	}
	for number := max(request.From, oldest); number < router.number; number++ {
		if err := l.frames.Publish(protocol.FrameSubject(request.Router, l.config.Group.Group), router.sent[number%protocol.ReplayFrames]); err != nil {
			l.complain("a frame was not sent again", err)
			return
		}
	}
}
