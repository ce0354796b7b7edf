package router_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/router"
	"lockstep/router/fleettest"
)

// dialectCase is one line of testdata/mindie.jsonl or testdata/lightllm.jsonl, in the form of the recorded cases of TGI: a
// request and the bytes of the answer, of which `volatile` names values ("body:/json/pointer", "event:/json/pointer", '*'
// any index) of which only the type counts. They were written from the manuals' examples and from what is known of the
// originals.
type dialectCase struct {
	Name, Area, Profile string
	Request             struct {
		Method, Path string
		Headers      [][2]string
		Body         string
	}
	Response struct {
		Status  int
		Headers [][2]string // a null value: the header must be absent
		Body    string
		Events  []string // instead of Body: what stands between empty lines
	}
	Volatile []string
}

// caseProfiles are the flags under which cases are replayed.
var caseProfiles = map[string]router.Config{
	"default": {MaxInputLength: 64, MaxTotalTokens: 128},
	"key":     {APIKeys: []string{"sesame"}},
	"old":     {LightLLMErrors: "old"},
}

func TestDialectCases(t *testing.T) {
	t.Parallel()
	for _, dialect := range []string{"mindie", "lightllm"} {
		cases := readCases(t, "testdata/"+dialect+".jsonl")
		if len(cases) < 60 {
			t.Errorf("%s: %d cases, want at least 60", dialect, len(cases))
		}
		for profile, config := range caseProfiles {
			t.Run(dialect+"/"+profile, func(t *testing.T) {
				natsURL := startNATS(t)
				startGroup(t, natsURL, fleettest.Options{StepInterval: time.Millisecond})
				config.Dialect = dialect
				url, _ := startRouter(t, natsURL, config)
				for i := range cases {
					if cases[i].Profile == profile {
						t.Run(cases[i].Name, func(t *testing.T) { cases[i].replay(t, url) })
					}
				}
			})
		}
	}
}

// Dashboards made for each replaced server find its metrics, and ours beside them.
func TestMetricsOfEachDialect(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: time.Millisecond})
	url, _ := startRouter(t, natsURL, router.Config{})
	for _, body := range []string{`{"inputs":"Once","parameters":{"max_new_tokens":5}}`, `{"inputs":"Once","parameters":{"top_p":9}}`} {
		response, err := http.Post(url+"/tgi/generate", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	}
	for path, names := range map[string][]string{
		"/metrics": {"tgi_request_count 2", "tgi_request_success 1", `tgi_request_failure{err="validation"} 1`, "lockstep_time_to_first_token_seconds_count 1"},
		"/lightllm/metrics": {`lightllm_request_count_total{model_name="demo"} 2`, `lightllm_request_failure_total{model_name="demo"} 1`,
			`lightllm_generation_tokens_total{model_name="demo"} 5`, `lightllm_request_first_token_duration_count{model_name="demo"} 1`, "lockstep_inter_token_seconds_count 4"},
		"/mindie/metrics": {`request_received_total{model_name="demo"} 2`, `num_requests_running{model_name="demo"} 0`,
			`e2e_request_latency_seconds_count{model_name="demo"} 1`, "lockstep_groups_lost_total 0"},
	} {
		response, err := http.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if !strings.Contains("\n"+string(text), "\n"+name+"\n") {
				t.Errorf("%s: %q is missing in\n%s", path, name, text)
			}
		}
	}
}

