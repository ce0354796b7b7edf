package router_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"lockstep/protocol"
	"lockstep/router"
	"lockstep/router/api/answertest"
	"lockstep/router/fleettest"
)

// TestMain fails when a goroutine outlives the tests.
func TestMain(m *testing.M) {
	code := m.Run()
	http.DefaultClient.CloseIdleConnections()
	// net/http keeps a connection that it has closed for half a second.
	if err := goleak.Find(goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait")); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// event is one event of a stream.
type event struct {
	Token struct {
		ID      int32
		Text    string
		Logprob float32
	}
	GeneratedText *string `json:"generated_text"`
	Error         string
	ErrorType     string `json:"error_type"`
}

// stream opens a stream; each call of next returns one event, ok is false at the end.
func stream(t testing.TB, url, body string) (next func() (e event, ok bool), hangUp func()) {
	t.Helper()
	response, err := http.Post(url+"/generate_stream", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusOK {
		t.Fatalf("status %d", response.StatusCode)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 1<<20)
	t.Cleanup(func() { response.Body.Close() })
	return func() (e event, ok bool) {
		for lines.Scan() {
			data, isEvent := strings.CutPrefix(lines.Text(), "data:")
			if !isEvent {
				continue
			}
			if err := json.Unmarshal([]byte(data), &e); err != nil {
				t.Errorf("event %q: %v", data, err)
			}
			return e, true
		}
		return e, false
	}, func() { response.Body.Close() }
}

// want is what a greedy generation of any group is.
func want(t testing.TB, prompt string, tokens int) (ids []int32, text string) {
	t.Helper()
	_, tokenizer, words := answertest.DemoCard(t)
	promptIDs, err := tokenizer.Encode(prompt, true)
	if err != nil {
		t.Fatal(err)
	}
	for position := range tokens {
		id, _ := fleettest.Token(words, promptIDs, 0, position)
		ids = append(ids, id)
	}
	return ids, tokenizer.Decode(ids, true)
}

// checkStream reads a stream to its end and compares it with what must come.
func checkStream(t testing.TB, next func() (event, bool), already []int32, prompt string, tokens int) {
	t.Helper()
	ids, text := want(t, prompt, tokens)
	got := already
	var last event
	for {
		e, ok := next()
		if !ok {
			break
		}
		if e.Error != "" {
			t.Errorf("after %d tokens: %s", len(got), e.Error)
			return
		}
		got, last = append(got, e.Token.ID), e
	}
	if fmt.Sprint(got) != fmt.Sprint(ids) {
		t.Errorf("got  %v\nwant %v", got, ids)
	}
	if last.GeneratedText == nil || *last.GeneratedText != text {
		t.Errorf("got text %v, want %q", last.GeneratedText, text)
	}
}

func body(prompt string, tokens int) string {
	return fmt.Sprintf(`{"inputs":%q,"parameters":{"max_new_tokens":%d}}`, prompt, tokens)
}

func TestManyStreamsOverTwoGroups(t *testing.T) {
	natsURL := startNATS(t)
	a := startGroup(t, natsURL, fleettest.Options{Name: "a"})
	b := startGroup(t, natsURL, fleettest.Options{Name: "b"})
	url, _ := startRouter(t, natsURL, defaults)
	eventually(t, "both groups are known", func() bool {
		response, err := http.Get(url + "/token_load?groups")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var load struct{ Groups []struct{} }
		return json.NewDecoder(response.Body).Decode(&load) == nil && len(load.Groups) == 2
	})
	var readers sync.WaitGroup
	for i := range 40 {
		prompt := fmt.Sprintf("story %d", i)
		next, _ := stream(t, url, body(prompt, 30))
		readers.Go(func() { checkStream(t, next, nil, prompt, 30) })
	}
	readers.Wait()
	if a.Accepted() == 0 || b.Accepted() == 0 || a.Accepted()+b.Accepted() != 40 {
		t.Errorf("the groups took %d and %d requests", a.Accepted(), b.Accepted())
	}
}

func TestStreamsSurviveTheDeathOfTheirGroup(t *testing.T) {
	t.Parallel()
	for _, tell := range []bool{true, false} {
		t.Run(fmt.Sprintf("told=%v", tell), func(t *testing.T) {
			natsURL := startNATS(t)
			first := startGroup(t, natsURL, fleettest.Options{Name: "a", Incarnation: 1, StepInterval: 5 * time.Millisecond})
			url, _ := startRouter(t, natsURL, defaults)
			const tokens = 200
			var readers sync.WaitGroup
			var streaming atomic.Int32
			for i := range 8 {
				prompt := fmt.Sprintf("story %d", i)
				next, _ := stream(t, url, body(prompt, tokens))
				readers.Go(func() {
					e, _ := next()
					streaming.Add(1)
					checkStream(t, next, []int32{e.Token.ID}, prompt, tokens)
				})
			}
			eventually(t, "all streams have begun", func() bool { return streaming.Load() == 8 })
			first.Kill(tell)
			second := startGroup(t, natsURL, fleettest.Options{Name: "b", Incarnation: 1})
			readers.Wait()
			if second.Accepted() != 8 {
				t.Errorf("the second group took %d requests, want 8", second.Accepted())
			}
		})
	}
}

func TestNewIncarnationTakesOver(t *testing.T) {
	natsURL := startNATS(t)
	first := startGroup(t, natsURL, fleettest.Options{Incarnation: 1, StepInterval: 5 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	next, _ := stream(t, url, body("once", 100))
	e, _ := next()
	first.Kill(false)
	startGroup(t, natsURL, fleettest.Options{Incarnation: 2})
	checkStream(t, next, []int32{e.Token.ID}, "once", 100)
}

func TestLostFramesComeAgain(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	// The last of 40 frames is lost too: nothing behind it shows the gap.
	group := startGroup(t, natsURL, fleettest.Options{LoseFrame: func(n uint64) bool { return n%7 == 3 || n == 39 }})
	url, _ := startRouter(t, natsURL, defaults)
	next, _ := stream(t, url, body("holes", 40))
	checkStream(t, next, nil, "holes", 40)
	if group.Accepted() != 1 {
		t.Errorf("the request was dispatched %d times", group.Accepted())
	}
}

// A group that has dropped a request is given it again, whatever else it is busy with.
func TestForgottenRequests(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	group := startGroup(t, natsURL, fleettest.Options{StepInterval: 5 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	next, _ := stream(t, url, body("forgotten", 300))
	e, _ := next()
	group.Forget()
	busy, _ := stream(t, url, body("busy", 1500))
	busy()
	checkStream(t, next, []int32{e.Token.ID}, "forgotten", 300)
}

// The broker goes and comes back in the middle of a stream: the client sees a pause.
func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, -1)
	natsURL := broker.ClientURL()
	var port int
	fmt.Sscanf(natsURL, "nats://127.0.0.1:%d", &port)
	startGroup(t, natsURL, fleettest.Options{StepInterval: 5 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	next, _ := stream(t, url, body("outage", 300))
	e, _ := next()
	broker.Shutdown()
	broker.WaitForShutdown()
	startBroker(t, port)
	checkStream(t, next, []int32{e.Token.ID}, "outage", 300)
}

// A client that does not read holds up nobody.
func TestSlowClient(t *testing.T) {
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{})
	url, _ := startRouter(t, natsURL, defaults)
	slow, _ := stream(t, url, body("slow", 1900))
	slow()
	for i := range 5 {
		prompt := fmt.Sprintf("quick %d", i)
		next, _ := stream(t, url, body(prompt, 100))
		checkStream(t, next, nil, prompt, 100)
	}
}

func TestHangingUpCancels(t *testing.T) {
	natsURL := startNATS(t)
	group := startGroup(t, natsURL, fleettest.Options{StepInterval: 10 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	next, hangUp := stream(t, url, body("a long story", 1500))
	next()
	hangUp()
	eventually(t, "the group has dropped the request", func() bool { return group.Cancelled() == 1 && group.Running() == 0 })
}

func TestStopStringCancels(t *testing.T) {
	natsURL := startNATS(t)
	group := startGroup(t, natsURL, fleettest.Options{StepInterval: 10 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	_, text := want(t, "stop", 3)
	status, answer := post(t, url+"/generate", fmt.Sprintf(`{"inputs":"stop","parameters":{"max_new_tokens":1000,"stop":[%q]}}`, text))
	if wanted := fmt.Sprintf(`{"generated_text":%q}`, text); status != 200 || answer != wanted {
		t.Errorf("got %d %s, want %s", status, answer, wanted)
	}
	eventually(t, "the group has dropped the request", func() bool { return group.Cancelled() == 1 })
}

func TestRefusalsComeBack(t *testing.T) {
	natsURL := startNATS(t)
	var refused atomic.Int32
	startGroup(t, natsURL, fleettest.Options{Refuse: func(r protocol.Request) *protocol.Error {
		switch {
		case len(r.Prompt) > 50:
			return &protocol.Error{Code: protocol.CodeInvalid, Message: "no"}
		case refused.Add(1) <= 2:
			return &protocol.Error{Code: protocol.CodeFull, Message: "later"}
		}
		return nil
	}})
	url, _ := startRouter(t, natsURL, defaults)
	next, _ := stream(t, url, body("refused twice", 10))
	checkStream(t, next, nil, "refused twice", 10)
	status, answer := post(t, url+"/generate", body(strings.Repeat("word ", 60), 10))
	if status != 424 || answer != `{"error":"Request failed during generation: Server error: no","error_type":"generation"}` {
		t.Errorf("got %d %s", status, answer)
	}
}

func TestNoGroupComesBack(t *testing.T) {
	natsURL := startNATS(t)
	group := startGroup(t, natsURL, fleettest.Options{StepInterval: 5 * time.Millisecond})
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) { c.GroupWaitTimeout = 0.3 }))
	next, _ := stream(t, url, body("alone", 500))
	next()
	group.Kill(true)
	var last event
	for {
		e, ok := next()
		if !ok {
			break
		}
		last = e
	}
	if last.ErrorType != "generation" || !strings.HasPrefix(last.Error, "Request failed during generation: ") {
		t.Errorf("got %+v", last)
	}
	if status, _ := post(t, url+"/generate", body("nobody", 5)); status != 503 {
		t.Errorf("without a group: status %d, want 503", status)
	}
	response, err := http.Get(url + "/health")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != 503 {
		t.Errorf("health without a group: %d", response.StatusCode)
	}
}

func TestOverload(t *testing.T) {
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: 10 * time.Millisecond})
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) { c.MaxConcurrentRequests = 2 }))
	first, hangUp := stream(t, url, body("one", 1000))
	second, hangUpToo := stream(t, url, body("two", 1000))
	first()
	second()
	if status, answer := post(t, url+"/generate", body("three", 5)); status != 429 ||
		answer != `{"error":"Model is overloaded","error_type":"overloaded"}` {
		t.Errorf("got %d %s", status, answer)
	}
	hangUp()
	hangUpToo()
	eventually(t, "there is room again", func() bool {
		status, _ := post(t, url+"/generate", body("three", 5))
		return status == 200
	})
}

func TestDrainFinishesWhatRuns(t *testing.T) {
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: 5 * time.Millisecond})
	url, stop := startRouter(t, natsURL, defaults)
	next, _ := stream(t, url, body("the end", 60))
	e, _ := next()
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	eventually(t, "the router accepts no more", func() bool {
		response, err := http.Get(url + "/health")
		if err == nil {
			response.Body.Close()
		}
		return err != nil
	})
	checkStream(t, next, []int32{e.Token.ID}, "the end", 60)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestTokenLoad(t *testing.T) {
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: 10 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	next, hangUp := stream(t, url, body("load", 1019)) // with its prompt a whole number of blocks, or nearly
	next()
	defer hangUp()
	eventually(t, "the load shows", func() bool {
		response, err := http.Get(url + "/token_load?groups")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var load struct {
			Current float64 `json:"current_load"`
			Dynamic float64 `json:"dynamic_max_load"`
		}
		if err := json.NewDecoder(response.Body).Decode(&load); err != nil {
			t.Fatal(err)
		}
		return load.Current > 0 && load.Dynamic >= 1024.0/16384 && load.Dynamic < 1.2*1024/16384
	})
}

func TestBadAddressFailsAtOnce(t *testing.T) {
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{})
	url, _ := startRouter(t, natsURL, defaults)
	var port int
	fmt.Sscanf(url, "http://127.0.0.1:%d", &port)
	config := settings(func(c *router.Config) {
		c.Name, c.NATSURLs, c.Hostname, c.Port = "r", []string{natsURL}, "127.0.0.1", port
	})
	if err := router.Run(t.Context(), config, nopLog, router.Signs{}); err == nil {
		t.Error("a second router listens at the same port")
	}
}
