package api

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"lockstep/router/api/answer"
	"lockstep/router/api/lightllm"
	"lockstep/router/api/metrics"
	"lockstep/router/api/mindie"
	"lockstep/router/api/openai"
	"lockstep/router/api/tgi"
	"lockstep/router/openapi"
	"lockstep/router/request"
)

// noBackend is one before the first group.
type noBackend struct{ answer.Backend }

func (noBackend) Model() *answer.Model { return nil }
func (noBackend) Load() request.Load   { return request.Load{} }

func newTestServer(config Config) *Server {
	if config.TGIVersion == "" {
		config.TGIVersion = tgi.Form094
	}
	return New(config, noBackend{}, metrics.New(metrics.Config{MaxInputLength: 1024, MaxTotalTokens: 2048}), zerolog.Nop())
}

// Every route is described, with every method but HEAD, and nothing is described that is not there.
func TestRoutesAreDescribed(t *testing.T) {
	for _, version := range tgi.Forms {
		s := newTestServer(Config{TGIVersion: version, Dialect: Auto, DefaultDialect: tgi.Name})
		for _, f := range s.surfaces {
			var document struct {
				Paths map[string]map[string]json.RawMessage
			}
			if err := json.Unmarshal(s.openAPIOptions().Of(s.documented(), f.Name, false, ""), &document); err != nil {
				t.Fatal(err)
			}
			described := map[string][]string{}
			for path, operations := range document.Paths {
				for method := range operations {
					described[path] = append(described[path], strings.ToUpper(method))
				}
			}
			routes := map[string][]string{}
			for path, methods := range f.methods {
				if strings.HasPrefix(path, assets) {
					continue // the page's own files
				}
				path = strings.ReplaceAll(path, "/*", "/{id}")
				routes[path] = slices.DeleteFunc(slices.Clone(methods), func(method string) bool { return method == http.MethodHead })
			}
			for _, lists := range []map[string][]string{described, routes} {
				for _, list := range lists {
					slices.Sort(list)
				}
			}
			if !maps.EqualFunc(described, routes, slices.Equal) {
				t.Errorf("TGI %s, %s:\ndescribed %v\nserved    %v", version, f.Name, described, routes)
			}
		}
	}
}

// Where all dialects are spoken, page and document are of all; below a prefix and with one dialect they are of that one.
func TestPageAndDocument(t *testing.T) {
	for _, c := range []struct {
		dialect, fallback string
		path              string
		has, hasNot       string
	}{
		{Auto, tgi.Name, "/openapi.json", `"/lightllm/generate"`, `"/generate"`},
		{Auto, lightllm.Name, "/openapi.json", `"/v1/chat/completions"`, `"/generate"`},
		{Auto, tgi.Name, "/lightllm/openapi.json", `"/get_score"`, `"/v1/completions"`},
		{Auto, tgi.Name, "/mindie/docs/", `"/mindie/openapi.json"`, `"/openapi.json"`},
		{Auto, mindie.Name, "/docs/", `"/openapi.json"`, `"/mindie/openapi.json"`},
		{lightllm.Name, tgi.Name, "/openapi.json", `"/v1/completions"`, `"/invocations"`},
		{tgi.Name, tgi.Name, "/api-doc/openapi.json", `"/generate_stream"`, `"/tokens"`},
		{openai.Name, tgi.Name, "/openapi.json", `"/v1/completions"`, `"/generate"`},
	} {
		s := newTestServer(Config{Dialect: c.dialect, DefaultDialect: c.fallback})
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, c.path, nil))
		if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, c.has) || strings.Contains(body, c.hasNot) {
			t.Errorf("%s of %s: %d %.300s", c.path, c.dialect, w.Code, body)
		}
	}
}

func TestPageFiles(t *testing.T) {
	s := newTestServer(Config{Dialect: Auto, DefaultDialect: tgi.Name})
	for _, name := range []string{"swagger-ui-bundle.js", "swagger-ui.css"} {
		compressed, _, _ := openapi.Asset(name)
		for _, encoding := range []string{"gzip, deflate", ""} {
			r := httptest.NewRequest(http.MethodGet, "/mindie"+assets+"/"+name, nil)
			r.Header.Set("Accept-Encoding", encoding)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if zipped := w.Header().Get("Content-Encoding") == "gzip"; w.Code != 200 || zipped != (encoding != "") ||
				zipped != bytes.Equal(w.Body.Bytes(), compressed) {
				t.Errorf("%s for %q: %d, %v, %d bytes", name, encoding, w.Code, w.Header(), w.Body.Len())
			}
		}
	}
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, assets+"/VERSION", nil))
	if w.Code != http.StatusNotFound {
		t.Errorf("another file: %d", w.Code)
	}
}

// Beside the server's own name stands its own version, not that of a server whose clients it serves.
func TestOwnVersion(t *testing.T) {
	s := newTestServer(Config{Dialect: Auto, DefaultDialect: tgi.Name, Build: "v12.3"})
	for _, path := range []string{"/version", "/openapi.json", "/mindie/openapi.json"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, `"version":"v12.3"`) {
			t.Errorf("%s: %d %.300s", path, w.Code, body)
		}
	}
}
