package text

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dlclark/regexp2/v2"
)

// matchTimeout bounds one search of a split pattern that has no scanner, because the engine may backtrack without end. Between
// searches the context is looked at, which bounds all of them.
const matchTimeout = time.Second

// ErrTakesLong is a text on which a split pattern backtracks for too long.
var ErrTakesLong = errors.New("text: the tokenizer's split pattern takes too long on this text; shorten it, or break up what repeats in it")

// splitter is one step of a pre-tokenizer. appendSplits appends the parts of text, none empty, in order; base is added
// to their positions. It fails with ErrTakesLong, or where the context ends.
type splitter interface {
	appendSplits(ctx context.Context, dst []span, text string, base int) ([]span, error)
}

// behavior says what becomes of the matches of a pattern.
type behavior int

const (
	removed            behavior = iota // matches vanish
	isolated                           // each match is a part
	mergedWithPrevious                 // each match ends a part
	mergedWithNext                     // each match begins a part
	contiguous                         // adjacent matches are one part
)

var behaviors = map[string]behavior{
	"Removed": removed, "Isolated": isolated, "MergedWithPrevious": mergedWithPrevious,
	"MergedWithNext": mergedWithNext, "Contiguous": contiguous,
}

// newSplit makes the Split pre-tokenizer of a regular expression.
func newSplit(pattern string, b behavior, invert bool) (splitter, error) {
	if scan, ok := scanners[pattern]; ok && (b == isolated || b == removed && invert) {
		return scannerSplitter{scan}, nil
	}
	if err := checkPattern(pattern); err != nil {
		return nil, err
	}
	expression, err := regexp2.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("split pattern %q: %w", pattern, err)
	}
	expression.MatchTimeout = matchTimeout
	find := func(ctx context.Context, dst []span, text string) ([]span, error) {
		at, runes := 0, 0 // the byte and the code point up to which text has been walked
		walk := func(target int) int {
			for ; runes < target; runes++ {
				_, size := utf8.DecodeRuneInString(text[at:])
				at += size
			}
			return at
		}
		match, err := expression.FindStringMatch(text)
		for ; match != nil; match, err = expression.FindNextMatch(match) {
			start := walk(match.RuneIndex)
			dst = append(dst, span{start, walk(match.RuneIndex + match.RuneLength)})
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
		}
		if err != nil { // the engine has no other error than that of time, and quotes the whole text in it
			return nil, ErrTakesLong
		}
		return dst, nil
	}
	return patternSplitter{find, b, invert}, nil
}

// newLiteralSplit makes the Split pre-tokenizer of a string.
func newLiteralSplit(pattern string, b behavior, invert bool) (splitter, error) {
	if pattern == "" {
		return nil, errors.New("split pattern is empty")
	}
	find := func(_ context.Context, dst []span, text string) ([]span, error) {
		for at := 0; ; {
			i := strings.Index(text[at:], pattern)
			if i < 0 {
				return dst, nil
			}
			dst = append(dst, span{at + i, at + i + len(pattern)})
			at += i + len(pattern)
		}
	}
	return patternSplitter{find, b, invert}, nil
}

// newDigits makes the Digits pre-tokenizer: digits are parts of their own, one by one or, if not individual, run by run.
func newDigits(individual bool) splitter { return digitSplitter{individual} }

type digitSplitter struct{ individual bool }

func (d digitSplitter) appendSplits(_ context.Context, dst []span, text string, base int) ([]span, error) {
	start, inDigits := 0, false
	for i, r := range text {
		numeric := isNumeric(r)
		if i > start && (numeric != inDigits || numeric && d.individual) {
			dst = append(dst, span{base + start, base + i})
			start = i
		}
		inDigits = numeric
	}
	if start < len(text) {
		dst = append(dst, span{base + start, base + len(text)})
	}
	return dst, nil
}

// checkPattern refuses what the reference's engine (Oniguruma) and this one's (.NET rules) read differently.
func checkPattern(pattern string) error {
	inClass := false
	for i := 0; i < len(pattern); i++ {
		rest := pattern[i:]
		construct := ""
		switch c := rest[0]; {
		case c == '\\' && len(rest) > 1:
			if strings.IndexByte("hHRXKGgkyYOzZABwWb", rest[1]) >= 0 {
				construct = rest[:2]
			}
			i++
		case !inClass && c == '[':
			inClass = true
			if strings.HasPrefix(rest, "[]") || strings.HasPrefix(rest, "[^]") {
				construct = "[]"
			}
		case inClass && c == ']':
			inClass = false
		case inClass && c == '[', inClass && strings.HasPrefix(rest, "&&"):
			construct = rest[:1]
		case !inClass && (c == '^' || c == '$'):
			construct = rest[:1]
		}
		if construct != "" {
			return fmt.Errorf("split pattern %q: %q is not supported", pattern, construct)
		}
	}
	return nil
}

// patternSplitter splits at the matches that find returns, which are in order and do not overlap.
type patternSplitter struct {
	find     func(ctx context.Context, dst []span, text string) ([]span, error)
	behavior behavior
	invert   bool // what does not match counts as match
}

// section is a part of a text that matches or lies between matches.
type section struct {
	span
	match bool
}

func (s patternSplitter) appendSplits(ctx context.Context, dst []span, text string, base int) ([]span, error) {
	if text == "" {
		return dst, nil
	}
	var stack [64]span
	matches, err := s.find(ctx, stack[:0], text)
	if err != nil {
		return nil, err
	}
	emit := func(part span) {
		if part.start < part.end {
			dst = append(dst, span{base + part.start, base + part.end})
		}
	}
	next := sections(matches, len(text), s.invert)
	switch s.behavior {
	case removed, isolated:
		for part, ok := next(); ok; part, ok = next() {
			if !part.match || s.behavior == isolated {
				emit(part.span)
			}
		}
	default:
		s.emitMerged(next, emit)
	}
	return dst, nil
}

// emitMerged joins sections as the behavior says and emits the parts.
func (s patternSplitter) emitMerged(next func() (section, bool), emit func(span)) {
	open, pending := section{}, false // the part that a following section may still join
	for part, ok := next(); ok; part, ok = next() {
		joins := false
		switch s.behavior {
		case mergedWithPrevious:
			joins = pending && part.match && !open.match
		case mergedWithNext:
			joins = pending && open.match && !part.match
		case contiguous:
			joins = pending && part.match == open.match
		}
		if joins {
			open.end, open.match = part.end, part.match
			continue
		}
		if pending {
			emit(open.span)
		}
		open, pending = part, true
	}
	if pending {
		emit(open.span)
	}
}

// sections returns an iterator over the matches and what lies between them.
func sections(matches []span, length int, invert bool) func() (section, bool) {
	at, i := 0, 0
	return func() (section, bool) {
		if i < len(matches) && matches[i].start == at {
			m := matches[i]
			at = m.end
			i++
			return section{m, !invert}, true
		}
		if at == length {
			return section{}, false
		}
		end := length
		if i < len(matches) {
			end = matches[i].start
		}
		gap := span{at, end}
		at = end
		return section{gap, invert}, true
	}
}
