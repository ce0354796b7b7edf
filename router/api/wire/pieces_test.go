package wire_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"lockstep/router/api/wire"
)

// known is a connection of which Try takes three bytes at once, and that counts what comes past net/http.
type known struct {
	net.Conn
	direct *int
}

func (known) Receiving(bool) {}
func (known) Tries() bool    { return true }

func (k known) Write(p []byte) (int, error) {
	*k.direct++
	return k.Conn.Write(p)
}

func (k known) Try(p []byte) int {
	n, _ := k.Write(p[:min(len(p), 3)])
	return n
}

// Whoever asks gets the bytes that net/http would write, and the connection serves on.
func TestPiecesAreNetHTTPs(t *testing.T) {
	pieces := []string{"data: a\n\n", "", strings.Repeat("b", 5000), "c"}
	var answers [2]map[string]string
	for i := range answers {
		answers[i] = map[string]string{}
		direct := 0
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header()["Date"] = nil
			out := wire.NewPieces(w, r)
			defer out.Close()
			for _, piece := range pieces {
				whole := out.Tries() && out.Try([]byte(piece))
				switch {
				case whole:
				case out.Left():
					out.Write(nil)
				default:
					out.Write([]byte(piece))
				}
			}
		}))
		server.Config.ConnContext = func(ctx context.Context, conn net.Conn) context.Context {
			if i == 0 {
				return ctx
			}
			return context.WithValue(ctx, wire.ConnectionKey{}, wire.Connection(known{conn, &direct}))
		}
		server.Start()
		defer server.Close()
		for _, version := range []string{"1.0", "1.1"} {
			before := direct
			answers[i][version] = ask(t, server.Listener.Addr().String(), version)
			if past := direct > before; past != (i == 1 && version == "1.1") {
				t.Errorf("HTTP/%s: past net/http %v", version, past)
			}
		}
	}
	for version, want := range answers[0] {
		if got := answers[1][version]; got != want {
			t.Errorf("HTTP/%s: got\n%q, want\n%q", version, got, want)
		}
	}
}

// ask sends two requests over a connection, the last of which ends it, and returns all that comes.
func ask(t *testing.T, address, version string) string {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if version == "1.1" {
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	fmt.Fprintf(conn, "GET / HTTP/%s\r\nHost: x\r\nConnection: close\r\n\r\n", version)
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	answers := regexp.MustCompile("HTTP/1.[01] 200 OK").FindAll(all, -1)
	if want := map[string]int{"1.0": 1, "1.1": 2}[version]; len(answers) != want {
		t.Fatalf("HTTP/%s: %d answers, want %d: %.300q", version, len(answers), want, all)
	}
	return string(all)
}
