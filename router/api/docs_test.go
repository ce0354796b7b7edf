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

	"lockstep/router/openapi"
	"lockstep/router/request"
)

// noBackend is one before the first group.
type noBackend struct{ Backend }

func (noBackend) Model() *Model      { return nil }
func (noBackend) Load() request.Load { return request.Load{} }

func newTestServer(config Config) *Server {
	return New(config, noBackend{}, NewMetrics(MetricsConfig{MaxInputLength: 1024, MaxTotalTokens: 2048}), zerolog.Nop())
}

// Every route is described, with every method but HEAD, and nothing is described that is not there.
func TestRoutesAreDescribed(t *testing.T) {
	for _, version := range TGIVersions {
		s := newTestServer(Config{TGIVersion: TGIVersion(version), Dialect: Auto, DefaultDialect: TGI})
		for dialect, f := range s.surfaces {
			var document struct {
				Paths map[string]map[string]json.RawMessage
			}
			if err := json.Unmarshal(s.openAPIOptions().Of(string(dialect), false, ""), &document); err != nil {
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
				t.Errorf("TGI %s, %s:\ndescribed %v\nserved    %v", version, dialect, described, routes)
			}
		}
	}
}

// Where all dialects are spoken, page and document are of all; below a prefix and with one dialect they are of that one.
func TestPageAndDocument(t *testing.T) {
	for _, c := range []struct {
		dialect, fallback Dialect
		path              string
		has, hasNot       string
	}{
		{Auto, TGI, "/openapi.json", `"/lightllm/generate"`, `"/generate"`},
		{Auto, LightLLM, "/openapi.json", `"/v1/chat/completions"`, `"/generate"`},
		{Auto, TGI, "/lightllm/openapi.json", `"/get_score"`, `"/v1/completions"`},
		{Auto, TGI, "/mindie/docs/", `"/mindie/openapi.json"`, `"/openapi.json"`},
		{Auto, MindIE, "/docs/", `"/openapi.json"`, `"/mindie/openapi.json"`},
		{LightLLM, TGI, "/openapi.json", `"/v1/completions"`, `"/invocations"`},
		{TGI, TGI, "/api-doc/openapi.json", `"/generate_stream"`, `"/tokens"`},
		{OpenAI, TGI, "/openapi.json", `"/v1/completions"`, `"/generate"`},
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
	s := newTestServer(Config{Dialect: Auto, DefaultDialect: TGI})
	for _, name := range []string{"swagger-ui-bundle.js", "swagger-ui.css"} {
		compressed, _, _ := openapi.Asset(name)
		for _, encoding := range []string{"gzip, deflate", ""} {
			r := httptest.NewRequest(http.MethodGet, "/mindie"+assets+"/"+name, nil)
			r.Header.Set("Accept-Encoding", encoding)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			if zipped := w.Header().Get("Content-Encoding") == "gzip"; w.Code != 200 || zipped != (encoding != "") || zipped != bytes.Equal(w.Body.Bytes(), compressed) {
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
	s := newTestServer(Config{Dialect: Auto, DefaultDialect: TGI, Version: "0.9.4", Build: "v12.3"})
	for _, path := range []string{"/version", "/openapi.json", "/mindie/openapi.json"} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if body := w.Body.String(); w.Code != 200 || !strings.Contains(body, `"version":"v12.3"`) {
			t.Errorf("%s: %d %.300s", path, w.Code, body)
		}
	}
}
