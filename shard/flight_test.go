package shard

import (
	"os"
	"testing"

	"lockstep/protocol"
	"lockstep/shard/model"
)

// watched is a backend whose steps must be seen as such by who watches for ranks that hang.
type watched struct {
	pipelined
	t    *testing.T
	pace *pace
}

func (w watched) Collect(consume func(model.Scores)) error {
	if w.pace.began.Load() == 0 {
		w.t.Error("a step is collected while the pace says that rank 0 is at rest")
	}
	return w.pipelined.Collect(consume)
}

// A sequence that ends by its length has no step behind its last one; where a stop ends it, its last token does not wait for the step that
// has begun behind it, which ends before anybody rests.
func TestStepsAhead(t *testing.T) {
	g := startGroup(t, Config{Backend: "sim", Shards: 2, Limits: Limits{PrefillTokens: 8, MaxSequences: 4}},
		os.DirFS("../launcher/demo/model"), 50)
	g.engine.backend = watched{g.engine.backend, t, &g.engine.pace}
	request := protocol.Request{Prompt: []int32{1, 2, 3, 4, 5}, MaxNewTokens: 9, NoPrefixCache: true,
		Sampling: protocol.Sampling{IgnoreEOS: true}}
	tokens := g.run(t, []protocol.Request{request}, 1, nil, nil)[0].tokens
	for _, length := range []int{1, 2, 3, 9} {
		before := g.steps
		request.MaxNewTokens = length
		if g.run(t, []protocol.Request{request}, 1, nil, nil); g.steps-before != uint64(length) {
			t.Errorf("%d tokens took %d steps", length, g.steps-before)
		}
	}
	request.StopTokens = [][]int32{tokens[2:4]}
	g.add("test", request)
	for ended := false; !ended; {
		outputs, err := g.step()
		if err != nil {
			t.Fatal(err)
		}
		ended = len(outputs) > 0 && outputs[0].finish == protocol.FinishStop
	}
	if g.flying == nil {
		t.Error("the last token was told when the step behind it had ended")
	}
	if err := g.settle(); err != nil || g.flying != nil {
		t.Errorf("at rest a step is flying (%v)", err)
	}
}
