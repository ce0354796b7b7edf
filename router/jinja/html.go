package jinja

import (
	"html"
	"strconv"
	"strings"
)

var htmlEscapes = strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;")

func escapeHTML(s string) string { return htmlEscapes.Replace(s) }

// maxEscape is how many times as long escaping makes a text at most.
const maxEscape = 5

func (r *run) escape(value Value) (Value, error) {
	s, err := r.str(value)
	if err != nil {
		return nil, err
	}
	if err := r.allocate(maxEscape * len(s)); err != nil {
		return nil, err
	}
	return markup(escapeHTML(s)), nil
}

func filterEscape(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("escape", 0, 0); err != nil {
		return nil, err
	}
	if _, ok := value.(markup); ok {
		return value, nil
	}
	return r.escape(value)
}

func filterForceEscape(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("forceescape", 0, 0); err != nil {
		return nil, err
	}
	return r.escape(value)
}

func filterSafe(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("safe", 0, 0); err != nil {
		return nil, err
	}
	s, err := r.str(value)
	return markup(s), err
}

// filterStripTags removes comments and tags, makes one space of white space, and resolves character references.
func filterStripTags(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("striptags", 0, 0); err != nil {
		return nil, err
	}
	s, err := r.softText(value)
	if err != nil {
		return nil, err
	}
	if err := r.allocate(3 * len(s)); err != nil {
		return nil, err
	}
	s = without(s, "<!--", "-->")
	s = without(s, "<", ">")
	return String(html.UnescapeString(strings.Join(strings.FieldsFunc(s, isSpace), " "))), nil
}

// without removes what stands between begin and end, and these.
func without(s, begin, end string) string {
	var b strings.Builder
	for {
		from := strings.Index(s, begin)
		if from < 0 {
			break
		}
		to := strings.Index(s[from:], end)
		if to < 0 {
			break
		}
		b.WriteString(s[:from])
		s = s[from+to+len(end):]
	}
	return b.String() + s
}

func filterXMLAttributes(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_xmlattr", 0, "autospace")
	if err != nil {
		return nil, err
	}
	d, ok := value.(*Dict)
	if !ok {
		return nil, failf("'%s' object has no attribute 'items'", value.typeName())
	}
	var b strings.Builder
	for i, key := range d.keys {
		if d.values[i] == None || isUndefined(d.values[i]) {
			continue
		}
		name, ok := text(key)
		if !ok {
			return nil, failf("expected string or bytes-like object, got '%s'", key.typeName())
		}
		if strings.ContainsAny(name, " \t\n\r\f\v/>=") {
			return nil, failf("Invalid character in attribute name: %s", reprString(name))
		}
		escaped, err := filterEscape(r, d.values[i], noArguments)
		if err != nil {
			return nil, err
		}
		escapedKey, err := filterEscape(r, key, noArguments)
		if err != nil {
			return nil, err
		}
		if b.Len() > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(string(escapedKey.(markup)) + `="` + string(escaped.(markup)) + `"`)
	}
	s := b.String()
	if s != "" && (v[0] == nil || truth(v[0])) {
		s = " " + s
	}
	return String(s), r.allocate(len(s))
}

func filterURLEncode(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("urlencode", 0, 0); err != nil {
		return nil, err
	}
	_, isText := text(value)
	if isText || !isIterable(value) {
		s, err := r.softText(value)
		if err != nil {
			return nil, err
		}
		return String(quoteURL(s, false)), r.allocate(3 * len(s))
	}
	if d, ok := value.(*Dict); ok {
		value = &view{d, "items"}
	}
	items, err := r.itemsOf(value)
	if err != nil {
		return nil, err
	}
	var parts []string
	for _, item := range items {
		pair, err := r.itemsOf(item)
		if err != nil {
			return nil, err
		}
		if len(pair) != 2 {
			return nil, failf("not enough values to unpack (expected 2, got %d)", len(pair))
		}
		key, err := r.softText(pair[0])
		if err != nil {
			return nil, err
		}
		v, err := r.softText(pair[1])
		if err != nil {
			return nil, err
		}
		if err := r.allocate(6 * (len(key) + len(v))); err != nil {
			return nil, err
		}
		parts = append(parts, quoteURL(key, true)+"="+quoteURL(v, true))
	}
	return String(strings.Join(parts, "&")), nil
}

// quoteURL quotes text for a path or, where it is for a query, for a part of that.
func quoteURL(s string, query bool) string {
	var b strings.Builder
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9', c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', strings.IndexByte("_.-~", c) >= 0, c == '/' && !query:
			b.WriteByte(c)
		case c == ' ' && query:
			b.WriteByte('+')
		default:
			hex := strings.ToUpper(strconv.FormatInt(int64(c), 16))
			b.WriteString("%" + "00"[len(hex):] + hex)
		}
	}
	return b.String()
}

// prettyWidth is what pprint puts on one line.
const prettyWidth = 80

// filterPrettyPrint is Python's pprint.pformat for what fits on one line.
func filterPrettyPrint(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("pprint", 0, 0); err != nil {
		return nil, err
	}
	value, err := r.withSortedKeys(value)
	if err != nil {
		return nil, err
	}
	s, err := r.repr(value)
	if err == nil && len(s) > prettyWidth && isIterable(value) {
		return nil, failf("pprint over more than one line is not supported")
	}
	return String(s), err
}

// withSortedKeys is v with the keys of its dicts in order.
func (r *run) withSortedKeys(v Value) (Value, error) {
	if err := r.enter(); err != nil {
		return nil, err
	}
	defer r.leave()
	each := func(items []Value) ([]Value, error) {
		if err := r.allocateValues(len(items)); err != nil {
			return nil, err
		}
		sorted := make([]Value, len(items))
		for i, item := range items {
			var err error
			if sorted[i], err = r.withSortedKeys(item); err != nil {
				return nil, err
			}
		}
		return sorted, nil
	}
	switch o := v.(type) {
	case *List:
		items, err := each(o.items)
		return &List{items}, err
	case *tuple:
		items, err := each(o.items)
		return &tuple{items: items}, err
	case *Dict:
		order, err := r.sorted(len(o.keys), func(i int) Value { return o.keys[i] }, false)
		if err != nil {
			return nil, err
		}
		d := &Dict{}
		for _, i := range order {
			value, err := r.withSortedKeys(o.values[i])
			if err != nil {
				return nil, err
			}
			if err := d.set(o.keys[i], value); err != nil {
				return nil, err
			}
		}
		return d, nil
	}
	return v, nil
}
