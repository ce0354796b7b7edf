package jinja

import (
	"strings"
	"unicode/utf8"
)

// ofText makes a method of str of what gets the text.
func ofText(declaration string, call func(r *run, s string, v []Value) (Value, error)) builtin {
	return takes(declaration, func(r *run, object Value, v []Value) (Value, error) {
		s, _ := text(object)
		r.pay(1 + len(s)/bytesPerStep)
		made, err := call(r, s, v)
		return likeText(object, made), err
	})
}

func strip(space func(string, func(rune) bool) string, cut func(string, string) string) builtin {
	return ofText("strip(/ [chars])", func(r *run, s string, v []Value) (Value, error) {
		if v[0] == nil || v[0] == None {
			return String(space(s, isSpace)), nil
		}
		characters, err := textArgument(v[0])
		if err != nil {
			return nil, err
		}
		if err := r.step(1 + len(s)*len(characters)/(8*bytesPerStep)); err != nil {
			return nil, err
		}
		return String(cut(s, characters)), nil
	})
}

func trimmed(trim func(s, affix string) string) builtin {
	return ofText("method(/ affix)", func(_ *run, s string, v []Value) (Value, error) {
		part, err := textArgument(v[0])
		return String(trim(s, part)), err
	})
}

func affix(name string, has func(s, affix string) bool) builtin {
	return ofText(name+"(/ affix)", func(r *run, s string, v []Value) (Value, error) {
		options := []Value{v[0]}
		if l, ok := v[0].(*List); ok && l.kind == tuple {
			options = l.items
		}
		for _, option := range options {
			t, ok := text(option)
			if !ok {
				return nil, failf("%s first arg must be str or a tuple of str, not %s", name, v[0].typeName())
			}
			if has(s, t) {
				return Bool(true), r.step(1)
			}
		}
		return Bool(false), r.step(len(options))
	})
}

func findText(_ *run, s string, v []Value) (Value, error) {
	wanted, err := textArgument(v[0])
	if err != nil {
		return nil, err
	}
	at := strings.Index(s, wanted)
	if at > 0 {
		at = utf8.RuneCountInString(s[:at])
	}
	return Int(at), nil
}

// texts makes a list of texts.
func (r *run) texts(parts []string) (Value, error) {
	if err := r.allocateValues(len(parts)); err != nil {
		return nil, err
	}
	items := make([]Value, len(parts))
	for i, part := range parts {
		items[i] = String(part)
	}
	return &List{items: items}, nil
}

func splitText(r *run, s string, v []Value) (Value, error) {
	n, err := numberArgument(v[1], -1)
	if err != nil {
		return nil, err
	}
	most := int(n) + 1 // parts; negative for any number
	if n < 0 {
		most = -1
	}
	if v[0] == nil || v[0] == None {
		return r.splitSpace(s, most)
	}
	separator, err := textArgument(v[0])
	if err == nil && separator == "" {
		err = failf("empty separator")
	}
	if err == nil {
		err = r.allocateValues(strings.Count(s, separator) + 1)
	}
	if err != nil {
		return nil, err
	}
	return r.texts(strings.SplitN(s, separator, most))
}

func (r *run) splitSpace(s string, most int) (Value, error) {
	var parts []string
	for s = strings.TrimLeftFunc(s, isSpace); s != ""; s = strings.TrimLeftFunc(s, isSpace) {
		if err := r.allocate(0); err != nil {
			return nil, err
		}
		end := strings.IndexFunc(s, isSpace)
		if end < 0 || len(parts)+1 == most {
			parts = append(parts, s)
			break
		}
		parts, s = append(parts, s[:end]), s[end:]
	}
	return r.texts(parts)
}

// rsplitText is for one separator and one cut, as in text.rsplit(',', 1).
func rsplitText(r *run, s string, v []Value) (Value, error) {
	separator, err := textArgument(v[0])
	if n, ok := integer(v[1]); err == nil && (separator == "" || !ok || n != 1) {
		err = failf("rsplit by other than one text, once, is not supported")
	}
	if err != nil {
		return nil, err
	}
	if at := strings.LastIndex(s, separator); at >= 0 {
		return r.texts([]string{s[:at], s[at+len(separator):]})
	}
	return r.texts([]string{s})
}

func splitLines(r *run, s string, v []Value) (Value, error) {
	if err := r.allocate(len(s)); err != nil {
		return nil, err
	}
	return r.texts(lines(s, isTrue(v[0])))
}

func replaceText(r *run, s string, v []Value) (Value, error) {
	old, err := textArgument(v[0])
	if err != nil {
		return nil, err
	}
	replacement, err := textArgument(v[1])
	if err != nil {
		return nil, err
	}
	count, err := numberArgument(v[2], -1)
	if err != nil {
		return nil, err
	}
	return r.replace(s, old, replacement, count)
}

// replace replaces up to count occurrences; all of them where count is negative.
func (r *run) replace(s, old, replacement string, count int64) (Value, error) {
	n := int64(strings.Count(s, old))
	if count >= 0 {
		n = min(n, count)
	}
	if err := r.allocate(len(s) + int(n)*len(replacement)); err != nil {
		return nil, err
	}
	return String(strings.Replace(s, old, replacement, int(n))), nil
}

func joinTexts(r *run, s string, v []Value) (Value, error) {
	items, err := r.itemsOf(v[0])
	if err != nil {
		return nil, failf("can only join an iterable")
	}
	for i, item := range items {
		if _, ok := text(item); !ok {
			return nil, failf("sequence item %d: expected str instance, %s found", i, item.typeName())
		}
	}
	return r.join(s, items)
}

// join is the text of items with a separator between.
func (r *run) join(separator string, items []Value) (Value, error) {
	var b strings.Builder
	for i, item := range items {
		s, err := r.str(item)
		if err != nil {
			return nil, err
		}
		if err := r.allocate(len(s) + len(separator)); err != nil {
			return nil, err
		}
		if i > 0 {
			b.WriteString(separator)
		}
		b.WriteString(s)
	}
	return String(b.String()), nil
}
