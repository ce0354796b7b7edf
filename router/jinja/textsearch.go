package jinja

import (
	"strings"
	"unicode/utf8"
)

func replaceMethod(r *run, original Value, s string, a *arguments) (Value, error) {
	v, err := a.places("replace", 2, 3)
	if err != nil {
		return nil, err
	}
	old, err := textArgument(v[0])
	if err != nil {
		return nil, failf("replace() argument 1 must be str, not %s", v[0].typeName())
	}
	replacement, err := textArgument(v[1])
	if err != nil {
		return nil, failf("replace() argument 2 must be str, not %s", v[1].typeName())
	}
	count, err := number(v[2], -1)
	if err != nil {
		return nil, err
	}
	replaced, err := r.replace(s, old, replacement, count)
	return likeText(original, replaced), err
}

// replace replaces up to count occurrences; all of them where count is negative.
func (r *run) replace(s, old, replacement string, count int64) (string, error) {
	n := int64(strings.Count(s, old))
	if count >= 0 {
		n = min(n, count)
	}
	if err := r.allocate(len(s) + int(n)*len(replacement)); err != nil {
		return "", err
	}
	return strings.Replace(s, old, replacement, int(n)), nil
}

func joinMethod(r *run, original Value, s string, a *arguments) (Value, error) {
	v, err := a.places("join", 1, 1)
	if err != nil {
		return nil, err
	}
	items, err := r.itemsOf(v[0])
	if err != nil {
		return nil, failf("can only join an iterable")
	}
	for i, item := range items {
		if _, ok := text(item); !ok {
			return nil, failf("sequence item %d: expected str instance, %s found", i, item.typeName())
		}
	}
	joined, err := r.join(s, items)
	return likeText(original, joined), err
}

// join is the text of items with a separator between.
func (r *run) join(separator string, items []Value) (string, error) {
	var b strings.Builder
	for i, item := range items {
		s, err := r.str(item)
		if err != nil {
			return "", err
		}
		if err := r.allocate(len(s) + len(separator)); err != nil {
			return "", err
		}
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(s)
	}
	return b.String(), nil
}

// part is the text from one character to another.
func part(s string, start, stop Value) (piece string, from int64, valid bool, err error) {
	if start == nil && stop == nil {
		return s, 0, true, nil
	}
	length := int64(utf8.RuneCountInString(s))
	from, to, err := bounds(start, stop, length)
	if err != nil || from > to || from > length {
		return "", from, false, err
	}
	return cutText(s, from, to-from), from, true, nil
}

func affix(name string, has func(s, affix string) bool) textMethod {
	return func(r *run, _ Value, s string, a *arguments) (Value, error) {
		v, err := a.places(name, 1, 3)
		if err != nil {
			return nil, err
		}
		s, _, valid, err := part(s, v[1], v[2])
		if err != nil {
			return nil, err
		}
		options := []Value{v[0]}
		if t, ok := v[0].(*tuple); ok {
			options = t.items
		}
		for _, option := range options {
			t, ok := text(option)
			if !ok {
				return nil, failf("%s first arg must be str or a tuple of str, not %s", name, v[0].typeName())
			}
			if valid && has(s, t) {
				return Bool(true), r.step(1)
			}
		}
		return Bool(false), r.step(len(options))
	}
}

// search is find, index, count and their like.
func search(name string, find func(s, part string) int) textMethod {
	return func(r *run, _ Value, s string, a *arguments) (Value, error) {
		v, err := a.places(name, 1, 3)
		if err != nil {
			return nil, err
		}
		wanted, err := textArgument(v[0])
		if err != nil {
			return nil, err
		}
		piece, from, valid, err := part(s, v[1], v[2])
		if err != nil {
			return nil, err
		}
		at := -1
		if valid {
			at = find(piece, wanted)
		}
		switch {
		case name == "count":
			return Int(max(at, 0)), nil
		case at >= 0:
			return Int(from + int64(utf8.RuneCountInString(piece[:at]))), nil
		case strings.HasSuffix(name, "index"):
			return nil, failf("substring not found")
		}
		return Int(-1), nil
	}
}

func justify(name string) textMethod {
	return func(r *run, original Value, s string, a *arguments) (Value, error) {
		v, err := a.places(name, 1, 2)
		if err != nil {
			return nil, err
		}
		width, err := number(v[0], 0)
		if err != nil {
			return nil, err
		}
		fill := " "
		if v[1] != nil {
			if fill, _ = text(v[1]); utf8.RuneCountInString(fill) != 1 {
				return nil, failf("The fill character must be exactly one character long")
			}
		}
		padded, err := r.pad(s, fill, width, name)
		return likeText(original, padded), err
	}
}

// pad fills s up to a width in characters, as the method of that name does.
func (r *run) pad(s, fill string, width int64, name string) (string, error) {
	length := int64(utf8.RuneCountInString(s))
	missing := max(0, width-length)
	if err := r.allocate(len(s) + len(fill)*int(missing)); err != nil {
		return "", err
	}
	left := int64(0)
	switch name {
	case "rjust":
		left = missing
	case "center":
		left = missing/2 + missing&width&1
	}
	return strings.Repeat(fill, int(left)) + s + strings.Repeat(fill, int(missing-left)), nil
}

func zeroFill(r *run, original Value, s string, a *arguments) (Value, error) {
	v, err := a.places("zfill", 1, 1)
	if err != nil {
		return nil, err
	}
	width, err := number(v[0], 0)
	if err != nil {
		return nil, err
	}
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, s = s[:1], s[1:]
	}
	padded, err := r.pad(s, "0", width-int64(len(sign)), "rjust")
	return likeText(original, sign+padded), err
}

func partition(name string, find func(s, part string) int) textMethod {
	return func(r *run, original Value, s string, a *arguments) (Value, error) {
		v, err := a.places(name, 1, 1)
		if err != nil {
			return nil, err
		}
		separator, err := textArgument(v[0])
		if err != nil {
			return nil, err
		}
		if separator == "" {
			return nil, failf("empty separator")
		}
		parts := [3]string{s, "", ""}
		if name == "rpartition" {
			parts = [3]string{"", "", s}
		}
		if at := find(s, separator); at >= 0 {
			parts = [3]string{s[:at], separator, s[at+len(separator):]}
		}
		t := &tuple{}
		for _, part := range parts {
			t.items = append(t.items, likeText(original, part))
		}
		return t, r.allocateValues(len(parts))
	}
}

func expandTabs(r *run, original Value, s string, a *arguments) (Value, error) {
	v, err := a.bind("expandtabs", 0, "tabsize")
	if err != nil {
		return nil, err
	}
	size, err := number(v[0], 8)
	if err != nil {
		return nil, err
	}
	size = max(size, 0)
	if err := r.allocate(len(s) + strings.Count(s, "\t")*int(size)); err != nil {
		return nil, err
	}
	var b strings.Builder
	column := int64(0)
	for _, c := range s {
		switch {
		case c == '\t' && size > 0:
			b.WriteString(strings.Repeat(" ", int(size-column%size)))
			column += size - column%size
		case c == '\t':
		default:
			b.WriteRune(c)
			column++
			if c == '\n' || c == '\r' {
				column = 0
			}
		}
	}
	return likeText(original, b.String()), nil
}
