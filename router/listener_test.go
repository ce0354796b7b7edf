package router

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// answers sends raw requests over one connection and returns all that comes back until its end.
func answers(t *testing.T, address, requests string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, requests); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestHeadsOfAnswers(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const line = "\r\nConnection: close\r\n"
	server := &http.Server{ConnContext: withConnection, Handler: noticeClose(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/long":
			w.WriteHeader(http.StatusRequestEntityTooLarge)
		case "/server":
			w.Header().Set("Connection", "close")
		case "/body": // its second half is a write of its own
			w.Header().Set("Content-Length", "5000")
			for range 2 {
				io.WriteString(w, ("HTTP/1.1 200 OK" + line + "\r\n" + strings.Repeat("x", 2500))[:2500])
				w.(http.Flusher).Flush()
			}
		case "/stream":
			for range 3 {
				io.WriteString(w, line+"\r\n")
				w.(http.Flusher).Flush()
			}
		default:
			io.Copy(w, r.Body)
		}
	}))}
	go server.Serve(phraseListener{listener})
	defer server.Close()
	address := listener.Addr().String()
	const last = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab"

	if got := answers(t, address, last); strings.Contains(got, "Connection") || !strings.HasSuffix(got, "\r\n\r\nab") || !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") {
		t.Errorf("asked to close: %q", got)
	}
	if got := answers(t, address, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nc"+last); strings.Count(got, "HTTP/1.1 200") != 2 || strings.Contains(got, "Connection") {
		t.Errorf("pipelined: %q", got)
	}
	if got := answers(t, address, "GET /server HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.Contains(got, line) {
		t.Errorf("a close of the server's own is told: %q", got)
	}
	if got := answers(t, address, "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); strings.Count(got, line) != 3 {
		t.Errorf("a body is left alone: %q", got)
	}
	if got := answers(t, address, "GET /body HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); strings.Count(got, line) != 2 {
		t.Errorf("a body that looks like a head is left alone: %q", got)
	}
	if got := answers(t, address, strings.Replace(last, "Conn", "Expect: 100-continue\r\nConn", 1)); !strings.HasPrefix(got, "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200") ||
		strings.Contains(got, "Connection") {
		t.Errorf("with an interim answer: %q", got)
	}
	if got := answers(t, address, "GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); !strings.HasPrefix(got, string(newPhrase)) || strings.Contains(got, "Connection") {
		t.Errorf("too long: %q", got)
	}
}
