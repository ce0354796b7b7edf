package api

import (
	_ "embed"
	"net/http"
	"strconv"
)

//go:embed openapi.json
var openAPI []byte

const docsPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Text Generation Inference</title></head>
<body><h1>Text Generation Inference</h1><p>The API is described in <a href="/api-doc/openapi.json">openapi.json</a>.</p></body></html>
`

func itoa(n int) string { return strconv.Itoa(n) }

// describedBy are the routes that describe a dialect's routes.
func describedBy(dialect Dialect) []route {
	if dialect != TGI {
		return nil
	}
	return []route{
		{get, "/docs", serveDocsRedirect},
		{get, "/docs/", serveDocs},
		{get, "/api-doc/openapi.json", serveOpenAPI},
	}
}

func serveDocsRedirect(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Location"] = []string{"/docs/"}
	respond(w, http.StatusSeeOther, "", nil)
}

func serveDocs(w http.ResponseWriter, _ *http.Request) {
	respond(w, http.StatusOK, "text/html", []byte(docsPage))
}

func serveOpenAPI(w http.ResponseWriter, _ *http.Request) {
	respond(w, http.StatusOK, jsonType, openAPI)
}
