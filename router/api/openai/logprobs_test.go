package openai

import (
	"math"
	"testing"

	"lockstep/router/api/answer"
)

// Tokens that are spelled alike stand once, and what JSON cannot hold is OpenAI's least number.
func TestLogprobRecords(t *testing.T) {
	var r logprobRecords
	spelling := func(id int32) string { return map[int32]string{1: "a", 2: "\ufffd", 3: "\ufffd"}[id] }
	minusInfinity := float32(math.Inf(-1))
	r.add("x", nil, 0, nil, spelling)
	r.add("a", &minusInfinity, 1, []answer.Token{{ID: 1, Logprob: minusInfinity}, {ID: 2, Logprob: -1}, {ID: 3, Logprob: -2},
		{ID: 1, Logprob: -3}}, spelling)
	for _, c := range [][2]string{
		{string(r.tokens), `"x","a"`}, {string(r.logprobs), `null,-9999.0`}, {string(r.offsets), `0,1`},
		{string(r.top), "null,{\"a\":-9999.0,\"\ufffd\":-1.0}"},
	} {
		if c[0] != c[1] {
			t.Errorf("got %s, want %s", c[0], c[1])
		}
	}
}
