package jinja

import (
	"strings"
	"time"
)

func strftimeNow(r *run, _ Value, v []Value) (Value, error) {
	format, err := textArgument(v[0])
	if err != nil {
		return nil, err
	}
	if err := r.allocate(32 * len(format)); err != nil {
		return nil, err
	}
	now := r.now
	if now.IsZero() {
		now = time.Now()
	}
	s, err := strftime(now, format)
	return String(s), err
}

// layouts are the directives of C's strftime in the C locale that Go's own layouts cover.
var layouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006", 'd': "02",
	'D': "01/02/06", 'e': "_2", 'F': "2006-01-02", 'H': "15", 'I': "03", 'm': "01", 'M': "04", 'p': "PM", 'P': "pm",
	'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05", 'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006",
	'j': "002",
}

// strftime writes a time. A hyphen in a directive leaves out
// the zeros in front.
func strftime(t time.Time, format string) (string, error) {
	var b strings.Builder
	for {
		text, directive, found := strings.Cut(format, "%")
		b.WriteString(text)
		if !found {
			return b.String(), nil
		}
		plain := strings.TrimPrefix(directive, "-")
		if plain == "" {
			return "", failf("a format of times that ends in %% is not supported")
		}
		format = plain[1:]
		layout, known := layouts[plain[0]]
		written := t.Format(layout)
		switch {
		case known && len(plain) < len(directive):
			written = strings.TrimLeft(written, "0 ")
		case known:
		case directive[0] == '%':
			written = "%"
		default:
			return "", failf("the directive %%%c of times is not supported", directive[0])
		}
		b.WriteString(written)
	}
}
