package jinja

import "strings"

// formatPieces parts the format of text.format(…) into its text, at even places, and its fields between: the names of
// arguments, or nothing for the next one.
func formatPieces(s string) ([]string, error) {
	var pieces []string
	var literal strings.Builder
	for {
		at := strings.IndexAny(s, "{}")
		if at < 0 {
			return append(pieces, literal.String()+s), nil
		}
		literal.WriteString(s[:at])
		c := s[at]
		s = s[at+1:]
		if s != "" && s[0] == c {
			literal.WriteByte(c)
			s = s[1:]
			continue
		}
		field, rest, ended := strings.Cut(s, "}")
		switch {
		case c == '}' || !ended:
			return nil, failf("Single '%c' encountered in format string", c)
		case nameLength(field) != len(field) || field != "" && field[0] <= '9':
			return nil, failf("format field {%s} is not supported", field)
		}
		pieces = append(pieces, literal.String(), field)
		literal.Reset()
		s = rest
	}
}

func formatMethod(r *run, object Value, a *arguments) (Value, error) {
	if _, ok := object.(markup); ok {
		return nil, failf("format of a safe text is not supported")
	}
	s, _ := text(object)
	if err := r.allocate(20 * len(s)); err != nil {
		return nil, err
	}
	pieces, err := formatPieces(s)
	if err != nil {
		return nil, err
	}
	values, next := make([]Value, len(pieces)), a.positional
	for i, piece := range pieces {
		switch {
		case i%2 == 0:
			values[i] = String(piece)
		case piece != "":
			values[i] = a.named(piece)
		case len(next) > 0:
			values[i], next = next[0], next[1:]
		}
		if values[i] == nil {
			return nil, failf("format field {%s} has no argument", piece)
		}
	}
	return r.join("", values)
}
