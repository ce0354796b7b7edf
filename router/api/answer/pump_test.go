package answer

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"lockstep/protocol"
	"lockstep/router/api/wire"
	"lockstep/router/request"
)

// client is the connection of one that takes at once what takes says of so many bytes; Write waits for reads, unless that is nil.
type client struct {
	takes func(bytes int) int
	reads chan struct{}

	mu   sync.Mutex
	came strings.Builder // chunks, behind the first piece
	all  chan struct{}   // closed when the last event has come; nil: nobody waits for it
}

func (c *client) Receiving(bool) {}
func (c *client) Close() error   { return nil }
func (c *client) Tries() bool    { return true }
func (c *client) Try(p []byte) int {
	n := c.takes(len(p))
	c.take(p[:n])
	return n
}

func (c *client) Write(p []byte) (int, error) {
	if c.reads != nil {
		<-c.reads
	}
	c.take(p)
	return len(p), nil
}

func (c *client) take(p []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.came.Write(p)
	if c.all != nil && strings.HasSuffix(c.came.String(), "last\r\n") {
		close(c.all)
	}
}

// text is what the client has got, without the framing.
func (c *client) text(t *testing.T, first string) string {
	body, rest := first, c.came.String()
	for rest != "" {
		var size int
		if n, err := fmt.Sscanf(rest, "%x\r\n", &size); n != 1 || err != nil {
			t.Fatalf("no chunk: %q", rest)
		}
		_, rest, _ = strings.Cut(rest, "\r\n")
		if size == 0 || rest[size:size+2] != "\r\n" {
			t.Fatalf("a chunk of %d: %q", size, rest)
		}
		body, rest = body+rest[:size], rest[size+2:]
	}
	return body
}

// sourceOf yields a number for each token.
func sourceOf(events *request.Events) Source {
	taken := func(b []byte, tokens []request.Token, err *request.Refusal, outcome request.Outcome) Taken {
		last := false
		for _, token := range tokens {
			b = fmt.Appendf(b, "%d ", token.ID)
			last = token.Finish != protocol.FinishNone
		}
		if last {
			b = append(b, "last"...)
		}
		return Taken{Events: b, Last: last, Err: err, Outcome: outcome}
	}
	return Source{Interrupt: events.Interrupt, Tell: events.Tell,
		Take: func(b []byte) Taken {
			tokens, err, outcome := events.Take(nil)
			return taken(b, tokens, err, outcome)
		},
		Poll: func(b []byte) Taken {
			tokens, err, outcome := events.Poll(nil)
			return taken(b, tokens, err, outcome)
		}}
}

// front takes the first piece, which goes through net/http.
type front struct {
	*httptest.ResponseRecorder
	begun func()
}

func (f front) Flush() { f.begun() }

// pump pumps events to a client, and returns what came of it and the first piece, behind which it calls begun.
func pump(s *Service, c *client, source Source, begun func()) (p Pumped, first string) {
	r := httptest.NewRequest(http.MethodPost, "/", nil)
	r = r.WithContext(context.WithValue(r.Context(), wire.ConnectionKey{}, wire.Connection(c)))
	w := front{httptest.NewRecorder(), begun}
	p, _ = s.Pump(w, r, "", source)
	return p, w.Body.String()
}

func numbers(count int) (text string) {
	for i := range count {
		text += fmt.Sprint(i, " ")
	}
	return text + "last"
}

func put(events *request.Events, number, count int) {
	token := request.Token{ID: int32(number)}
	if number == count-1 {
		token.Finish = protocol.FinishLength
	}
	events.PutToken(token)
}

// All clients get all events in order, however much of them their connections take at once.
func TestPumpsKeepOrder(t *testing.T) {
	const streams, tokens = 40, 200
	s := &Service{writers: writers{most: 3}}
	var all [streams]*request.Events
	var running sync.WaitGroup
	for i := range all {
		all[i] = request.NewEvents(0)
		random := rand.New(rand.NewPCG(uint64(i), 0))
		c := &client{takes: func(bytes int) int {
			if i%2 == 0 || random.IntN(3) > 0 {
				return bytes
			}
			return random.IntN(bytes + 1)
		}}
		running.Go(func() {
			p, first := pump(s, c, sourceOf(all[i]), func() {})
			if got := c.text(t, first); !p.Complete || got != numbers(tokens) {
				t.Errorf("stream %d, complete %v: got %s", i, p.Complete, got)
			}
		})
	}
	for number := range tokens {
		for i := range all {
			put(all[i], number, tokens)
		}
	}
	running.Wait()
	if s.writers.mu.Lock(); len(s.writers.ready) > 0 {
		t.Error("streams are left with the writers")
	}
}

// While a client does not read, the only writer serves the others.
func TestSlowClientsHoldUpNobody(t *testing.T) {
	const tokens = 50
	s := &Service{writers: writers{most: 1}}
	slow := &client{reads: make(chan struct{}), takes: func(int) int { return 1 }}
	quick := &client{all: make(chan struct{}), takes: func(bytes int) int { return bytes }}
	events := [2]*request.Events{request.NewEvents(0), request.NewEvents(0)}
	var running, begun sync.WaitGroup
	for i, c := range []*client{slow, quick} {
		put(events[i], 0, tokens)
		begun.Add(1)
		running.Go(func() {
			if p, first := pump(s, c, sourceOf(events[i]), begun.Done); !p.Complete || c.text(t, first) != numbers(tokens) {
				t.Errorf("client %d, complete %v: got %s", i, p.Complete, c.text(t, first))
			}
		})
	}
	begun.Wait()
	for number := 1; number < tokens; number++ {
		put(events[0], number, tokens)
		put(events[1], number, tokens)
	}
	<-quick.all
	close(slow.reads)
	running.Wait()
}

// What a writer panics with, the handler does: net/http ends its connection then, and nothing else.
func TestPanicsAreTheHandlers(t *testing.T) {
	events := request.NewEvents(0)
	source := sourceOf(events)
	source.Poll = func([]byte) Taken { panic("broken") }
	defer func() {
		if got := recover(); got != "broken" {
			t.Errorf("got %v", got)
		}
	}()
	put(events, 0, 3)
	pump(&Service{writers: writers{most: 1}}, &client{}, source, func() { put(events, 1, 3) })
}

// Writers that never come to the end of what is ready keep nothing of what was taken.
func TestWritersForget(t *testing.T) {
	var w writers
	var batch [1]*stream
	w.add(&stream{})
	for range 10_000 {
		w.add(&stream{})
		if w.take(batch[:]) != 1 {
			t.Fatal("nothing is ready")
		}
	}
	if len(w.ready) > 100 {
		t.Errorf("room for %d streams, of which one is ready", len(w.ready))
	}
}
