package router_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"lockstep/router"
	"lockstep/router/fleettest"
)

// bodyRoutes are the routes that read bodies, with those of the servers that they are known by.
var bodyRoutes = []string{
	"/generate", "/generate_stream", "/", "/invocations", "/get_score", "/tokens", "/tokenize", "/detokenize", "/chat_tokenize",
	chats, completions, "/tgi/generate", "/tgi/", "/mindie/generate", "/mindie/generate_stream", "/mindie/", "/lightllm/generate",
	"/lightllm/generate_stream", "/lightllm/", "/openai" + chats,
}

// sendHead begins a request over a connection of its own and returns the connection.
func sendHead(t *testing.T, url, path, headers string) net.Conn {
	t.Helper()
	return sendHeadFrom(t, "127.0.0.1", url, path, headers)
}

// sendHeadFrom is sendHead of a client with another address.
func sendHeadFrom(t *testing.T, address, url, path, headers string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	conn, err := dialer.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(15 * time.Second))
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n%s\r\n", path, headers)
	return conn
}

// A request without a key is refused while nothing of its body has come.
func TestKeyBeforeBody(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: time.Millisecond})
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) { c.APIKeys = []string{"sesame"} }))
	for _, path := range bodyRoutes {
		for _, headers := range []string{"Content-Length: 2000000\r\n", "Content-Length: 100000\r\n", "Content-Length: 10\r\n",
			"Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\nContent-Length: 100\r\n"} {
			conn := sendHead(t, url, path, headers)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || response.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s with %q: got %v and error %v, want status 401", path, headers, response, err)
			}
		}
	}
}

// Behind a refusal the connection goes on, unless the body does not come: then what follows is no request.
func TestConnectionsBehindRefusals(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: time.Millisecond})
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) { c.APIKeys = []string{"sesame"} }))
	const head, body = "POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 49\r\n",
		`{"inputs":"Once","parameters":{"max_new_tokens":1}}`
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	answers := bufio.NewReader(conn)
	for i := range 100 {
		key, want := "", http.StatusUnauthorized
		if i%10 == 9 {
			key, want = "Authorization: Bearer sesame\r\n", http.StatusOK
		}
		fmt.Fprintf(conn, "%s%s\r\n%s", strings.Replace(head, "49", fmt.Sprint(len(body)), 1), key, body)
		response, err := http.ReadResponse(answers, nil)
		if err != nil || response.StatusCode != want {
			t.Fatalf("request %d: got %v and error %v, want status %d", i, response, err, want)
		}
		io.Copy(io.Discard, response.Body)
	}
	stalled := sendHead(t, url, "/generate", "Content-Length: 500\r\n")
	io.WriteString(stalled, "GET /info HTTP/1.1\r\nHost: x\r\n\r\n")
	answer, err := io.ReadAll(stalled)
	if err != nil || strings.Count(string(answer), "HTTP/1.1 ") != 1 {
		t.Errorf("a body that does not come: got %q and error %v, want one answer and the end", answer, err)
	}
}

// Bodies hold no more bytes together than they may, and those of one client half of that. Beyond it each dialect says that it
// is overloaded, in its own words, and reads nothing more; who leaves makes room.
func TestBodiesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: time.Millisecond})
	// A body of the longest kind fills a quarter.
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) { c.PayloadLimit = 64 << 20 }))
	var held []net.Conn
	piece := strings.Repeat(" ", 1<<20)
	hold := func(address string, megabytes int) {
		conn := sendHeadFrom(t, address, url, "/generate", fmt.Sprintf("Content-Length: %d\r\n", megabytes<<20))
		for range megabytes - 1 {
			if _, err := io.WriteString(conn, piece); err != nil {
				t.Fatal(err)
			}
		}
		held = append(held, conn)
	}
	large := strings.Repeat(" ", 50<<20) + `{"inputs":"a","parameters":{"max_new_tokens":1}}`
	hold("127.0.0.2", 64)
	hold("127.0.0.2", 63)
	eventually(t, "one client has its half", func() bool {
		conn := sendHeadFrom(t, "127.0.0.2", url, "/generate", fmt.Sprintf("Content-Length: %d\r\n", 64<<20))
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(time.Second))
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		return err == nil && response.StatusCode == 429
	})
	if status, answer := post(t, url+"/generate", large); status != 200 {
		t.Errorf("another client: got status %d and %s", status, answer)
	}
	hold("127.0.0.1", 64)
	hold("127.0.0.1", 32)
	for path, status := range map[string]int{"/generate": 429, "/generate_stream": 429, "/tgi/": 429, "/mindie/generate": 429,
		"/lightllm/generate": 429,
		chats:                429, completions: 429, "/tokenize": 429, "/detokenize": 429, "/chat_tokenize": 429, "/get_score": 429} {
		eventually(t, path+" is overloaded", func() bool {
			conn := sendHead(t, url, path, fmt.Sprintf("Content-Length: %d\r\n", 64<<20))
			defer conn.Close()
			io.WriteString(conn, piece)
			conn.SetReadDeadline(time.Now().Add(time.Second))
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				return false // there is room yet
			}
			body, _ := io.ReadAll(response.Body)
			if !strings.Contains(string(body), "Model is overloaded") || !response.Close || response.StatusCode != status {
				t.Errorf("%s: got status %d, close %v and %s", path, response.StatusCode, response.Close, body)
			}
			return true
		})
	}
	if status, answer := post(t, url+"/generate", `{"inputs":"a","parameters":{"max_new_tokens":1}}`); status != 200 {
		t.Errorf("a small one: got status %d and %s", status, answer)
	}
	for _, conn := range held {
		conn.Close()
	}
	eventually(t, "there is room again", func() bool {
		status, answer := post(t, url+"/generate", large)
		return status == 200 && strings.Contains(answer, "generated_text")
	})
}

