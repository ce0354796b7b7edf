package jinja

import (
	"strings"
	"unicode/utf8"
)

// softText is value as text.
func (r *run) softText(value Value) (string, error) {
	s, err := r.str(value)
	if err != nil {
		return "", err
	}
	return s, r.work(len(s))
}

// textFilter makes a filter of a function whose result is at most three times as long as its argument.
func textFilter(change func(string) string) builtin {
	return takes("filter(/)", func(r *run, value Value, _ []Value) (Value, error) {
		s, err := r.softText(value)
		if err != nil {
			return nil, err
		}
		if err := r.allocate(3 * len(s)); err != nil {
			return nil, err
		}
		return likeText(value, String(change(s))), nil
	})
}

// titleWords begins each word with a capital. Words begin after white space, hyphens and opening brackets.
func titleWords(s string) string {
	var b strings.Builder
	separates := func(c rune) bool { return isSpace(c) || strings.ContainsRune("-({[<", c) }
	for s != "" {
		first, size := utf8.DecodeRuneInString(s)
		if separates(first) {
			b.WriteRune(first)
			s = s[size:]
			continue
		}
		end := strings.IndexFunc(s, separates)
		if end < 0 {
			end = len(s)
		}
		b.WriteString(upper(s[:size]))
		b.WriteString(lower(s[size:end]))
		s = s[end:]
	}
	return b.String()
}

func filterTrim(r *run, value Value, v []Value) (Value, error) {
	s, err := r.softText(value)
	if err != nil {
		return nil, err
	}
	characters := v[0]
	if characters == nil {
		characters = None
	}
	return methods["str"]["strip"](r, likeText(value, String(s)), &arguments{positional: []Value{characters}})
}

func filterReplace(r *run, value Value, v []Value) (Value, error) {
	var parts [3]string
	var err error
	for i, part := range []Value{value, v[0], v[1]} {
		if parts[i], err = r.softText(part); err != nil {
			return nil, err
		}
	}
	if v[2] == None {
		v[2] = nil
	}
	count, err := numberArgument(v[2], -1)
	if err != nil {
		return nil, err
	}
	return r.replace(parts[0], parts[1], parts[2], count)
}

func filterIndent(r *run, value Value, v []Value) (Value, error) {
	indentation, isText := "", false
	if v[0] != nil {
		indentation, isText = text(v[0])
	}
	if !isText {
		width, err := numberArgument(v[0], 4)
		if err != nil {
			return nil, err
		}
		width = max(width, 0)
		if err := r.allocate(int(width)); err != nil {
			return nil, err
		}
		indentation = strings.Repeat(" ", int(width))
	}
	if u, ok := value.(*undefined); ok {
		return nil, u.fail()
	}
	s, ok := text(value)
	if !ok {
		return nil, unsupported("+", value, String(""))
	}
	parts := lines(s+"\n", false)
	if err := r.allocate(2*len(s) + len(parts)*(len(indentation)+1)); err != nil {
		return nil, err
	}
	var b strings.Builder
	for i, line := range parts {
		if i > 0 {
			b.WriteByte('\n')
		}
		if i == 0 && isTrue(v[1]) || i > 0 && (line != "" || isTrue(v[2])) {
			b.WriteString(indentation)
		}
		b.WriteString(line)
	}
	return likeText(value, String(b.String())), nil
}
