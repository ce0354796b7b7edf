package router

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
)

// phraseListener makes the heads of answers those that the originals' clients know, where net/http writes others: the
// reason phrase of status 413, and no `Connection: close` for a client that asked for it. And it takes the first request
// of a connection without a Host, which net/http refuses.
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
	begun   bool        // the first head was read
	ahead   []byte      // what was read of the connection and not handed on
}

var (
	oldPhrase, newPhrase = []byte("HTTP/1.1 413 Request Entity Too Large\r\n"), []byte("HTTP/1.1 413 Payload Too Large\r\n")
	protocolName         = []byte("HTTP/1.1 ")
	endOfHead            = []byte("\r\n\r\n")
	lineBreak            = endOfHead[:2]
	closeLine            = []byte("\r\nConnection: close\r\n")
)

// Read hands on what comes, with a Host where the first head has none.
func (c *phraseConn) Read(p []byte) (int, error) {
	if !c.begun {
		c.begun = true
		if err := c.readHead(); err != nil && len(c.ahead) == 0 {
			return 0, err
		}
	}
	if len(c.ahead) > 0 {
		n := copy(p, c.ahead)
		c.ahead = c.ahead[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// readHead reads until the first head is complete or too long for net/http, which then refuses it.
func (c *phraseConn) readHead() error {
	buffer := make([]byte, 4096)
	for {
		n, err := c.Conn.Read(buffer)
		c.ahead = append(c.ahead, buffer[:n]...)
		end := bytes.Index(c.ahead, endOfHead)
		if end < 0 && err == nil && len(c.ahead) <= maxHeaderBytes {
			continue
		}
		line := bytes.Index(c.ahead, lineBreak)
		if end >= 0 && bytes.HasSuffix(c.ahead[:line], []byte(" HTTP/1.1")) && !hasHost(c.ahead[line:end]) {
			c.ahead = slices.Insert(c.ahead, line, []byte("\r\nHost: ")...)
		}
		return err
	}
}

// hasHost looks for a Host among header lines, each behind a line break.
func hasHost(lines []byte) bool {
	for line := range bytes.SplitSeq(lines, lineBreak) {
		if name, _, _ := bytes.Cut(line, []byte(":")); bytes.EqualFold(name, []byte("host")) {
			return true
		}
	}
	return false
}

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
