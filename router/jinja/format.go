package jinja

import (
	"strconv"
	"strings"
)

// formatPiece is text of a format, and a field behind it.
type formatPiece struct {
	text  string
	field string // the name or number of an argument; empty for the next one
	last  bool   // there is no field
}

// formatPieces reads the format of text.format(…): fields with a name, a number or nothing in them.
func formatPieces(s string) ([]formatPiece, error) {
	var pieces []formatPiece
	var literal strings.Builder
	for {
		at := strings.IndexAny(s, "{}")
		if at < 0 {
			literal.WriteString(s)
			return append(pieces, formatPiece{text: literal.String(), last: true}), nil
		}
		literal.WriteString(s[:at])
		c := s[at]
		s = s[at+1:]
		if s != "" && s[0] == c {
			literal.WriteByte(c)
			s = s[1:]
			continue
		}
		end := strings.IndexByte(s, '}')
		if c == '}' || end < 0 {
			return nil, failf("Single '%c' encountered in format string", c)
		}
		field := s[:end]
		if nameLength(field) != len(field) {
			return nil, failf("format field {%s} is not supported", field)
		}
		pieces = append(pieces, formatPiece{text: literal.String(), field: field})
		literal.Reset()
		s = s[end+1:]
	}
}

func formatMethod(r *run, object Value, a *arguments) (Value, error) {
	s, _ := text(object)
	if _, ok := object.(markup); ok {
		return nil, failf("format of a safe text is not supported")
	}
	if err := r.allocate(20 * len(s)); err != nil {
		return nil, err
	}
	pieces, err := formatPieces(s)
	if err != nil {
		return nil, err
	}
	var values []Value
	automatic, numbered := 0, false
	for _, piece := range pieces {
		values = append(values, String(piece.text))
		if piece.last {
			break
		}
		value := a.named(piece.field)
		n, err := strconv.Atoi(piece.field)
		isNumber := err == nil
		if piece.field == "" {
			n = automatic
			automatic++
		}
		numbered = numbered || isNumber
		switch {
		case numbered && automatic > 0:
			return nil, failf("cannot mix numbered fields and such without a number")
		case (isNumber || piece.field == "") && n < len(a.positional):
			value = a.positional[n]
		case value == nil:
			return nil, failf("format field {%s} has no argument", piece.field)
		}
		values = append(values, value)
	}
	return r.join("", values)
}
