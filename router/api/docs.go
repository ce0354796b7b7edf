package api

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"lockstep/router/api/wire"
	"lockstep/router/openapi"
)

func itoa(n int) string { return strconv.Itoa(n) }

// assets is the path below which the page's files stand.
var assets = "/docs/" + openapi.Version

// describedBy are the routes that describe a dialect's routes: a page, its files and the document.
func (s *Server) describedBy(dialect Dialect) []route {
	table := []route{
		{get, "/docs", serveDocsRedirect},
		{get, "/docs/", servePage},
		{get, assets + "/*", serveAsset},
		{get, "/openapi.json", s.serveDocument(dialect)},
	}
	if dialect == TGI { // its own place for it
		table = append(table, route{get, "/api-doc/openapi.json", serveTGIForm})
	}
	return table
}

// serveDocsRedirect answers as TGI does.
func serveDocsRedirect(w http.ResponseWriter, r *http.Request) {
	w.Header()["Location"] = []string{prefixOf(r) + "/docs/"}
	wire.Respond(w, http.StatusSeeOther, "", nil)
}

// prefixOf returns the dialect's prefix with which a request came, "" for none.
func prefixOf(r *http.Request) string {
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if prefix, ok := strings.CutSuffix(path, r.URL.Path); ok {
		return prefix
	}
	return ""
}

func servePage(w http.ResponseWriter, r *http.Request) {
	prefix := prefixOf(r)
	wire.Respond(w, http.StatusOK, "text/html", openapi.Page(prefix+"/openapi.json", prefix+assets))
}

func serveAsset(w http.ResponseWriter, r *http.Request) {
	data, contentType, ok := openapi.Asset(strings.TrimPrefix(r.URL.Path, assets+"/"))
	if !ok {
		wire.Respond(w, http.StatusNotFound, "", nil)
		return
	}
	h := w.Header()
	h["Cache-Control"] = []string{"public, max-age=31536000, immutable"}
	h["Vary"] = append(h["Vary"], "Accept-Encoding")
	if strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		h["Content-Encoding"] = []string{"gzip"}
	} else if plain, err := gzip.NewReader(bytes.NewReader(data)); err == nil {
		data, _ = io.ReadAll(plain)
	}
	wire.Respond(w, http.StatusOK, contentType, data)
}

// documents keeps the documents that were made last, until what they tell has changed.
type documents struct {
	mu      sync.Mutex
	options openapi.Options
	made    map[string][]byte
}

// get returns a document, which make makes if it is new.
func (d *documents) get(options openapi.Options, name string, make func() []byte) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.options != options || d.made == nil {
		d.options, d.made = options, map[string][]byte{}
	}
	if d.made[name] == nil {
		d.made[name] = make()
	}
	return d.made[name]
}

func serveTGIForm(w http.ResponseWriter, _ *http.Request) {
	wire.Respond(w, http.StatusOK, wire.JSONType, openapi.TGIForm)
}

// serveDocument returns the handler of a dialect's document; "" is that of all dialects. Without a prefix a dialect's
// document has OpenAI's routes too, which stand beside it.
func (s *Server) serveDocument(dialect Dialect) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		options, prefix := s.openAPIOptions(), prefixOf(r)
		wire.Respond(w, http.StatusOK, wire.JSONType, s.documents.get(options, string(dialect)+prefix, func() []byte {
			if dialect == "" {
				return options.All()
			}
			return options.Of(string(dialect), prefix == "" && dialect != OpenAI, prefix)
		}))
	}
}

// openAPIOptions are the limits that documents tell.
func (s *Server) openAPIOptions() openapi.Options {
	c := &s.config
	o := openapi.Options{
		TGI3: s.three(), OldLightLLMErrors: c.OldLightLLMErrors, MaxBestOf: c.MaxBestOf, MaxStopSequences: c.MaxStopSequences,
		Build: c.Build, MaxClientBatchSize: c.MaxClientBatchSize, MaxAnswers: min(openAIMaxChoices, c.Permits),
	}
	if model := s.backend.Model(); model != nil {
		o.ModelID, o.MaxInputTokens, o.MaxTotalTokens = model.Card.ModelID, model.MaxInputLength, model.MaxTotalTokens
		o.VocabularySize = model.Card.VocabularySize
	}
	return o
}
