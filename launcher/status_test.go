package main

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"lockstep/router/api/tgi"
)

func TestStatusTable(t *testing.T) {
	s := routerStatus{ModelID: "org/model", Fleet: tgi.Fleet{Version: "1.2.3", Groups: []tgi.Group{
		{Node: "node-1", Device: "NVIDIA H100 80GB HBM3", Shards: 2, Numerics: "bf16h.1", HeldTokens: 4096, CapacityTokens: 262144,
			FreeBytes: 3 << 30, Running: 12, Waiting: 3, State: "ready", Serves: true},
		{Node: "two\x1b[2J", Shards: 1, CapacityTokens: 8192, State: "draining"}, // of an older version, which says less
	}}}
	var out strings.Builder
	if err := s.write(&out, "http://127.0.0.1:3000"); err != nil {
		t.Fatal(err)
	}
	const want = `model   org/model
router  http://127.0.0.1:3000, version 1.2.3

NODE     DEVICE                 SHARDS  NUMERICS  KV CACHE TOKENS  FREE AT START  RUNNING  WAITING  STATE
node-1   NVIDIA H100 80GB HBM3  2       bf16h.1   4096 / 262144    3.0 GiB        12       3        ready
two [2J  -                      1       -         0 / 8192         -              0        0        draining, unused

unused: it has another model than the router serves, or computes it by other numerics.
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
	out.Reset()
	s.Groups = nil
	if err := s.write(&out, "http://127.0.0.1:3000"); err != nil || !strings.Contains(out.String(), "No group is there") {
		t.Errorf("got %s, %v", out.String(), err)
	}
}

// Whatever others are called, JSON has it, and nothing that a terminal obeys.
func TestStatusJSON(t *testing.T) {
	withoutEnvironment(t)
	url := answers(t, http.StatusOK, `{"model_id":"m\u009b\u202e\ud834\udd73é","lockstep_version":"1"}`)
	c, err := parse([]string{"status", "--json", "--url", url}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := c.status.run(&out); err != nil || !strings.Contains(out.String(), `"model_id": "m\u009b\u202e\ud834\udd73é"`) {
		t.Errorf("got %q, %v", out.String(), err)
	}
}

// answers is a server that answers everything alike.
func answers(t *testing.T, status int, body string) (url string) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		io.WriteString(w, body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestStatusErrors(t *testing.T) {
	withoutEnvironment(t)
	closed := httptest.NewServer(nil)
	closed.Close()
	for _, test := range []struct{ url, key, want string }{
		{closed.URL, "", "nobody listens at " + closed.URL},
		{answers(t, http.StatusOK, "<html>"), "", "is no Lockstep router"},
		{answers(t, http.StatusOK, `{"model_id":"m","version":"3.3.7"}`), "", "is no Lockstep router"},
		{answers(t, http.StatusNotFound, ""), "", "is no Lockstep router, or none that answers as TGI"},
		{answers(t, http.StatusUnauthorized, ""), "", "asks for a key: give it by --api-key"},
		{answers(t, http.StatusUnauthorized, ""), "sesame", "refuses the key of --api-key"},
		{answers(t, http.StatusServiceUnavailable, `{"error":"unhealthy","error_type":"healthcheck"}`), "", "serves no model yet"},
		{strings.Replace(answers(t, http.StatusOK, "{}"), "http:", "https:", 1), "", "cannot be asked"},
	} {
		arguments := []string{"status", "--url", test.url}
		if test.key != "" {
			arguments = append(arguments, "--api-key", test.key)
		}
		c, err := parse(arguments, io.Discard)
		if err == nil {
			err = c.status.run(io.Discard)
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v: got %v, want %q", arguments, err, test.want)
		}
	}
	for _, url := range []string{"ftp://x", "http://", "http://user:secret@[x"} {
		_, err := parse([]string{"status", "--url", url}, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "--url: this is no URL") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v", url, err)
		}
	}
}

// The key comes from the variable that serves a router, too, and only the first is shown.
func TestStatusKey(t *testing.T) {
	withoutEnvironment(t)
	var shown string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown = r.URL.Path + " " + r.Header.Get("Authorization")
		io.WriteString(w, `{"model_id":"m","lockstep_version":"1"}`)
	}))
	defer server.Close()
	t.Setenv("API_KEY", "sesame,other")
	t.Setenv("LOCKSTEP_URL", strings.TrimPrefix(server.URL, "http://")+"/behind/a/proxy/")
	c, err := parse([]string{"status"}, io.Discard)
	if err = errors.Join(err, c.status.run(io.Discard)); err != nil || shown != "/behind/a/proxy/tgi/info Bearer sesame" {
		t.Errorf("got %q, %v", shown, err)
	}
}
