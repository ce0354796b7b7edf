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

	"lockstep/router"
	"lockstep/router/fleettest"
)

// TestMain fails when a goroutine outlives the tests.
func TestMain(m *testing.M) {
	fleettest.Main()
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

// story is what a greedy generation gives, on any group, whatever happens to it.
type story struct {
	ids  []int32
	text string
}

// told reads a stream to its end; already are the tokens that were read before.
func told(t testing.TB, next func() (event, bool), already ...int32) (s story) {
	t.Helper()
	s.ids = already
	var last event
	for e, ok := next(); ok; e, ok = next() {
		if e.Error != "" {
			t.Errorf("after %d tokens: %s", len(s.ids), e.Error)
			return s
		}
		s.ids, last = append(s.ids, e.Token.ID), e
	}
	if last.GeneratedText == nil {
		t.Errorf("the stream ends without its text behind %d tokens", len(s.ids))
	} else {
		s.text = *last.GeneratedText
	}
	return s
}

// calm is the story of a run that nothing happens to.
func calm(t testing.TB, url, prompt string, tokens int) story {
	t.Helper()
	next, _ := stream(t, url, body(prompt, tokens))
	s := told(t, next)
	if len(s.ids) != tokens {
		t.Errorf("%q: %d tokens, want %d", prompt, len(s.ids), tokens)
	}
	return s
}

// check compares a story with that of another run.
func check(t testing.TB, got, want story) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func body(prompt string, tokens int) string {
	return fmt.Sprintf(`{"inputs":%q,"parameters":{"max_new_tokens":%d}}`, prompt, tokens)
}

func TestManyStreamsOverTwoGroups(t *testing.T) {
	natsURL := startNATS(t)
	a := fleettest.Start(t, natsURL, fleettest.Options{Name: "a"})
	b := fleettest.Start(t, natsURL, fleettest.Options{Name: "b"})
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
	stories := [2][40]story{} // told at once, and one after the other
	var readers sync.WaitGroup
	for i := range stories[0] {
		next, _ := stream(t, url, body(fmt.Sprint("story ", i), 30))
		readers.Go(func() { stories[0][i] = told(t, next) })
	}
	readers.Wait()
	if a.Dispatched() == 0 || b.Dispatched() == 0 || a.Dispatched()+b.Dispatched() != 40 {
		t.Errorf("the groups took %d and %d requests", a.Dispatched(), b.Dispatched())
	}
	for i := range stories[1] {
		stories[1][i] = calm(t, url, fmt.Sprint("story ", i), 30)
		check(t, stories[0][i], stories[1][i])
	}
}

func TestStreamsSurviveTheDeathOfTheirGroup(t *testing.T) {
	t.Parallel()
	for _, tell := range []bool{true, false} {
		t.Run(fmt.Sprintf("tell=%v", tell), func(t *testing.T) {
			natsURL := startNATS(t)
			first := fleettest.Start(t, natsURL, fleettest.Options{Name: "a", Incarnation: 1, StepTime: 5 * time.Millisecond})
			url, _ := startRouter(t, natsURL, defaults)
			const tokens = 200
			var stories [8]story
			var readers sync.WaitGroup
			var streaming atomic.Int32
			for i := range stories {
				next, _ := stream(t, url, body(fmt.Sprint("story ", i), tokens))
				readers.Go(func() {
					e, _ := next()
					streaming.Add(1)
					stories[i] = told(t, next, e.Token.ID)
				})
			}
			eventually(t, "all streams have begun", func() bool { return streaming.Load() == 8 })
			first.Kill(tell)
			// Another spelling of the model and another template are no other model.
			second := fleettest.Start(t, natsURL, fleettest.Options{Name: "b", ModelID: "org/demo", ChatTemplate: "{{ messages }}"})
			readers.Wait()
			if second.Dispatched() != 8 {
				t.Errorf("the second group took %d requests, want 8", second.Dispatched())
			}
			for i := range stories {
				check(t, stories[i], calm(t, url, fmt.Sprint("story ", i), tokens))
			}
		})
	}
}

func TestNewIncarnationTakesOver(t *testing.T) {
	natsURL := startNATS(t)
	first := fleettest.Start(t, natsURL, fleettest.Options{Incarnation: 1, StepTime: 5 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	next, _ := stream(t, url, body("once", 100))
	e, _ := next()
	first.Kill(false)
	fleettest.Start(t, natsURL, fleettest.Options{Incarnation: 2})
	check(t, told(t, next, e.Token.ID), calm(t, url, "once", 100))
}

// The broker goes and comes back in the middle of a stream: the client sees a pause.
func TestBrokerRestart(t *testing.T) {
	t.Parallel()
	broker := startBroker(t, -1)
	natsURL := broker.ClientURL()
	var port int
	fmt.Sscanf(natsURL, "nats://127.0.0.1:%d", &port)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: 5 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	next, _ := stream(t, url, body("outage", 300))
	e, _ := next()
	broker.Shutdown()
	broker.WaitForShutdown()
	startBroker(t, port)
	check(t, told(t, next, e.Token.ID), calm(t, url, "outage", 300))
}

// A client that does not read holds up nobody.
func TestSlowClient(t *testing.T) {
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{})
	url, _ := startRouter(t, natsURL, defaults)
	slow, _ := stream(t, url, body("slow", 1900))
	slow()
	for i := range 5 {
		calm(t, url, fmt.Sprint("quick ", i), 100)
	}
}

func TestHangingUpCancels(t *testing.T) {
	natsURL := startNATS(t)
	group := fleettest.Start(t, natsURL, fleettest.Options{StepTime: 10 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	next, hangUp := stream(t, url, body("a long story", 1500))
	next()
	hangUp()
	eventually(t, "the group has dropped the request", func() bool { return group.Cancelled() == 1 && group.Holds() == 0 })
}

func TestStopStringCancels(t *testing.T) {
	natsURL := startNATS(t)
	group := fleettest.Start(t, natsURL, fleettest.Options{StepTime: 10 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	text := calm(t, url, "stop", 3).text
	status, answer := post(t, url+"/generate", fmt.Sprintf(`{"inputs":"stop","parameters":{"max_new_tokens":1000,"stop":[%q]}}`, text))
	if wanted := fmt.Sprintf(`{"generated_text":%q}`, text); status != 200 || answer != wanted {
		t.Errorf("got %d %s, want %s", status, answer, wanted)
	}
	eventually(t, "the group has dropped the request", func() bool { return group.Cancelled() == 1 })
}

func TestNoGroupComesBack(t *testing.T) {
	natsURL := startNATS(t)
	group := fleettest.Start(t, natsURL, fleettest.Options{StepTime: 5 * time.Millisecond})
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
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: 10 * time.Millisecond})
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
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: 5 * time.Millisecond})
	url, stop := startRouter(t, natsURL, defaults)
	want := calm(t, url, "the end", 60)
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
	check(t, told(t, next, e.Token.ID), want)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

func TestTokenLoad(t *testing.T) {
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: 10 * time.Millisecond})
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
	fleettest.Start(t, natsURL, fleettest.Options{})
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
