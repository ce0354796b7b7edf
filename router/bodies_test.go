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
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
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
	startGroup(t, natsURL, fleettest.Options{StepInterval: time.Millisecond})
	url, _ := startRouter(t, natsURL, router.Config{APIKeys: []string{"sesame"}})
	for _, path := range bodyRoutes {
		for _, headers := range []string{"Content-Length: 2000000\r\n", "Expect: 100-continue\r\nContent-Length: 100\r\n"} {
			conn := sendHead(t, url, path, headers)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil || response.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s with %q: got %v and error %v, want status 401", path, headers, response, err)
			}
		}
	}
}

// Bodies hold no more bytes together than they may. Beyond that each dialect says that it is overloaded, in its own words,
// and reads nothing more; who leaves makes room.
func TestBodiesInFlightAreBounded(t *testing.T) {
	t.Parallel()
	natsURL := startNATS(t)
	startGroup(t, natsURL, fleettest.Options{StepInterval: time.Millisecond})
	// A body of the longest kind fills a quarter.
	url, _ := startRouter(t, natsURL, router.Config{PayloadLimit: 64 << 20})
	var held []net.Conn
	piece := strings.Repeat(" ", 1<<20)
	for _, megabytes := range []int{64, 64, 64, 32} {
		conn := sendHead(t, url, "/generate", fmt.Sprintf("Content-Length: %d\r\n", megabytes<<20))
		for range megabytes - 1 {
			if _, err := io.WriteString(conn, piece); err != nil {
				t.Fatal(err)
			}
		}
		held = append(held, conn)
	}
	for path, status := range map[string]int{"/generate": 429, "/generate_stream": 429, "/tgi/": 429, "/mindie/generate": 429, "/lightllm/generate": 429,
		chats: 429, completions: 429, "/tokenize": 429, "/detokenize": 429, "/chat_tokenize": 429, "/get_score": 429} {
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
		status, answer := post(t, url+"/generate", strings.Repeat(" ", 50<<20)+`{"inputs":"a","parameters":{"max_new_tokens":1}}`)
		return status == 200 && strings.Contains(answer, "generated_text")
	})
}
