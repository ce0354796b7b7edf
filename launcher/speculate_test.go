package main_test

import (
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"lockstep/protocol/outside"
)

// A server that guesses tokens says the same as one that does not, and tells how many guesses were right.
func TestSpeculate(t *testing.T) {
	outside.Slow(t)
	plain, guessing := serveDemo(t), serveDemo(t, "--speculate", "3")
	fetch := func(response *http.Response, err error) string {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	answer := func(s *server) string {
		// A penalty below 1 makes the model say again what it has said.
		const body = `{"inputs":"Once upon a time","parameters":{"max_new_tokens":200,"repetition_penalty":0.5,"details":true}}`
		return fetch(http.Post(s.url+"/generate", "application/json", strings.NewReader(body)))
	}
	if got, want := answer(guessing), answer(plain); got != want || !strings.Contains(want, "logprob") {
		t.Errorf("it says %q, want %q", got, want)
	}
	for _, name := range []string{"drafted", "accepted"} {
		more := regexp.MustCompile(`lockstep_group_` + name + `_tokens_total\{[^}]*\} [1-9]`)
		eventually(t, name+" tokens are told", func() bool { return more.MatchString(fetch(http.Get(guessing.url + "/metrics"))) })
	}
}
