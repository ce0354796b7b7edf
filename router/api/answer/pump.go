package answer

import (
	"context"
	"net/http"
	"sync/atomic"
	"time"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// keepAliveInterval is how long a stream is silent before it sends something all the same.
const keepAliveInterval = 15 * time.Second

// Source yields the events of a stream to one goroutine at a time.
type Source struct {
	// Take waits for events and appends them to b.
	Take func(b []byte) Taken
	// Interrupt makes Take return although nothing has come, as request.Events.Interrupt. It is called from any goroutine.
	Interrupt func(request.Outcome)
	// Poll is Take without waiting, and Tell has a function called when it is due (request.Events.Tell). Nil: there is no such way.
	Poll func(b []byte) Taken
	Tell func(call func())
}

// Taken is what a source has yielded.
type Taken struct {
	Events  []byte
	Last    bool // there are no more
	Err     *request.Refusal
	Outcome request.Outcome

	panicked any // in place of all others: with what a writer has panicked
}

// stream is one that is written. It is the handler's, but for the time in which that has lent it to the writers.
type stream struct {
	source  Source
	out     *wire.Pieces
	buffer  []byte
	writers *writers
	calls   atomic.Int64 // since it was lent or served; from the first one on it is with the writers
	back    chan Taken   // what the handler has to go on with
}

// Pumped tells how far a stream came.
type Pumped struct {
	Begun    bool // something was written
	Complete bool // all of it was
}

// Pump writes a stream of events, one write for all that have come at once; a silent one sends idle from time to time.
// Nothing is written before the first events or idle, so that what fails before can still be answered by a status. The
// client's leaving is no error.
func (s *Service) Pump(w http.ResponseWriter, r *http.Request, idle string, source Source) (p Pumped, err *request.Refusal) {
	defer context.AfterFunc(r.Context(), func() { source.Interrupt(request.Gone) })()
	silence := time.AfterFunc(keepAliveInterval, func() { source.Interrupt(request.Idle) })
	defer silence.Stop()
	t := stream{source: source, out: wire.NewPieces(w, r), buffer: make([]byte, 0, 512), writers: &s.writers, back: make(chan Taken, 1)}
	defer t.out.Close()
	for {
		taken := t.next()
		switch {
		case taken.Err != nil:
			return p, taken.Err
		case taken.Outcome == request.Gone:
			return p, nil
		case taken.Outcome == request.Idle:
			left := keepAliveInterval - time.Since(t.out.Latest()) // the timer is not moved for each token
			if left > 0 {
				silence.Reset(left)
				continue
			}
			silence.Reset(keepAliveInterval)
			taken.Events = append(taken.Events, idle...)
		}
		if t.buffer = taken.Events; len(t.buffer) > 0 || taken.Last || t.out.Left() {
			p.Begun = true
			if t.out.Write(t.buffer) != nil {
				return p, nil
			}
		}
		if taken.Last {
			wire.Of(w).Complete()
			p.Complete = true
			return p, nil
		}
	}
}

// next waits for what the handler has to go on with. Where it can, it lends the stream to the writers meanwhile.
func (t *stream) next() Taken {
	if t.source.Poll == nil || !t.out.Tries() {
		return t.source.Take(t.buffer[:0])
	}
	t.calls.Store(0)
	t.source.Tell(func() {
		if t.calls.Add(1) == 1 {
			t.writers.add(t)
		}
	})
	taken := <-t.back
	if taken.panicked != nil {
		panic(taken.panicked)
	}
	return taken
}

// serve is a writer's turn: it writes what has come, and keeps the stream while the connection takes that at once. All else is for
// the handler: the end, errors, interrupts, and a slow client.
func (t *stream) serve() {
	defer func() { // a handler's panic ends its connection, a writer's would end the router
		if panicked := recover(); panicked != nil {
			t.giveBack(Taken{panicked: panicked})
		}
	}()
	calls := t.calls.Load()
	taken := t.source.Poll(t.buffer[:0])
	t.buffer = taken.Events
	switch {
	case taken.Outcome == request.Nothing:
	case taken.Last, taken.Err != nil, taken.Outcome != request.Got:
		t.giveBack(taken)
		return
	case len(taken.Events) > 0 && !t.out.Try(taken.Events):
		t.giveBack(Taken{})
		return
	}
	if !t.calls.CompareAndSwap(calls, 0) { // more has come meanwhile: its turn is behind that of the others
		t.writers.add(t)
	}
}

func (t *stream) giveBack(taken Taken) {
	t.source.Tell(nil)
	t.back <- taken
}
