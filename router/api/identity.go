package api

import (
	"crypto/rand"
	"encoding/hex"
	"net/http"
)

// requestIDHeader names a request in logs: a client's own name is taken and told back, else one is made. MindIE has a
// header of its own for the same.
const requestIDHeader = "X-Request-Id"

// maxRequestIDBytes bounds a name that is taken; a longer one, or one with odd characters, is replaced.
const maxRequestIDBytes = 128

// identified is the answer to a request that has a name.
type identified struct {
	http.ResponseWriter
	id string
}

// Unwrap lets http.ResponseController reach the connection.
func (i *identified) Unwrap() http.ResponseWriter { return i.ResponseWriter }

// identify names a request.
func identify(w http.ResponseWriter, r *http.Request) http.ResponseWriter {
	id := r.Header.Get(requestIDHeader)
	if !validRequestID(id) {
		return &identified{w, newUUID()}
	}
	w.Header()[requestIDHeader] = []string{id}
	return &identified{w, id}
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

// requestID returns the name of the request that is answered.
func requestID(w http.ResponseWriter) string {
	for {
		switch v := w.(type) {
		case *identified:
			return v.id
		case interface{ Unwrap() http.ResponseWriter }:
			w = v.Unwrap()
		default:
			return ""
		}
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
