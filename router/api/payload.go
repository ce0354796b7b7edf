package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"
)

const (
	// bodiesBytes, bodiesOfPayload bodies of the longest kind, or bodyOfPermit for each request that there may be, whichever
	// is most, bounds the bytes that bodies of all requests hold together, each from its first byte until its request is
	// over. Beyond that requests are overload.
	bodiesBytes     = 128 << 20
	bodiesOfPayload = 4
	bodyOfPermit    = 64 << 10
	// bodyTimeout bounds how long a client may take for the body, bodyStepTimeout for each bodyStepBytes of it.
	bodyTimeout     = 2 * time.Minute
	bodyStepTimeout = 20 * time.Second
	bodyStepBytes   = 64 << 10
	// drainBytes is how much of a body that is too long net/http still reads, so that its connection can be used again.
	drainBytes = 256 << 10
	// drainTimeout bounds how long a body may take that nobody reads.
	drainTimeout = 2 * time.Second
)

var (
	errBodyTooLong = errors.New("the body is too long")
	errBodiesFull  = errors.New("too many bytes of bodies are held")
)

// unread lets refuse answer at once, whatever of the body has come; net/http would pass over it first. Behind the answer a
// short body is passed over within drainTimeout; a long one, or one that does not come, ends the connection.
func unread(refuse http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		switch {
		case r.ContentLength == 0 || r.Header.Get("Expect") != "": // net/http ends the connection of one who asks before sending
			refuse(w, r)
			return
		case r.ContentLength < 0 || r.ContentLength > drainBytes || control.EnableFullDuplex() != nil:
			w.Header()["Connection"] = []string{"close"}
			refuse(w, r)
			return
		}
		refuse(w, r)
		control.Flush()
		control.SetReadDeadline(time.Now().Add(drainTimeout))
		// Not left to net/http: in full duplex it would go on behind an incomplete body.
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
		control.SetReadDeadline(time.Time{})
	}
}

// bodyBudget counts the bytes of bodies against a limit, of which no client has more than half: bodies that stall, as long
// as they may, hold nobody else up.
type bodyBudget struct {
	limit int64

	mu   sync.Mutex // guards all below
	held int64
	of   map[netip.Addr]int64 // each client's
}

// take takes room for a client; false: there is none.
func (b *bodyBudget) take(client netip.Addr, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.room(client, bytes) {
		return false
	}
	b.held += bytes
	b.of[client] += bytes
	return true
}

// fits tells whether there is room now; nothing is taken.
func (b *bodyBudget) fits(client netip.Addr, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.room(client, bytes)
}

func (b *bodyBudget) room(client netip.Addr, bytes int64) bool {
	return b.held+bytes <= b.limit && b.of[client]+bytes <= b.limit/2
}

// release gives back what the body of an answered request held.
func (b *bodyBudget) release(client netip.Addr, answer *identified) {
	if answer.body == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	bytes := int64(cap(answer.body.data))
	b.held -= bytes
	if b.of[client] -= bytes; b.of[client] == 0 {
		delete(b.of, client)
	}
}

// Connection is told when a body begins to come over it, and when nothing more is read of that. It is the value of
// ConnectionKey in the context of its requests; where there is none nobody is told.
type Connection interface{ Receiving(bool) }

// ConnectionKey is the key of a Connection in contexts.
type ConnectionKey struct{}

// receivedBody is a body as far as it came, or why not all of it did.
type receivedBody struct {
	data []byte
	err  error
}

// readAll reads the body of a request, once: who asks again is told the same. The error is errBodyTooLong, errBodiesFull
// or that of reading; what was read until then is returned with it, and nothing more is read of the connection.
func (s *Server) readAll(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	answer := inner(w)
	if answer.body == nil {
		answer.body = &receivedBody{}
		s.receive(w, r, answer.body)
		if err := answer.body.err; err != nil && !errors.Is(err, errBodyTooLong) {
			// What is still to come is no request.
			w.Header()["Connection"] = []string{"close"}
		}
	}
	return answer.body.data, answer.body.err
}

// receive reads as much as there is room for, and takes room only for what comes.
func (s *Server) receive(w http.ResponseWriter, r *http.Request, body *receivedBody) {
	limit := s.config.PayloadLimit
	switch {
	case r.ContentLength > limit+drainBytes:
		body.err = errBodyTooLong
		return
	case !s.bodies.fits(clientOf(r.Context()), max(r.ContentLength, 0)):
		body.err = errBodiesFull
		return
	}
	if c, ok := r.Context().Value(ConnectionKey{}).(Connection); ok {
		c.Receiving(true)
		defer c.Receiving(false)
	}
	control, end := http.NewResponseController(w), time.Now().Add(bodyTimeout)
	for step := 0; ; {
		if len(body.data) == cap(body.data) && !s.grow(body, clientOf(r.Context()), r.ContentLength) {
			body.err = errBodiesFull
			return
		}
		if len(body.data) >= step {
			step = len(body.data) + bodyStepBytes
			control.SetReadDeadline(earlier(end, time.Now().Add(bodyStepTimeout)))
		}
		n, err := r.Body.Read(body.data[len(body.data):cap(body.data)])
		body.data = body.data[:len(body.data)+n]
		switch {
		case int64(len(body.data)) > limit:
			body.err = errBodyTooLong // the deadline stays for what net/http passes over
			return
		case err == io.EOF:
			control.SetReadDeadline(time.Time{})
			return
		case err != nil:
			body.err = err
			return
		}
	}
}

// grow makes room for more bytes, at most for one more than the limit; false: there is none.
func (s *Server) grow(body *receivedBody, client netip.Addr, announced int64) bool {
	size := max(2*int64(cap(body.data)), bodyStepBytes)
	if announced >= 0 {
		size = min(size, announced+1) // one more, to see the end
	}
	size = min(size, s.config.PayloadLimit+1)
	if !s.bodies.take(client, size-int64(cap(body.data))) {
		return false
	}
	grown := make([]byte, len(body.data), size)
	copy(grown, body.data)
	body.data = grown
	return true
}

// decode runs what makes a request of a body. Few do so at once, and the others wait for their turn: on the way a body
// becomes things of many times its size.
func (s *Server) decode(ctx context.Context, read func() error) error {
	select {
	case s.decoding <- struct{}{}:
		defer func() { <-s.decoding }()
		return read()
	case <-ctx.Done():
		return clientLeft
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// readBody is readAll for bodies whose type must be JSON. The error is a *plainError, or overloaded.
func (s *Server) readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if !isJSON(r.Header.Get("Content-Type")) {
		return nil, &plainError{http.StatusUnsupportedMediaType, "Expected request with `Content-Type: application/json`"}
	}
	data, err := s.readAll(w, r)
	switch {
	case err == nil:
		return data, nil
	case errors.Is(err, errBodiesFull):
		return nil, overloaded
	case errors.Is(err, errBodyTooLong):
		return nil, &plainError{http.StatusRequestEntityTooLarge, "Failed to buffer the request body: length limit exceeded"}
	}
	return nil, &plainError{http.StatusBadRequest, "Failed to buffer the request body: " + err.Error()}
}

// refuseBody answers what readBody, decode or decodeFailure say.
func (s *Server) refuseBody(w http.ResponseWriter, err error, f form) {
	switch refusal := err.(type) {
	case *plainError:
		respondPlain(w, refusal)
	case *openAIError:
		s.refuseAsOpenAI(w, refusal)
	default:
		s.respondError(w, asInvalid(err), f)
	}
}
