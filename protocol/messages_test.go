package protocol_test

import (
	"strings"
	"testing"

	"lockstep/protocol"
)

func TestScoreRequests(t *testing.T) {
	good := protocol.Request{Prompt: []int32{3}, MaxNewTokens: 1, Score: true}
	if err := good.Validate(10); err != nil {
		t.Errorf("got %v", err)
	}
	for name, change := range map[string]func(r *protocol.Request){
		"two tokens":        func(r *protocol.Request) { r.MaxNewTokens = 2 },
		"resumed":           func(r *protocol.Request) { r.MaxNewTokens, r.Generated = 2, []int32{1} },
		"log-probabilities": func(r *protocol.Request) { r.PromptLogprobs = true },
		"alternatives":      func(r *protocol.Request) { r.TopLogprobs = 1 },
	} {
		r := good
		change(&r)
		if err := r.Validate(10); err == nil || !strings.Contains(err.Error(), "a score takes one new token") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
