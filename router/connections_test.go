package router

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// serveConnections serves handler over at most so many connections.
func serveConnections(t *testing.T, most int, handler http.HandlerFunc) (cs *connections, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cs = newConnections(listener, most, true)
	server := &http.Server{Handler: handler, ConnState: cs.note, ReadHeaderTimeout: readHeaderTimeout, MaxHeaderBytes: maxHeaderBytes}
	done := make(chan error, 1)
	go func() { done <- server.Serve(cs) }()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return cs, listener.Addr().String()
}

// client is one connection of a test.
type client struct {
	net.Conn
	answers *bufio.Reader
}

// dialFrom connects from one of this machine's own addresses.
func dialFrom(t *testing.T, from, address string) *client {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{conn, bufio.NewReader(conn)}
}

// ask sends a request and reads its answer.
func (c *client) ask(path string) error {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
		return err
	}
	response, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, response.Body)
	return err
}

// closed waits for the connection's end.
func (c *client) closed() bool {
	_, err := c.answers.ReadByte()
	timeout, is := err.(net.Error)
	return err != nil && !(is && timeout.Timeout())
}

// settle waits until the server knows of so many silent and idle connections.
func settle(t *testing.T, cs *connections, silent, idle int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		cs.mu.Lock()
		gotSilent, gotIdle := cs.silent.Len(), cs.idle.Len()
		cs.mu.Unlock()
		if gotSilent == silent && gotIdle == idle {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %d silent and %d idle connections, want %d and %d", gotSilent, gotIdle, silent, idle)
		}
		<-tick.C
	}
}

func ok(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

// A full house has room for a newcomer: the longest idle connection goes, and those that never sent a request before it.
func TestNewcomersGetPlaces(t *testing.T) {
	cs, address := serveConnections(t, 8, ok)
	var used []*client
	for i := range 4 {
		c := dialFrom(t, "127.0.0.1", address)
		if err := c.ask("/"); err != nil {
			t.Fatal(err)
		}
		settle(t, cs, 0, i+1)
		used = append(used, c)
	}
	if err := used[0].ask("/"); err != nil { // used[1] is the longest idle one now
		t.Fatal(err)
	}
	settle(t, cs, 0, 4)
	dialFrom(t, "127.0.0.2", address)
	settle(t, cs, 1, 4)
	slow := dialFrom(t, "127.0.0.2", address)
	io.WriteString(slow, "GET / HTTP/1.1\r\nHost")
	settle(t, cs, 2, 4)
	for i := range 2 {
		dialFrom(t, "127.0.0.3", address)
		settle(t, cs, 3+i, 4)
	}
	cs.mu.Lock()
	cs.grace = 0
	cs.mu.Unlock()
	for i, from := range []string{"127.0.0.4", "127.0.0.4"} {
		c := dialFrom(t, from, address)
		if err := c.ask("/"); err != nil {
			t.Fatalf("newcomer %d: %v", i, err)
		}
		settle(t, cs, 3-i, 5+i)
	}
	if !slow.closed() {
		t.Error("a slow head kept its place")
	}
	cs.mu.Lock()
	cs.grace = time.Hour
	cs.mu.Unlock()
	if err := dialFrom(t, "127.0.0.5", address).ask("/"); err != nil {
		t.Fatal(err)
	}
	if !used[1].closed() {
		t.Error("the longest idle connection kept its place")
	}
	if err := used[0].ask("/"); err != nil {
		t.Errorf("one that was used since has lost its place: %v", err)
	}
}

// One address cannot take the places of others, and its own connections make way for each other.
func TestPlacesOfOneAddress(t *testing.T) {
	cs, address := serveConnections(t, 4, ok)
	other := dialFrom(t, "127.0.0.1", address)
	if err := other.ask("/"); err != nil {
		t.Fatal(err)
	}
	settle(t, cs, 0, 1)
	for range 20 {
		if err := dialFrom(t, "127.0.0.2", address).ask("/"); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, cs, 0, 3)
	if err := other.ask("/"); err != nil {
		t.Errorf("another address has lost its place: %v", err)
	}
}

// Requests under way are never cut off for a newcomer: it waits, or is closed where its own address has too many.
func TestBusyConnectionsKeepPlaces(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	_, address := serveConnections(t, 2, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/busy" {
			entered <- struct{}{}
			<-leave
		}
	})
	done := make(chan error, 2)
	for _, from := range []string{"127.0.0.1", "127.0.0.2"} {
		c := dialFrom(t, from, address)
		go func() { done <- c.ask("/busy") }()
		<-entered
	}
	if !dialFrom(t, "127.0.0.1", address).closed() {
		t.Error("a second connection of one address was taken")
	}
	waiting := make(chan error, 1)
	newcomer := dialFrom(t, "127.0.0.3", address)
	go func() { waiting <- newcomer.ask("/") }()
	leave <- struct{}{}
	if err := <-waiting; err != nil {
		t.Errorf("the newcomer: %v", err)
	}
	leave <- struct{}{}
	for range 2 {
		if err := <-done; err != nil {
			t.Errorf("a busy one: %v", err)
		}
	}
}

// What is no request is refused at once, and a request that net/http understands is answered at once, however its lines end.
func TestFirstBytes(t *testing.T) {
	_, address := serveConnections(t, 100, ok)
	for name, c := range map[string]struct{ request, status string }{
		"bare LF":         {"GET / HTTP/1.0\n\n", "200 OK"},
		"bare LF, 1.1":    {"GET / HTTP/1.1\nHost: x\nConnection: close\n\n", "200 OK"},
		"HTTP/1.0":        {"GET / HTTP/1.0\r\n\r\n", "200 OK"},
		"empty line":      {"\r\nGET / HTTP/1.0\r\n\r\n", "400 Bad Request"},
		"no host":         {"GET / HTTP/1.1\r\n\r\n", "400 Bad Request"},
		"bad line":        {"GET /\r\n\r\n", "400 Bad Request"},
		"TLS":             {"\x16\x03\x01\x00\x05hello", "400 Bad Request"},
		"SOCKS":           {"\x05\x01\x00", "400 Bad Request"},
		"old SSL":         {"\x80\x2e\x01\x00\x02", "400 Bad Request"},
		"other protocol":  {"GET / HTTP/2.5\r\n\r\n", "505 HTTP Version Not Supported"},
		"endless head":    {"GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 2*maxHeaderBytes), "431 Request Header Fields Too Large"},
		"a second length": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400 Bad Request"},
	} {
		conn := dialFrom(t, "127.0.0.1", address)
		io.WriteString(conn, c.request)
		line, err := conn.answers.ReadString('\n')
		if want := " " + c.status; !strings.HasPrefix(line, "HTTP/1.1"+want) && !strings.HasPrefix(line, "HTTP/1.0"+want) {
			t.Errorf("%s: got %q, %v, want %q", name, line, err, c.status)
		}
	}
	conn, err := tls.Dial("tcp", address, &tls.Config{ServerName: "x"})
	if err == nil || !strings.Contains(err.Error(), "first record does not look like a TLS handshake") {
		t.Errorf("a TLS client: got connection %v and error %v", conn, err)
	}
}
