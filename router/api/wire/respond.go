package wire

import (
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	// JSONType is the content type of JSON.
	JSONType = "application/json"
	// EventsType is that of server-sent events.
	EventsType = "text/event-stream"
	// EventsTypeUTF8 is that of servers made with FastAPI: without it some clients read Latin-1.
	EventsTypeUTF8 = "text/event-stream; charset=utf-8"
	// PlainType is that of errors of the framework beneath a dialect.
	PlainType = "text/plain; charset=utf-8"
)

// WriteTimeout bounds how long a client may leave what was written unread; then it counts as gone.
const WriteTimeout = 2 * time.Minute

// Respond writes a whole answer. An empty contentType leaves the header as it is.
func Respond(w http.ResponseWriter, status int, contentType string, body []byte) {
	if contentType != "" {
		w.Header()["Content-Type"] = []string{contentType}
	}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	Of(w).Complete()
	if len(body) == 0 {
		return
	}
	out := http.NewResponseController(w)
	out.SetWriteDeadline(time.Now().Add(WriteTimeout))
	w.Write(body)
	out.Flush()
	out.SetWriteDeadline(time.Time{})
}

// CORS tells browsers from where they may call.
type CORS struct {
	// Origins that may call; empty: any.
	Origins []string
	// Vary is the header of this name.
	Vary []string
}

// Set sets the headers of an answer.
func (c *CORS) Set(h http.Header, r *http.Request) {
	if len(c.Origins) == 0 {
		h["Access-Control-Allow-Origin"] = []string{"*"}
	} else if origin := r.Header.Get("Origin"); origin != "" && slices.Contains(c.Origins, origin) {
		h["Access-Control-Allow-Origin"] = []string{origin}
	}
	h["Vary"] = slices.Clone(c.Vary)
}
