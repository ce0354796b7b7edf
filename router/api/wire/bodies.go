package wire

import (
	"context"
	"io"
	"mime"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"time"

	"lockstep/protocol/ordered"
	"lockstep/router/request"
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

var tooLong = &request.Refusal{Class: request.TooLong, Message: "the body is too long"}

// Unread lets refuse answer at once, whatever of the body has come; net/http would pass over it first. Behind the answer a
// short body is passed over within drainTimeout; a long one, or one that does not come, ends the connection.
func Unread(w http.ResponseWriter, r *http.Request, refuse func()) {
	control := http.NewResponseController(w)
	switch {
	case r.ContentLength == 0 || r.Header.Get("Expect") != "": // net/http ends the connection of one who asks before sending
		refuse()
		return
	case r.ContentLength < 0 || r.ContentLength > drainBytes || control.EnableFullDuplex() != nil:
		w.Header()["Connection"] = []string{"close"}
		refuse()
		return
	}
	refuse()
	control.Flush()
	control.SetReadDeadline(time.Now().Add(drainTimeout))
	// Not left to net/http: in full duplex it would go on behind an incomplete body.
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		panic(http.ErrAbortHandler)
	}
	control.SetReadDeadline(time.Time{})
}

// Bodies reads the bodies of all requests. It counts the bytes that they hold against a limit, of which no client has more
// than half: bodies that stall, as long as they may, hold nobody else up.
type Bodies struct {
	longest  int64         // bytes of one body
	limit    int64         // bytes of all
	decoding chan struct{} // one element for each body that is being decoded

	mu   sync.Mutex // guards all below
	held int64
	of   map[netip.Addr]int64 // each client's
}

// NewBodies returns what reads bodies of at most so many bytes for at most so many requests at once.
func NewBodies(longest int64, requests int) *Bodies {
	return &Bodies{longest: longest, limit: max(bodiesBytes, bodiesOfPayload*longest, bodyOfPermit*int64(requests)),
		decoding: make(chan struct{}, runtime.GOMAXPROCS(0)), of: map[netip.Addr]int64{}}
}

// Longest is the most bytes that a body may have.
func (b *Bodies) Longest() int64 { return b.longest }

// take takes room for a client; false: there is none.
func (b *Bodies) take(client netip.Addr, bytes int64) bool {
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
func (b *Bodies) fits(client netip.Addr, bytes int64) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.room(client, bytes)
}

func (b *Bodies) room(client netip.Addr, bytes int64) bool {
	return b.held+bytes <= b.limit && b.of[client]+bytes <= b.limit/2
}

// Release gives back what the body of an answered request held.
func (b *Bodies) Release(x *Exchange) {
	if x.body == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	bytes := int64(cap(x.body.data))
	b.held -= bytes
	if b.of[x.client] -= bytes; b.of[x.client] == 0 {
		delete(b.of, x.client)
	}
}

// BoundDrain bounds how long net/http may take to pass over a body that no handler reads.
func BoundDrain(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength != 0 {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTimeout))
	}
}

// Connection is that of a request, the value of ConnectionKey in its context, where it is known.
type Connection interface {
	// Receiving is told when a body begins to come, and when nothing more is read of that.
	Receiving(bool)
	// Write writes what net/http would write.
	Write([]byte) (int, error)
	// Tries tells whether Try can be used, which is Write of as much as can be written at once, and returns how much that was.
	// It does not tell errors, which the next Write finds.
	Tries() bool
	Try([]byte) int
	// Close ends it at once.
	Close() error
}

// ConnectionKey is the key of a Connection in contexts.
type ConnectionKey struct{}

// receivedBody is a body as far as it came, or why not all of it did.
type receivedBody struct {
	data    []byte
	refusal *request.Refusal
	members []ordered.Member // nil: not read yet, or too many to keep
}

// maxKeptMembers bounds the members of a body that are kept until its request is over; of more they are read again.
const maxKeptMembers = 256

