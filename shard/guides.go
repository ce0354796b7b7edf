package shard

import (
	"lockstep/protocol"
	"lockstep/shard/masks"
	"lockstep/shard/sample"
)

// guided says of a request that waits for its guide that it is compiled, or cannot be.
type guided struct {
	origin
	guide *masks.Guide
	err   error
}

// begin hands a request to the engine, one with a guide that is not compiled once it is: that takes up to a second, in which steps and
// other requests go on.
func (l *leader) begin(router string, request protocol.Request) {
	o := origin{router, request.ID}
	_, waits := l.compiling[o]
	var guide *masks.Guide
	if request.Guide != nil && !waits && l.engine.byOrigin[o] == nil {
		if guide = l.guides.Known(*request.Guide); guide == nil {
			l.compiling[o] = request
			l.guides.Want(*request.Guide, func(guide *masks.Guide, err error) { l.hand(event{guided: &guided{o, guide, err}}) })
			return
		}
	}
	if waits || !l.engine.add(router, request, guide) {
		l.held.Add(-1) // it is here already: its tokens go on
	}
}

// compiled hands the engine a request that has waited, or gives it up. The router has compiled the guide before, so that it cannot be is a
// matter of unlike builds.
func (l *leader) compiled(g *guided) {
	request, waits := l.compiling[g.origin]
	if !waits { // it was cancelled
		return
	}
	delete(l.compiling, g.origin)
	if g.err == nil {
		l.engine.add(g.router, request, g.guide)
		return
	}
	l.log.Warn().Err(g.err).Uint64("request", g.id).Msg("a guide could not be compiled")
	l.held.Add(-1)
	l.engine.open(g.router)
	if frame := l.outbox.Frame(g.router); frame != nil {
		frame.Add(g.id, len(request.Generated), sample.NoToken, 0, protocol.FinishGuide)
		l.flush()
	}
}
