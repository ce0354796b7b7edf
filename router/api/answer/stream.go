package answer

import (
	"context"
	"net/http"

	"lockstep/router/request"
)

// AppendEvent appends the event of a token; last is set with the last one.
type AppendEvent func(b []byte, t *Token, last *Generation) []byte

// Stream writes what a run yields as events until its end, and counts it then.
func (s *Service) Stream(w http.ResponseWriter, r *http.Request, run *Run, c *Clock, idle string, event AppendEvent) *request.Refusal {
	pumped, refusal := s.Pump(w, r, idle, run.Source(event, func(b []byte) []byte { return b }))
	if pumped.Complete {
		s.Finished(c, run)
	}
	return refusal
}

// Source yields the events of a run; end appends what comes behind the last one.
func (run *Run) Source(event AppendEvent, end func(b []byte) []byte) Source {
	taken := func(b []byte, tokens []Token, err *request.Refusal, outcome request.Outcome) Taken {
		if b = run.AppendEvents(b, tokens, event); run.Last != nil {
			b = end(b)
		}
		return Taken{Events: b, Last: run.Last != nil, Err: err, Outcome: outcome}
	}
	return Source{Interrupt: run.events.Interrupt, Tell: run.events.Tell,
		Take: func(b []byte) Taken {
			tokens, err, outcome := run.Next()
			return taken(b, tokens, err, outcome)
		},
		Poll: func(b []byte) Taken {
			tokens, err, outcome := run.Poll()
			return taken(b, tokens, err, outcome)
		}}
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
	defer context.AfterFunc(ctx, func() { run.Interrupt(request.Gone) })()
	for run.Last == nil {
		tokens, refusal, outcome := run.Next()
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
