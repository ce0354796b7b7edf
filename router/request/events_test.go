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
