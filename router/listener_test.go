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

// The first request of a connection needs no Host, whole or byte by byte; whatever else is wrong with it stays so.
func TestFirstRequestWithoutHost(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{MaxHeaderBytes: maxHeaderBytes, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) })}
	go server.Serve(phraseListener{listener})
	defer server.Close()
	for name, c := range map[string]struct{ request, status string }{
		"no host":        {"POST / HTTP/1.1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab", "200 OK"},
		"host":           {"POST / HTTP/1.1\r\nhOST: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nab", "200 OK"},
		"host in body":   {"POST / HTTP/1.1\r\nContent-Length: 11\r\nConnection: close\r\n\r\n\r\nHost: a\r\n", "200 OK"},
		"host as value":  {"GET / HTTP/1.1\r\nX: a, Host: b\r\nConnection: close\r\n\r\n", "200 OK"},
		"bad line":       {"GET /\r\n\r\n", "400 Bad Request"},
		"no line":        {"\r\n\r\n", "400 Bad Request"},
		"endless head":   {"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 2*maxHeaderBytes), "431 Request Header Fields Too Large"},
		"HTTP/1.0":       {"GET / HTTP/1.0\r\n\r\n", "200 OK"},
		"other protocol": {"GET / HTTP/2.5\r\n\r\n", "505 HTTP Version Not Supported"},
	} {
		for _, piece := range []int{1 << 20, 1} {
			if piece == 1 && len(c.request) > 1000 {
				continue
			}
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			for rest := c.request; rest != ""; {
				n := min(piece, len(rest))
				if _, err := io.WriteString(conn, rest[:n]); err != nil {
					break // refused while it was still coming
				}
				rest = rest[n:]
			}
			line, err := bufio.NewReader(conn).ReadString('\n')
			conn.Close()
			if want := " " + c.status; !strings.HasPrefix(line, "HTTP/1.1"+want) && !strings.HasPrefix(line, "HTTP/1.0"+want) {
				t.Errorf("%s in pieces of %d: got %q, %v, want %q", name, piece, line, err, want)
			}
		}
	}
}
