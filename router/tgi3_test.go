package router_test

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/router"
	"lockstep/router/fleettest"
)

// TestTGI3 covers what the recorded cases of TGI 3 do not: places in bytes, defaults, alternatives of streams and overload.
func TestTGI3(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: time.Millisecond})
	url, _ := startRouter(t, natsURL, router.Config{TGIVersion: "3", MaxInputLength: 30, MaxTotalTokens: 60})

	const tokens = `[{"id":80,"text":"n","start":0,"stop":1},{"id":130,"text":"é","start":1,"stop":3},` +
		`{"id":105,"text":"é","start":1,"stop":3},{"id":223,"text":" ","start":3,"stop":4},{"id":90,"text":"x","start":4,"stop":5}]`
	status, answer := post(t, url+"/tokenize", `{"inputs":"né x"}`)
	if status != http.StatusOK || answer != tokens {
		t.Errorf("/tokenize answered %d %s", status, answer)
	}
	if status, answer = post(t, url+"/tokenize", `{"inputs":7}`); status != http.StatusUnprocessableEntity {
		t.Errorf("/tokenize of a number: %d %s", status, answer)
	}

	status, answer = post(t, url+"/tgi/generate", `{"inputs":"Once","parameters":{"details":true,"max_new_tokens":null}}`)
	if status != http.StatusOK || !strings.Contains(answer, `"seed":null`) || !strings.Contains(answer, `"finish_reason":"length"`) || strings.Contains(answer, "top_tokens") {
		t.Errorf("without a limit: %d %.200s", status, answer)
	}
	response, err := http.Post(url+"/generate", "application/json", strings.NewReader(`{"inputs":"Once"}`))
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
	prompt, _ := strconv.Atoi(response.Header.Get("X-Prompt-Tokens"))
	generated, _ := strconv.Atoi(response.Header.Get("X-Generated-Tokens"))
	if prompt < 1 || prompt+generated != 60 {
		t.Errorf("%d tokens of prompt and %d generated, want 60 in all", prompt, generated)
	}
	if status, answer = post(t, url+"/", `{"inputs":"Once","parameters":{"max_new_tokens":2}}`); !strings.HasPrefix(answer, `[{"generated_text":"Once`) {
		t.Errorf("the compatible route answered %d %s", status, answer)
	}

	response, err = http.Post(url+"/generate_stream", "application/json",
		strings.NewReader(`{"inputs":"Once","parameters":{"max_new_tokens":2,"top_n_tokens":2,"details":true}}`))
	if err != nil {
		t.Fatal(err)
	}
	data, _ := io.ReadAll(response.Body)
	response.Body.Close()
	if got := string(data); !strings.HasPrefix(got, `data: {"index":1,"token":{`) || strings.Count(got, `"top_tokens":[{"id":`) != 2 ||
		!strings.HasSuffix(got, `"input_length":`+strconv.Itoa(prompt)+"}}\n\n") {
		t.Errorf("the stream is %s", got)
	}
}

func TestTGI3Overload(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: 20 * time.Millisecond})
	url, _ := startRouter(t, natsURL, router.Config{TGIVersion: "3", MaxConcurrentRequests: 1})
	next, hangUp := stream(t, url, `{"inputs":"Once","parameters":{"max_new_tokens":900}}`)
	defer hangUp()
	if e, ok := next(); !ok || e.Error != "" {
		t.Fatalf("the first stream begins with %+v", e)
	}
	const overloaded = `{"error":"Model is overloaded","error_type":"overloaded"}`
	if status, answer := post(t, url+"/generate", `{"inputs":"Once"}`); status != http.StatusTooManyRequests || answer != overloaded {
		t.Errorf("got %d %s", status, answer)
	}
	if status, answer := post(t, url+"/generate_stream", `{"inputs":"Once"}`); status != http.StatusOK || answer != "data: "+overloaded+"\n\n" {
		t.Errorf("got %d %q", status, answer)
	}
	if status, answer := post(t, url+"/tokenize", `{"inputs":"Once"}`); status != http.StatusOK {
		t.Errorf("tokenising needs no permit: %d %s", status, answer)
	}
}
