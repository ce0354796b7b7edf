package text

import "strings"

// StopMatcher finds the first stop string in generated text that comes piece by piece: wherever it stands in a piece or
// across pieces, the one that ends first. It belongs to one generation and is not safe for concurrent use.
type StopMatcher struct {
	stops []string
	tail  string // the end of the text so far
	keeps int    // how many bytes of tail a match can need
}

// NewStopMatcher returns a matcher for stops. It keeps the slice.
func NewStopMatcher(stops []string) *StopMatcher {
	m := &StopMatcher{stops: stops}
	for _, stop := range stops {
		m.keeps = max(m.keeps, len(stop)-1)
	}
	return m
}

// Append adds the text of one token, which may be empty, and tells whether a stop string ends in it, and how many bytes of
// it go on behind. A single newline there belongs to the match, as in TGI, whose answers keep it. An empty stop string
// matches the end of the first text. The matcher keeps less of the text than the longest stop string has.
func (m *StopMatcher) Append(text string) (behind int, found bool) {
	behind, found = m.Find(text)
	if found && text[len(text)-behind:] == "\n" {
		behind = 0
	}
	joined := m.tail + text
	m.tail = joined[max(0, len(joined)-m.keeps):]
	return behind, found
}

// Find is Append for text that is not certain yet: it adds nothing, and a newline is nothing special.
func (m *StopMatcher) Find(text string) (behind int, found bool) {
	if len(m.stops) == 0 {
		return 0, false
	}
	joined := m.tail + text
	for _, stop := range m.stops {
		from := max(0, len(m.tail)-len(stop)+1) // matches that end in the tail have been found
		if stop == "" {
			from = len(joined)
		}
		if i := strings.Index(joined[min(from, len(joined)):], stop); i >= 0 {
			behind = max(behind, len(joined)-from-i-len(stop))
			found = true
		}
	}
	return behind, found
}
