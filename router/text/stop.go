package text

import "strings"

// StopMatcher tells when generated text ends with a stop string, as TGI does: it looks only at the ends of what it is
// given, so a stop string that ends inside a token never matches, and one trailing newline behind the stop string does
// not hinder a match. It belongs to one generation and is not safe for concurrent use.
type StopMatcher struct {
	stops []string
	tail  string // the end of the text so far
	keeps int    // how many bytes of tail a match can need
}

// NewStopMatcher returns a matcher for stops. It keeps the slice.
func NewStopMatcher(stops []string) *StopMatcher {
	m := &StopMatcher{stops: stops}
	for _, stop := range stops {
		m.keeps = max(m.keeps, len(stop)+len("\n"))
	}
	return m
}

// Append adds the text of one token, which may be empty, and tells whether a stop string matches. An empty stop string
// always matches. The matcher keeps no more of the text than one byte more than the longest stop string has.
func (m *StopMatcher) Append(text string) bool {
	if len(m.stops) == 0 {
		return false
	}
	if len(text) >= m.keeps {
		m.tail = strings.Clone(text[len(text)-m.keeps:])
	} else {
		m.tail += text
		m.tail = m.tail[max(0, len(m.tail)-m.keeps):]
	}
	line := strings.TrimSuffix(m.tail, "\n")
	for _, stop := range m.stops {
		if strings.HasSuffix(m.tail, stop) || strings.HasSuffix(line, stop) {
			return true
		}
	}
	return false
}
