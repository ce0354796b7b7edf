package text

import (
	"context"
	"strings"
)

// A scanner returns the end of the match of its pattern that begins at text[i:], which must not be empty. The patterns
// of this file match at every position, so the matches follow each other without gaps.
type scanner func(text string, i int) int

// The split patterns that have scanners, as tokenizer.json files write them.
const (
	gpt2Pattern   = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
	llama3Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*` +
		`|\s*[\r\n]+|\s+(?!\S)|\s+`
	qwen2Pattern = `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*` +
		`|\s*[\r\n]+|\s+(?!\S)|\s+`
)

var scanners = map[string]scanner{
	gpt2Pattern:   scanGPT2,
	llama3Pattern: scanLlama3,
	qwen2Pattern:  scanQwen2,
	// GPT-2's pattern as newer files spell it.
	`'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`: scanGPT2,
}

// scannerSplitter splits by a scanner.
type scannerSplitter struct{ scan scanner }

func (s scannerSplitter) appendSplits(_ context.Context, dst []span, text string, base int) ([]span, error) {
	for i := 0; i < len(text); {
		end := s.scan(text, i)
		dst = append(dst, span{base + i, base + end})
		i = end
	}
	return dst, nil
}

// scanGPT2 matches gpt2Pattern.
func scanGPT2(text string, i int) int {
	if text[i] == '\'' {
		if n := contraction(text[i+1:], false); n > 0 {
			return i + 1 + n
		}
	}
	c, size := classAt(text, i)
	if text[i] == ' ' && i+1 < len(text) {
		if next, nextSize := classAt(text, i+1); next != space {
			return runEnd(text, i+1+nextSize, next)
		}
	}
	if c != space {
		return runEnd(text, i+size, c)
	}
	return scanSpaces(text, i, false)
}

func scanLlama3(text string, i int) int { return scanModern(text, i, 3) }
func scanQwen2(text string, i int) int  { return scanModern(text, i, 1) }

// scanModern matches llama3Pattern, or qwen2Pattern, which differ in how many digits make a word.
func scanModern(text string, i, maxDigits int) int {
	first := text[i]
	if first == '\'' {
		if n := contraction(text[i+1:], true); n > 0 {
			return i + 1 + n
		}
	}
	c, size := classAt(text, i)
	after := i + size
	switch {
	case c == letter:
		return runEnd(text, after, letter)
	case c == number:
		for digits := 1; digits < maxDigits && after < len(text); digits++ {
			next, size := classAt(text, after)
			if next != number {
				break
			}
			after += size
		}
		return after
	case first != '\r' && first != '\n' && after < len(text):
		next, nextSize := classAt(text, after)
		if next == letter {
			return runEnd(text, after+nextSize, letter)
		}
		if first == ' ' && next == other {
			return skipNewlines(text, runEnd(text, after+nextSize, other))
		}
	}
	if c == other {
		return skipNewlines(text, runEnd(text, after, other))
	}
	return scanSpaces(text, i, true)
}

// scanSpaces matches `\s+(?!\S)|\s+`, with newlines `\s*[\r\n]+|\s+(?!\S)|\s+`, at a space.
func scanSpaces(text string, i int, newlines bool) int {
	end, last, lastNewline := i, i, -1
	for end < len(text) {
		c, size := classAt(text, end)
		if c != space {
			break
		}
		if text[end] == '\n' || text[end] == '\r' {
			lastNewline = end
		}
		last = end
		end += size
	}
	if newlines && lastNewline >= 0 {
		return lastNewline + 1
	}
	if end < len(text) && last > i {
		return last
	}
	return end
}

func skipNewlines(text string, i int) int {
	for i < len(text) && (text[i] == '\r' || text[i] == '\n') {
		i++
	}
	return i
}

// contraction returns the length of the ending s, t, re, ve, m, ll or d that text begins with, or 0. With fold, case
// does not matter, and the long s counts as an s as in all case folding.
func contraction(text string, fold bool) int {
	if text == "" {
		return 0
	}
	lower := func(c byte) byte {
		if fold && c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		return c
	}
	switch first := lower(text[0]); first {
	case 's', 't', 'm', 'd':
		return 1
	case 'r', 'v', 'l':
		second := byte('e')
		if first == 'l' {
			second = 'l'
		}
		if len(text) > 1 && lower(text[1]) == second {
			return 2
		}
	case 0xc5:
		if fold && strings.HasPrefix(text, "ſ") {
			return len("ſ")
		}
	}
	return 0
}