// Read reads the body of a request, once: who asks again is told the same. The refusal is of class TooLong, Overloaded or
// Unread; what was read until then is returned with it, and nothing more is read of the connection.
func (b *Bodies) Read(w http.ResponseWriter, r *http.Request) ([]byte, *request.Refusal) {
	x := Of(w)
	if x.body == nil {
		x.body = &receivedBody{}
		x.body.refusal = b.receive(w, r, x.body)
		if refusal := x.body.refusal; refusal != nil && refusal.Class != request.TooLong {
			// What is still to come is no request.
			w.Header()["Connection"] = []string{"close"}
		}
	}
	return x.body.data, x.body.refusal
}

// ReadJSON is Read for bodies whose type must be JSON, and may be refused by class MediaType.
func (b *Bodies) ReadJSON(w http.ResponseWriter, r *http.Request) ([]byte, *request.Refusal) {
	if !isJSON(r.Header.Get("Content-Type")) {
		return nil, &request.Refusal{Class: request.MediaType, Message: "Expected request with `Content-Type: application/json`"}
	}
	return b.Read(w, r)
}

// isJSON reports whether a content type is application/json or application/*+json.
func isJSON(contentType string) bool {
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil && media == "" {
		return false
	}
	kind, subtype, _ := strings.Cut(media, "/")
	return kind == "application" && (subtype == "json" || strings.HasSuffix(subtype, "+json"))
}

// Members returns the members of the body that was read, which are read once too; ok is false if it is no object. It is work
// for Decode.
func (x *Exchange) Members() (list []ordered.Member, ok bool) {
	switch {
	case x.body == nil:
		return nil, false
	case x.body.members != nil:
		return x.body.members, true
	}
	if list, ok = Members(x.body.data); ok && len(list) <= maxKeptMembers {
		for i := range list {
			list[i].Name = strings.Clone(list[i].Name) // which would keep a copy of the whole body
		}
		x.body.members = list
	}
	return list, ok
}

// receive reads as much as there is room for, and takes room only for what comes.
func (b *Bodies) receive(w http.ResponseWriter, r *http.Request, body *receivedBody) *request.Refusal {
	client := ClientOf(r.Context())
	switch {
	case r.ContentLength > b.longest+drainBytes:
		return tooLong
	case !b.fits(client, max(r.ContentLength, 0)):
		return request.NoRoom
	}
	if c, ok := r.Context().Value(ConnectionKey{}).(Connection); ok {
		c.Receiving(true)
		defer c.Receiving(false)
	}
	control, end := http.NewResponseController(w), time.Now().Add(bodyTimeout)
	for step := 0; ; {
		if len(body.data) == cap(body.data) && !b.grow(body, client, r.ContentLength) {
			return request.NoRoom
		}
		if len(body.data) >= step {
			step = len(body.data) + bodyStepBytes
			control.SetReadDeadline(earlier(end, time.Now().Add(bodyStepTimeout)))
		}
		n, err := r.Body.Read(body.data[len(body.data):cap(body.data)])
		body.data = body.data[:len(body.data)+n]
		switch {
		case int64(len(body.data)) > b.longest:
			return tooLong // the deadline stays for what net/http passes over
		case err == io.EOF:
			control.SetReadDeadline(time.Time{})
			return nil
		case err != nil:
			return &request.Refusal{Class: request.Unread, Message: err.Error()}
		}
	}
}

// grow makes room for more bytes, at most for one more than the limit; false: there is none.
func (b *Bodies) grow(body *receivedBody, client netip.Addr, announced int64) bool {
	size := max(2*int64(cap(body.data)), bodyStepBytes)
	if announced >= 0 {
		size = min(size, announced+1) // one more, to see the end
	}
	size = min(size, b.longest+1)
	if !b.take(client, size-int64(cap(body.data))) {
		return false
	}
	grown := make([]byte, len(body.data), size)
	copy(grown, body.data)
	body.data = grown
	return true
}

// Decode runs what makes a request of a body. Few do so at once, and the others wait for their turn: on the way a body
// becomes things of many times its size.
func (b *Bodies) Decode(ctx context.Context, read func() *request.Refusal) *request.Refusal {
	select {
	case b.decoding <- struct{}{}:
		defer func() { <-b.decoding }()
		if ctx.Err() == nil {
			return read()
		}
	case <-ctx.Done():
	}
	return request.ClientLeft
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
