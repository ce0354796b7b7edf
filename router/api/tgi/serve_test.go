package tgi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/router/api"
	"lockstep/router/api/answertest"
)

// TestTGI3 covers what the recorded cases of TGI 3 do not: places in bytes, defaults, alternatives of streams and overload.
func TestTGI3(t *testing.T) {
	t.Parallel()
	url := answertest.Serve(t, answertest.Options{MaxInputLength: 30, MaxTotalTokens: 60}, func(c *api.Config) { c.TGIVersion = "3" })

	const tokens = `[{"id":80,"text":"n","start":0,"stop":1},{"id":130,"text":"é","start":1,"stop":3},` +
		`{"id":105,"text":"é","start":1,"stop":3},{"id":223,"text":" ","start":3,"stop":4},{"id":90,"text":"x","start":4,"stop":5}]`
	status, answer := answertest.Post(t, url+"/tokenize", `{"inputs":"né x"}`)
	if status != http.StatusOK || answer != tokens {
		t.Errorf("/tokenize answered %d %s", status, answer)
	}
	if status, answer = answertest.Post(t, url+"/tokenize", `{"inputs":7}`); status != http.StatusUnprocessableEntity {
		t.Errorf("/tokenize of a number: %d %s", status, answer)
	}

	status, answer = answertest.Post(t, url+"/tgi/generate", `{"inputs":"Once","parameters":{"details":true,"max_new_tokens":null}}`)
	if status != http.StatusOK || !strings.Contains(answer, `"seed":null`) || !strings.Contains(answer, `"finish_reason":"length"`) ||
		strings.Contains(answer, "top_tokens") {
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
	if status, answer = answertest.Post(t, url+"/", `{"inputs":"Once","parameters":{"max_new_tokens":2}}`); !strings.HasPrefix(answer,
		`[{"generated_text":"Once`) {
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
	url := answertest.Serve(t, answertest.Options{Step: 20 * time.Millisecond}, func(c *api.Config) {
		c.TGIVersion = "3"
		c.MaxConcurrentRequests = 1
	})
	first, err := http.Post(url+"/generate_stream", "application/json",
		strings.NewReader(`{"inputs":"Once","parameters":{"max_new_tokens":900}}`))
	if err != nil {
		t.Fatal(err)
	}
	defer first.Body.Close()
	if line, err := bufio.NewReader(first.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, `data: {"index":1,`) {
		t.Fatalf("the first stream begins with %q, %v", line, err)
	}
	const overloaded = `{"error":"Model is overloaded","error_type":"overloaded"}`
	if status, answer := answertest.Post(t, url+"/generate", `{"inputs":"Once"}`); status != http.StatusTooManyRequests ||
		answer != overloaded {
		t.Errorf("got %d %s", status, answer)
	}
	if status, answer := answertest.Post(t, url+"/generate_stream", `{"inputs":"Once"}`); status != http.StatusOK ||
		answer != "data: "+overloaded+"\n\n" {
		t.Errorf("got %d %q", status, answer)
	}
	if status, answer := answertest.Post(t, url+"/tokenize", `{"inputs":"Once"}`); status != http.StatusOK {
		t.Errorf("tokenising needs no permit: %d %s", status, answer)
	}
}

// A stop string may end anywhere in a token: the text ends there, the tokens are whole.
func TestStopStrings(t *testing.T) {
	for _, c := range []struct {
		token        int32
		maxNewTokens int
		stop         string
		text, finish string
		tokens       []string
	}{
		{1, 9, "ell", "ab hell", "stop_sequence", []string{"ab hello"}},
		{1, 9, "hello", "ab hello", "stop_sequence", []string{"ab hello"}},
		{1, 9, "oab", "ab helloab", "stop_sequence", []string{"ab hello", "ab hello"}},
		{1, 9, "", "ab hello", "stop_sequence", []string{"ab hello"}},
		{1, 2, "oab", "ab helloab hello", "length", []string{"ab hello", "ab hello"}},
		{1, 2, "x", "ab helloab hello", "length", []string{"ab hello", "ab hello"}},
		{2, 9, "ND", "END", "stop_sequence", []string{"END"}},
		{2, 9, "EN", "EN", "stop_sequence", []string{"END"}},
		{2, 3, "x", "END\ufffdEND\ufffdEND\ufffd", "length", []string{"", "", ""}},
		{3, 9, "stop", "", "stop_sequence", []string{"<stop me>"}},
	} {
		url := answertest.Serve(t, answertest.Options{Card: answertest.Monotone(), Tokens: []int32{c.token}})
		request := fmt.Sprintf(`{"inputs":"aaaaaaaa","parameters":{"max_new_tokens":%d,"stop":[%q],"details":true}}`, c.maxNewTokens,
			c.stop)
		_, answer := answertest.Post(t, url+"/generate", request)
		var got struct {
			Text    string `json:"generated_text"`
			Details struct {
				Finish string `json:"finish_reason"`
				Tokens []struct{ Text string }
			}
		}
		if err := json.Unmarshal([]byte(answer), &got); err != nil {
			t.Fatalf("%v: %s", err, answer)
		}
		var tokens []string
		for _, token := range got.Details.Tokens {
			tokens = append(tokens, token.Text)
		}
		if got.Text != c.text || got.Details.Finish != c.finish || !slices.Equal(tokens, c.tokens) {
			t.Errorf("%q of token %d: got %q, %s, %q, want %q, %s, %q", c.stop, c.token, got.Text, got.Details.Finish, tokens, c.text,
				c.finish, c.tokens)
		}
		_, answer = answertest.Post(t, url+"/generate_stream", request)
		events := strings.Split(strings.TrimSpace(answer), "\n\n")
		var last struct {
			Text *string `json:"generated_text"`
		}
		if err := json.Unmarshal([]byte(strings.TrimPrefix(events[len(events)-1], "data:")), &last); err != nil || last.Text == nil ||
			*last.Text != c.text {
			t.Errorf("%q of token %d: the stream ends with %s, want %q", c.stop, c.token, events[len(events)-1], c.text)
		}
	}
}

// No stop strings at all may be what the operator wants.
func TestNoStopSequences(t *testing.T) {
	url := answertest.Serve(t, answertest.Options{}, func(c *api.Config) { c.MaxStopSequences = 0 })
	status, answer := answertest.Post(t, url+"/generate", `{"inputs":"a","parameters":{"stop":["b"]}}`)
	if want := "`stop` supports up to 0 stop sequences. Given: 1"; status != http.StatusUnprocessableEntity ||
		!strings.Contains(answer, want) {
		t.Errorf("got %d %s, want %s", status, answer, want)
	}
	if status, answer := answertest.Post(t, url+"/generate", `{"inputs":"a","parameters":{"stop":[]}}`); status != http.StatusOK {
		t.Errorf("without any: got %d %s", status, answer)
	}
	if status, answer := answertest.Post(t, url+"/v1/completions", `{"prompt":"a","stop":"b"}`); status != http.StatusBadRequest {
		t.Errorf("OpenAI's: got %d %s", status, answer)
	}
	if _, document := answertest.Get(t, url+"/tgi/openapi.json"); !strings.Contains(document, `"maxItems":0`) {
		t.Error("the document does not tell it")
	}
}

func TestBestOf(t *testing.T) {
	url := answertest.Serve(t, answertest.Options{})
	_, answer := answertest.Post(t, url+"/generate",
		`{"inputs":"pick","parameters":{"best_of":2,"do_sample":true,"details":true,"max_new_tokens":10}}`)
	type sequence struct {
		Seed   uint64
		Tokens []struct{ Logprob float64 }
	}
	var got struct {
		Details struct {
			sequence
			Others []sequence `json:"best_of_sequences"`
		}
	}
	if err := json.Unmarshal([]byte(answer), &got); err != nil || len(got.Details.Others) != 1 {
		t.Fatalf("%v: %s", err, answer)
	}
	sum := func(s sequence) (total float64) {
		for _, token := range s.Tokens {
			total += token.Logprob
		}
		return total
	}
	if other := got.Details.Others[0]; sum(got.Details.sequence) < sum(other) || got.Details.Seed == other.Seed {
		t.Errorf("got %s", answer)
	}
}
