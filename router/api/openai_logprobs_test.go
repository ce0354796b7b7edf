package api

import (
	"math"
	"testing"
)

// Tokens that are spelled alike stand once, and what JSON cannot hold is OpenAI's least number.
func TestLogprobRecords(t *testing.T) {
	var r logprobRecords
	spelling := func(id int32) string { return map[int32]string{1: "a", 2: "\ufffd", 3: "\ufffd"}[id] }
	minusInfinity := float32(math.Inf(-1))
	r.add("x", nil, 0, nil, spelling)
	r.add("a", &minusInfinity, 1, []token{{id: 1, logprob: minusInfinity}, {id: 2, logprob: -1}, {id: 3, logprob: -2}, {id: 1, logprob: -3}}, spelling)
	for _, c := range [][2]string{
		{string(r.tokens), `"x","a"`}, {string(r.logprobs), `null,-9999.0`}, {string(r.offsets), `0,1`}, {string(r.top), "null,{\"a\":-9999.0,\"\ufffd\":-1.0}"},
	} {
		if c[0] != c[1] {
			t.Errorf("got %s, want %s", c[0], c[1])
		}
	}
}
