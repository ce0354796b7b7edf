package router

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"sync/atomic"
)

// phraseListener makes the heads of answers those that the originals' clients know, where net/http writes others: the
// reason phrase of status 413, and no `Connection: close` for a client that asked for it.
type phraseListener struct{ net.Listener }

func (l phraseListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &phraseConn{Conn: conn}, nil
}

type phraseConn struct {
	net.Conn
	closing atomic.Bool // the client asked for the end of the connection; the head of the last answer is to come
}

var (
	oldPhrase, newPhrase = []byte("HTTP/1.1 413 Request Entity Too Large\r\n"), []byte("HTTP/1.1 413 Payload Too Large\r\n")
	protocolName         = []byte("HTTP/1.1 ")
	endOfHead            = []byte("\r\n\r\n")
	closeLine            = []byte("\r\nConnection: close\r\n")
)

// Write relies on net/http's buffer: a head is at the beginning of a write, and whole if it has less than 4 KiB. A longer
// one stays as it is.
func (c *phraseConn) Write(p []byte) (int, error) {
	rewritten := p
	if rest, found := bytes.CutPrefix(p, oldPhrase); found {
		rewritten = append(append([]byte(nil), newPhrase...), rest...)
	}
	// What follows the last answer's head is its body, whatever it looks like.
	if c.closing.Load() && isFinalHead(rewritten) {
		c.closing.Store(false)
		end := bytes.Index(rewritten, endOfHead)
		if at := bytes.Index(rewritten, closeLine); at >= 0 && at < end {
			// One line break of the two stays.
			rewritten = append(append([]byte(nil), rewritten[:at]...), rewritten[at+len(closeLine)-2:]...)
		}
	}
	n, err := c.Conn.Write(rewritten)
	if err != nil {
		return min(n, len(p)), err
	}
	return len(p), nil
}

// isFinalHead tells a head from those of interim answers.
func isFinalHead(p []byte) bool {
	status, found := bytes.CutPrefix(p, protocolName)
	return found && len(status) > 0 && status[0] != '1'
}

type connectionKey struct{}

// withConnection is for http.Server.ConnContext: it lets noticeClose find the connection.
func withConnection(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, connectionKey{}, conn)
}

// noticeClose tells the connection when its client asks for its end.
func noticeClose(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if conn, ok := r.Context().Value(connectionKey{}).(*phraseConn); ok && r.Close {
			conn.closing.Store(true)
		}
		handler.ServeHTTP(w, r)
	})
}
