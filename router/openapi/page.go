package openapi

import (
	"embed"
	"fmt"
	"html"
	"strings"
)

// The page is Swagger UI, which scripts/get-swagger-ui brings into ui, compressed as it is sent.
//
//go:embed ui
var ui embed.FS

// Version is Swagger UI's. It stands in the paths of the page's files, so that browsers can keep these for ever.
var Version = func() string {
	version, err := ui.ReadFile("ui/VERSION")
	if err != nil {
		panic(err) // it is part of the program
	}
	return strings.TrimSpace(string(version))
}()

// Asset returns a file of the page, compressed by gzip, and its content type.
func Asset(name string) (compressed []byte, contentType string, ok bool) {
	contentType, ok = map[string]string{"swagger-ui-bundle.js": "text/javascript; charset=utf-8",
		"swagger-ui.css": "text/css; charset=utf-8"}[name]
	if !ok {
		return nil, "", false
	}
	compressed, err := ui.ReadFile("ui/" + name + ".gz")
	return compressed, contentType, err == nil
}

const page = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Lockstep</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="%[1]s/swagger-ui.css">
<style>.swagger-ui .topbar { display: none } .swagger-ui .info { margin: 24px 0 } .swagger-ui .scheme-container { margin: 0 0 12px; padding: 0 0 12px; box-shadow: none }</style>
</head>
<body>
<div id="swagger-ui"></div>
<script src="%[1]s/swagger-ui-bundle.js"></script>
<script>
SwaggerUIBundle({url: "%[2]s", dom_id: "#swagger-ui", deepLinking: true, docExpansion: "list", defaultModelsExpandDepth: -1, tryItOutEnabled: true, displayRequestDuration: true, validatorUrl: null})
</script>
</body>
</html>
`

// Page returns the page that shows the document at a path, whose files stand below another.
func Page(document, assets string) []byte {
	return fmt.Appendf(nil, page, html.EscapeString(assets), html.EscapeString(document))
}
