package text

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// A rewrite is one step of a normalizer. aligned, which may be nil, is the alignment of each byte of text.
type rewrite func(text string, aligned []alignment) (string, []alignment)

func rewriteAll(rewrites []rewrite, text string, aligned []alignment) (string, []alignment) {
	for _, step := range rewrites {
		text, aligned = step(text, aligned)
	}
	return text, aligned
}

// prepending returns the rewrite that puts prefix before every text that is not empty. The prefix counts as a part of
// the first character.
func prepending(prefix string) rewrite {
	return func(text string, aligned []alignment) (string, []alignment) {
		if text == "" {
			return text, aligned
		}
		if aligned != nil {
			aligned = append(slices.Repeat(aligned[:1], len(prefix)), aligned...)
		}
		return prefix + text, aligned
	}
}

// replacing returns the rewrite of every occurrence of pattern, which must not be empty. What replaces it counts as the
// last character of the occurrence.
func replacing(pattern, content string) rewrite {
	return func(text string, aligned []alignment) (string, []alignment) {
		count := strings.Count(text, pattern)
		if count == 0 {
			return text, aligned
		}
		if aligned == nil {
			return strings.ReplaceAll(text, pattern, content), nil
		}
		var out strings.Builder
		moved := make([]alignment, 0, len(text)+count*(len(content)-len(pattern)))
		for at := 0; ; {
			i := strings.Index(text[at:], pattern)
			if i < 0 {
				out.WriteString(text[at:])
				return out.String(), append(moved, aligned[at:]...)
			}
			end := at + i + len(pattern)
			out.WriteString(text[at : at+i])
			out.WriteString(content)
			moved = append(moved, aligned[at:at+i]...)
			moved = append(moved, slices.Repeat(aligned[end-1:end], len(content))...)
			at = end
		}
	}
}

// prefixScheme says which spans get a leading space if they have none.
type prefixScheme int

const (
	prefixNever  prefixScheme = iota
	prefixFirst               // the one with which the input begins
	prefixAlways              // all
)

var prefixSchemes = map[string]prefixScheme{"never": prefixNever, "first": prefixFirst, "always": prefixAlways}

// marker is the part of a pre-tokenizer that changes text, so that words begin with something that stands for a space.
type marker struct {
	space  string // one character; empty for no marker at all
	prefix prefixScheme
}

// mark returns word, which must not be empty, with its spaces written as the marker's and the leading one added. With
// prefixFirst it needs the alignment.
func (m *marker) mark(word string, aligned []alignment) (string, []alignment) {
	first := aligned != nil && aligned[0] == 0
	if m.space != " " {
		word, aligned = replacing(" ", m.space)(word, aligned)
	}
	wanted := m.prefix == prefixAlways || m.prefix == prefixFirst && first
	if wanted && !strings.HasPrefix(word, m.space) {
		return prepending(m.space)(word, aligned)
	}
	return word, aligned
}

// isCharacter tells whether text is exactly one character.
func isCharacter(text string) bool {
	_, size := utf8.DecodeRuneInString(text)
	return size > 0 && size == len(text)
}
