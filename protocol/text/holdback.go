package text

import "strings"

// Holdback shows generated text without stop strings, as MindIE does: text is held back while it may be the beginning of
// one. It belongs to one generation and is not safe for concurrent use.
type Holdback struct {
	stops []string
	held  string
}

// NewHoldback returns one for stops, which it keeps; none of them is empty.
func NewHoldback(stops []string) *Holdback { return &Holdback{stops: stops} }

// Push adds text and returns what can be shown now. Once a stop string has come, which the result tells, there is nothing
// more to show: the text behind it and it itself are left out. Of several the one that begins first counts.
func (h *Holdback) Push(text string) (shown string, stopped bool) {
	h.held += text
	at := -1
	for _, stop := range h.stops {
		if i := strings.Index(h.held, stop); i >= 0 && (at < 0 || i < at) {
			at = i
		}
	}
	if at >= 0 {
		shown, h.held = h.held[:at], ""
		return shown, true
	}
	keep := 0
	for _, stop := range h.stops {
		for length := min(len(stop)-1, len(h.held)); length > keep; length-- {
			if strings.HasSuffix(h.held, stop[:length]) {
				keep = length
			}
		}
	}
	shown, h.held = h.held[:len(h.held)-keep], h.held[len(h.held)-keep:]
	return shown, false
}

// Rest returns what is still held back, which is to be shown when the generation ends without a stop string.
func (h *Holdback) Rest() string { return h.held }
