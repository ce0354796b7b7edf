package jinja

import (
	"math"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// textMethod is a method of str. original tells the type, s the text.
type textMethod func(r *run, original Value, s string, a *arguments) (Value, error)

var textMethods map[string]textMethod

func init() { // textMethods and what it names refer to each other
	textMethods = map[string]textMethod{
		"strip":        strip(strings.TrimFunc, strings.Trim),
		"lstrip":       strip(strings.TrimLeftFunc, strings.TrimLeft),
		"rstrip":       strip(strings.TrimRightFunc, strings.TrimRight),
		"upper":        changed("upper", upper),
		"lower":        changed("lower", lower),
		"title":        changed("title", title),
		"capitalize":   changed("capitalize", capitalize),
		"swapcase":     changed("swapcase", swapCase),
		"casefold":     changed("casefold", foldCase),
		"isdigit":      asked("isdigit", func(s string) bool { return all(s, isDigit) }),
		"isdecimal":    asked("isdecimal", func(s string) bool { return all(s, isDecimal) }),
		"isnumeric":    asked("isnumeric", func(s string) bool { return all(s, isNumeric) }),
		"isalpha":      asked("isalpha", func(s string) bool { return all(s, unicode.IsLetter) }),
		"isalnum":      asked("isalnum", func(s string) bool { return all(s, isAlphanumeric) }),
		"isspace":      asked("isspace", func(s string) bool { return all(s, isSpace) }),
		"isupper":      asked("isupper", func(s string) bool { return hasCase(s, unicode.IsUpper, unicode.IsLower) }),
		"islower":      asked("islower", func(s string) bool { return hasCase(s, unicode.IsLower, unicode.IsUpper) }),
		"istitle":      asked("istitle", isTitle),
		"isascii":      asked("isascii", func(s string) bool { return s == "" || all(s, func(r rune) bool { return r < utf8.RuneSelf }) }),
		"isprintable":  asked("isprintable", func(s string) bool { return s == "" || all(s, unicode.IsPrint) }),
		"isidentifier": asked("isidentifier", func(s string) bool { return s != "" && nameLength(s) == len(s) && !isDecimal([]rune(s)[0]) }),
		"split":        split,
		"rsplit":       rsplit,
		"splitlines":   splitLines,
		"replace":      replaceMethod,
		"join":         joinMethod,
		"startswith":   affix("startswith", strings.HasPrefix),
		"endswith":     affix("endswith", strings.HasSuffix),
		"find":         search("find", strings.Index),
		"rfind":        search("rfind", strings.LastIndex),
		"index":        search("index", strings.Index),
		"rindex":       search("rindex", strings.LastIndex),
		"count":        search("count", strings.Count),
		"ljust":        justify("ljust"),
		"rjust":        justify("rjust"),
		"center":       justify("center"),
		"zfill":        zeroFill,
		"partition":    partition("partition", strings.Index),
		"rpartition":   partition("rpartition", strings.LastIndex),
		"removeprefix": trimmed("removeprefix", strings.TrimPrefix),
		"removesuffix": trimmed("removesuffix", strings.TrimSuffix),
		"expandtabs":   expandTabs,
		"format":       formatMethod,
		"format_map":   formatMap,
		"encode":       unsupportedMethod("encode"),
		"translate":    unsupportedMethod("translate"),
		"maketrans":    unsupportedMethod("maketrans"),
	}
}

func textAttribute(object Value, name string) Value {
	method, ok := textMethods[name]
	if !ok {
		return nil
	}
	return &function{name, func(r *run, a *arguments) (Value, error) {
		s, _ := text(object)
		if err := r.work(len(s)); err != nil {
			return nil, err
		}
		return method(r, object, s, a)
	}}
}

func unsupportedMethod(name string) textMethod {
	return func(*run, Value, string, *arguments) (Value, error) { return nil, failf("%s is not supported", name) }
}

// textArgument is an argument that must be text.
func textArgument(v Value) (string, error) {
	s, ok := text(v)
	if !ok {
		return "", failf("must be str, not %s", v.typeName())
	}
	return s, nil
}

// number is an argument that must be a whole number; absent stands for nil.
func number(v Value, absent int64) (int64, error) {
	if v == nil {
		return absent, nil
	}
	n, ok := wholeNumber(v)
	if !ok {
		return 0, failf("'%s' object cannot be interpreted as an integer", v.typeName())
	}
	if !n.IsInt64() {
		if n.Sign() < 0 {
			return math.MinInt32, nil
		}
		return math.MaxInt32, nil
	}
	return min(max(n.Int64(), math.MinInt32), math.MaxInt32), nil
}

func strip(space func(string, func(rune) bool) string, cut func(string, string) string) textMethod {
	return func(r *run, original Value, s string, a *arguments) (Value, error) {
		v, err := a.places("strip", 0, 1)
		if err != nil {
			return nil, err
		}
		if v[0] == nil || v[0] == None {
			return likeText(original, space(s, isSpace)), nil
		}
		characters, err := textArgument(v[0])
		if err != nil {
			return nil, failf("strip arg must be None or str")
		}
		if err := r.step(1 + len(s)*len(characters)/(8*bytesPerStep)); err != nil {
			return nil, err
		}
		return likeText(original, cut(s, characters)), nil
	}
}

// changed is a method that makes another text; none is more than three times as long.
func changed(name string, change func(string) string) textMethod {
	return func(r *run, original Value, s string, a *arguments) (Value, error) {
		if _, err := a.places(name, 0, 0); err != nil {
			return nil, err
		}
		if err := r.allocate(3 * len(s)); err != nil {
			return nil, err
		}
		return likeText(original, change(s)), nil
	}
}

func asked(name string, ask func(string) bool) textMethod {
	return func(r *run, _ Value, s string, a *arguments) (Value, error) {
		_, err := a.places(name, 0, 0)
		return Bool(ask(s)), err
	}
}

func trimmed(name string, trim func(s, affix string) string) textMethod {
	return func(r *run, original Value, s string, a *arguments) (Value, error) {
		v, err := a.places(name, 1, 1)
		if err != nil {
			return nil, err
		}
		part, err := textArgument(v[0])
		return likeText(original, trim(s, part)), err
	}
}

// texts makes a list of texts of the type of original.
func (r *run) texts(original Value, parts []string) (Value, error) {
	if err := r.allocateValues(len(parts)); err != nil {
		return nil, err
	}
	items := make([]Value, len(parts))
	for i, part := range parts {
		items[i] = likeText(original, part)
	}
	return &List{items}, nil
}

func split(r *run, original Value, s string, a *arguments) (Value, error) {
	separator, most, err := splitArguments("split", a)
	if err != nil {
		return nil, err
	}
	if separator == nil {
		return r.splitSpace(original, s, most)
	}
	if err := r.allocateValues(partCount(s, *separator, most)); err != nil {
		return nil, err
	}
	return r.texts(original, strings.SplitN(s, *separator, most))
}

// partCount bounds what a split makes.
func partCount(s, separator string, most int) int {
	n := strings.Count(s, separator) + 1
	if most >= 0 {
		n = min(n, most)
	}
	return n
}

// splitArguments returns a separator, nil for white space, and how many parts there may be, negative for any number.
func splitArguments(name string, a *arguments) (separator *string, most int, err error) {
	v, err := a.bind(name, 0, "sep", "maxsplit")
	if err != nil {
		return nil, 0, err
	}
	n, err := number(v[1], -1)
	if err != nil {
		return nil, 0, err
	}
	most = int(n) + 1
	if n < 0 {
		most = -1
	}
	if v[0] == nil || v[0] == None {
		return nil, most, nil
	}
	s, err := textArgument(v[0])
	if err == nil && s == "" {
		err = failf("empty separator")
	}
	return &s, most, err
}

func (r *run) splitSpace(original Value, s string, most int) (Value, error) {
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
	return r.texts(original, parts)
}

func rsplit(r *run, original Value, s string, a *arguments) (Value, error) {
	separator, most, err := splitArguments("rsplit", a)
	if err != nil {
		return nil, err
	}
	var parts []string
	for most < 0 || len(parts) < most {
		if err := r.allocate(0); err != nil {
			return nil, err
		}
		if separator == nil {
			s = strings.TrimRightFunc(s, isSpace)
			if s == "" {
				break
			}
		}
		start, end := -1, 0
		if separator != nil {
			start = strings.LastIndex(s, *separator)
			end = start + len(*separator)
		} else if start = strings.LastIndexFunc(s, isSpace); start >= 0 {
			_, size := utf8.DecodeRuneInString(s[start:])
			end = start + size
		}
		if start < 0 || len(parts)+1 == most {
			parts = append(parts, s)
			break
		}
		parts, s = append(parts, s[end:]), s[:start]
	}
	slices.Reverse(parts)
	return r.texts(original, parts)
}

func splitLines(r *run, original Value, s string, a *arguments) (Value, error) {
	v, err := a.bind("splitlines", 0, "keepends")
	if err != nil {
		return nil, err
	}
	if err := r.allocate(len(s)); err != nil {
		return nil, err
	}
	return r.texts(original, lines(s, v[0] != nil && truth(v[0])))
}
