package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// softText is value as text, of its own type where it is text already.
func (r *run) softText(value Value) (string, error) {
	s, err := r.str(value)
	if err != nil {
		return "", err
	}
	return s, r.work(len(s))
}

// textFilter makes a filter of a function whose result is at most three times as long as its argument.
func textFilter(change func(string) string) filter {
	return func(r *run, value Value, a *arguments) (Value, error) {
		if _, err := a.places("filter", 0, 0); err != nil {
			return nil, err
		}
		s, err := r.softText(value)
		if err != nil {
			return nil, err
		}
		if err := r.allocate(3 * len(s)); err != nil {
			return nil, err
		}
		return likeText(value, change(s)), nil
	}
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

func filterCenter(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_center", 0, "width")
	if err != nil {
		return nil, err
	}
	width, err := number(v[0], 80)
	if err != nil {
		return nil, err
	}
	s, err := r.softText(value)
	if err != nil {
		return nil, err
	}
	padded, err := r.pad(s, " ", width, "center")
	return likeText(value, padded), err
}

func filterTrim(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_trim", 0, "chars")
	if err != nil {
		return nil, err
	}
	s, err := r.softText(value)
	if err != nil {
		return nil, err
	}
	return textMethods["strip"](r, value, s, &arguments{positional: present(v)})
}

// present are the arguments up to the first that is absent.
func present(values []Value) []Value {
	for i, v := range values {
		if v == nil {
			return values[:i]
		}
	}
	return values
}

func filterReplace(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_replace", 2, "old", "new", "count")
	if err != nil {
		return nil, err
	}
	var parts [3]string
	for i, part := range []Value{value, v[0], v[1]} {
		if parts[i], err = r.softText(part); err != nil {
			return nil, err
		}
	}
	count := int64(-1)
	if v[2] != None {
		if count, err = number(v[2], -1); err != nil {
			return nil, err
		}
	}
	replaced, err := r.replace(parts[0], parts[1], parts[2], count)
	return String(replaced), err
}

func filterIndent(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_indent", 0, "width", "first", "blank")
	if err != nil {
		return nil, err
	}
	indentation, isText := "", false
	if v[0] != nil {
		indentation, isText = text(v[0])
	}
	if !isText {
		width, err := number(v[0], 4)
		if err != nil {
			return nil, err
		}
		if indentation, err = r.pad("", " ", width, "ljust"); err != nil {
			return nil, err
		}
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
	return likeText(value, b.String()), nil
}

func filterTruncate(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_truncate", 0, "length", "killwords", "end", "leeway")
	if err != nil {
		return nil, err
	}
	length, err := number(v[0], 255)
	if err != nil {
		return nil, err
	}
	end := "..."
	if v[2] != nil {
		if end, err = textArgument(v[2]); err != nil {
			return nil, err
		}
	}
	leeway := int64(5)
	if v[3] != nil && v[3] != None {
		if leeway, err = number(v[3], 0); err != nil {
			return nil, err
		}
	}
	endLength := int64(utf8.RuneCountInString(end))
	if length < endLength {
		return nil, failf("expected length >= %d, got %d", endLength, length)
	}
	if leeway < 0 {
		return nil, failf("expected leeway >= 0, got %d", leeway)
	}
	size, err := r.size(value)
	if err != nil {
		return nil, err
	}
	if size <= length+leeway {
		return value, nil
	}
	s, ok := text(value)
	if !ok {
		return nil, failf("'%s' object cannot be truncated", value.typeName())
	}
	if err := r.allocate(len(s) + len(end)); err != nil {
		return nil, err
	}
	cut := cutText(s, 0, length-endLength)
	if !isTrue(v[1]) {
		if at := strings.LastIndexByte(cut, ' '); at >= 0 {
			cut = cut[:at]
		}
	}
	return likeText(value, cut+end), nil
}

func isWordCharacter(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || isNumeric(r)
}

func filterWordCount(r *run, value Value, a *arguments) (Value, error) {
	if _, err := a.places("wordcount", 0, 0); err != nil {
		return nil, err
	}
	s, err := r.softText(value)
	if err != nil {
		return nil, err
	}
	count, inWord := 0, false
	for _, c := range s {
		is := isWordCharacter(c)
		count += boolInt(is && !inWord)
		inWord = is
	}
	return Int(count), nil
}

func filterFormat(r *run, value Value, a *arguments) (Value, error) {
	if len(a.positional) > 0 && len(a.names) > 0 {
		return nil, failf("can't handle positional and keyword arguments at the same time")
	}
	s, err := r.softText(value)
	if err != nil {
		return nil, err
	}
	if len(a.names) > 0 {
		d := &Dict{}
		for i, name := range a.names {
			d.Set(name, a.values[i])
		}
		return r.percent(value, s, d)
	}
	return r.percent(value, s, &tuple{items: a.positional})
}

// wrapChunks parts a line into words, white space, and words that end in a hyphen.
func wrapChunks(s string, hyphens bool) []string {
	var chunks []string
	isBlank := func(r rune) bool { return strings.ContainsRune("\t\n\v\f\r ", r) }
	for s != "" {
		r, _ := utf8.DecodeRuneInString(s)
		end := strings.IndexFunc(s, func(c rune) bool { return isBlank(c) != isBlank(r) })
		if end < 0 {
			end = len(s)
		}
		if hyphens && !isBlank(r) {
			if at := hyphenEnd(s[:end]); at > 0 {
				end = at
			}
		}
		chunks, s = append(chunks, s[:end]), s[end:]
	}
	return chunks
}

// hyphenEnd is where a word can be broken after a hyphen: two letters stand before it, and a letter follows; or after
// dashes. It is negative where it cannot.
func hyphenEnd(word string) int {
	isLetter := func(r rune) bool { return isWordCharacter(r) && !isDecimal(r) }
	for i := range len(word) {
		if word[i] != '-' {
			continue
		}
		before := word[:i]
		last, size := utf8.DecodeLastRuneInString(before)
		previous, _ := utf8.DecodeLastRuneInString(before[:len(before)-size])
		next, nextSize := utf8.DecodeRuneInString(word[i+1:])
		second, _ := utf8.DecodeRuneInString(word[i+1+nextSize:])
		if isLetter(last) && (isLetter(previous) || previous == '-') && isLetter(next) && (isLetter(second) || second == '-') {
			return i + 1
		}
	}
	return -1
}

func filterWordWrap(r *run, value Value, a *arguments) (Value, error) {
	v, err := a.bind("do_wordwrap", 0, "width", "break_long_words", "wrapstring", "break_on_hyphens")
	if err != nil {
		return nil, err
	}
	width, err := number(v[0], 79)
	if err != nil {
		return nil, err
	}
	if width <= 0 {
		return nil, failf("invalid width %d (must be > 0)", width)
	}
	newline := "\n"
	if v[2] != nil && v[2] != None {
		if newline, err = textArgument(v[2]); err != nil {
			return nil, err
		}
	}
	s, ok := text(value)
	if !ok {
		return nil, failf("'%s' object has no attribute 'splitlines'", value.typeName())
	}
	if err := r.allocate(2*len(s) + (len(s)+1)*len(newline)); err != nil {
		return nil, err
	}
	if err := r.step(len(s)); err != nil {
		return nil, err
	}
	hyphens := v[3] == nil || truth(v[3])
	var all []string
	for _, line := range lines(s, false) {
		wrapped := wrapLine(wrapChunks(line, hyphens), int(width), v[1] == nil || truth(v[1]), hyphens)
		all = append(all, strings.Join(wrapped, newline))
	}
	return String(strings.Join(all, newline)), nil
}

// longer reports whether s has more than n characters; it looks at no more than that.
func longer(s string, n int) bool {
	if len(s) <= n {
		return false
	}
	for range s {
		if n--; n < 0 {
			return true
		}
	}
	return false
}

// wrapLine fills lines with chunks as Python's textwrap does.
func wrapLine(chunks []string, width int, breakLong, hyphens bool) []string {
	var wrapped []string
	isBlank := func(s string) bool { return strings.Trim(s, "\t\n\v\f\r ") == "" }
	for len(chunks) > 0 {
		if len(wrapped) > 0 && isBlank(chunks[0]) {
			chunks = chunks[1:]
		}
		var line []string
		length := 0
		for len(chunks) > 0 {
			if longer(chunks[0], width-length) {
				break
			}
			length += utf8.RuneCountInString(chunks[0])
			line, chunks = append(line, chunks[0]), chunks[1:]
		}
		if len(chunks) > 0 && longer(chunks[0], width) {
			switch {
			case breakLong:
				head := cutText(chunks[0], 0, int64(width-length))
				if at := strings.LastIndexByte(head, '-'); hyphens && at > 0 && strings.Trim(head[:at], "-") != "" {
					head = head[:at+1]
				}
				line = append(line, head)
				chunks[0] = chunks[0][len(head):]
			case len(line) == 0:
				line, chunks = append(line, chunks[0]), chunks[1:]
			}
		}
		if len(line) > 0 && isBlank(line[len(line)-1]) {
			line = line[:len(line)-1]
		}
		if len(line) > 0 {
			wrapped = append(wrapped, strings.Join(line, ""))
		}
	}
	return wrapped
}
