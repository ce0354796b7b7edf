package jinja

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// lexer cuts a source into tokens. Text between tags loses what whitespace control takes: a tag's minus sign takes all
// whitespace on its side; without a plus sign, statements and comments take the indentation before them when nothing
// else stands there, and one newline behind them.
type lexer struct {
	source       string
	position     int
	line         int
	tokens       []token
	lineStarting bool // the last thing read ended in a newline, or nothing was read
	brackets     int  // that are open: a tag does not end within them
}

// scan returns the tokens of a source, tokenEnd last.
func scan(source string) ([]token, error) {
	source = strings.ReplaceAll(source, "\r\n", "\n")
	source = strings.ReplaceAll(source, "\r", "\n")
	source = strings.TrimSuffix(source, "\n")
	l := &lexer{source: source, line: 1, lineStarting: true}
	for l.position < len(l.source) {
		if err := l.text(); err != nil {
			return nil, err
		}
		if len(l.tokens) > maxTokens {
			return nil, &LimitError{"tokens in the source"}
		}
	}
	l.tokens = append(l.tokens, token{kind: tokenEnd, line: l.line})
	return l.tokens, nil
}

func (l *lexer) fail(format string, values ...any) error {
	return &Error{Line: l.line, Message: fmt.Sprintf(format, values...)}
}

// advance moves to position end.
func (l *lexer) advance(end int) {
	l.line += strings.Count(l.source[l.position:end], "\n")
	l.lineStarting = end > 0 && l.source[end-1] == '\n'
	l.position = end
}

var rawTag = regexp.MustCompile(`^\s*raw\s*[-+]?%\}`)

// text reads data up to a tag, and the tag.
func (l *lexer) text() error {
	at := l.position
	for {
		next := strings.IndexByte(l.source[at:], '{')
		if next < 0 || at+next+1 >= len(l.source) {
			l.data(l.source[l.position:])
			l.advance(len(l.source))
			return nil
		}
		at += next
		if c := l.source[at+1]; c == '%' || c == '#' || c == '{' {
			break
		}
		at++
	}
	kind, begin := l.source[at+1], at+2
	sign := byte(0)
	if begin < len(l.source) && (l.source[begin] == '-' || l.source[begin] == '+') {
		sign = l.source[begin]
		begin++
	}
	data := l.stripBefore(l.source[l.position:at], sign, kind == '{')
	l.data(data)
	l.advance(begin)
	if kind == '%' && rawTag.MatchString(l.source[begin:]) {
		return l.fail("%s", notSupported("tag", "raw"))
	}
	switch kind {
	case '#':
		return l.comment()
	case '%':
		return l.tag(tokenBlockBegin, tokenBlockEnd, '%')
	}
	return l.tag(tokenVariableBegin, tokenVariableEnd, '}')
}

func (l *lexer) data(text string) {
	if text != "" {
		l.tokens = append(l.tokens, token{kind: tokenData, line: l.line, text: text})
	}
}

// stripBefore is text without what the tag behind it takes.
func (l *lexer) stripBefore(text string, sign byte, variable bool) string {
	if sign == '-' {
		return strings.TrimRightFunc(text, isSpace)
	}
	if sign == '+' || variable {
		return text
	}
	start := strings.LastIndexByte(text, '\n') + 1
	if (start > 0 || l.lineStarting) && strings.TrimLeftFunc(text[start:], isSpace) == "" {
		return text[:start]
	}
	return text
}

// tagEnd returns where a tag that closes with c and } at position at ends, with what it takes behind it; or -1.
func (l *lexer) tagEnd(at int, c byte, plus, newline bool) int {
	rest := l.source[at:]
	closing := func(s string) bool { return len(s) >= 2 && s[0] == c && s[1] == '}' }
	switch {
	case rest == "":
		return -1
	case plus && rest[0] == '+' && closing(rest[1:]):
		return at + 3
	case rest[0] == '-' && closing(rest[1:]):
		return at + 3 + spaces(rest[3:])
	case closing(rest):
		if newline && len(rest) > 2 && rest[2] == '\n' {
			return at + 3
		}
		return at + 2
	}
	return -1
}

// spaces is the length of the whitespace that s begins with.
func spaces(s string) int { return len(s) - len(strings.TrimLeftFunc(s, isSpace)) }

func (l *lexer) comment() error {
	length := strings.Index(l.source[l.position:], "#}")
	if length < 0 {
		return l.fail("Missing end of comment tag")
	}
	at := l.position + length
	if length > 0 && (l.source[at-1] == '-' || l.source[at-1] == '+') {
		at--
	}
	l.advance(l.tagEnd(at, '#', true, true))
	return nil
}

// tag reads the tokens of a tag.
func (l *lexer) tag(begin, end tokenKind, closing byte) error {
	l.tokens = append(l.tokens, token{kind: begin, line: l.line})
	l.brackets = 0
	for l.position < len(l.source) && len(l.tokens) <= maxTokens {
		if l.brackets == 0 {
			if at := l.tagEnd(l.position, closing, closing == '%', closing == '%'); at >= 0 {
				l.tokens = append(l.tokens, token{kind: end, line: l.line})
				l.advance(at)
				return nil
			}
		}
		if n := spaces(l.source[l.position:]); n > 0 {
			l.advance(l.position + n)
			continue
		}
		if err := l.token(); err != nil {
			return err
		}
	}
	return nil
}

func (l *lexer) token() error {
	rest := l.source[l.position:]
	c := rest[0]
	switch {
	case c >= '0' && c <= '9':
		return l.number(rest)
	case c == '\'' || c == '"':
		if value, ok, err := l.quoted(rest); ok || err != nil {
			if err == nil {
				l.tokens = append(l.tokens, value)
			}
			return err
		}
	}
	if n := nameLength(rest); n > 0 {
		if r, _ := utf8.DecodeRuneInString(rest); r != '_' && !unicode.IsLetter(r) && !unicode.Is(unicode.Nl, r) {
			return l.fail("Invalid character in identifier")
		}
		l.tokens = append(l.tokens, token{kind: tokenName, line: l.line, text: rest[:n]})
		l.advance(l.position + n)
		return nil
	}
	for _, operator := range operators {
		if strings.HasPrefix(rest, operator) {
			switch operator {
			case "(", "[", "{":
				l.brackets++
			case ")", "]", "}":
				if l.brackets--; l.brackets < 0 {
					return l.fail("unexpected '%s'", operator)
				}
			}
			l.tokens = append(l.tokens, token{kind: tokenOperator, line: l.line, text: operator})
			l.advance(l.position + len(operator))
			return nil
		}
	}
	r, _ := utf8.DecodeRuneInString(rest)
	return l.fail("unexpected char %s at %d", reprString(string(r)), utf8.RuneCountInString(l.source[:l.position]))
}

// nameLength is the length of the name that s begins with.
func nameLength(s string) int {
	for i, r := range s {
		if r != '_' && !unicode.In(r, unicode.L, unicode.Nd, unicode.Nl, unicode.Mn, unicode.Mc, unicode.Pc) {
			return i
		}
	}
	return len(s)
}
