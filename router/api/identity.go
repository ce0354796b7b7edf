package api

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
)

// requestIDHeader names a request in logs: a client's own name is taken, else one is made. LightLLM's surface tells it
// back; TGI says nothing of it, and MindIE has a header of its own for the same.
const requestIDHeader = "X-Request-Id"

// maxRequestIDBytes bounds a name that is taken; a longer one, or one with odd characters, is replaced.
const maxRequestIDBytes = 128

// identified is the answer to a request that has a name.
type identified struct {
	http.ResponseWriter
	id       string
	complete bool          // all of it was written
	body     *receivedBody // nil: nobody has asked for it
}

// Unwrap lets http.ResponseController reach the connection.
func (i *identified) Unwrap() http.ResponseWriter { return i.ResponseWriter }

// identify names a request.
func identify(w http.ResponseWriter, r *http.Request) *identified {
	id := r.Header.Get(requestIDHeader)
	if !validRequestID(id) {
		return &identified{ResponseWriter: w, id: newUUID()}
	}
	return &identified{ResponseWriter: w, id: id}
}

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

// inner finds what identify returned.
func inner(w http.ResponseWriter) *identified {
	for {
		switch v := w.(type) {
		case *identified:
			return v
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return &identified{}
		}
	}
}

// requestID returns the name of the request that is answered.
func requestID(w http.ResponseWriter) string { return inner(w).id }

// completed notes that an answer was written to its end.
func completed(w http.ResponseWriter) { inner(w).complete = true }

// statusClientLeft is what logs call a request whose client did not wait for the answer; nginx has made it known.
const statusClientLeft = 499

// cut ends the connection of a client that has left, or has only closed its side, before its answer was complete: what
// net/http would send instead looks like an empty or a finished answer.
func (s *Server) cut(answer *identified, r *http.Request) {
	if !answer.complete && r.Context().Err() != nil {
		s.log.Info().Str("request", answer.id).Int("status", statusClientLeft).Msg("client left")
		panic(http.ErrAbortHandler)
	}
}

// newUUID makes a version 4 UUID.
func newUUID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	h := hex.EncodeToString(b[:])
	return h[:8] + "-" + h[8:12] + "-" + h[12:16] + "-" + h[16:20] + "-" + h[20:]
}
