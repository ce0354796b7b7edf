package answer

import (
	"context"
	"net/http"
	"time"

	"lockstep/router/api/wire"
	"lockstep/router/request"
)

const (
	// keepAliveInterval is how long a stream is silent before it sends something all the same.
	keepAliveInterval = 15 * time.Second
	// deadlineStep is how old a write deadline may get before it is moved: moving it has a cost.
	deadlineStep = 10 * time.Second
)

// AppendEvent appends the event of a token; last is set with the last one.
type AppendEvent func(b []byte, t *Token, last *Generation) []byte

// Stream writes what a run yields as events until its end, and counts it then.
func (s *Service) Stream(w http.ResponseWriter, r *http.Request, run *Run, c *Clock, idle string, event AppendEvent) *request.Refusal {
	pumped, refusal := Pump(w, r, idle, func(b []byte, idle <-chan time.Time) ([]byte, bool, *request.Refusal, request.Outcome) {
		tokens, refusal, outcome := run.Next(r.Context().Done(), idle)
		return run.AppendEvents(b, tokens, event), run.Last != nil, refusal, outcome
	})
	if pumped.Complete {
		s.Finished(c, run)
	}
	return refusal
}

// AppendEvents appends the events of tokens that Next has just returned.
func (run *Run) AppendEvents(b []byte, tokens []Token, event AppendEvent) []byte {
	for i := range tokens {
		b = event(b, &tokens[i], run.lastAt(tokens, i))
	}
	return b
}

// Whole takes all tokens of a run to its end; each is called with every one of them, and may be nil. gone: the client has left.
func (run *Run) Whole(ctx context.Context, each func(t *Token, last *Generation)) (refusal *request.Refusal, gone bool) {
	for run.Last == nil {
		tokens, refusal, outcome := run.Next(ctx.Done(), nil)
		if refusal != nil || outcome == request.Gone {
			return refusal, refusal == nil
		}
		for i := range tokens {
			if each != nil {
				each(&tokens[i], run.lastAt(tokens, i))
			}
		}
	}
	return nil, false
}

func (run *Run) lastAt(tokens []Token, i int) *Generation {
	if i == len(tokens)-1 {
		return run.Last
	}
	return nil
}

// Pumped tells how far a stream came.
type Pumped struct {
	Begun    bool // something was written
	Complete bool // all of it was
}

// TakeEvents waits for events, until idle fires, and appends them; last tells that there are no more.
type TakeEvents func(b []byte, idle <-chan time.Time) (events []byte, last bool, err *request.Refusal, outcome request.Outcome)

// Pump writes a stream of events, one write and flush for all that have come at once; a silent one sends idle from time to time.
// Nothing is written before the first events or idle, so that what fails before can still be answered by a status. The
// client's leaving is no error.
func Pump(w http.ResponseWriter, r *http.Request, idle string, take TakeEvents) (p Pumped, err *request.Refusal) {
	out := http.NewResponseController(w)
	timer := time.NewTimer(keepAliveInterval)
	defer timer.Stop()
	buffer := make([]byte, 0, 512)
	defer out.SetWriteDeadline(time.Time{})
	var deadlineSet time.Time
	for {
		events, last, err, outcome := take(buffer[:0], timer.C)
		switch {
		case err != nil:
			return p, err
		case outcome == request.Gone:
			return p, nil
		case outcome == request.Idle:
			events = append(events, idle...)
		}
		if buffer = events; len(buffer) > 0 || last {
			if now := time.Now(); now.Sub(deadlineSet) > deadlineStep {
				deadlineSet = now
				out.SetWriteDeadline(now.Add(wire.WriteTimeout))
			}
			p.Begun = true
			if _, err := w.Write(buffer); err != nil || out.Flush() != nil {
				return p, nil
			}
		}
		timer.Reset(keepAliveInterval)
		if last {
			wire.Of(w).Complete()
			p.Complete = true
			return p, nil
		}
	}
}
