package api

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"

	"lockstep/router/api/wire"
	"lockstep/router/openapi"
)

// assets is the path below which the page's files stand.
var assets = "/docs/" + openapi.Version

// describing are the routes that describe a dialect's routes, or those of all: a page, its files and the document.
func (s *Server) describing(d *wire.Dialect) []wire.Route {
	return []wire.Route{
		wire.Get("/docs", serveDocsRedirect),
		wire.Get("/docs/", servePage),
		wire.Get(assets+"/*", serveAsset),
		wire.Get("/openapi.json", s.serveDocument(d)),
	}
}

// serveDocsRedirect answers as TGI does.
func serveDocsRedirect(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Location"] = []string{wire.Of(w).Prefix + "/docs/"}
	wire.Respond(w, http.StatusSeeOther, "", nil)
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	prefix := wire.Of(w).Prefix
	wire.Respond(w, http.StatusOK, "text/html", openapi.Page(prefix+"/openapi.json", prefix+assets))
}

func serveAsset(w http.ResponseWriter, r *http.Request) {
	data, contentType, ok := openapi.Asset(strings.TrimPrefix(wire.Of(w).Path, assets+"/"))
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

// serveDocument returns the handler of a dialect's document; without a name it is that of all dialects. Without a prefix a
// dialect's document has the routes too that stand beside it.
func (s *Server) serveDocument(d *wire.Dialect) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		options, prefix := s.openAPIOptions(), wire.Of(w).Prefix
		wire.Respond(w, http.StatusOK, wire.JSONType, s.documents.get(options, d.Name+prefix, func() []byte {
			if d.Name == "" {
				return options.All(s.documented())
			}
			return options.Of(s.documented(), d.Name, prefix == "" && !d.Beside, prefix)
		}))
	}
}

// openAPIOptions are what documents tell of this server.
func (s *Server) openAPIOptions() openapi.Options {
	o := openapi.Options{Limits: s.config.Limits, Build: s.config.Build}
	if model := s.answers.Model(); model != nil {
		o.ModelID, o.MaxInputTokens, o.MaxTotalTokens = model.Card.ModelID, model.MaxInputLength, model.MaxTotalTokens
		o.VocabularySize = model.Card.VocabularySize
	}
	return o
}
