package wire

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"net/netip"
)

// RequestIDHeader names a request in logs: a client's own name is taken, else one is made. Whether an answer tells it, and by
// which header, is the dialect's.
const RequestIDHeader = "X-Request-Id"

// maxRequestIDBytes bounds a name that is taken; a longer one, or one with odd characters, is replaced.
const maxRequestIDBytes = 128

// Exchange is one request and its answer, from the front door to the handler: it is the ResponseWriter below all others, and
// is found there by Of.
type Exchange struct {
	http.ResponseWriter
	// ID names the request in logs.
	ID string
	// Path is the request's without Prefix, which names a dialect; "" for none.
	Path, Prefix string
	// Dialect answers, and Methods are those that it has for the path.
	Dialect *Dialect
	Methods []string

	client   netip.Addr
	complete bool          // all of the answer was written
	body     *receivedBody // nil: nobody has asked for it
}

// Begin names a request and notes in its context from whom it is.
func Begin(w http.ResponseWriter, r *http.Request) (*Exchange, *http.Request) {
	x := &Exchange{ResponseWriter: w, ID: r.Header.Get(RequestIDHeader)}
	if !validRequestID(x.ID) {
		x.ID = NewUUID()
	}
	if remote, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		x.client = Client(remote.Addr())
		r = r.WithContext(context.WithValue(r.Context(), clientKey{}, x.client))
	}
	return x, r
}

// Unwrap lets http.ResponseController reach the connection.
func (x *Exchange) Unwrap() http.ResponseWriter { return x.ResponseWriter }

// Of finds the exchange to which an answer belongs; where there is none, an empty one.
func Of(w http.ResponseWriter) *Exchange {
	for {
		switch v := w.(type) {
		case *Exchange:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return &Exchange{}
		}
	}
}

// Complete notes that an answer was written to its end.
func (x *Exchange) Complete() { x.complete = true }

// Cut reports whether a client has left, or has only closed its side, before its answer was complete. The connection must be
// ended then: what net/http would send instead looks like an empty or a finished answer.
func (x *Exchange) Cut(ctx context.Context) bool { return !x.complete && ctx.Err() != nil }

func validRequestID(id string) bool {
	if id == "" || len(id) > maxRequestIDBytes {
		return false
	}
	for _, c := range []byte(id) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// NewUUID makes a version 4 UUID.
func NewUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}

type clientKey struct{}

// ClientOf is from whom a request is, by its context.
func ClientOf(ctx context.Context) netip.Addr {
	client, _ := ctx.Value(clientKey{}).(netip.Addr)
	return client
}

// Client is by what a client is counted: its address, of an IPv6 one the first 64 bits.
func Client(address netip.Addr) netip.Addr {
	address = address.Unmap()
	if prefix, err := address.Prefix(64); err == nil && address.Is6() {
		return prefix.Addr()
	}
	return address
}
