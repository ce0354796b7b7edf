// Package outbox is what a group owes the routers that it computes for: their frames, numbered and kept for a while, so that
// what was lost can be sent again; and their leases, after which a silent router's requests are dropped. It is a core: it is
// told what happens and when, and says what is to be sent. One goroutine owns it.
package outbox

import (
	"slices"
	"strings"
	"time"

	"lockstep/protocol"
)

const (
	// minReplayInterval lies between two replays to one router, which asks no sooner again; what comes between is ignored.
	minReplayInterval = 100 * time.Millisecond
	// MaxSessions bounds the sessions of one router that a group computes for at once: it has one, and for as long as a lease
	// those that ended before it. Of more the one that was heard longest ago goes.
	MaxSessions = 4
)

// Outbox holds the routers that a group computes for, by their protocol.RouterName.
type Outbox struct {
	group   protocol.GroupRef
	routers map[string]*router
}

// router is what is kept of one.
type router struct {
	heard   time.Time
	number  uint64 // of the next frame
	cancels uint64 // number of the last cancel
	frame   protocol.Frame
	asked   time.Time                     // of the last replay
	sent    [protocol.ReplayFrames][]byte // encoded frames by number modulo their count
}

// New returns the outbox of a group that knows no router.
func New(group protocol.GroupRef) *Outbox {
	return &Outbox{group: group, routers: map[string]*router{}}
}

// Dispatched notes that a router has sent requests. It returns the session that has to go for it; "": none.
func (o *Outbox) Dispatched(name string, now time.Time) (dropped string) {
	r := o.routers[name]
	if r == nil {
		if dropped = o.crowded(name); dropped != "" {
			delete(o.routers, dropped)
		}
		r = &router{}
		o.routers[name] = r
	}
	r.heard = now
	return dropped
}

// crowded returns the session of a router that was heard longest ago, if there is no room for another.
func (o *Outbox) crowded(name string) (oldest string) {
	stable, _, _ := strings.Cut(name, ".")
	sessions := 0
	for other, r := range o.routers {
		if of, _, _ := strings.Cut(other, "."); of != stable {
			continue
		}
		sessions++
		if oldest == "" || r.heard.Before(o.routers[oldest].heard) {
			oldest = other
		}
	}
	if sessions < MaxSessions {
		return ""
	}
	return oldest
}

// Alive notes a router's sign of life.
func (o *Outbox) Alive(name string, now time.Time) {
	if r := o.routers[name]; r != nil {
		r.heard = now
	}
}

// Cancelled notes the number of a cancel that was carried out, which the frames behind it tell.
func (o *Outbox) Cancelled(name string, number uint64) {
	if r := o.routers[name]; r != nil {
		r.cancels = max(r.cancels, number)
	}
}

// Expire forgets the routers that went silent, and returns them in order: their requests are to be dropped.
func (o *Outbox) Expire(now time.Time) (silent []string) {
	for name, r := range o.routers {
		if now.Sub(r.heard) >= protocol.RouterLease {
			silent = append(silent, name)
			delete(o.routers, name)
		}
	}
	slices.Sort(silent)
	return silent
}

// Frame is the frame of the present step to a router, to which rows are added; nil: it is not known any more.
func (o *Outbox) Frame(name string) *protocol.Frame {
	if r := o.routers[name]; r != nil {
		return &r.frame
	}
	return nil
}

// Flush ends the step: it numbers and keeps each frame that says something, and sends it. data is valid until the router's
// protocol.ReplayFrames-th frame from then. account is what the group holds of a router.
func (o *Outbox) Flush(step uint64, load protocol.Load, account func(name string) protocol.Account, send func(name string, data []byte)) {
	for name, r := range o.routers {
		f := &r.frame
		if len(f.Request) == 0 && len(f.Prompt) == 0 && len(f.Begun) == 0 {
			continue
		}
		f.Group, f.Number, f.Step, f.Load, f.Account = o.group, r.number, step, load, account(name)
		f.Account.Cancels = r.cancels
		slot := &r.sent[r.number%protocol.ReplayFrames]
		*slot = f.AppendTo((*slot)[:0])
		r.number++
		f.Reset()
		send(name, *slot)
	}
}

// Replay sends again what is kept from a frame's number on.
func (o *Outbox) Replay(request *protocol.Replay, now time.Time, send func(data []byte)) {
	r := o.routers[request.Router]
	if r == nil || now.Sub(r.asked) < minReplayInterval {
		return
	}
	r.asked = now
	oldest := uint64(0)
	if r.number > protocol.ReplayFrames {
		oldest = r.number - protocol.ReplayFrames
	}
	for number := max(request.From, oldest); number < r.number; number++ {
		send(r.sent[number%protocol.ReplayFrames])
	}
}
