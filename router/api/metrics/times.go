package metrics

import (
	"net/http"
	"strconv"
	"time"
)

// Times are how long the parts of a finished request took.
type Times struct {
	Total, Validation, Queue, Inference, PerToken time.Duration
}

// ComputeType is what TGI says of every machine in the header X-Compute-Type.
const ComputeType = "gpu+optimized"

// SetHeaders sets TGI's headers that tell the times, and of how many characters the input was.
func (t *Times) SetHeaders(h http.Header, characters int) {
	for _, pair := range [][2]string{
		{"X-Compute-Type", ComputeType},
		{"X-Compute-Characters", strconv.Itoa(characters)},
		{"X-Total-Time", Milliseconds(t.Total)},
		{"X-Validation-Time", Milliseconds(t.Validation)},
		{"X-Queue-Time", Milliseconds(t.Queue)},
		{"X-Inference-Time", Milliseconds(t.Inference)},
		{"X-Time-Per-Token", Milliseconds(t.PerToken)},
	} {
		h[pair[0]] = []string{pair[1]}
	}
}

// SetTokens sets the headers of TGI 3 that count tokens.
func SetTokens(h http.Header, prompt, generated int) {
	h["X-Prompt-Tokens"] = []string{strconv.Itoa(prompt)}
	h["X-Generated-Tokens"] = []string{strconv.Itoa(generated)}
}

// Seconds and Milliseconds are how TGI's headers tell a time.
func Seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', -1, 64) }

// Milliseconds is a time in whole milliseconds.
func Milliseconds(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
