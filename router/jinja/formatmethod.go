package jinja

import (
	"strconv"
	"strings"
)

// formatWriter is Python's text.format(...), with the sandbox's rules for attributes.
type formatWriter struct {
	run       *run
	arguments *arguments
	automatic int // fields numbered so far; negative once a field has a number of its own
}

func formatMethod(r *run, original Value, s string, a *arguments) (Value, error) {
	w := &formatWriter{run: r, arguments: a}
	out, err := w.write(s, 2)
	return likeText(original, out), err
}

func formatMap(r *run, original Value, s string, a *arguments) (Value, error) {
	v, err := a.places("format_map", 1, 1)
	if err != nil {
		return nil, err
	}
	named := &arguments{}
	if err := named.addNamed(r, v[0]); err != nil {
		return nil, err
	}
	return formatMethod(r, original, s, named)
}

// write fills the fields of s; depth bounds fields within fields.
func (w *formatWriter) write(s string, depth int) (string, error) {
	if depth < 0 {
		return "", failf("Max string recursion exceeded")
	}
	var out strings.Builder
	for s != "" {
		if err := w.run.step(1); err != nil {
			return "", err
		}
		at := strings.IndexAny(s, "{}")
		if at < 0 {
			out.WriteString(s)
			break
		}
		out.WriteString(s[:at])
		c := s[at]
		s = s[at+1:]
		if s != "" && s[0] == c {
			out.WriteByte(c)
			s = s[1:]
			continue
		}
		if c == '}' {
			return "", failf("Single '}' encountered in format string")
		}
		if s == "" {
			return "", failf("Single '{' encountered in format string")
		}
		end := fieldEnd(s)
		if end < 0 {
			return "", failf("expected '}' before end of string")
		}
		field, err := w.field(s[:end], depth)
		if err != nil {
			return "", err
		}
		if err := w.run.allocate(len(field)); err != nil {
			return "", err
		}
		out.WriteString(field)
		s = s[end+1:]
	}
	return out.String(), w.run.allocate(out.Len())
}

// fieldEnd is where the field that s begins with ends, or negative.
func fieldEnd(s string) int {
	depth := 1
	inBrackets := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '[' && depth == 1:
			inBrackets = true
		case c == ']':
			inBrackets = false
		case inBrackets:
		case c == '{':
			depth++
		case c == '}':
			depth--
			if depth == 0 {
				return i
			}
		}
	}
	return -1
}

// fieldParts parts a field into its name, its conversion and its specification.
func fieldParts(s string) (name, conversion, spec string, err error) {
	inBrackets := false
	for i := range len(s) {
		switch c := s[i]; {
		case c == '[':
			inBrackets = true
		case c == ']':
			inBrackets = false
		case inBrackets:
		case c == '{':
			return "", "", "", failf("unexpected '{' in field name")
		case c == ':':
			return s[:i], "", s[i+1:], nil
		case c == '!':
			name, rest := s[:i], s[i+1:]
			if rest == "" {
				return "", "", "", failf("end of string while looking for conversion specifier")
			}
			if len(rest) > 1 && rest[1] != ':' {
				return "", "", "", failf("expected ':' after conversion specifier")
			}
			return name, rest[:1], strings.TrimPrefix(rest[1:], ":"), nil
		}
	}
	return s, "", "", nil
}

func (w *formatWriter) field(s string, depth int) (string, error) {
	name, conversion, spec, err := fieldParts(s)
	if err != nil {
		return "", err
	}
	value, err := w.value(name)
	if err != nil {
		return "", err
	}
	switch conversion {
	case "":
	case "s":
		var text string
		text, err = w.run.str(value)
		value = String(text)
	case "r", "a":
		var text string
		text, err = w.run.repr(value)
		if conversion == "a" {
			text = asciiRepr(text)
		}
		value = String(text)
	default:
		err = failf("Unknown conversion specifier %s", conversion)
	}
	if err != nil {
		return "", err
	}
	if spec, err = w.write(spec, depth-1); err != nil {
		return "", err
	}
	return w.run.format(value, spec)
}

// value finds what a field's name means: an argument, and attributes and items of it.
func (w *formatWriter) value(name string) (Value, error) {
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		end = len(name)
	}
	value, err := w.argument(name[:end])
	for rest := name[end:]; rest != "" && err == nil; {
		var part string
		if rest[0] == '.' {
			rest = rest[1:]
			end := strings.IndexAny(rest, ".[")
			if end < 0 {
				end = len(rest)
			}
			part, rest = rest[:end], rest[end:]
			if part == "" {
				return nil, failf("Empty attribute in format string")
			}
			value, err = w.run.attributeOrItem(value, part)
			continue
		}
		end := strings.IndexByte(rest, ']')
		if rest[0] != '[' || end < 0 {
			return nil, failf("Missing ']' in format string")
		}
		part, rest = rest[1:end], rest[end+1:]
		if part == "" {
			return nil, failf("Empty attribute in format string")
		}
		if rest != "" && rest[0] != '.' && rest[0] != '[' {
			return nil, failf("Only '.' or '[' may follow ']' in format field specifier")
		}
		var key Value = String(part)
		if n, err := strconv.ParseInt(part, 10, 32); err == nil && part[0] != '-' && part[0] != '+' {
			key = Int(n)
		}
		value, err = w.run.itemOrAttribute(value, key)
	}
	return value, err
}

func (w *formatWriter) argument(name string) (Value, error) {
	at := -1
	switch n, err := strconv.ParseInt(name, 10, 32); {
	case name == "":
		if w.automatic < 0 {
			return nil, failf("cannot switch from manual field specification to automatic field numbering")
		}
		at = w.automatic
		w.automatic++
	case err == nil && name[0] != '-' && name[0] != '+':
		if w.automatic > 0 {
			return nil, failf("cannot switch from manual field specification to automatic field numbering")
		}
		w.automatic = -1
		at = int(n)
	default:
		if v := w.arguments.named(name); v != nil {
			return v, nil
		}
		return nil, failf("%s", reprString(name))
	}
	if at >= len(w.arguments.positional) {
		return nil, failf("Replacement index %d out of range for positional args tuple", at)
	}
	return w.arguments.positional[at], nil
}
