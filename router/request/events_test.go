package request_test

import (
	"sync"
	"testing"

	"lockstep/protocol"
	"lockstep/router/request"
)

func TestEventsKeepOrder(t *testing.T) {
	events := request.NewEvents(3)
	var producer sync.WaitGroup
	producer.Go(func() {
		events.PutPrompt(1, []request.PromptLogprob{{Logprob: -1}, {Logprob: -2}})
		// a resume sends parts again
		events.PutPrompt(1, []request.PromptLogprob{{Logprob: -9}, {Logprob: -9}, {Logprob: -3}, {Logprob: -4}})
		for i := range int32(1000) {
			events.PutToken(request.Token{ID: i})
		}
		events.Fail(&request.Refusal{Class: request.Generation, Message: "over"})
		events.PutToken(request.Token{ID: 5000, Finish: protocol.FinishEOS})
	})
	var got []request.Token
	for {
		tokens, err, _ := events.Take(nil)
		got = append(got, tokens...)
		if err != nil {
			break
		}
	}
	producer.Wait()
	for i, token := range got {
		if token.ID != int32(i) {
			t.Fatalf("token %d is %d", i, token.ID)
		}
	}
	if prompt := events.Prompt(); len(got) != 1000 || len(prompt) != 3 || prompt[0].Logprob != -1 || prompt[2].Logprob != -3 {
		t.Errorf("%d tokens, prompt %v", len(got), prompt)
	}
}

// Whoever polls once for each call misses nothing of what came together.
func TestCallsForWhatIsLeft(t *testing.T) {
	type events = *request.Events
	for name, put := range map[string]func(events){
		"an error": func(e events) { e.Fail(&request.Refusal{Class: request.Generation, Message: "over"}) },
		"a leave":  func(e events) { e.Interrupt(request.Gone) },
		"silence":  func(e events) { e.Interrupt(request.Idle) },
	} {
		e, calls := request.NewEvents(0), 0
		e.PutToken(request.Token{ID: 1})
		put(e)
		e.Tell(func() { calls++ })
		if tokens, _, _ := e.Poll(nil); len(tokens) != 1 || calls != 2 {
			t.Errorf("%s behind a token: %d tokens and %d calls, want one, and a call for each of both", name, len(tokens), calls)
		}
		if _, err, outcome := e.Poll(nil); err == nil && outcome == request.Got || calls != 2 {
			t.Errorf("%s behind a token: error %v, outcome %v, %d calls", name, err, outcome, calls)
		}
	}
}