// A client's name for a request is told back by LightLLM, and is MindIE's UUID; for want of a good one, one is made.
func TestRequestIDs(t *testing.T) {
	t.Parallel()
	const made = "a UUID"
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: time.Millisecond})
	url, _ := startRouter(t, natsURL, router.Config{})
	for _, c := range []struct{ path, given, header, want string }{
		{"/tgi/generate", "mine-1", "X-Request-Id", ""}, {"/mindie/generate", "mine-2", "Requestuuid", "mine-2"},
		{"/lightllm/generate", "mine-3", "X-Request-Id", "mine-3"}, {"/lightllm/generate", "", "X-Request-Id", made},
		{"/lightllm/generate", "a b", "X-Request-Id", made}, {"/lightllm/generate", strings.Repeat("x", 129), "X-Request-Id", made},
	} {
		request, err := http.NewRequest(http.MethodPost, url+c.path, strings.NewReader(`{"inputs":"a","parameters":{"max_new_tokens":1}}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if c.given != "" {
			request.Header.Set("X-Request-Id", c.given)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		got := response.Header.Get(c.header)
		if len(got) == 36 && c.want == made {
			got = made
		}
		if got != c.want || response.StatusCode != http.StatusOK {
			t.Errorf("%s with %q: got %q and status %d, want %q", c.path, c.given, got, response.StatusCode, c.want)
		}
	}
}

// A client of any dialect that leaves has its request dropped by the group, whether it streams or waits for the whole.
func TestLeavingCancelsInEachDialect(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	group := startGroup(t, natsURL, fleettest.Options{StepInterval: 10 * time.Millisecond})
	url, _ := startRouter(t, natsURL, router.Config{})
	const generate = `{"inputs":"Once","parameters":{"max_new_tokens":1500}}`
	left := 0
	for _, c := range []struct {
		path, body string
		runs       int
	}{
		{"/tgi/generate", generate, 1}, {"/tgi/generate_stream", generate, 1},
		{"/mindie/generate", generate, 1}, {"/mindie/generate_stream", generate, 1},
		{"/lightllm/generate", generate, 1}, {"/lightllm/generate_stream", generate, 1},
		{completions, `{"prompt":"Once","max_tokens":1500}`, 1}, {completions, `{"prompt":["Once","The"],"n":2,"max_tokens":1500,"stream":true}`, 4},
		{chats, `{"messages":[{"role":"user","content":"Once"}],"n":2}`, 2}, {chats, `{"messages":[{"role":"user","content":"Once"}],"stream":true}`, 1},
	} {
		path := c.path
		ctx, leave := context.WithCancel(context.Background())
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		done := make(chan struct{})
		go func() {
			defer close(done)
			if response, err := http.DefaultClient.Do(request); err == nil {
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}()
		eventually(t, path+": the group computes", func() bool { return group.Running() == c.runs })
		leave()
		<-done
		left += c.runs
		eventually(t, path+": the group has dropped the request", func() bool { return group.Cancelled() == left && group.Running() == 0 })
	}
}

// Who closes its side before the answer is complete gets no answer that looks finished.
func TestHalfClosedConnections(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: 50 * time.Millisecond})
	url, _ := startRouter(t, natsURL, router.Config{})
	for _, path := range []string{"/tgi/generate", "/mindie/generate", "/lightllm/generate", "/tgi/generate_stream", "/lightllm/generate_stream"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		body := `{"inputs":"Once","parameters":{"max_new_tokens":100}}`
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(conn) // the connection may be reset
		conn.Close()
		if text := string(answer); strings.HasSuffix(text, "\r\n0\r\n\r\n") || strings.Contains(text, "Content-Length") {
			t.Errorf("%s: got %q", path, text)
		}
	}
}

func readCases(t *testing.T, path string) (cases []dialectCase) {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	names := map[string]bool{}
	for lines := bufio.NewScanner(file); lines.Scan(); {
		c := dialectCase{Profile: "default"}
		decoder := json.NewDecoder(bytes.NewReader(lines.Bytes()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&c); err != nil || names[c.Name] {
			t.Fatalf("%s: %q: %v, or its name comes twice", path, lines.Text(), err)
		}
		if _, known := caseProfiles[c.Profile]; !known {
			t.Fatalf("%s: %s has the unknown profile %q", path, c.Name, c.Profile)
		}
		names[c.Name] = true
		cases = append(cases, c)
	}
	return cases
}

func (c *dialectCase) replay(t *testing.T, url string) {
	request, err := http.NewRequest(c.Request.Method, url+c.Request.Path, strings.NewReader(c.Request.Body))
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range c.Request.Headers {
		request.Header.Set(header[0], header[1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != c.Response.Status {
		t.Fatalf("got status %d, want %d: %s", response.StatusCode, c.Response.Status, body)
	}
	for _, header := range c.Response.Headers {
		got, present := response.Header[http.CanonicalHeaderKey(header[0])]
		if present = present || response.Header[header[0]] != nil; header[1] == "" && present {
			t.Errorf("header %s: got %q, want none", header[0], got)
		} else if header[1] != "" && header[1] != "*" && !slices.Contains(got, header[1]) || header[1] == "*" && !present {
			t.Errorf("header %s: got %q, want %q", header[0], got, header[1])
		}
	}
	want, got, prefix := []string{c.Response.Body}, []string{string(body)}, "body:"
	if c.Response.Events != nil {
		rest, ended := strings.CutSuffix(string(body), "\n\n")
		if want, got, prefix = c.Response.Events, strings.Split(rest, "\n\n"), "event:"; !ended {
			t.Errorf("the stream does not end with an empty line: %q", body)
		}
	}
	if len(got) != len(want) {
		t.Fatalf("got %d events, want %d: %s", len(got), len(want), body)
	}
	for i := range want {
		if g, w := c.normal(t, prefix, got[i]), c.normal(t, prefix, want[i]); g != w {
			t.Errorf("got\n%s\nwant\n%s", g, w)
		}
	}
}

// normal is a text whose volatile values are replaced by their types; all other bytes stay.
func (c *dialectCase) normal(t *testing.T, prefix, text string) string {
	start := strings.IndexAny(text, "{[")
	if start < 0 {
		return text
	}
	decoder := json.NewDecoder(strings.NewReader(text[start:]))
	decoder.UseNumber()
	out := text[:start]
	done := 0
	var walk func(path string)
	walk = func(path string) {
		token, err := decoder.Token()
		if err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		switch delimiter, _ := token.(json.Delim); delimiter {
		case '{':
			for decoder.More() {
				key, err := decoder.Token()
				if err != nil {
					t.Fatalf("%q: %v", text, err)
				}
				walk(path + "/" + key.(string))
			}
			decoder.Token()
		case '[':
			for decoder.More() {
				walk(path + "/*")
			}
			decoder.Token()
		default:
			if !slices.Contains(c.Volatile, prefix+path) {
				return
			}
			end := int(decoder.InputOffset())
			raw := text[start:][done:end]
			value := valueStart(raw)
			out += raw[:value] + fmt.Sprintf("<%T>", token)
			done = end
		}
	}
	walk("")
	return out + text[start+done:]
}

// valueStart finds where the value begins that ends a piece of JSON: the longest end of it that is one.
func valueStart(raw string) int {
	for start := range raw {
		if c := raw[start]; c != ' ' && json.Valid([]byte(raw[start:])) {
			return start
		}
	}
	return len(raw)
}

// A tokenizer may have tokens that the model has no rows for. Prompts with them are refused before they are queued, in each
// dialect's words for what is invalid, and not by a group later.
func TestTokensBeyondTheModel(t *testing.T) {
	t.Parallel()
	card, _, words := demoCard(t)
	var source map[string]any
	if err := json.Unmarshal(card.Tokenizer.HuggingFace, &source); err != nil {
		t.Fatal(err)
	}
	source["added_tokens"] = append(source["added_tokens"].([]any), map[string]any{"id": card.VocabularySize, "content": "<beyond>", "special": false,
		"single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
	var err error
	if card.Tokenizer.HuggingFace, err = json.Marshal(source); err != nil {
		t.Fatal(err)
	}
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{Card: card, Tokens: words})
	url, _ := startRouter(t, natsURL, router.Config{})
	message := fmt.Sprintf("token id %d", card.VocabularySize)
	for path, c := range map[string]struct {
		body   string
		status int
	}{
		"/tgi/generate":             {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 422},
		"/tgi/generate_stream":      {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 200}, // the error is an event there
		"/mindie/generate":          {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 422},
		"/lightllm/generate":        {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 400},
		"/lightllm/generate_stream": {`{"inputs":"a <beyond>","parameters":{"max_new_tokens":2}}`, 400},
		completions:                 {`{"prompt":"a <beyond>","max_tokens":2}`, 400},
		chats:                       {`{"messages":[{"role":"user","content":"a <beyond>"}],"max_tokens":2}`, 400},
	} {
		if status, text := post(t, url+path, c.body); status != c.status || !strings.Contains(text, message) {
			t.Errorf("%s: got %d %s, want %d with %q", path, status, text, c.status, message)
		}
		if status, text := post(t, url+path, strings.Replace(c.body, "<beyond>", "b", 1)); status != 200 {
			t.Errorf("%s: got %d %s", path, status, text)
		}
	}
	if status, text := post(t, url+"/tokenize", `{"inputs":"a <beyond>"}`); status != 200 || !strings.Contains(text, fmt.Sprintf(`"id":%d`, card.VocabularySize)) {
		t.Errorf("/tokenize: got %d %s", status, text)
	}
}
