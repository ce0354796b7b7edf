package router_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"lockstep/router/fleettest"
)

// A client of any dialect that leaves has its request dropped by the group, whether it streams or waits for the whole.
func TestLeavingCancelsInEachDialect(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	group := fleettest.Start(t, natsURL, fleettest.Options{StepTime: 10 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	const generate = `{"inputs":"Once","parameters":{"max_new_tokens":1500}}`
	left := 0
	for _, c := range []struct {
		path, body string
		runs       int
	}{
		{"/tgi/generate", generate, 1}, {"/tgi/generate_stream", generate, 1},
		{"/mindie/generate", generate, 1}, {"/mindie/generate_stream", generate, 1},
		{"/lightllm/generate", generate, 1}, {"/lightllm/generate_stream", generate, 1},
		{completions, `{"prompt":"Once","max_tokens":1500}`, 1},
		{completions, `{"prompt":["Once","The"],"n":2,"max_tokens":1500,"stream":true}`, 4},
		{chats, `{"messages":[{"role":"user","content":"Once"}],"n":2}`, 2},
		{chats, `{"messages":[{"role":"user","content":"Once"}],"stream":true}`, 1},
	} {
		path := c.path
		ctx, leave := context.WithCancel(context.Background())
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, url+path, strings.NewReader(c.body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		done := make(chan struct{})
		go func() {
			defer close(done)
			if response, err := http.DefaultClient.Do(request); err == nil {
				io.Copy(io.Discard, response.Body)
				response.Body.Close()
			}
		}()
		eventually(t, path+": the group computes", func() bool { return group.Holds() == c.runs })
		leave()
		<-done
		left += c.runs
		eventually(t, path+": the group has dropped the request", func() bool { return group.Cancelled() == left && group.Holds() == 0 })
	}
}

// Who closes its side before the answer is complete gets no answer that looks finished.
func TestHalfClosedConnections(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	fleettest.Start(t, natsURL, fleettest.Options{StepTime: 50 * time.Millisecond})
	url, _ := startRouter(t, natsURL, defaults)
	for _, path := range []string{"/tgi/generate", "/mindie/generate", "/lightllm/generate", "/tgi/generate_stream",
		"/lightllm/generate_stream"} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		body := `{"inputs":"Once","parameters":{"max_new_tokens":100}}`
		fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", path,
			len(body), body)
		if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		answer, _ := io.ReadAll(conn) // the connection may be reset
		conn.Close()
		if text := string(answer); strings.HasSuffix(text, "\r\n0\r\n\r\n") || strings.Contains(text, "Content-Length") {
			t.Errorf("%s: got %q", path, text)
		}
	}
}
