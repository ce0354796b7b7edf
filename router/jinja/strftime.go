package jinja

import (
	"fmt"
	"strings"
	"time"
)

func strftimeNow(r *run, _ Value, v []Value) (Value, error) {
	format, err := textArgument(v[0])
	if err != nil {
		return nil, failf("strftime() argument 1 must be str, not %s", v[0].typeName())
	}
	if err := r.allocate(32 * len(format)); err != nil {
		return nil, err
	}
	now := r.now
	if now.IsZero() {
		now = time.Now()
	}
	return String(strftime(now, format)), nil
}

// strftime is C's strftime in the C locale, with the flags of the GNU library. A time has no zone to tell, as Python's
// datetime.now() has none.
func strftime(t time.Time, format string) string {
	var b strings.Builder
	for {
		at := strings.IndexByte(format, '%')
		if at < 0 || at+1 >= len(format) {
			b.WriteString(format)
			return b.String()
		}
		b.WriteString(format[:at])
		start := format[at:]
		format = format[at+1:]
		flag := byte(0)
		if strings.IndexByte("-_0^#", format[0]) >= 0 && len(format) > 1 {
			flag, format = format[0], format[1:]
		}
		text, ok := directive(t, format[0])
		format = format[1:]
		if !ok {
			b.WriteString(start[:len(start)-len(format)])
			continue
		}
		b.WriteString(flagged(flag, text))
	}
}

// flagged applies a flag to a directive's text.
func flagged(flag byte, text string) string {
	trimmed := strings.TrimLeft(text, "0 ")
	if trimmed == "" || trimmed[0] < '0' || trimmed[0] > '9' {
		trimmed = text[max(0, len(text)-1):]
		if len(text) == 0 || text[0] != '0' {
			trimmed = text
		}
	}
	switch flag {
	case '-':
		return trimmed
	case '_':
		return strings.Repeat(" ", len(text)-len(trimmed)) + trimmed
	case '0':
		return strings.Repeat("0", len(text)-len(trimmed)) + trimmed
	case '^', '#':
		return strings.ToUpper(text)
	}
	return text
}

// layouts are the directives that Go's own layouts cover.
var layouts = map[byte]string{
	'a': "Mon", 'A': "Monday", 'b': "Jan", 'h': "Jan", 'B': "January", 'c': "Mon Jan _2 15:04:05 2006", 'd': "02",
	'D': "01/02/06", 'e': "_2", 'F': "2006-01-02", 'H': "15", 'I': "03", 'm': "01", 'M': "04", 'p': "PM", 'P': "pm",
	'r': "03:04:05 PM", 'R': "15:04", 'S': "05", 'T': "15:04:05", 'x': "01/02/06", 'X': "15:04:05", 'y': "06", 'Y': "2006",
}

func directive(t time.Time, c byte) (string, bool) {
	if layout, ok := layouts[c]; ok {
		return t.Format(layout), true
	}
	monday := (int(t.Weekday()) + 6) % 7
	isoYear, isoWeek := t.ISOWeek()
	switch c {
	case '%':
		return "%", true
	case 'n':
		return "\n", true
	case 't':
		return "\t", true
	case 'C':
		return fmt.Sprintf("%02d", t.Year()/100), true
	case 'f':
		return fmt.Sprintf("%06d", t.Nanosecond()/1000), true
	case 'g':
		return fmt.Sprintf("%02d", isoYear%100), true
	case 'G':
		return fmt.Sprintf("%04d", isoYear), true
	case 'j':
		return fmt.Sprintf("%03d", t.YearDay()), true
	case 'k':
		return fmt.Sprintf("%2d", t.Hour()), true
	case 'l':
		return fmt.Sprintf("%2d", (t.Hour()+11)%12+1), true
	case 's':
		return fmt.Sprint(t.Unix()), true
	case 'u':
		return fmt.Sprint(monday + 1), true
	case 'U':
		return fmt.Sprintf("%02d", (t.YearDay()+6-int(t.Weekday()))/7), true
	case 'V':
		return fmt.Sprintf("%02d", isoWeek), true
	case 'w':
		return fmt.Sprint(int(t.Weekday())), true
	case 'W':
		return fmt.Sprintf("%02d", (t.YearDay()+6-monday)/7), true
	case 'z', 'Z':
		return "", true
	}
	return "", false
}
