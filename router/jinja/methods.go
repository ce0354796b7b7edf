package jinja

import "strings"

// changing are, by type, the methods that change their object, which the sandbox lets nobody call.
var changing = map[string]map[string]bool{
	"dict": wordSet("clear pop popitem setdefault update"),
	"list": wordSet("append clear pop reverse insert sort extend remove"),
}

// methods are those of each type.
var methods map[string]map[string]builtin

func init() { // what builtins use refers to methods
	ofTexts := map[string]builtin{
		"capitalize":   textFilter(capitalize),
		"endswith":     affix("endswith", strings.HasSuffix),
		"find":         ofText("find(/ sub)", findText),
		"format":       formatMethod,
		"join":         ofText("join(/ iterable)", joinTexts),
		"lower":        textFilter(lower),
		"lstrip":       strip(strings.TrimLeftFunc, strings.TrimLeft),
		"removeprefix": trimmed(strings.TrimPrefix),
		"removesuffix": trimmed(strings.TrimSuffix),
		"replace":      ofText("replace(/ old new [count])", replaceText),
		"rsplit":       ofText("rsplit(sep maxsplit)", rsplitText),
		"rstrip":       strip(strings.TrimRightFunc, strings.TrimRight),
		"split":        ofText("split([sep] [maxsplit])", splitText),
		"splitlines":   ofText("splitlines([keepends])", splitLines),
		"startswith":   affix("startswith", strings.HasPrefix),
		"strip":        strip(strings.TrimFunc, strings.Trim),
		"title":        textFilter(title),
		"upper":        textFilter(upper),
	}
	methods = map[string]map[string]builtin{
		"str":    ofTexts,
		"Markup": ofTexts,
		"dict": {
			"get":    takes("get(/ key [default])", getMethod),
			"items":  viewing("items", itemsView),
			"keys":   viewing("keys", keysView),
			"values": viewing("values", valuesView),
		},
	}
}

func viewing(name string, kind listKind) builtin {
	return takes(name+"(/)", func(r *run, object Value, _ []Value) (Value, error) {
		return r.view(object.(*Dict), kind)
	})
}

func (r *run) view(d *Dict, kind listKind) (*List, error) {
	switch kind {
	case keysView:
		return &List{d.keys, kind}, nil
	case valuesView:
		return &List{d.values, kind}, nil
	}
	if err := r.allocateValues(4 * len(d.keys)); err != nil {
		return &List{}, err
	}
	pairs := make([]Value, len(d.keys))
	for i, key := range d.keys {
		pairs[i] = &List{[]Value{key, d.values[i]}, tuple}
	}
	return &List{pairs, kind}, nil
}

func getMethod(r *run, object Value, v []Value) (Value, error) {
	found, err := r.lookup(object.(*Dict), v[0])
	switch {
	case found != nil || err != nil:
		return found, err
	case v[1] != nil:
		return v[1], nil
	}
	return None, nil
}
