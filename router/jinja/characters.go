package jinja

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/language"
)

// isSpace is what Python's str.isspace and the reference's patterns take for white space.
func isSpace(r rune) bool {
	switch {
	case r >= '\t' && r <= '\r', r >= 0x1c && r <= ' ', r == 0x85, r == 0xa0, r == 0x1680:
		return true
	case r >= 0x2000 && r <= 0x200a, r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f, r == 0x3000:
		return true
	}
	return false
}

// isLineEnd is what str.splitlines takes for the end of a line.
func isLineEnd(r rune) bool {
	switch r {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

// lines splits as str.splitlines does; the ends of the lines are kept if keep is set.
func lines(s string, keep bool) []string {
	var parts []string
	for s != "" {
		at := strings.IndexFunc(s, isLineEnd)
		if at < 0 {
			return append(parts, s)
		}
		_, size := utf8.DecodeRuneInString(s[at:])
		if strings.HasPrefix(s[at:], "\r\n") {
			size = 2
		}
		end := at
		if keep {
			end += size
		}
		parts = append(parts, s[:end])
		s = s[at+size:]
	}
	return parts
}

func isCased(r rune) bool { return unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r) }

// upper and lower are Python's, by Unicode's full mapping: capitals of one letter may be two, and a sigma that ends a word has a
// form of its own.
func upper(s string) string { return cases.Upper(language.Und).String(s) }

func lower(s string) string { return cases.Lower(language.Und).String(s) }

// title is Python's str.title: each run of cased characters begins with a capital.
func title(s string) string {
	inWord := false
	return strings.Map(func(r rune) rune {
		starts := !inWord
		inWord = isCased(r)
		if starts {
			return unicode.ToTitle(r)
		}
		return unicode.ToLower(r)
	}, s)
}

func capitalize(s string) string {
	_, size := utf8.DecodeRuneInString(s)
	return cases.Title(language.Und, cases.NoLower).String(s[:size]) + strings.TrimPrefix(lower(s), lower(s[:size]))
}