// A body that breaks off or is framed wrongly ends its connection: what follows it is never taken for a request.
func TestFramingErrorsCloseConnections(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	const smuggled = "GET /info HTTP/1.1\r\nHost: x\r\n\r\n"
	const chunk = "2\r\n{}\r\n"
	for name, framing := range map[string]string{
		"long trailer":       chunk + "0\r\nX: " + strings.Repeat("x", 5000) + "\r\n\r\n",
		"many trailers":      chunk + "0\r\n" + strings.Repeat("X: x\r\n", 1000) + "\r\n",
		"bad trailer":        chunk + "0\r\nno colon\r\n\r\n",
		"bad size":           chunk + "zz\r\n",
		"huge size":          chunk + "fffffffffffffffff\r\n",
		"no break":           "2\r\n{}0\r\n\r\n",
		"bare LF in a chunk": "2\n{}\n0\n\n",
	} {
		for _, path := range append([]string{"/liveness", "/lightllm/liveness", "/nothing"}, bodyRoutes...) {
			conn := sendHead(t, url, path, "Transfer-Encoding: chunked\r\n")
			io.WriteString(conn, framing+smuggled)
			answer, err := io.ReadAll(conn)
			if strings.Count(string(answer), "HTTP/1.1 ") > 1 {
				t.Errorf("%s to %s: got %q and error %v, want one answer and the end", name, path, answer, err)
			}
			if err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("%s to %s: the connection stays open", name, path)
			}
		}
	}
}

// The longest body is that of the TGI that is answered as, unless the operator says otherwise.
func TestPayloadLimits(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: time.Millisecond})
	for _, c := range []struct {
		version      string
		given, limit int
	}{{"0.9.4", 0, 2 << 20}, {"3", 0, 2_000_000}, {"3", 1000, 1000}} {
		config := router.DefaultConfig(c.version)
		if c.given > 0 {
			config.PayloadLimit = int64(c.given)
		}
		url, _ := startRouter(t, natsURL, config)
		const inputs = `{"inputs":"a","parameters":{"max_new_tokens":1}}`
		for over, want := range []int{200, 413} {
			status, answer := post(t, url+"/generate", strings.Repeat(" ", c.limit+over-len(inputs))+inputs)
			if status != want || want == 413 && answer != "Failed to buffer the request body: length limit exceeded" {
				t.Errorf("%s, %d bytes: got status %d and %q, want %d", c.version, c.limit+over, status, answer, want)
			}
		}
	}
}

// A probe that closes its side of the connection is told that all is well, or nothing.
func TestHalfClosedProbes(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	for _, path := range []string{"/health", "/ping", "/mindie/health", "/lightllm/healthz"} {
		for range 5 {
			conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			answer, _ := io.ReadAll(conn)
			conn.Close()
			if text := string(answer); text != "" && !strings.HasPrefix(text, "HTTP/1.1 200 OK") {
				t.Errorf("%s: got %q", path, text)
			}
		}
	}
}

// Slow bodies that take all places of a door make room for a newcomer once they are late.
func TestSlowBodiesMakeRoom(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: time.Millisecond})
	url, _ := startRouter(t, natsURL, settings(func(c *router.Config) { c.MaxConnections = 4 }))
	var slow []net.Conn
	for _, from := range []string{"127.0.0.2", "127.0.0.2", "127.0.0.3", "127.0.0.3"} {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
		conn, err := dialer.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{")
		slow = append(slow, conn)
	}
	for range 2 {
		if status, _ := fetch(t, url+"/health"); status != 200 {
			t.Errorf("got status %d", status)
		}
		http.DefaultClient.CloseIdleConnections()
	}
	slow[0].SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := slow[0].Read(make([]byte, 1)); err == nil {
		t.Error("the slowest body kept its place")
	}
}
